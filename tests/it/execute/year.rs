//! A year with a monthly and a quarterly policy over fifty resources, with the server away for three days over the end of a
//! quarter, against the same year without that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use sluice::app::{App, AppClock};
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::directory::UserDetails;
use sluice::domain::evaluate::Flags;
use sluice::domain::ids::{ResourceId, slug_uuid};
use sluice::domain::period::{Month, PeriodKind};
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::AllocationEvent;
use sluice::events::notice::NoticeTemplate;
use sluice::events::registry::CustomerFacts;
use sluice::registry::book_of;
use sluice::scheduler::Job;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{customer, log};
use crate::support::fleet::meta;
use crate::support::world::{
    ALL_THREE, amounts, offering_facts, policy_facts, policy_id, resource_facts, resource_id, terms,
};

/// Days on which nobody serves, until ten in the morning of the day after the last: over the end of the second quarter.
const AWAY: [&str; 3] = ["2026-06-29", "2026-06-30", "2026-07-01"];

pub(crate) fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub(crate) fn at(day: NaiveDate, hour: u32) -> DateTime<Utc> {
    day.and_hms_opt(hour, 0, 0).unwrap().and_utc()
}

pub(crate) fn name(number: u32) -> String {
    format!("r{number}")
}

/// Hours used on a day: every resource at a pace of its own, with weeks of more and of less.
fn used_on(number: u32, day: NaiveDate) -> Decimal {
    let week = day.ordinal() / 7;
    let factor = 50 + (week * 37 + number * 11) % 100;
    Decimal::from(20 + number * 13 % 50) * Decimal::from(factor) / Decimal::ONE_HUNDRED
}

/// The month's total up to and with a day.
fn total(number: u32, until: NaiveDate) -> Decimal {
    (1..=until.day()).map(|d| used_on(number, until.with_day(d).unwrap())).sum()
}

/// How much of it: so many resources, from a day on, for so many days.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) resources: u32,
    pub(crate) first: NaiveDate,
    pub(crate) days: u64,
}

pub(crate) struct Year {
    of: Extent,
    pub(crate) app: Arc<App>,
    folder: TempDir,
    /// Restrictions of all resources at the end of each day.
    evenings: BTreeMap<NaiveDate, BTreeMap<ResourceId, Flags>>,
}

impl Year {
    async fn begin(of: Extent) -> Self {
        Self::under(of, |_, _| ()).await
    }

    /// The same with other rules: `change` gets the name of each policy and its terms.
    pub(crate) async fn under(of: Extent, change: impl Fn(&str, &mut PolicyTerms)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = crate::support::database::options(folder.path());
        options.simulated_clock = Some(at(of.first, 0));
        let app = App::open(options).await.unwrap();
        let year = Self { of, app, folder, evenings: BTreeMap::new() };
        year.lay_out(change).await;
        year
    }

    async fn lay_out(&self, change: impl Fn(&str, &mut PolicyTerms)) {
        let (app, meta) = (&self.app, meta());
        let alice = UserDetails {
            id: slug_uuid("user", "alice").into(),
            username: "alice".into(),
            email: Some("alice@uni-a.example".into()),
            full_name: "Alice".into(),
        };
        app.directory.put_user(&alice, app.clock.now()).await.unwrap();
        let facts = CustomerFacts {
            customer: customer("uni-a"),
            slug: "uni-a".into(),
            name: "University A".into(),
            groups: [].into(),
            owners: [alice.id].into(),
            pending: BTreeSet::new(),
            retired: false,
        };
        app.registry_commands.put_customer(facts.customer, &meta, |_| Ok(facts.clone())).await.unwrap();
        let offering = offering_facts(&["node"]);
        app.registry_commands.put_offering(offering.offering, &meta, |_| Ok(offering.clone())).await.unwrap();
        let monthly = PolicyTerms {
            component_limits: amounts(&[("node", "1000")]),
            carryover_enabled: true,
            carryover_factor: Some(Decimal::from(50)),
            ..terms(ALL_THREE)
        };
        let quarterly = PolicyTerms {
            component_limits: amounts(&[("node", "3000")]),
            carryover_enabled: true,
            period: PeriodKind::Quarter,
            notification_thresholds: vec![Decimal::from(50), Decimal::from(90)],
            ..terms(ALL_THREE)
        };
        for (slug, mut terms) in [("monthly", monthly), ("quarterly", quarterly)] {
            change(slug, &mut terms);
            let facts = policy_facts(slug, terms);
            app.registry_commands.put_policy(policy_id(slug), &meta, &|_| Ok(facts.clone())).await.unwrap();
        }
        let created = at(self.of.first, 0);
        let register = |n| {
            let facts = resource_facts(&name(n), amounts(&[]), created);
            (resource_id(&name(n)), AllocationCommand::Register(Box::new(facts)))
        };
        self.execute((0..self.of.resources).map(register).collect()).await;
    }

    pub(crate) async fn execute(&self, commands: Vec<(ResourceId, AllocationCommand)>) {
        for outcome in self.app.allocations.execute_many(&commands, &meta()).await {
            outcome.unwrap();
        }
        self.app.settle().await.unwrap();
    }

    /// The agent reports the running month, and in its first days the one before once more.
    async fn report(&self, today: NaiveDate) {
        let last_month = today.with_day(1).unwrap().pred_opt().filter(|_| today.day() <= 3 && today > self.of.first);
        for until in last_month.into_iter().filter(|until| *until >= self.of.first).chain([today]) {
            let month = Month::of(until);
            let report = |n| {
                let amounts = [("node".to_owned(), total(n, until))].into();
                (resource_id(&name(n)), AllocationCommand::ReportUsage(UsageReport::new(month, amounts)))
            };
            self.execute((0..self.of.resources).map(report).collect()).await;
        }
    }

    pub(crate) async fn live(&mut self, today: NaiveDate) {
        self.app.advance_clock(at(today, 12)).await.unwrap();
        self.report(today).await;
        self.app.advance_clock(at(today, 23)).await.unwrap();
        let ids: Vec<ResourceId> = (0..self.of.resources).map(|n| resource_id(&name(n))).collect();
        let books = self.app.allocations.books_of(&ids).await.unwrap();
        let flags = ids.into_iter().zip(books.into_iter().map(|book| book.unwrap().flags)).collect();
        self.evenings.insert(today, flags);
    }

    /// The process is gone; another one starts at ten in the morning, on a clock that has gone on.
    async fn away_until(&mut self, today: NaiveDate) {
        let options = crate::support::database::options(self.folder.path());
        self.app = App::open(options).await.unwrap();
        let AppClock::Simulated(clock) = &self.app.clock_kind else { panic!() };
        clock.advance_to(at(today, 10));
        self.app.settle().await.unwrap();
        let runs = self.app.scheduler.start(&CancellationToken::new()).await.unwrap();
        for job in [Job::PeriodBoundary, Job::EvaluateAll, Job::Retention, Job::SettingsSync] {
            assert_eq!(
                runs.iter().filter(|run| run.job == job).count(),
                1,
                "{}, once for all that was missed",
                job.name()
            );
        }
        self.app.settle().await.unwrap();
    }

    async fn go_by(mut self, away: &[NaiveDate]) -> Self {
        for number in 0..self.of.days {
            let today = self.of.first + Days::new(number);
            if away.contains(&today) {
                continue;
            }
            if away.last().is_some_and(|last| *last + TimeDelta::days(1) == today) {
                self.away_until(today).await;
            }
            self.live(today).await;
        }
        self
    }
}

/// What the log says of the year, counted.
#[derive(Debug, Default)]
struct Story {
    /// Resets of each resource, by the month in which they were decided.
    resets: BTreeMap<ResourceId, Vec<Month>>,
    /// Notices called for: policy, resource, period, threshold, number of raises.
    notices: Vec<String>,
    /// Mails about thresholds: resource and the events that called for them.
    mails: Vec<String>,
}

async fn story(app: &App) -> Story {
    let mut story = Story::default();
    for (stream, event) in log(app).await {
        let Some((resource, month)) = book_of(&stream) else { continue };
        match event {
            AllocationEvent::SettingsCommanded(told) if told.reset.is_some() => {
                story.resets.entry(resource).or_default().push(month);
            }
            AllocationEvent::PolicyEvaluated(e) => {
                for threshold in &e.outcome.notified {
                    let raises = e.notices.raises;
                    story.notices.push(format!("{} {resource} {} {threshold} {raises}", e.policy, e.period));
                }
            }
            AllocationEvent::NoticeSent(sent) if sent.notice.template == NoticeTemplate::ThresholdReached => {
                story.mails.extend(sent.notice.covers.iter().map(|cause| format!("{resource} {cause}")));
            }
            AllocationEvent::NoticeFailed(failed) => panic!("{}", failed.error),
            _ => {}
        }
    }
    story
}

/// Each once: what was asked for by one fact is not asked for again.
fn assert_once(what: &[String]) {
    let distinct: BTreeSet<&String> = what.iter().collect();
    assert_eq!(what.len(), distinct.len(), "something came twice");
}

/// Lives it twice and compares.
async fn compare(of: Extent) {
    let resources = of.resources as usize;
    let whole = Year::begin(of).await.go_by(&[]).await;
    crate::support::causes::every_event_has_its_cause(&whole.app).await;
    let broken = Year::begin(of).await.go_by(&AWAY.map(day)).await;
    let mut restricted = 0;
    for (today, evening) in &broken.evenings {
        assert_eq!(evening, &whole.evenings[today], "in the evening of {today}");
        restricted += evening.values().filter(|flags| flags.any()).count();
    }
    let evenings = broken.evenings.len() * resources;
    assert_eq!(whole.evenings.len(), broken.evenings.len() + AWAY.len());
    assert!((evenings / 10..evenings * 9 / 10).contains(&restricted), "{restricted} of {evenings} say something");
    let (whole, broken) = (story(&whole.app).await, story(&broken.app).await);
    let last = of.first + Days::new(of.days - 1);
    let months: Vec<Month> =
        std::iter::successors(Some(Month::of(of.first)), |month| Some(month.next()).filter(|m| *m <= Month::of(last)))
            .collect();
    for story in [&whole, &broken] {
        assert_eq!(story.resets.len(), resources);
        for (resource, resets) in &story.resets {
            assert_eq!(resets, &months, "{resource}: taken over, then one reset for each month, quarters with it");
        }
        assert_once(&story.notices);
        assert_once(&story.mails);
        assert!(story.mails.len() >= resources, "{} mails", story.mails.len());
        assert!(story.mails.len() <= story.notices.len());
    }
    // What was first reported when its period was over is told of by nobody.
    let told = |story: &Story| story.notices.iter().cloned().collect::<BTreeSet<String>>();
    let (whole, broken) = (told(&whole), told(&broken));
    let late = |notice: &&String| notice.contains(" 2026-06 ") || notice.contains(" 2026-Q2 ");
    let missed: Vec<&String> = whole.difference(&broken).filter(|notice| !late(notice)).collect();
    assert!(missed.is_empty(), "notices of other periods: {missed:?}");
    assert!(broken.is_subset(&whole), "{:?}", broken.difference(&whole).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_months_with_three_days_without_a_server_are_the_same_two_months() {
    compare(Extent { resources: 5, first: day("2026-06-10"), days: 40 }).await;
}

#[tokio::test]
#[ignore = "a whole year of fifty resources, twice: minutes, in a full run only"]
async fn a_year_with_three_days_without_a_server_is_the_same_year() {
    compare(Extent { resources: 50, first: day("2026-01-01"), days: 365 }).await;
}
