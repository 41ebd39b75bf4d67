//! Reads events back: the statements, and the decoding of rows.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::connection::ReadError;
use crate::events::envelope::{
    Actor, ActorKind, Metadata, Position, RecordedEvent, StreamEvent, StreamName, StreamStart, Version, damaged,
};
use crate::store::damaged_event;
use crate::store::kinds::{Kinds, UNKNOWN};
use crate::store::numbers::NUMBERS;
use crate::store::room::Measure;

/// The columns of an event, in the order that `event` reads them. A macro, so that each statement is one static text.
macro_rules! columns {
    () => {
        "e.position, e.version, e.kind_id, e.event_id, e.occurred_at, e.recorded_at, e.actor_kind, e.actor_id, \
         e.correlation_id, e.causation_id, e.reason, e.payload, e.salt, e.commitment"
    };
}

const READ_ALL: &str = concat!(
    "SELECT ",
    columns!(),
    ", s.name FROM events e CROSS JOIN streams s ON s.stream_id = e.stream_id \
     WHERE e.position > ?1 ORDER BY e.position LIMIT ?2"
);

const READ_STREAM: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM events e WHERE e.stream_id = (SELECT stream_id FROM streams WHERE name = ?1) AND e.version > ?2 \
     ORDER BY e.version LIMIT ?3"
);

/// A whole stream, with no more of each event than a fold needs.
const READ_WHOLE_STREAM: &str = "SELECT e.version, e.kind_id, e.event_id, e.payload, e.correlation_id FROM events e \
     WHERE e.stream_id = (SELECT stream_id FROM streams WHERE name = ?1) ORDER BY e.version";

type Read<T> = Result<T, ReadError>;

fn get<T: FromSql>(row: &Row<'_>, index: usize) -> Read<T> {
    row.get(index).map_err(|error| ReadError::Corrupt(format!("column {index} of an event: {error}")))
}

fn text<'r>(row: &'r Row<'_>, index: usize) -> Read<Option<&'r str>> {
    let text = row.get_ref(index)?.as_str_or_null();
    text.map_err(|error| ReadError::Corrupt(format!("column {index} of an event: {error}")))
}

fn time(row: &Row<'_>, index: usize) -> Read<DateTime<Utc>> {
    let micros = get(row, index)?;
    DateTime::from_timestamp_micros(micros).ok_or_else(|| ReadError::Corrupt(format!("the time {micros}")))
}

fn bytes<const N: usize>(row: &Row<'_>, index: usize) -> Read<Option<[u8; N]>> {
    let wrong = || ReadError::Corrupt(format!("column {index} of an event is not {N} bytes long"));
    match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => bytes.try_into().map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn id(row: &Row<'_>, index: usize) -> Read<Uuid> {
    let id = bytes(row, index)?.map(Uuid::from_bytes);
    id.ok_or_else(|| ReadError::Corrupt(format!("column {index} of an event is empty")))
}

fn unsigned(row: &Row<'_>, index: usize) -> Read<u64> {
    let number = get::<i64>(row, index)?;
    u64::try_from(number).map_err(|_| ReadError::Corrupt(format!("column {index} of an event is negative")))
}

/// The event of a row. One that makes no sense is an event too, with the reason in the place of its payload: only then can
/// it be named, and set aside.
fn event(row: &Row<'_>, stream: StreamName, event_type: Arc<str>) -> Read<RecordedEvent> {
    match whole_event(row, stream.clone(), event_type.clone()) {
        Err(ReadError::Corrupt(problem)) => {
            Ok(damaged_event(NUMBERS.at(unsigned(row, 0)?), stream, unsigned(row, 1)?, event_type, &problem))
        }
        other => other,
    }
}

fn whole_event(row: &Row<'_>, stream: StreamName, event_type: Arc<str>) -> Read<RecordedEvent> {
    let actor_kind = get(row, 6)?;
    let kind = ActorKind::from_code(actor_kind)
        .ok_or_else(|| ReadError::Corrupt(format!("the kind of actor {actor_kind}")))?;
    let metadata = Metadata {
        actor: Actor { kind, id: bytes(row, 7)?.map(Uuid::from_bytes) },
        correlation_id: id(row, 8)?,
        causation_id: bytes(row, 9)?.map(Uuid::from_bytes),
        reason: text(row, 10)?.map(Arc::from),
    };
    let commitment = bytes(row, 13)?.ok_or_else(|| ReadError::Corrupt("an event without commitment".to_owned()))?;
    Ok(RecordedEvent {
        position: NUMBERS.at(unsigned(row, 0)?),
        stream,
        version: unsigned(row, 1)?,
        event_id: id(row, 3)?,
        event_type,
        occurred_at: time(row, 4)?,
        recorded_at: time(row, 5)?,
        metadata,
        payload: text(row, 11)?.unwrap_or_default().into(),
        salt: bytes(row, 12)?.unwrap_or_default(),
        commitment,
    })
}

/// The name of a type, which another process may have added since.
fn kind(connection: &Connection, kinds: &Kinds, kind_id: i64) -> Read<Arc<str>> {
    if let Some(event_type) = kinds.get(kind_id) {
        return Ok(event_type);
    }
    let mut statement = connection.prepare_cached("SELECT kind_id, name FROM event_kinds")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let (kind_id, name) = (get::<i64>(row, 0)?, text(row, 1)?.unwrap_or_default());
        if kinds.get(kind_id).is_none() {
            kinds.put(kind_id, name.into());
        }
    }
    Ok(kinds.get(kind_id).unwrap_or_else(|| UNKNOWN.into()))
}

fn stored_name(name: Option<&str>) -> Read<StreamName> {
    StreamName::new(name.unwrap_or_default()).map_err(|error| ReadError::Corrupt(error.to_string()))
}

/// Events after a position: at most so many, and up to the one that reaches so many bytes.
pub(super) fn read_all(
    connection: &Connection,
    kinds: &Kinds,
    after: Position,
    (limit, bytes_max): (usize, usize),
) -> Read<Vec<RecordedEvent>> {
    let mut statement = connection.prepare_cached(READ_ALL)?;
    let mut rows = statement.query(params![signed(NUMBERS.of(after)), signed(limit as u64)])?;
    let (mut events, mut measure) = (Vec::new(), Measure::new(bytes_max));
    while let Some(row) = rows.next()? {
        let event_type = kind(connection, kinds, get(row, 2)?)?;
        let event = event(row, stored_name(text(row, 14)?)?, event_type)?;
        let full = measure.is_full_with(event.payload.len());
        events.push(event);
        if full {
            break;
        }
    }
    Ok(events)
}

/// The same of a stream.
pub(super) fn read_stream(
    connection: &Connection,
    kinds: &Kinds,
    stream: &StreamName,
    after: Version,
    (limit, bytes_max): (usize, usize),
) -> Read<Vec<RecordedEvent>> {
    let mut statement = connection.prepare_cached(READ_STREAM)?;
    let mut rows = statement.query(params![stream.as_str(), signed(after), signed(limit as u64)])?;
    let (mut events, mut measure) = (Vec::new(), Measure::new(bytes_max));
    while let Some(row) = rows.next()? {
        let event_type = kind(connection, kinds, get(row, 2)?)?;
        let event = event(row, stream.clone(), event_type)?;
        let full = measure.is_full_with(event.payload.len());
        events.push(event);
        if full {
            break;
        }
    }
    Ok(events)
}

pub(super) fn read_streams(
    connection: &Connection,
    kinds: &Kinds,
    streams: &[StreamName],
    mut measure: Measure,
) -> Read<(Vec<StreamStart>, Measure)> {
    // One snapshot for all, which also saves taking the lock for each.
    let snapshot = connection.unchecked_transaction()?;
    let mut statement = snapshot.prepare_cached(READ_WHOLE_STREAM)?;
    let mut found = Vec::with_capacity(streams.len());
    for stream in streams {
        if measure.is_full() {
            found.push(StreamStart::default());
            continue;
        }
        let mut rows = statement.query([stream.as_str()])?;
        let (mut events, mut whole) = (Vec::new(), true);
        while let Some(row) = rows.next()? {
            if measure.is_full() {
                whole = false;
                break;
            }
            events.push(StreamEvent {
                version: unsigned(row, 0)?,
                event_type: kind(connection, kinds, get(row, 1)?)?,
                event_id: id(row, 2).unwrap_or_default(),
                correlation_id: id(row, 4).unwrap_or_default(),
                payload: text(row, 3)
                    .map_or_else(|error| damaged(&error.to_string()), |text| text.unwrap_or_default().into()),
            });
            measure.is_full_with(events.last().map_or(0, |event: &StreamEvent| event.payload.len()));
        }
        found.push(StreamStart { events, whole });
    }
    Ok((found, measure))
}

pub(super) fn head(connection: &Connection) -> Read<Position> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(position), 0) FROM events")?;
    statement.query_row((), |row| Ok(unsigned(row, 0)))?.map(|number| NUMBERS.at(number))
}

/// As `SQLite` takes numbers; what is beyond its range is beyond every row too.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
