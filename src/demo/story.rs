//! The events of the demo, and their times.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::Narrator;
use super::narrate::Told;
use crate::app::{App, AppError};
use crate::clock::IdSource;
use crate::commands::allocation::{AllocationCommand, DispatchRecord, UsageReport};
use crate::commands::execute::{CommandError, CommandMeta};
use crate::directory::DirectoryError;
use crate::domain::ids::{ResourceId, slug_uuid};
use crate::domain::period::Month;
use crate::domain::qos::QosClass;
use crate::domain::tres::Amounts;
use crate::events::allocation::{CommandReport, ExecutionMode, HoldKind};
use crate::events::dispatch::{AgentMessage, StompMessageSent};
use crate::events::envelope::Actor;
use crate::import::{ComponentRule, ImportError, ImportOptions, Importer, MappingError, MonthKey, Window};
use crate::site::{ApplyError, SiteErrors};
use crate::store::sql::SqlError;

/// The sample site.
pub const SITE: &str = include_str!("site.yaml");

/// Accounting data of two quarters and the half of a third; see `data/README.md`.
const JOBS: [(&str, &str); 3] = [
    ("2026-q1.txt", include_str!("data/2026-q1.txt")),
    ("2026-q2.txt", include_str!("data/2026-q2.txt")),
    ("2026-q3.txt", include_str!("data/2026-q3.txt")),
];

/// SLURM account and slug of each allocation.
const ALLOCATIONS: [(&str, &str); 4] = [
    ("hpc_climate", "climate-hpc1"),
    ("hpc_genomics", "genomics-hpc1"),
    ("hpc_astro", "astro-hpc1"),
    ("hpc_teaching", "teaching-hpc1"),
];

/// The day on which the operator tops up the paused allocation, and to what.
const TOP_UP: (i32, u32, u32, i64) = (2026, 3, 18, 1500);

/// The day on which the operator holds an allocation, and why. What the site agent is told of it fails.
const HOLD: (i32, u32, u32, &str) = (2026, 8, 17, "SEC-1182: a key of the course was found in a public repository");

/// The last day, and the morning after it on which the story ends: in the middle of a quarter, so that there is something to
/// look at.
const LAST: (i32, u32, u32) = (2026, 8, 18);

/// Why the demo stopped.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The parts.
    #[error("the demo could not go on")]
    App(#[from] AppError),
    /// The sample site.
    #[error("the demo's site cannot be applied")]
    Site(#[from] ApplyError),
    /// The sample site's text.
    #[error("the demo's site cannot be read")]
    SiteText(#[from] SiteErrors),
    /// The read models.
    #[error("the demo cannot read its status")]
    Sql(#[from] SqlError),
    /// A token.
    #[error("the demo cannot make a token")]
    Directory(#[from] DirectoryError),
    /// A command.
    #[error("the demo could not go on")]
    Command(#[from] CommandError),
    /// The accounting data.
    #[error("the demo's accounting data cannot be read")]
    Import(#[from] ImportError),
    /// The rule for its component.
    #[error("the demo's component rule cannot be read")]
    Mapping(#[from] MappingError),
    /// The terminal.
    #[error("the demo cannot print")]
    Print(#[from] std::io::Error),
    /// The event log.
    #[error("the demo cannot read the event log")]
    Store(#[from] crate::store::StoreError),
    /// An event.
    #[error("the demo cannot read an event")]
    Event(#[from] crate::events::envelope::DecodeError),
    /// A date that does not exist: an error in the story itself.
    #[error("the story names a day that does not exist")]
    Calendar,
}

/// Plays the story on an app whose site has been applied and whose clock stands at the start.
pub struct Story {
    app: Arc<App>,
    usage: BTreeMap<(Month, NaiveDate), BTreeMap<String, Decimal>>,
}

/// The instant at which the demo begins.
///
/// # Panics
/// Never: the date exists.
pub fn start() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(2026, 1, 1).map(|d| d.and_time(NaiveTime::MIN).and_utc()).expect("New Year's Day exists")
}

impl Story {
    /// Reads the accounting data: for every evening the month-to-date totals, as a collector would report them.
    pub fn new(app: Arc<App>) -> Result<Self, DemoError> {
        let mut usage = BTreeMap::new();
        let mut day = start().date_naive();
        let last = date(LAST)?;
        while day <= last {
            let month = Month::of(day);
            usage.insert((month, day), totals(month, day)?);
            day = day.checked_add_days(Days::new(1)).ok_or(DemoError::Calendar)?;
        }
        Ok(Self { app, usage })
    }

    /// Plays it, telling `narrator` after each day.
    pub async fn play(&self, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
        let top_up = date((TOP_UP.0, TOP_UP.1, TOP_UP.2))?;
        let hold = date((HOLD.0, HOLD.1, HOLD.2))?;
        self.app.settle().await?;
        self.told(narrator).await?;
        for ((month, day), accounts) in &self.usage {
            if *day == top_up {
                self.clock(*day, 9, 30).await?;
                self.told(narrator).await?;
                self.top_up(TOP_UP.3).await?;
                self.told(narrator).await?;
            }
            if *day == hold {
                self.clock(*day, 10, 15).await?;
                self.hold().await?;
                self.told(narrator).await?;
            }
            self.clock(*day, 23, 50).await?;
            self.told(narrator).await?;
            self.report(*month, accounts).await?;
            self.told(narrator).await?;
        }
        let morning = date(LAST)?.checked_add_days(Days::new(1)).ok_or(DemoError::Calendar)?;
        self.clock(morning, 9, 12).await?;
        self.told(narrator).await?;
        self.app.settle().await?;
        Ok(())
    }

    /// Lets the narrator tell what happened, and answers in the place of a site agent: the demo has no cluster.
    async fn told(&self, narrator: &mut Narrator<'_>) -> Result<(), DemoError> {
        narrator.catch_up(&self.app).await?;
        for told in narrator.take_unanswered() {
            self.hand_over(&told).await?;
            let fails = told.resource == resource("teaching-hpc1") && self.app.clock.now() >= Self::held()?;
            let error = if fails { "slurmdbd did not answer within 30 seconds." } else { "" };
            let report = CommandReport {
                success: !fails,
                error_message: error.to_owned(),
                mode: ExecutionMode::Emulator,
                commands_executed: if fails { Vec::new() } else { told.commands },
            };
            let (policy, dispatch) = (told.policy, Some(told.dispatch));
            let command = AllocationCommand::ReportCommandResult { policy, dispatch, report };
            let answered = self.app.allocations.execute(told.resource, &command, &meta(None)).await?;
            if fails {
                continue;
            }
            // An agent says at the end which class of service the account has, and that it has looked after it.
            let (facts, flags) = (&answered.book.facts, answered.book.flags);
            let qos = {
                let state = self.app.registry.read();
                let names = state.offering(facts.offering).map(|o| o.facts.facts.qos.clone()).unwrap_or_default();
                names.of(QosClass::of(flags.paused, flags.downscaled)).to_owned()
            };
            for command in [AllocationCommand::ConfirmQos { qos }, AllocationCommand::NoteSync] {
                self.app.allocations.execute(told.resource, &command, &meta(None)).await?;
            }
        }
        Ok(())
    }

    /// Records what a queue would have taken: nobody can answer what was never sent.
    async fn hand_over(&self, told: &Told) -> Result<(), DemoError> {
        let book = self.app.allocations.book(told.resource).await?;
        let sent = StompMessageSent {
            dispatch: Some(told.dispatch),
            messages: vec![AgentMessage::Settings, AgentMessage::Resource],
            flags: Some(book.flags),
            reset: told.reset,
            resend: 0,
            consumers: Vec::new(),
            at: self.app.clock.now(),
        };
        let command = AllocationCommand::RecordDispatch(DispatchRecord::Sent(sent));
        self.app.allocations.execute(told.resource, &command, &meta(None)).await?;
        Ok(())
    }

    async fn clock(&self, day: NaiveDate, hour: u32, minute: u32) -> Result<(), DemoError> {
        let to = day.and_hms_opt(hour, minute, 0).ok_or(DemoError::Calendar)?.and_utc();
        self.app.advance_clock(to).await?;
        Ok(())
    }

    async fn report(&self, month: Month, accounts: &BTreeMap<String, Decimal>) -> Result<(), DemoError> {
        let commands: Vec<_> = ALLOCATIONS
            .iter()
            .filter_map(|(account, slug)| {
                let amounts = Amounts::from([("node_hours".to_owned(), *accounts.get(*account)?)]);
                Some((resource(slug), AllocationCommand::ReportUsage(UsageReport::new(month, amounts))))
            })
            .collect();
        for outcome in self.app.allocations.execute_many(&commands, &meta(None)).await {
            outcome?;
        }
        Ok(())
    }

    /// The instant from which the agent fails at what it is told of the held allocation.
    fn held() -> Result<DateTime<Utc>, DemoError> {
        Ok(date((HOLD.0, HOLD.1, HOLD.2))?.and_time(NaiveTime::MIN).and_utc())
    }

    async fn hold(&self) -> Result<(), DemoError> {
        let command = AllocationCommand::PlaceHold {
            hold: IdSource.fresh().into(),
            kind: HoldKind::Pause,
            reason: HOLD.3.to_owned(),
            ticket: None,
            expires_at: Some(self.app.clock.now() + TimeDelta::days(3)),
            public: false,
        };
        self.app.allocations.execute(resource("teaching-hpc1"), &command, &meta(None)).await?;
        Ok(())
    }

    async fn top_up(&self, node_hours: i64) -> Result<(), DemoError> {
        let limits = Amounts::from([("node_hours".to_owned(), Decimal::from(node_hours))]);
        let why = "deadline of the assessment report, granted by the allocation board";
        let command = AllocationCommand::ChangeLimits(limits);
        self.app.allocations.execute(resource("climate-hpc1"), &command, &meta(Some(why))).await?;
        Ok(())
    }
}

fn date((year, month, day): (i32, u32, u32)) -> Result<NaiveDate, DemoError> {
    NaiveDate::from_ymd_opt(year, month, day).ok_or(DemoError::Calendar)
}

fn resource(slug: &str) -> ResourceId {
    ResourceId::from(slug_uuid("resource", slug))
}

fn meta(reason: Option<&str>) -> CommandMeta {
    CommandMeta {
        actor: Actor::CLI,
        correlation_id: IdSource.fresh(),
        causation_id: None,
        reason: reason.map(Into::into),
    }
}

/// Node-hours by account from the first of the month to the end of `day`.
fn totals(month: Month, day: NaiveDate) -> Result<BTreeMap<String, Decimal>, DemoError> {
    let rule: ComponentRule = "node_hours=node".parse()?;
    let mut options = ImportOptions::new(vec![rule], Tz::UTC);
    options.window = Window { from: Some(month.first_day()), to: Some(day) };
    let mut importer = Importer::new(options);
    for (name, jobs) in JOBS {
        importer.read(name, jobs.as_bytes(), &mut |_| {})?;
    }
    let totals = importer.finish()?;
    let of_month = |months: &BTreeMap<MonthKey, BTreeMap<String, Decimal>>| {
        months.values().filter_map(|components| components.get("node_hours")).sum()
    };
    Ok(totals.per_account.iter().map(|(account, months)| (account.clone(), of_month(months))).collect())
}
