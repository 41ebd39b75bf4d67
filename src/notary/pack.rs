//! A pack: events, checkpoints and what proves the ones against the others, as files that need nothing else to be verified.
//! The format is that of `docs/AUDIT-FORMAT.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tlog_tiles::{Hash, node_hash, sub_tree_index};
use uuid::Uuid;

use super::leaf::{hex, unhex};
use crate::events::envelope::{Actor, ActorKind, Metadata, Position, RecordedEvent, StreamName};

/// The version of the format.
pub const FORMAT: &str = "sluice-pack/1";

/// Events, one on each line.
pub const EVENTS: &str = "events.ndjson";
/// Signed checkpoints, one on each line.
pub const CHECKPOINTS: &str = "checkpoints.ndjson";
/// Statements of rotations, one on each line.
pub const ROTATIONS: &str = "rotations.ndjson";
/// Roots over the parts of the log that the pack leaves out, one on each line.
pub const SUBTREES: &str = "subtrees.ndjson";
/// The public key.
pub const KEY: &str = "key.pub";
/// What the pack holds.
pub const MANIFEST: &str = "manifest.json";
/// What to do with it.
pub const README: &str = "README.md";
/// The verifier that needs nothing of this program.
pub const VERIFIER: &str = "verify_pack.py";

/// An event on a line. Times are microseconds since 1970 (UTC); payload and salt are null once disposed of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    /// The number of its leaf, from 0.
    pub index: u64,
    /// Where it stands in the store that it was exported from.
    pub position: Position,
    stream: Cow<'a, str>,
    version: u64,
    #[serde(with = "uuid::serde::simple")]
    event_id: Uuid,
    event_type: Cow<'a, str>,
    occurred_at: i64,
    recorded_at: i64,
    actor_kind: ActorKind,
    actor_id: Option<uuid::fmt::Simple>,
    #[serde(with = "uuid::serde::simple")]
    correlation_id: Uuid,
    causation_id: Option<uuid::fmt::Simple>,
    reason: Option<Cow<'a, str>>,
    payload: Option<Cow<'a, str>>,
    salt: Option<String>,
    commitment: String,
    /// The leaf, hex: what it was when it was exported.
    pub leaf: String,
}

fn short(bytes: &[u8]) -> String {
    crate::store::archive::hex(bytes)
}

impl<'a> Line<'a> {
    /// The line of an event.
    pub fn of(event: &'a RecordedEvent, index: u64, leaf: &Hash) -> Self {
        let metadata = &event.metadata;
        let kept = !event.is_disposed();
        Self {
            index,
            position: event.position,
            stream: event.stream.as_str().into(),
            version: event.version,
            event_id: event.event_id,
            event_type: (&*event.event_type).into(),
            occurred_at: event.occurred_at.timestamp_micros(),
            recorded_at: event.recorded_at.timestamp_micros(),
            actor_kind: metadata.actor.kind,
            actor_id: metadata.actor.id.map(Uuid::simple),
            correlation_id: metadata.correlation_id,
            causation_id: metadata.causation_id.map(Uuid::simple),
            reason: metadata.reason.as_deref().map(Cow::from),
            payload: kept.then(|| (&*event.payload).into()),
            salt: kept.then(|| short(&event.salt)),
            commitment: short(&event.commitment),
            leaf: hex(leaf),
        }
    }

    /// The event of a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn event(self) -> Result<RecordedEvent, String> {
        let time =
            |micros: i64| DateTime::<Utc>::from_timestamp_micros(micros).ok_or_else(|| format!("{micros} is no time"));
        let commitment = unhex(&self.commitment).ok_or("the commitment is not 32 bytes in hex")?;
        let salt = match &self.salt {
            None => [0; 16],
            Some(text) => {
                let padded = unhex(&format!("{text:0>64}")).filter(|_| text.len() == 32);
                let bytes = padded.ok_or("the salt is not 16 bytes in hex")?;
                <[u8; 16]>::try_from(&bytes.0[16..]).map_err(|_| "the salt is not 16 bytes in hex")?
            }
        };
        Ok(RecordedEvent {
            position: self.position,
            stream: StreamName::new(&self.stream).map_err(|error| error.to_string())?,
            version: self.version,
            event_id: self.event_id,
            event_type: Arc::from(self.event_type),
            occurred_at: time(self.occurred_at)?,
            recorded_at: time(self.recorded_at)?,
            metadata: Metadata {
                actor: Actor { kind: self.actor_kind, id: self.actor_id.map(Uuid::from) },
                correlation_id: self.correlation_id,
                causation_id: self.causation_id.map(Uuid::from),
                reason: self.reason.map(Arc::from),
            },
            payload: self.payload.map_or_else(|| Arc::from(""), Arc::from),
            salt,
            commitment: commitment.0,
        })
    }
}

/// A line that holds a note.
#[derive(Debug, Serialize, Deserialize)]
pub struct NoteLine {
    /// The signed note.
    pub note: String,
}

/// The root over a part of the log that the pack leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subtree {
    /// The first leaf.
    pub from: u64,
    /// The leaf after the last.
    pub to: u64,
    /// The root over them, hex.
    pub hash: String,
}

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format.
    pub format: String,
    /// Which events, in words.
    pub what: String,
    /// Whether that is all of them.
    pub whole: bool,
    /// How many.
    pub events: u64,
    /// The checkpoint that they are proved against: how many events it is about.
    pub size: u64,
    /// Its root, hex.
    pub root: String,
    /// The name of the log.
    pub origin: String,
    /// When the pack was made.
    pub made_at: DateTime<Utc>,
    /// The release that made it.
    pub release: String,
    /// SHA-256 of each file, hex.
    pub files: BTreeMap<String, String>,
}

/// The largest power of two below a number above 1.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The parts of a tree of this size that hold none of these leaves, which are in order, as the recursion of RFC 6962 meets
/// them.
pub fn left_out(size: u64, leaves: &[u64]) -> Vec<(u64, u64)> {
    fn walk(lo: u64, hi: u64, leaves: &[u64], found: &mut Vec<(u64, u64)>) {
        if leaves.is_empty() {
            found.push((lo, hi));
        } else if hi - lo > 1 {
            let middle = lo + split(hi - lo);
            let (left, right) = leaves.split_at(leaves.partition_point(|leaf| *leaf < middle));
            walk(lo, middle, left, found);
            walk(middle, hi, right, found);
        }
    }
    let mut found = Vec::new();
    if size > 0 {
        walk(0, size, leaves, &mut found);
    }
    found
}

/// The nodes that the root over a part is made of, by the index in which the crate stores nodes.
pub fn nodes_of((from, to): (u64, u64)) -> Vec<u64> {
    sub_tree_index(from, to, Vec::new())
}

/// The root over a part, from those nodes.
pub fn root_of(nodes: &[Hash]) -> Option<Hash> {
    nodes.iter().copied().rev().reduce(|right, left| node_hash(left, right))
}

/// The root of a tree from leaves and the roots over what is left out; none where something is missing.
pub fn rooted(size: u64, leaves: &BTreeMap<u64, Hash>, subtrees: &BTreeMap<(u64, u64), Hash>) -> Option<Hash> {
    fn walk(lo: u64, hi: u64, leaves: &BTreeMap<u64, Hash>, subtrees: &BTreeMap<(u64, u64), Hash>) -> Option<Hash> {
        if let Some(known) = subtrees.get(&(lo, hi)) {
            return Some(*known);
        }
        if hi - lo == 1 {
            return leaves.get(&lo).copied();
        }
        let middle = lo + split(hi - lo);
        Some(node_hash(walk(lo, middle, leaves, subtrees)?, walk(middle, hi, leaves, subtrees)?))
    }
    if size == 0 { None } else { walk(0, size, leaves, subtrees) }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::record_hash;

    use super::super::tree::Frontier;
    use super::*;

    #[test]
    fn a_part_of_the_leaves_and_the_roots_over_the_rest_give_the_root() {
        let leaf = |number: u64| record_hash(&number.to_be_bytes());
        for size in [1, 2, 3, 7, 8, 21, 100] {
            let mut frontier = Frontier::default();
            (0..size).for_each(|number| frontier.push(leaf(number)));
            for wanted in [vec![0], vec![size - 1], (0..size).step_by(3).collect(), (0..size).collect::<Vec<_>>()] {
                let over = |(from, to): (u64, u64)| {
                    let mut part = Frontier::default();
                    (from..to).for_each(|number| part.push(leaf(number)));
                    ((from, to), part.root())
                };
                let subtrees: BTreeMap<_, _> = left_out(size, &wanted).into_iter().map(over).collect();
                assert!(wanted.len() as u64 != size || subtrees.is_empty());
                let leaves: BTreeMap<u64, Hash> = wanted.iter().map(|number| (*number, leaf(*number))).collect();
                assert_eq!(rooted(size, &leaves, &subtrees), Some(frontier.root()), "{size} {wanted:?}");
                let mut changed = leaves.clone();
                changed.insert(wanted[0], leaf(1_000));
                assert_ne!(rooted(size, &changed, &subtrees), Some(frontier.root()));
                let mut fewer = leaves;
                fewer.remove(&wanted[0]);
                assert_eq!(rooted(size, &fewer, &subtrees), None, "an event that is missing is noticed");
            }
        }
    }
}
