//! One event as one line of JSON: always the same keys in the same order, so that equal events are equal bytes.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::envelope::{Actor, ActorKind, Metadata, RecordedEvent, StreamName};
use crate::store::numbers::NUMBERS;

/// The keys in their order. Times are microseconds since 1970 (UTC); payload and salt are null once disposed of.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    position: u64,
    stream: Cow<'a, str>,
    version: u64,
    event_id: Uuid,
    event_type: Cow<'a, str>,
    occurred_at: i64,
    recorded_at: i64,
    actor_kind: ActorKind,
    actor_id: Option<Uuid>,
    correlation_id: Uuid,
    causation_id: Option<Uuid>,
    reason: Option<Cow<'a, str>>,
    payload: Option<Cow<'a, str>>,
    salt: Option<String>,
    commitment: String,
}

/// Appends the line of an event, with its end.
pub(in crate::store) fn write(event: &RecordedEvent, into: &mut Vec<u8>) -> Result<(), String> {
    // What stands in the place of a damaged event must not take its place for good.
    if let Some(damage) = event.damage() {
        return Err(format!("the event at position {} is damaged: {damage}", event.position.plain()));
    }
    let metadata = &event.metadata;
    let kept = !event.is_disposed();
    let line = Line {
        position: NUMBERS.of(event.position),
        stream: event.stream.as_str().into(),
        version: event.version,
        event_id: event.event_id,
        event_type: (&*event.event_type).into(),
        occurred_at: event.occurred_at.timestamp_micros(),
        recorded_at: event.recorded_at.timestamp_micros(),
        actor_kind: metadata.actor.kind,
        actor_id: metadata.actor.id,
        correlation_id: metadata.correlation_id,
        causation_id: metadata.causation_id,
        reason: metadata.reason.as_deref().map(Cow::from),
        payload: kept.then(|| (&*event.payload).into()),
        salt: kept.then(|| hex(&event.salt)),
        commitment: hex(&event.commitment),
    };
    serde_json::to_writer(&mut *into, &line).map_err(|error| error.to_string())?;
    into.push(b'\n');
    Ok(())
}

/// The event of a line without its end.
pub(super) fn read(line: &[u8]) -> Result<RecordedEvent, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let time = |micros: i64| DateTime::<Utc>::from_timestamp_micros(micros).ok_or_else(|| format!("the time {micros}"));
    let salt = line.salt.as_deref().map(|salt| unhex(salt).ok_or("the salt is not 16 bytes in hex")).transpose()?;
    Ok(RecordedEvent {
        position: NUMBERS.at(line.position),
        stream: StreamName::new(&line.stream).map_err(|error| error.to_string())?,
        version: line.version,
        event_id: line.event_id,
        event_type: Arc::from(line.event_type),
        occurred_at: time(line.occurred_at)?,
        recorded_at: time(line.recorded_at)?,
        metadata: Metadata {
            actor: Actor { kind: line.actor_kind, id: line.actor_id },
            correlation_id: line.correlation_id,
            causation_id: line.causation_id,
            reason: line.reason.map(Arc::from),
        },
        payload: line.payload.map_or_else(|| Arc::from(""), Arc::from),
        salt: salt.unwrap_or_default(),
        commitment: unhex(&line.commitment).ok_or("the commitment is not 32 bytes in hex")?,
    })
}

/// Bytes in hex digits.
pub fn hex(bytes: &[u8]) -> String {
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
