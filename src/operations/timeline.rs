//! The timeline of a resource: what changed on it and why, newest first, read from its books in the log.
//!
//! Usage and evaluations that changed nothing are left out. The cost is that of the resource's own history, whatever the
//! size of the fleet.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::allocation::stream_of;
use crate::domain::decimal::number;
use crate::domain::evaluate::Flags;
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::domain::tres::Amounts;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, SettingsCommanded};
use crate::events::envelope::{Actor, Position, RecordedEvent};
use crate::store::{EventStore, StoreError};

/// Events of a book read at a time.
const PAGE: usize = 2_000;

/// Books that a timeline goes back through at most: fifty years of months.
const BOOKS_MAX: usize = 600;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// It was registered, ended, renamed, or got another account.
    Resource,
    /// Its limits changed.
    Limits,
    /// A manual hold was placed or ended.
    Hold,
    /// Its restrictions changed.
    Restriction,
    /// An evaluation that changed something, called for a notice, or failed; a policy that applies no more.
    Evaluation,
    /// Usage was corrected.
    Usage,
    /// The agent was told something.
    Command,
    /// The agent was told to start the counter of raw usage again.
    Reset,
    /// What the agent answered.
    Result,
    /// A notice went out, or could not.
    Notice,
}

impl EntryKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Resource,
        Self::Limits,
        Self::Hold,
        Self::Restriction,
        Self::Evaluation,
        Self::Usage,
        Self::Command,
        Self::Reset,
        Self::Result,
        Self::Notice,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Limits => "limits",
            Self::Hold => "hold",
            Self::Restriction => "restriction",
            Self::Evaluation => "evaluation",
            Self::Usage => "usage",
            Self::Command => "command",
            Self::Reset => "reset",
            Self::Result => "result",
            Self::Notice => "notice",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One entry of a timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where the event stands in the log.
    pub position: Position,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What it is about.
    pub kind: EntryKind,
    /// It in one sentence.
    pub summary: String,
    /// Who caused it.
    pub actor: Actor,
    /// Why, in the words of whoever caused it.
    pub reason: Option<String>,
    /// The particulars, by name.
    pub details: Value,
}

/// Which entries of a timeline are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimelineFilter {
    /// Of these kinds; empty: of all.
    pub kinds: Vec<EntryKind>,
    /// At this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Before this instant.
    pub to: Option<DateTime<Utc>>,
}

impl TimelineFilter {
    fn wants(&self, entry: &Entry) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
    }
}

/// Entries of a resource's timeline, newest first: `size` of them after the first `skip`, and how many there are.
///
/// # Errors
/// The log cannot be read.
pub async fn timeline(
    store: &dyn EventStore,
    resource: ResourceId,
    newest_book: Month,
    filter: &TimelineFilter,
    skip: usize,
    size: usize,
) -> Result<(Vec<Entry>, u64), StoreError> {
    let (mut found, mut total) = (Vec::new(), 0_usize);
    let mut month = Some(newest_book);
    for _ in 0..BOOKS_MAX {
        let Some(book) = month else { break };
        let events = read_book(store, resource, book).await?;
        month = None;
        for recorded in events.iter().rev() {
            let Some(Ok(event)) = AllocationEvent::decode(&recorded.event_type, &recorded.payload) else { continue };
            if let AllocationEvent::BooksOpened(opened) = &event {
                month = Some(opened.previous);
            }
            let Some(entry) = entry(recorded, &event).filter(|entry| filter.wants(entry)) else { continue };
            total += 1;
            if total > skip && found.len() < size {
                found.push(entry);
            }
        }
        let passed = |from: DateTime<Utc>| events.first().is_some_and(|first| first.occurred_at < from);
        if filter.from.is_some_and(passed) {
            break;
        }
    }
    Ok((found, total as u64))
}

async fn read_book(
    store: &dyn EventStore,
    resource: ResourceId,
    month: Month,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let stream = stream_of(resource, month);
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.version);
        let page = store.read_stream(&stream, after, PAGE).await?;
        let done = page.len() < PAGE;
        events.extend(page);
        if done {
            return Ok(events);
        }
    }
}

/// The entry that an event makes, if it makes one.
fn entry(recorded: &RecordedEvent, event: &AllocationEvent) -> Option<Entry> {
    let (kind, summary, details) = said(event)?;
    Some(Entry {
        position: recorded.position,
        at: recorded.occurred_at,
        kind,
        summary,
        actor: recorded.metadata.actor,
        reason: recorded.metadata.reason.as_deref().map(str::to_owned),
        details,
    })
}

fn amounts(amounts: &Amounts) -> String {
    let each: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name} {}", amount.normalize())).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

fn numbers(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), number(*amount))).collect::<serde_json::Map<_, _>>().into()
}

fn restricted(flags: Flags) -> &'static str {
    match (flags.paused, flags.downscaled) {
        (true, true) => "paused and slowed down",
        (true, false) => "paused",
        (false, true) => "slowed down",
        (false, false) => "not restricted",
    }
}

fn said(event: &AllocationEvent) -> Option<(EntryKind, String, Value)> {
    Some(match event {
        AllocationEvent::ResourceRegistered(registered) => {
            let facts = &registered.facts;
            let summary = format!("registered as {:?}, limits: {}", facts.name, amounts(&facts.limits));
            (EntryKind::Resource, summary, json!({"limits": numbers(&facts.limits), "account": facts.account()}))
        }
        AllocationEvent::ResourceDetailsChanged(changed) => {
            let summary = format!("named {:?}, account {:?}", changed.name, changed.backend_id);
            (EntryKind::Resource, summary, json!({"name": changed.name, "backend_id": changed.backend_id}))
        }
        AllocationEvent::ResourceStateChanged(changed) => {
            let (from, to) = (changed.from.as_str(), changed.to.as_str());
            (EntryKind::Resource, format!("state {from} -> {to}"), json!({"from": from, "to": to}))
        }
        AllocationEvent::LimitsChanged(changed) => {
            let summary = format!("limits {} -> {}", amounts(&changed.previous), amounts(&changed.limits));
            let details = json!({"from": numbers(&changed.previous), "to": numbers(&changed.limits)});
            (EntryKind::Limits, summary, details)
        }
        AllocationEvent::HoldPlaced(hold) => {
            let until = hold.expires_at.map(|end| format!(" until {end}")).unwrap_or_default();
            let summary = format!("manual hold ({}){until}: {}", hold.kind.as_str(), hold.reason);
            (
                EntryKind::Hold,
                summary,
                json!({"hold_uuid": hold.hold, "kind": hold.kind, "ticket": hold.ticket, "expires_at": hold.expires_at}),
            )
        }
        AllocationEvent::HoldReleased(released) => {
            let how = if released.expired { "ran out" } else { "was released" };
            (
                EntryKind::Hold,
                format!("a manual hold {how}"),
                json!({"hold_uuid": released.hold, "expired": released.expired}),
            )
        }
        AllocationEvent::RestrictionChanged(changed) => {
            let summary = format!("{} -> {}", restricted(changed.from), restricted(changed.to));
            let details = json!({"from": changed.from, "to": changed.to, "policies": changed.policies});
            (EntryKind::Restriction, summary, details)
        }
        AllocationEvent::PolicyEvaluated(evaluated) => evaluation(evaluated)?,
        AllocationEvent::EvaluationFailed(failed) => {
            let summary = format!("an evaluation failed: {}", failed.error);
            (EntryKind::Evaluation, summary, json!({"policy_uuid": failed.policy, "period": failed.period}))
        }
        AllocationEvent::PolicyWithdrawn(withdrawn) => {
            let details =
                json!({"policy_uuid": withdrawn.policy, "why": withdrawn.reason, "released": withdrawn.released});
            (EntryKind::Evaluation, "a policy applies no more".to_owned(), details)
        }
        AllocationEvent::UsageReported(reported) if reported.restated => {
            let each = reported.amounts.iter().map(|(name, amount)| {
                let before = amount.previous.map_or_else(|| "nothing".to_owned(), |p| p.normalize().to_string());
                format!("{name} {before} -> {}", amount.amount.normalize())
            });
            let summary = format!("usage of {} corrected: {}", reported.month, each.collect::<Vec<_>>().join(", "));
            (EntryKind::Usage, summary, json!({"month": reported.month}))
        }
        AllocationEvent::SettingsCommanded(told) => commands(told),
        AllocationEvent::CommandResultReported(result) => {
            let summary = if result.report.success {
                "the agent reports success".to_owned()
            } else {
                format!("the agent reports a failure: {}", result.report.error_message)
            };
            (EntryKind::Result, summary, json!({"dispatch_uuid": result.dispatch, "success": result.report.success}))
        }
        AllocationEvent::NoticeSent(sent) => {
            let notice = &sent.notice;
            let summary = format!("notice {} sent by {}", notice.template.as_str(), notice.channel.as_str());
            (EntryKind::Notice, summary, json!({"template": notice.template, "sent": true}))
        }
        AllocationEvent::NoticeFailed(failed) => {
            let summary = format!("notice {} not sent: {}", failed.notice.template.as_str(), failed.error);
            (EntryKind::Notice, summary, json!({"template": failed.notice.template, "sent": false}))
        }
        AllocationEvent::NoticeResent(resent) => {
            let summary = format!("notice {} is to be sent again", resent.notice.template.as_str());
            (EntryKind::Notice, summary, json!({"template": resent.notice.template, "resent": true}))
        }
        _ => return None,
    })
}

/// An evaluation that changed the policy's holds or the restrictions, or called for a notice.
fn evaluation(evaluated: &PolicyEvaluated) -> Option<(EntryKind, String, Value)> {
    let outcome = &evaluated.outcome;
    let changed = evaluated.before != evaluated.after || evaluated.held != outcome.holds;
    if !changed && outcome.notified.is_empty() {
        return None;
    }
    let verbs: Vec<&str> = outcome.verbs.iter().map(|verb| verb.as_str()).collect();
    let details = json!({
        "policy_uuid": evaluated.policy, "period": evaluated.period, "usage_percentage": number(outcome.percentage),
        "actions_taken": verbs, "trigger": evaluated.trigger, "from": evaluated.before, "to": evaluated.after,
    });
    Some((EntryKind::Evaluation, outcome.explanation.clone(), details))
}

fn commands(told: &SettingsCommanded) -> (EntryKind, String, Value) {
    let texts: Vec<&str> = told.commands.iter().map(|command| command.shell_command.as_str()).collect();
    let kind = if told.reset.is_some() { EntryKind::Reset } else { EntryKind::Command };
    let details = json!({
        "dispatch_uuid": told.dispatch, "policy_uuid": told.policy, "period": told.period, "qos": told.qos,
        "reset_raw_usage": told.settings.reset_raw_usage, "commands": texts,
    });
    (kind, texts.join("; "), details)
}
