//! The timeline of a resource: its changes and their reasons, newest first, read from its books in the log.
//!
//! It omits usage and evaluations that changed nothing. The cost depends only on the resource's own history, whatever
//! the size of the fleet.

use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commands::allocation::stream_of;
use crate::domain::decimal::number;
use crate::domain::evaluate::Flags;
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::domain::text::on_one_line;
use crate::domain::tres::Amounts;
use crate::events::allocation::{AllocationEvent, HoldPlaced, LateUsageReported, PolicyEvaluated, SettingsCommanded};
use crate::events::envelope::{Actor, DecodeError, Position, RecordedEvent, StreamName};
use crate::store::{EventStore, StoreError};

/// Events of a book read at a time.
pub(super) const PAGE: usize = 2_000;

/// Characters of the sentence of an entry.
const SUMMARY_CHARS_MAX: usize = 20_000;

/// Bytes of its particulars.
const DETAILS_BYTES_MAX: usize = 64 << 10;

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
    /// A message to the agent.
    Command,
    /// An order to the agent to reset the counter of raw usage.
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
    /// The reason that the actor gave.
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
    /// As the people of the resource see it: that an operator holds it, and why only where that is public.
    pub outside: bool,
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
        // Entries that are newer than any of this book come first.
        let wanted = skip.saturating_add(size).saturating_sub(total);
        let mut read = Reading::new(filter, wanted);
        read.book(store, &stream_of(resource, book)).await?;
        let (newest, first_at) = (total, read.first_at);
        total += read.entries;
        month = read.previous;
        let of_book = read.newest_first().enumerate();
        found.extend(of_book.filter(|(at, _)| newest + at >= skip).map(|(_, entry)| entry).take(size - found.len()));
        let passed = |from: DateTime<Utc>| first_at.is_some_and(|first| first < from);
        if filter.from.is_some_and(passed) {
            break;
        }
    }
    Ok((found, total as u64))
}

/// A book while it is read, from its oldest event on: its newest entries, as many as are wanted.
struct Reading<'f> {
    filter: &'f TimelineFilter,
    wanted: usize,
    /// Each with the request that it belongs to, and with what stands there for who may not know.
    newest: VecDeque<(Entry, Uuid, Option<Said>)>,
    entries: usize,
    internal: BTreeSet<Uuid>,
    first_at: Option<DateTime<Utc>>,
    previous: Option<Month>,
}

/// A sentence, and its particulars.
type Said = (String, Value);

impl<'f> Reading<'f> {
    fn new(filter: &'f TimelineFilter, wanted: usize) -> Self {
        Self {
            filter,
            wanted,
            newest: VecDeque::new(),
            entries: 0,
            internal: BTreeSet::new(),
            first_at: None,
            previous: None,
        }
    }

    async fn book(&mut self, store: &dyn EventStore, stream: &StreamName) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let _room = store.room().await;
            let page = store.read_stream(stream, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.version;
            self.first_at = self.first_at.or(page.first().map(|first| first.occurred_at));
            for recorded in &page {
                self.take(store, recorded);
            }
        }
    }

    fn take(&mut self, store: &dyn EventStore, recorded: &RecordedEvent) {
        let event = match AllocationEvent::decode(&recorded.event_type, &recorded.payload) {
            Some(Ok(event)) => event,
            Some(Err(problem)) => return store.note(&DecodeError::new(recorded, problem)),
            None => return,
        };
        let request = recorded.metadata.correlation_id;
        let mut otherwise = None;
        match &event {
            AllocationEvent::BooksOpened(opened) => self.previous = Some(opened.previous),
            // By these requests holds are placed or released whose reasons are no matter of the resource's people. What
            // follows from a hold is recorded with its reason, under the same request.
            AllocationEvent::HoldPlaced(hold) if !hold.public => {
                self.internal.insert(request);
                otherwise = Some(held(hold, false));
            }
            AllocationEvent::HoldReleased(_) => {
                self.internal.insert(request);
            }
            _ => {}
        }
        if let Some(entry) = entry(recorded, &event).filter(|entry| self.filter.wants(entry)) {
            self.entries += 1;
            self.newest.push_back((shortened(entry), request, otherwise));
            if self.newest.len() > self.wanted {
                self.newest.pop_front();
            }
        }
    }

    fn newest_first(self) -> impl Iterator<Item = Entry> {
        let hides = self.filter.outside;
        self.newest.into_iter().rev().map(move |(mut entry, request, otherwise)| {
            if hides && self.internal.contains(&request) {
                entry.reason = None;
                if let Some(otherwise) = otherwise {
                    (entry.summary, entry.details) = otherwise;
                }
            }
            entry
        })
    }
}

/// An entry that is no longer than a page of them can hold; the log has the whole of it.
fn shortened(mut entry: Entry) -> Entry {
    if entry.summary.len() > SUMMARY_CHARS_MAX {
        entry.summary = on_one_line(&entry.summary, SUMMARY_CHARS_MAX);
    }
    let size = entry.details.to_string().len();
    if size > DETAILS_BYTES_MAX {
        entry.details = json!({ "cut": format!("{size} bytes: the event in the log holds them") });
    }
    entry
}

/// A hold in a sentence and with its particulars, told with its reason and ticket or without.
pub(super) fn held(hold: &HoldPlaced, told: bool) -> (String, Value) {
    let until = hold.expires_at.map(|end| format!(" until {end}")).unwrap_or_default();
    let why = if told { format!(": {}", hold.reason) } else { String::new() };
    let ticket = hold.ticket.as_ref().filter(|_| told);
    let details = json!({"hold_uuid": hold.hold, "kind": hold.kind, "ticket": ticket, "expires_at": hold.expires_at});
    (format!("manual hold ({}){until}{why}", hold.kind.as_str()), details)
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

pub(super) fn amounts(amounts: &Amounts) -> String {
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

pub(super) fn said(event: &AllocationEvent) -> Option<(EntryKind, String, Value)> {
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
            let (summary, details) = held(hold, true);
            (EntryKind::Hold, summary, details)
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
        AllocationEvent::LateUsageReported(late) => late_usage(late),
        AllocationEvent::MissingUsageFilled(filled) => {
            let each = filled
                .amounts
                .iter()
                .map(|(name, total)| format!("{name} {} ({})", total.amount.normalize(), total.policy.as_str()));
            let summary =
                format!("no report on {}, so it counts: {}", filled.month, each.collect::<Vec<_>>().join(", "));
            (EntryKind::Usage, summary, json!({"month": filled.month, "filled": true}))
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

fn late_usage(late: &LateUsageReported) -> (EntryKind, String, Value) {
    let each = late.amounts.iter().map(|(name, total)| {
        let (amount, stands) = (total.amount.normalize(), total.stands.normalize());
        format!("{name} {amount}, {stands} stands, measured at {}", total.stands_since)
    });
    let summary = format!(
        "late report on {}, measured at {}: {}",
        late.month,
        late.measured_at,
        each.collect::<Vec<_>>().join(", ")
    );
    (EntryKind::Usage, summary, json!({"month": late.month, "measured_at": late.measured_at, "late": true}))
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
