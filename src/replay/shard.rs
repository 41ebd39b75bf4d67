//! A part of the streams: decodes their decisions, collects the inputs, recomputes and compares.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use serde::Serialize;
use serde_json::{Value, json};

use super::Wanted;
use super::report::{FieldDifference, Found, differences};
use crate::domain::qos::QosClass;
use crate::domain::sacctmgr::Command;
use crate::domain::settings::AgentSettings;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, Recorded, SettingsCommanded};
use crate::events::envelope::{DecodeError, RecordedEvent, StreamName, Version};
use crate::events::resolve::{Resolver, UnresolvedReference};

/// How long the parts of the work took, each summed up over the shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Reading the log. The shards work on a page while the next one is read.
    pub reading: Duration,
    /// Decoding payloads.
    pub decoding: Duration,
    /// Finding the inputs, deciding again, comparing.
    pub deciding: Duration,
}

impl Spent {
    pub(super) fn add(&mut self, other: Self) {
        self.reading += other.reading;
        self.decoding += other.decoding;
        self.deciding += other.deciding;
    }
}

/// A decision that waits for an earlier event of its stream.
pub(super) struct Waiting {
    pub(super) event: RecordedEvent,
    pub(super) reference: UnresolvedReference,
}

/// What taking some events came to.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) found: Found,
    pub(super) waiting: Vec<Waiting>,
    pub(super) spent: Spent,
}

/// The books of a part of the streams, those that were used last.
pub(super) struct Shard {
    books: LruCache<StreamName, Resolver>,
}

impl Shard {
    pub(super) fn new(books_max: NonZeroUsize) -> Self {
        Self { books: LruCache::new(books_max) }
    }

    /// Makes the decisions among these events again, which follow each other in each stream.
    pub(super) fn take(&mut self, events: Vec<RecordedEvent>, wanted: &Wanted) -> Taken {
        let mut taken = Taken::default();
        for event in events {
            if event.is_disposed() {
                // Whose it was cannot be told any more.
                if wanted.policy.is_none() {
                    taken.found.count(&event).disposed += 1;
                }
                continue;
            }
            if !wanted.may_concern(&event.payload) {
                continue;
            }
            let begun = Instant::now();
            let decoded = AllocationEvent::decode(&event.event_type, &event.payload);
            let decoded_at = Instant::now();
            taken.spent.decoding += decoded_at - begun;
            match decoded {
                Some(Ok(decision)) if wanted.concerns(&decision) => self.again(event, &decision, &mut taken),
                Some(Ok(_)) => {}
                Some(Err(error)) => taken.found.fails(DecodeError::new(&event, error), &event),
                None => {
                    let problem = DecodeError::new(&event, "the type is unknown to this release");
                    taken.found.fails(problem, &event);
                }
            }
            taken.spent.deciding += decoded_at.elapsed();
        }
        taken
    }

    fn again(&mut self, event: RecordedEvent, decision: &AllocationEvent, taken: &mut Taken) {
        if let Err(reference) = compare(self.book(&event.stream), &event, decision, &mut taken.found) {
            taken.waiting.push(Waiting { event, reference });
        }
    }

    fn book(&mut self, stream: &StreamName) -> &mut Resolver {
        self.books.get_or_insert_mut_ref(stream, Resolver::default)
    }

    /// Remembers an evaluation that others refer to, here and in a book of its own for the one that waits for it now: the two
    /// bases that a message refers to may be older than what the book knows by now.
    pub(super) fn learn(&mut self, aside: &mut Resolver, event: &RecordedEvent) {
        if let Some(Ok(AllocationEvent::PolicyEvaluated(evaluated))) =
            AllocationEvent::decode(&event.event_type, &event.payload)
        {
            aside.learn(event.version, &evaluated);
            self.book(&event.stream).learn(event.version, &evaluated);
        }
    }
}

/// Makes a decision again that was found to be readable before, with what was looked up for it.
pub(super) fn retried(
    aside: &mut Resolver,
    event: &RecordedEvent,
    found: &mut Found,
) -> Result<(), UnresolvedReference> {
    match AllocationEvent::decode(&event.event_type, &event.payload) {
        Some(Ok(decision)) => compare(aside, event, &decision, found),
        _ => Ok(()),
    }
}

fn compare(
    book: &mut Resolver,
    event: &RecordedEvent,
    decision: &AllocationEvent,
    found: &mut Found,
) -> Result<(), UnresolvedReference> {
    let differences = match decision {
        AllocationEvent::PolicyEvaluated(evaluated) => {
            Some(evaluation(book, event.version, evaluated, &event.payload)?)
        }
        AllocationEvent::SettingsCommanded(told) => settings(book, event.version, told)?,
        _ => None,
    };
    match differences {
        Some(differences) => found.recomputed(event, differences),
        None => found.count(event).without_inputs += 1,
    }
    Ok(())
}

/// Text of plain data; its encoding never fails.
fn text(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

fn value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).unwrap_or_default()
}

/// Makes an evaluation again; says in which fields it comes out otherwise.
fn evaluation(
    book: &mut Resolver,
    version: Version,
    event: &PolicyEvaluated,
    payload: &str,
) -> Result<Vec<FieldDifference>, UnresolvedReference> {
    let resolved = book.resolve(version, event)?;
    let mut found = Vec::new();
    let (allocation, outcome) = match resolved.replay() {
        Ok(again) => again,
        Err(error) => {
            return Ok(vec![FieldDifference::new(
                "outcome",
                &value(&event.outcome),
                &json!({"error": error.to_string()}),
            )]);
        }
    };
    // What was decided is the last field: most payloads are compared as they stand, without taking them apart.
    let again = text(&outcome);
    let before = payload.trim_end().strip_suffix('}').and_then(|rest| rest.strip_suffix(again.as_str()));
    if before.is_none_or(|rest| !rest.ends_with("\"outcome\":")) {
        let recorded: Value = serde_json::from_str(payload).unwrap_or_default();
        differences("outcome", &recorded["outcome"], &value(&outcome), &mut found);
    }
    if let Recorded::Full(full) = &event.basis
        && text(&full.allocation) != text(&allocation)
    {
        differences("basis.allocation", &value(&full.allocation), &value(&allocation), &mut found);
    }
    let basis = &resolved.basis.basis;
    differences("policy_version", &json!(event.policy_version), &json!(basis.policy_version), &mut found);
    if event.period != basis.period {
        differences("period", &value(&event.period), &value(&basis.period), &mut found);
    }
    Ok(found)
}

/// What an agent was commanded, as far as it follows from its inputs.
#[derive(Serialize)]
struct Told<'a> {
    settings: &'a AgentSettings,
    qos: &'a QosClass,
    qos_name: Option<&'a str>,
    commands: &'a [Command],
}

/// Works out again what the agent was commanded; nothing for an event that records no inputs.
fn settings(
    book: &Resolver,
    version: Version,
    event: &SettingsCommanded,
) -> Result<Option<Vec<FieldDifference>>, UnresolvedReference> {
    let Some(resolved) = book.resolve_settings(version, event)? else { return Ok(None) };
    let recorded = Told {
        settings: &event.settings,
        qos: &event.qos,
        qos_name: event.qos_name.as_deref(),
        commands: &event.commands,
    };
    let again = match resolved.replay() {
        Ok(again) => again,
        Err(error) => {
            let again = json!({"error": error.to_string()});
            return Ok(Some(vec![FieldDifference::new("settings", &value(&event.settings), &again)]));
        }
    };
    let recomputed =
        Told { settings: &again.settings, qos: &again.qos, qos_name: Some(&again.qos_name), commands: &again.commands };
    let mut found = Vec::new();
    if text(&recorded) != text(&recomputed) {
        let (Value::Object(was), Value::Object(is)) = (value(&recorded), value(&recomputed)) else {
            return Ok(Some(vec![FieldDifference::new("settings", &value(&recorded), &value(&recomputed))]));
        };
        for (field, was) in &was {
            differences(field, was, is.get(field).unwrap_or(&Value::Null), &mut found);
        }
    }
    Ok(Some(found))
}
