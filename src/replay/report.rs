//! The findings of a pass over recorded decisions: counts by kind of event, and the first decisions that differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::events::envelope::{DecodeError, Position, RecordedEvent, StreamName, Version};

/// Differences, and decisions that could not be recomputed, that are named one by one; the rest is counted.
pub const NAMED_MAX: usize = 100;

/// Characters of a value in a difference.
const VALUE_CHARS_MAX: usize = 500;

/// How the decisions of one kind came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The same as recorded.
    pub same: u64,
    /// Otherwise than recorded.
    pub different: u64,
    /// The event records no inputs: `settings_commanded.v1`, and an evaluation that failed.
    pub without_inputs: u64,
    /// The payload was disposed of.
    pub disposed: u64,
    /// The event was set aside, so nobody relies on it.
    pub set_aside: u64,
    /// The event cannot be read, or refers to inputs that its stream does not hold.
    pub not_recomputed: u64,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.same + self.different + self.without_inputs + self.disposed + self.set_aside + self.not_recomputed
    }

    fn add(&mut self, other: &Self) {
        self.same += other.same;
        self.different += other.different;
        self.without_inputs += other.without_inputs;
        self.disposed += other.disposed;
        self.set_aside += other.set_aside;
        self.not_recomputed += other.not_recomputed;
    }
}

/// A value of a decision that comes out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where the decision stands in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamName,
    /// Where it stands in its stream.
    pub version: Version,
    /// Its type.
    pub event_type: String,
    /// The field, as a path in the payload.
    pub field: String,
    /// What the event says, as JSON.
    pub recorded: String,
    /// What its inputs give, as JSON.
    pub recomputed: String,
}

/// What was found, up to a position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The pass began after this position.
    pub after: Position,
    /// The last position that was looked at.
    pub through: Position,
    /// Events that were read, decisions or not.
    pub events: u64,
    /// Decisions by the type of their event.
    pub kinds: BTreeMap<String, Counts>,
    /// What comes out otherwise, in the order of the log: the first hundred.
    pub differences: Vec<Difference>,
    /// Decisions that could not be recomputed, with the reason: the first hundred.
    pub not_recomputed: Vec<DecodeError>,
}

impl Report {
    /// Every decision that can be recomputed comes out as it was recorded, and none is unreadable.
    pub fn agrees(&self) -> bool {
        let total = self.total();
        total.different == 0 && total.not_recomputed == 0
    }

    /// The counts of all kinds together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.kinds.values().for_each(|counts| total.add(counts));
        total
    }

    /// What is wrong, in one sentence; none if nothing is.
    pub fn complaint(&self) -> Option<String> {
        let total = self.total();
        if let Some(first) = self.differences.first() {
            return Some(format!(
                "{} of {} decisions come out otherwise than recorded; the first stands at position {} ({} of {}, version {}): \
                 {} is recorded as {} and comes out as {}",
                total.different,
                total.total(),
                first.position.plain(),
                first.event_type,
                first.stream,
                first.version,
                first.field,
                first.recorded,
                first.recomputed
            ));
        }
        let first = self.not_recomputed.first()?;
        Some(format!(
            "{} of {} decisions cannot be recomputed; the first: {first}",
            total.not_recomputed,
            total.total()
        ))
    }

    /// Takes in what was found of further events, which follow those that are in it.
    pub(super) fn take(&mut self, mut found: Found) {
        for (kind, counts) in &found.kinds {
            self.kinds.entry(kind.to_string()).or_default().add(counts);
        }
        // Shards work side by side, and each in the order of the log.
        found.differences.sort_by_key(|one| one.position);
        found.not_recomputed.sort_by_key(|one| one.position);
        let room = |len: usize| NAMED_MAX.saturating_sub(len);
        self.differences.extend(found.differences.into_iter().take(room(self.differences.len())));
        self.not_recomputed.extend(found.not_recomputed.into_iter().take(room(self.not_recomputed.len())));
    }
}

/// What was found of the events of one page.
#[derive(Debug, Default)]
pub(super) struct Found {
    kinds: BTreeMap<Arc<str>, Counts>,
    differences: Vec<Difference>,
    not_recomputed: Vec<DecodeError>,
}

impl Found {
    pub(super) fn count(&mut self, event: &RecordedEvent) -> &mut Counts {
        self.kinds.entry(Arc::clone(&event.event_type)).or_default()
    }

    /// A decision was recomputed.
    pub(super) fn recomputed(&mut self, event: &RecordedEvent, differences: Vec<FieldDifference>) {
        let counts = self.count(event);
        if differences.is_empty() {
            counts.same += 1;
            return;
        }
        counts.different += 1;
        for FieldDifference { field, recorded, recomputed } in differences {
            self.differences.push(Difference {
                position: event.position,
                stream: event.stream.clone(),
                version: event.version,
                event_type: event.event_type.to_string(),
                field,
                recorded,
                recomputed,
            });
        }
    }

    /// A decision cannot be recomputed.
    pub(super) fn fails(&mut self, problem: DecodeError, event: &RecordedEvent) {
        self.count(event).not_recomputed += 1;
        self.not_recomputed.push(problem);
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (kind, counts) in other.kinds {
            self.kinds.entry(kind).or_default().add(&counts);
        }
        self.differences.extend(other.differences);
        self.not_recomputed.extend(other.not_recomputed);
    }
}

/// A field that comes out otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldDifference {
    pub(super) field: String,
    pub(super) recorded: String,
    pub(super) recomputed: String,
}

impl FieldDifference {
    pub(super) fn new(field: impl Into<String>, recorded: &Value, recomputed: &Value) -> Self {
        Self { field: field.into(), recorded: shown(recorded), recomputed: shown(recomputed) }
    }
}

fn shown(value: &Value) -> String {
    let text = if value.is_null() { "nothing".to_owned() } else { value.to_string() };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// Adds the values in which two documents differ, each with its path.
pub(super) fn differences(path: &str, recorded: &Value, recomputed: &Value, found: &mut Vec<FieldDifference>) {
    match (recorded, recomputed) {
        (Value::Object(was), Value::Object(is)) => {
            let keys: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            for key in keys {
                let of = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                differences(&format!("{path}.{key}"), &of(was), &of(is), found);
            }
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            for (index, (was, is)) in was.iter().zip(is).enumerate() {
                differences(&format!("{path}[{index}]"), was, is, found);
            }
        }
        _ if recorded == recomputed => {}
        _ => found.push(FieldDifference::new(path, recorded, recomputed)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_names_the_value_that_differs_and_nothing_else() {
        let was = json!({"percentage": "104.3", "verbs": ["pause", "notify"], "holds": ["paused"], "full": true});
        let is = json!({"percentage": "104.30", "verbs": ["pause", "downscale"], "holds": [], "full": true});
        let mut found = Vec::new();
        differences("outcome", &was, &is, &mut found);
        let said: Vec<_> = found.iter().map(|d| format!("{}: {} {}", d.field, d.recorded, d.recomputed)).collect();
        assert_eq!(
            said,
            [
                "outcome.holds: [\"paused\"] []",
                "outcome.percentage: \"104.3\" \"104.30\"",
                "outcome.verbs[1]: \"notify\" \"downscale\"",
            ]
        );
        let mut found = Vec::new();
        differences("outcome", &json!({"qos": "slow"}), &json!({}), &mut found);
        assert_eq!(found, [FieldDifference::new("outcome.qos", &json!("slow"), &Value::Null)]);
        assert_eq!(found[0].recomputed, "nothing");
    }
}
