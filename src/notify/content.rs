//! The content of a notice: read from the causing event and its evaluation when the notice is delivered.
//!
//! Numbers come from the recorded evaluation and dates count from its day, so that a notice that is sent late, or
//! twice, says the same.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;

use super::NotifyError;
use super::outbox::NoticeRow;
use crate::domain::explain::short;
use crate::domain::ids::{CustomerId, EventId, OfferingId, PolicyId, ResourceId};
use crate::domain::period::{Period, site_date};
use crate::domain::policy::PolicyTerms;
use crate::domain::preview::{ProjectionStatus, daily_rate, projection};
use crate::domain::text::{NAME, cleaned, on_one_line};
use crate::domain::threshold::{Effect, ladder};
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, ResourceFacts};
use crate::events::envelope::{RecordedEvent, StreamName};
use crate::events::notice::NoticeTemplate;
use crate::events::registry::PolicyFacts;
use crate::store::{EventStore, read_exactly};

/// Events of the book in which the evaluation is looked for, back from the causing one.
const LOOK_BACK: u64 = 64;

/// The longest explanation or agent's message in a notice, in characters.
const TEXT_CHARS_MAX: usize = 10_000;

/// A mail, as templates see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MailView {
    /// To whom.
    pub recipient: RecipientView,
    /// The notices, oldest first.
    pub notices: Vec<NoticeView>,
    /// The first of them.
    pub notice: NoticeView,
    /// How many resources they are about.
    pub resources: usize,
    /// Whom to ask.
    pub contact: Option<String>,
}

/// Somebody who gets mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipientView {
    /// The name, empty if it is not known.
    pub name: String,
}

/// One notice. Numbers are texts, ready for display; fields that do not apply are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoticeView {
    /// What happened.
    pub kind: NoticeTemplate,
    /// The event that calls for it.
    pub event: EventId,
    /// When, for humans, in the site's time.
    pub at: String,
    /// When.
    pub occurred_at: DateTime<Utc>,
    /// What it is about.
    pub resource: ResourceView,
    /// On which cluster.
    pub offering: NamedView<OfferingId>,
    /// Whose it is.
    pub customer: NamedView<CustomerId>,
    /// The policy that called for it.
    pub policy: Option<NamedView<PolicyId>>,
    /// An operator did it.
    pub manual: bool,
    /// Thresholds reached, percent, lowest first.
    pub thresholds: Vec<String>,
    /// The period that is counted.
    pub period: Option<Period>,
    /// Percent of the allocation, cut to one digit.
    pub percentage: Option<String>,
    /// Used in the period, in the unit of the explanation.
    pub used: Option<String>,
    /// What may be used in it.
    pub allocated: Option<String>,
    /// The sentence that explains the evaluation.
    pub explanation: Option<String>,
    /// Thresholds ahead, lowest first.
    pub next: Vec<StepView>,
    /// What the agent reported.
    pub error: Option<String>,
    /// The resource's page.
    pub link: Option<String>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceView {
    /// Its id.
    pub uuid: ResourceId,
    /// Its short name.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The SLURM account.
    pub account: String,
}

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedView<I> {
    /// Its id.
    pub uuid: I,
    /// Its name.
    pub name: String,
}

/// A threshold that lies ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepView {
    /// Where it lies.
    pub percent: String,
    /// The same as an amount.
    pub amount: String,
    /// What happens there: notify, downscale or pause.
    pub code: &'static str,
    /// The same in words.
    pub effect: &'static str,
    /// The day, at the pace so far; none if it is not reached at that pace.
    pub date: Option<NaiveDate>,
}

/// What the log says about a row's cause.
#[derive(Debug, Default)]
pub(super) struct Told {
    cause: Option<AllocationEvent>,
    evaluated: Option<Box<PolicyEvaluated>>,
}

fn decoded(recorded: &RecordedEvent) -> Result<Option<AllocationEvent>, NotifyError> {
    let event = AllocationEvent::decode(&recorded.event_type, &recorded.payload).transpose();
    event.map_err(|error| NotifyError::Unreadable(format!("{} in {}: {error}", recorded.event_type, recorded.stream)))
}

/// Reads the causing event of a row and the newest evaluation at or before it, of the row's policy if it has one.
pub(super) async fn told(store: &dyn EventStore, row: &NoticeRow) -> Result<Told, NotifyError> {
    let unreadable = |_| NotifyError::Unreadable(format!("{:?} is no stream", row.stream));
    let stream = StreamName::new(&row.stream).map_err(unreadable)?;
    let after = row.version.saturating_sub(LOOK_BACK);
    let limit = usize::try_from(row.version - after).unwrap_or(usize::MAX);
    let mut told = Told::default();
    for recorded in read_exactly(store, &stream, after, limit).await?.iter().rev() {
        // A disposed payload has nothing to report.
        if recorded.is_disposed() {
            continue;
        }
        let event = decoded(recorded)?;
        if recorded.version == row.version {
            told.cause.clone_from(&event);
        }
        if let Some(AllocationEvent::PolicyEvaluated(evaluated)) = event
            && row.policy.is_none_or(|policy| policy == evaluated.policy)
        {
            told.evaluated = Some(evaluated);
            break;
        }
    }
    Ok(told)
}

/// Names that the content of a notice needs.
#[derive(Debug)]
pub(super) struct Names {
    /// The resource as it is now.
    pub(super) resource: ResourceFacts,
    /// Its offering.
    pub(super) offering: String,
    /// Its customer.
    pub(super) customer: String,
    /// The policy as it is, or last was.
    pub(super) policy: Option<PolicyFacts>,
}

/// What a row says.
pub(super) fn view(row: &NoticeRow, told: Told, names: Names, zone: Tz, link: Option<&str>) -> NoticeView {
    let mut thresholds = row.thresholds.clone();
    thresholds.sort_unstable();
    let manual = matches!(&told.cause, Some(AllocationEvent::RestrictionChanged(c)) if c.policies.is_empty());
    let error = match told.cause {
        Some(AllocationEvent::CommandResultReported(result)) => {
            Some(result.report.error_message).filter(|message| !message.is_empty())
        }
        _ => None,
    };
    // What an operator did has nothing to do with the numbers.
    let evaluated = told.evaluated.filter(|_| !manual);
    let outcome = evaluated.as_ref().map(|e| &e.outcome);
    let next = match (&evaluated, &names.policy) {
        (Some(evaluated), Some(policy)) => steps(evaluated, &policy.terms, &names.resource, row.occurred_at, zone),
        _ => Vec::new(),
    };
    let percentage = |p: Decimal| p.round_dp_with_strategy(1, RoundingStrategy::ToZero).normalize().to_string();
    NoticeView {
        kind: row.template,
        event: row.cause,
        at: row.occurred_at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string(),
        occurred_at: row.occurred_at,
        offering: NamedView { uuid: names.resource.offering, name: shown(&names.offering) },
        customer: NamedView { uuid: names.resource.customer, name: shown(&names.customer) },
        policy: names.policy.map(|policy| NamedView { uuid: policy.policy, name: shown(&policy.slug) }),
        manual,
        thresholds: thresholds.iter().map(|percent| short(*percent, 2)).collect(),
        period: evaluated.as_ref().map(|e| e.period),
        percentage: outcome.map(|o| percentage(o.percentage)),
        used: outcome.map(|o| short(o.weighted_usage, 2)),
        allocated: outcome.map(|o| short(o.weighted_allocation, 2)),
        explanation: outcome.map(|o| cleaned(&o.explanation, TEXT_CHARS_MAX)),
        next,
        error: error.map(|text| cleaned(&text, TEXT_CHARS_MAX)),
        link: link.map(|link| link.replace("{uuid}", &row.resource.to_string())),
        resource: ResourceView {
            uuid: row.resource,
            account: shown(names.resource.account()),
            slug: shown(&names.resource.slug),
            name: shown(&names.resource.name),
        },
    }
}

/// The rungs that are not reached yet, with the days on which they are at the pace of the period so far.
fn steps(
    evaluated: &PolicyEvaluated,
    terms: &PolicyTerms,
    resource: &ResourceFacts,
    at: DateTime<Utc>,
    zone: Tz,
) -> Vec<StepView> {
    let outcome = &evaluated.outcome;
    let today = site_date(at, zone);
    let since = evaluated.period.start().unwrap_or_else(|| site_date(resource.created, zone));
    let pace = daily_rate(outcome.weighted_usage, since, today);
    let ahead = ladder(terms).into_iter().filter(|rung| !rung.is_reached_by(outcome.percentage));
    let step = |rung: crate::domain::threshold::Rung| {
        let amount = outcome.weighted_allocation.saturating_mul(rung.percent) / Decimal::ONE_HUNDRED;
        let projected = projection(outcome.weighted_usage, pace, amount, today);
        // The next period starts from zero: a date beyond this one is not a projection.
        let within = |date: &NaiveDate| evaluated.period.end().is_none_or(|end| *date <= end);
        StepView {
            percent: short(rung.percent, 2),
            amount: short(amount, 2),
            code: rung.effect.verb(),
            effect: match rung.effect {
                Effect::Notify => "another notice",
                Effect::Downscale => "slowed down",
                Effect::Pause => "paused",
            },
            date: projected.date.filter(|_| projected.status == ProjectionStatus::Projected).filter(within),
        }
    };
    ahead.filter(|_| !outcome.weighted_allocation.is_zero()).map(step).collect()
}

/// A name on one line: what the log has of before names had a rule must not reach the head of a mail or a terminal.
fn shown(name: &str) -> String {
    on_one_line(name, NAME.max)
}

/// A mail of these notices. At least one.
pub(super) fn mail(name: &str, notices: Vec<NoticeView>, contact: Option<String>) -> Option<MailView> {
    let notice = notices.first()?.clone();
    let mut resources: Vec<ResourceId> = notices.iter().map(|notice| notice.resource.uuid).collect();
    resources.sort_unstable();
    resources.dedup();
    Some(MailView {
        recipient: RecipientView { name: shown(name) },
        notice,
        resources: resources.len(),
        notices,
        contact,
    })
}

/// Mails that make use of everything a template may say, with and without what may be absent.
pub(super) fn samples() -> Vec<MailView> {
    let views: Vec<NoticeView> = NoticeTemplate::ALL.into_iter().map(sample).collect();
    let bare = |view: &NoticeView| NoticeView {
        policy: None,
        manual: true,
        period: None,
        percentage: None,
        used: None,
        allocated: None,
        explanation: None,
        next: Vec::new(),
        error: None,
        link: None,
        ..view.clone()
    };
    let contact = Some("hpc@site.example".to_owned());
    let rich = views.iter().map(|view| ("Alice A".to_owned(), vec![view.clone()], contact.clone()));
    let poor = views.iter().map(|view| (String::new(), vec![bare(view)], None));
    let digests = [
        ("Alice A".to_owned(), views.clone(), contact.clone()),
        (String::new(), views.iter().map(bare).collect(), None),
    ];
    rich.chain(poor).chain(digests).filter_map(|(name, notices, contact)| mail(&name, notices, contact)).collect()
}

fn sample(kind: NoticeTemplate) -> NoticeView {
    let some = |text: &str| Some(text.to_owned());
    let step = |percent: &str, amount: &str, effect, date: Option<NaiveDate>| StepView {
        percent: percent.to_owned(),
        amount: amount.to_owned(),
        code: "pause",
        effect,
        date,
    };
    let date = NaiveDate::from_ymd_opt(2026, 3, 20);
    NoticeView {
        kind,
        event: uuid::Uuid::nil().into(),
        at: "2026-03-14 10:22 UTC".to_owned(),
        occurred_at: DateTime::UNIX_EPOCH,
        resource: ResourceView {
            uuid: uuid::Uuid::nil().into(),
            slug: "climate-hpc1".to_owned(),
            name: "climate on hpc1".to_owned(),
            account: "hpc_climate".to_owned(),
        },
        offering: NamedView { uuid: uuid::Uuid::nil().into(), name: "SLURM HPC cluster".to_owned() },
        customer: NamedView { uuid: uuid::Uuid::nil().into(), name: "University A".to_owned() },
        policy: Some(NamedView { uuid: uuid::Uuid::nil().into(), name: "hpc1-quarterly".to_owned() }),
        manual: false,
        thresholds: vec!["50".to_owned(), "80".to_owned()],
        period: "2026-Q1".parse().ok(),
        percentage: some("82.5"),
        used: some("825"),
        allocated: some("1000"),
        explanation: some("82.5 % = 825 of 1000 node_hours; 80 % reached -> notify"),
        next: vec![step("100", "1000", "slowed down", date), step("120", "1200", "paused", None)],
        error: some("sacctmgr: error: no such account"),
        link: some("https://sluice.example/resources/7e5"),
    }
}
