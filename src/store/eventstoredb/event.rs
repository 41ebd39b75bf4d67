//! Converts events to the server's format and back: the payload unchanged, the rest of the envelope in the custom
//! metadata.
//!
//! `recorded_at` comes from Sluice's own clock, as in every other engine, so that a simulated clock works here too; the
//! server keeps its own time beside it. The names with a `$` are those that the server's own tools know.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use eventstore::EventData;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::events::envelope::{Actor, Metadata, Position, RecordedEvent, StreamName};
use crate::store::{StoreError, damaged_event};

/// The form of the custom metadata; another form gets another number.
const FORM: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    /// Tells Sluice's events from anybody else's.
    sluice: u8,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    actor: Actor,
    #[serde(rename = "$correlationId")]
    correlation_id: Uuid,
    #[serde(rename = "$causationId", default, skip_serializing_if = "Option::is_none")]
    causation_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Arc<str>>,
    salt: String,
    commitment: String,
}

/// The names of event types: one allocation each, shared by all events of the type.
#[derive(Default)]
pub(super) struct Kinds(Mutex<HashSet<Arc<str>>>);

impl Kinds {
    fn shared(&self, name: &str) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = known.get(name) {
            return Arc::clone(there);
        }
        let name: Arc<str> = name.into();
        known.insert(Arc::clone(&name));
        name
    }
}

/// As the server takes it. The event's place in the log does not go with it.
pub(super) fn encode(event: &RecordedEvent) -> Result<EventData, StoreError> {
    let header = Header {
        sluice: FORM,
        occurred_at: event.occurred_at,
        recorded_at: event.recorded_at,
        actor: event.metadata.actor,
        correlation_id: event.metadata.correlation_id,
        causation_id: event.metadata.causation_id,
        reason: event.metadata.reason.clone(),
        salt: format!("{:032x}", u128::from_be_bytes(event.salt)),
        commitment: hex(&event.commitment),
    };
    let no_json = |error: serde_json::Error| StoreError::Rejected(format!("a payload is no JSON: {error}"));
    let data = if event.is_disposed() {
        EventData::binary(&event.event_type, Vec::new().into())
    } else {
        let payload = RawValue::from_string(event.payload.to_string()).map_err(no_json)?;
        EventData::json(&event.event_type, &payload).map_err(no_json)?
    };
    data.id(event.event_id).metadata_as_json(&header).map_err(no_json)
}

/// Makes an event out of what the server holds. One that makes no sense is an event too, with the reason in the place of its
/// payload: only then can it be named, and set aside.
pub(super) fn decode(
    there: &eventstore::RecordedEvent,
    prefix: &str,
    kinds: &Kinds,
) -> Result<RecordedEvent, StoreError> {
    match whole(there, prefix, kinds) {
        Err(StoreError::Corrupt(problem)) => {
            let name = there.stream_id().strip_prefix(prefix).and_then(|name| StreamName::new(name).ok());
            let name = name.ok_or_else(|| StoreError::Corrupt(problem.clone()))?;
            let event_type = kinds.shared(&there.event_type);
            Ok(damaged_event(position(there.position), name, there.revision + 1, event_type, &problem))
        }
        other => other,
    }
}

fn whole(there: &eventstore::RecordedEvent, prefix: &str, kinds: &Kinds) -> Result<RecordedEvent, StoreError> {
    let unreadable = |problem: String| {
        let (stream, revision) = (there.stream_id(), there.revision);
        StoreError::Corrupt(format!("event {revision} of the stream {stream:?} in the event store: {problem}"))
    };
    let name = there.stream_id().strip_prefix(prefix).ok_or_else(|| unreadable(format!("it is outside {prefix:?}")))?;
    let header: Header = serde_json::from_slice(&there.custom_metadata)
        .map_err(|error| unreadable(format!("it was not written by Sluice: {error}")))?;
    if header.sluice != FORM {
        return Err(unreadable(format!("its metadata has form {}, which this program does not know", header.sluice)));
    }
    let payload = std::str::from_utf8(&there.data).map_err(|error| unreadable(error.to_string()))?;
    let salt = unhex(&header.salt).ok_or_else(|| unreadable("its salt is not 16 bytes in hex".to_owned()))?;
    let commitment =
        unhex(&header.commitment).ok_or_else(|| unreadable("its commitment is not 32 bytes in hex".to_owned()))?;
    Ok(RecordedEvent {
        position: position(there.position),
        stream: StreamName::new(name).map_err(|error| unreadable(error.to_string()))?,
        version: there.revision + 1,
        event_id: there.id,
        event_type: kinds.shared(&there.event_type),
        occurred_at: header.occurred_at,
        recorded_at: header.recorded_at,
        metadata: Metadata {
            actor: header.actor,
            correlation_id: header.correlation_id,
            causation_id: header.causation_id,
            reason: header.reason,
        },
        payload: payload.into(),
        salt,
        commitment,
    })
}

/// The server's position as ours.
pub(super) fn position(there: eventstore::Position) -> Position {
    Position::from_halves(there.commit, there.prepare)
}

/// Our position as the server's.
pub(super) fn their_position(position: Position) -> eventstore::Position {
    let (commit, prepare) = position.halves();
    eventstore::Position { commit, prepare }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}
