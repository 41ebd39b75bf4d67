//! Reads events back: the statements, and the decoding of rows.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{PgPool, Row, ValueRef};
use uuid::Uuid;

use crate::events::envelope::{
    Actor, ActorKind, Metadata, Position, RecordedEvent, StreamEvent, StreamName, StreamStart, Version,
};
use crate::store::archive::{StreamRows, unarchived};
use crate::store::kinds::{Kinds, UNKNOWN};
use crate::store::numbers::NUMBERS;
use crate::store::room::Measure;
use crate::store::sql::is_connection_loss;
use crate::store::{StoreError, damaged_event};

/// The columns of an event, in the order that `event` reads them. A macro, so that each statement is one static text.
macro_rules! columns {
    () => {
        "e.position, e.version, e.kind_id, e.event_id, e.occurred_at, e.recorded_at, e.actor_kind, e.actor_id, \
         e.correlation_id, e.causation_id, e.reason, e.payload, e.salt, e.commitment"
    };
}

/// Rows, with what the payloads before each of them come to. The database counts no further than it has to read, and looks
/// into no payload for its length.
macro_rules! measured {
    ($place:literal, $which:literal) => {
        concat!(
            "(SELECT *, sum(coalesce(octet_length(payload), 0)) OVER (ORDER BY ",
            $place,
            " ROWS UNBOUNDED PRECEDING) - coalesce(octet_length(payload), 0) AS before FROM events WHERE ",
            $which,
            " ORDER BY ",
            $place
        )
    };
}

/// The name by a look into the index for each row: joined, the planner would rather read all streams there are.
const READ_ALL: &str = concat!(
    "SELECT ",
    columns!(),
    ", (SELECT s.name FROM streams s WHERE s.stream_id = e.stream_id) FROM ",
    measured!("position", "position > $1"),
    " LIMIT $2) e WHERE e.before < $3 ORDER BY e.position"
);

/// With the version of the stream at that moment, which tells rows that are archived from rows that never were; so a stream
/// without rows is one row without an event.
const READ_STREAM: &str = concat!(
    "SELECT ",
    columns!(),
    ", s.version FROM streams s LEFT JOIN LATERAL (SELECT * FROM ",
    measured!("version", "stream_id = s.stream_id AND version > $2"),
    " LIMIT $3) m WHERE m.before < $4) e ON true WHERE s.name = $1"
);

/// Each column costs as much as a small row does, so there are no more of them than a fold needs. A list of names looks
/// short to the planner, as it is. A stream whose rows are all archived is one row without an event: as rows go in their
/// order, those that a stream has are its newest.
const READ_STREAMS: &str = "SELECT w.place - 1, e.version, e.kind_id, e.event_id, e.payload, e.correlation_id \
     FROM unnest($1::text[]) WITH ORDINALITY AS w (name, place) JOIN streams s ON s.name = w.name \
     LEFT JOIN events e ON e.stream_id = s.stream_id";

/// Learns the types that another process has added.
async fn refresh(kinds: &Kinds, readers: &PgPool) -> Result<(), StoreError> {
    for row in fetch(readers, || sqlx::query("SELECT kind_id, name FROM event_kinds")).await? {
        let (kind_id, name) = (get::<i16>(&row, 0)?, get::<&str>(&row, 1)?);
        if kinds.get(kind_id.into()).is_none() {
            kinds.put(kind_id.into(), name.into());
        }
    }
    Ok(())
}

/// Reads rows; a connection that died in the pool is replaced, a few times.
pub(super) async fn fetch<'q>(
    readers: &PgPool,
    make: impl Fn() -> Query<'q, Postgres, PgArguments> + Send,
) -> Result<Vec<PgRow>, StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut connection = readers.acquire().await.map_err(unavailable)?;
        match make().fetch_all(&mut *connection).await {
            Err(error) if is_connection_loss(&error) => {
                // A dead connection must not go back into the pool.
                drop(connection.detach());
                if attempts > readers.options().get_max_connections() {
                    return Err(unavailable(error));
                }
            }
            rows => return rows.map_err(unavailable),
        }
    }
}

/// The same, up to the row with which so many bytes of payload are there, and whether these are all rows. What is left of the
/// answer is not read, so the connection is not used again.
async fn fetch_within<'q>(
    readers: &PgPool,
    make: impl Fn() -> Query<'q, Postgres, PgArguments> + Send,
    payload: usize,
    bytes_max: usize,
) -> Result<(Vec<PgRow>, bool), StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut connection = readers.acquire().await.map_err(unavailable)?;
        let (mut rows, mut measure) = (Vec::new(), Measure::new(bytes_max));
        let lost = {
            let mut answer = make().fetch(&mut *connection);
            loop {
                match answer.try_next().await {
                    Ok(None) => return Ok((rows, true)),
                    Ok(Some(row)) => {
                        let full = measure.is_full_with(get::<Option<&str>>(&row, payload)?.map_or(0, str::len));
                        rows.push(row);
                        if full {
                            break None;
                        }
                    }
                    Err(error) if is_connection_loss(&error) => break Some(error),
                    Err(error) => return Err(unavailable(error)),
                }
            }
        };
        let Some(error) = lost else {
            connection.close_on_drop();
            return Ok((rows, false));
        };
        // A dead connection must not go back into the pool.
        drop(connection.detach());
        if attempts > readers.options().get_max_connections() {
            return Err(unavailable(error));
        }
    }
}

pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}

fn get<'r, T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>>(
    row: &'r PgRow,
    index: usize,
) -> Result<T, StoreError> {
    row.try_get(index).map_err(|error| StoreError::Corrupt(format!("column {index} of an event: {error}")))
}

fn bytes<const N: usize>(row: &PgRow, index: usize) -> Result<Option<[u8; N]>, StoreError> {
    let bytes: Option<&[u8]> = get(row, index)?;
    let sized = |bytes: &[u8]| {
        bytes.try_into().map_err(|_| StoreError::Corrupt(format!("column {index} of an event is not {N} bytes long")))
    };
    bytes.map(sized).transpose()
}

fn unsigned(row: &PgRow, index: usize) -> Result<u64, StoreError> {
    u64::try_from(get::<i64>(row, index)?)
        .map_err(|_| StoreError::Corrupt(format!("column {index} of an event is negative")))
}

/// The event of a row. One that makes no sense is an event too, with the reason in the place of its payload: only then can
/// it be named, and set aside.
fn event(row: &PgRow, stream: StreamName, event_type: Arc<str>) -> Result<RecordedEvent, StoreError> {
    match whole_event(row, stream.clone(), event_type.clone()) {
        Err(StoreError::Corrupt(problem)) => {
            Ok(damaged_event(NUMBERS.at(unsigned(row, 0)?), stream, unsigned(row, 1)?, event_type, &problem))
        }
        other => other,
    }
}

fn whole_event(row: &PgRow, stream: StreamName, event_type: Arc<str>) -> Result<RecordedEvent, StoreError> {
    let actor_kind: i16 = get(row, 6)?;
    let kind = ActorKind::from_code(actor_kind.into())
        .ok_or_else(|| StoreError::Corrupt(format!("the kind of actor {actor_kind}")))?;
    let metadata = Metadata {
        actor: Actor { kind, id: get::<Option<Uuid>>(row, 7)? },
        correlation_id: get(row, 8)?,
        causation_id: get(row, 9)?,
        reason: get::<Option<&str>>(row, 10)?.map(Arc::from),
    };
    let commitment = bytes(row, 13)?.ok_or_else(|| StoreError::Corrupt("an event without commitment".to_owned()))?;
    Ok(RecordedEvent {
        position: NUMBERS.at(unsigned(row, 0)?),
        stream,
        version: unsigned(row, 1)?,
        event_id: get(row, 3)?,
        event_type,
        occurred_at: get::<DateTime<Utc>>(row, 4)?,
        recorded_at: get::<DateTime<Utc>>(row, 5)?,
        metadata,
        payload: get::<Option<&str>>(row, 11)?.unwrap_or_default().into(),
        salt: bytes(row, 12)?.unwrap_or_default(),
        commitment,
    })
}

/// The name of a type, which another process may have added since.
async fn kind(readers: &PgPool, kinds: &Kinds, kind_id: i64) -> Result<Arc<str>, StoreError> {
    if let Some(event_type) = kinds.get(kind_id) {
        return Ok(event_type);
    }
    refresh(kinds, readers).await?;
    Ok(kinds.get(kind_id).unwrap_or_else(|| UNKNOWN.into()))
}

async fn events(
    readers: &PgPool,
    kinds: &Kinds,
    rows: Vec<PgRow>,
    stream: impl Fn(&PgRow) -> Result<StreamName, StoreError>,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let event_type = kind(readers, kinds, get::<i16>(&row, 2)?.into()).await?;
        events.push(event(&row, stream(&row)?, event_type)?);
    }
    Ok(events)
}

fn stored_name(name: &str) -> Result<StreamName, StoreError> {
    StreamName::new(name).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) async fn read_all(
    readers: &PgPool,
    kinds: &Kinds,
    after: Position,
    (limit, bytes_max): (usize, usize),
) -> Result<Vec<RecordedEvent>, StoreError> {
    let query = || {
        let query = sqlx::query(READ_ALL).bind(signed(NUMBERS.of(after)));
        query.bind(signed(limit as u64)).bind(signed(bytes_max as u64))
    };
    let rows = fetch(readers, query).await?;
    events(readers, kinds, rows, |row| stored_name(get(row, 14)?)).await
}

/// Rows of a stream after a version.
pub(super) async fn read_stream(
    readers: &PgPool,
    kinds: &Kinds,
    stream: &StreamName,
    after: Version,
    (limit, bytes_max): (usize, usize),
) -> Result<StreamRows, StoreError> {
    let query = || {
        let query = sqlx::query(READ_STREAM).bind(stream.as_str()).bind(signed(after));
        query.bind(signed(limit as u64)).bind(signed(bytes_max as u64))
    };
    let mut rows = fetch(readers, query).await?;
    let version = rows.first().map_or(Ok(0), |row| unsigned(row, 14))?;
    if rows.first().is_some_and(is_without_event) {
        rows.clear();
    }
    let mut events = events(readers, kinds, rows, |_| Ok(stream.clone())).await?;
    events.sort_unstable_by_key(|event| event.version);
    Ok(StreamRows { events, version: Some(version) })
}

/// Whether a stream was found and no event of it.
fn is_without_event(row: &PgRow) -> bool {
    row.try_get_raw(1).is_ok_and(|version| version.is_null())
}

/// The beginnings of streams, all together of so many bytes and the event that reaches them; nothing of one of which a part is
/// archived.
pub(super) async fn read_streams(
    readers: &PgPool,
    kinds: &Kinds,
    streams: &[StreamName],
    bytes_max: usize,
) -> Result<Vec<StreamStart>, StoreError> {
    let names: Vec<&str> = streams.iter().map(StreamName::as_str).collect();
    let query = || sqlx::query(READ_STREAMS).bind(names.clone());
    let (rows, whole) = fetch_within(readers, query, 4, bytes_max).await?;
    // Rows come in no order, so that of those that are missing nobody knows where they belong.
    let mut found = vec![StreamStart { events: Vec::new(), whole }; streams.len()];
    for row in rows {
        let place = usize::try_from(unsigned(&row, 0)?).ok().and_then(|place| found.get_mut(place));
        let start = place.ok_or_else(|| StoreError::Corrupt("a stream that nobody asked for".to_owned()))?;
        if is_without_event(&row) {
            // None of its rows is left: all are archived.
            start.whole = false;
            continue;
        }
        start.events.push(StreamEvent {
            version: unsigned(&row, 1)?,
            event_id: get(&row, 3)?,
            correlation_id: get(&row, 5)?,
            event_type: kind(readers, kinds, get::<i16>(&row, 2)?.into()).await?,
            payload: get::<Option<&str>>(&row, 4)?.unwrap_or_default().into(),
        });
    }
    let in_order = |mut start: StreamStart| {
        start.events.sort_unstable_by_key(|event| event.version);
        unarchived(start)
    };
    Ok(found.into_iter().map(in_order).collect())
}

pub(super) async fn head(readers: &PgPool) -> Result<Position, StoreError> {
    let rows = fetch(readers, || sqlx::query("SELECT position FROM log_head")).await?;
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("the row of log_head is missing".to_owned()))?;
    Ok(NUMBERS.at(unsigned(row, 0)?))
}

/// As the database takes numbers; what is beyond its range is beyond every row too.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
