//! What is recorded about segments, and how it is read back.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection, SqlitePool};

use crate::store::StoreError;
use crate::store::archive::{Frame, Segment, SegmentFacts};
use crate::store::sqlite::rows::signed;

const SELECT_SEGMENTS: &str = "SELECT segment, month, first_position, last_position, events, file, file_bytes, raw_bytes, \
     rows_sha256, file_sha256, verified_at FROM segments ORDER BY first_position";

/// A macro, so that each statement is one static text.
macro_rules! frames {
    ($rest:literal) => {
        concat!(
            "SELECT f.first_position, f.last_position, f.byte_offset, f.byte_length, f.raw_length, s.file \
             FROM segment_frames f JOIN segments s ON s.segment = f.segment ",
            $rest
        )
    };
}

/// The frame that holds `$1` itself begins before it.
const FRAMES_AFTER: &str = frames!(
    "WHERE f.first_position >= (SELECT coalesce(max(first_position), 0) FROM segment_frames WHERE first_position <= $1) \
     AND f.last_position > $1 ORDER BY f.first_position LIMIT $2"
);

const FRAME_OF: &str = frames!("WHERE f.first_position <= $1 ORDER BY f.first_position DESC LIMIT 1");

const FRAMES_OF_SEGMENT: &str = frames!("WHERE f.segment = $1 ORDER BY f.first_position");

const PLACES_IN_STREAM: &str = "SELECT version, position FROM archived_events \
     WHERE stream_id = (SELECT stream_id FROM streams WHERE name = $1) AND version > $2 ORDER BY version LIMIT $3";

const INSERT_SEGMENT: &str = "INSERT INTO segments (segment, month, first_position, last_position, events, file, file_bytes, \
     raw_bytes, rows_sha256, file_sha256, verified_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

const INSERT_FRAME: &str = "INSERT INTO segment_frames (first_position, last_position, segment, byte_offset, byte_length, \
     raw_length) VALUES ($1, $2, $3, $4, $5, $6)";

const INSERT_ARCHIVED: &str = "INSERT INTO archived_events (stream_id, version, position) \
     SELECT stream_id, version, position FROM events WHERE position BETWEEN $1 AND $2";

/// The archived rows that lie next after a position and may go: those with a newer event in their stream.
const DELETE_ARCHIVED: &str = "DELETE FROM events WHERE position > $1 AND position <= $2 \
     AND EXISTS (SELECT 1 FROM events newer WHERE newer.stream_id = events.stream_id AND newer.version > events.version)";

/// A frame and the name of its file.
pub(in crate::store::sqlite) struct Placed {
    pub(in crate::store::sqlite) file: String,
    pub(in crate::store::sqlite) frame: Frame,
}

pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}

fn number(row: &SqliteRow, index: usize) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(index).map_err(corrupt)?;
    u64::try_from(value).map_err(|_| StoreError::Corrupt(format!("column {index} of a segment is negative")))
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn corrupt(error: sqlx::Error) -> StoreError {
    StoreError::Corrupt(format!("what is recorded about segments: {error}"))
}

fn hash(row: &SqliteRow, index: usize) -> Result<[u8; 32], StoreError> {
    let bytes: &[u8] = row.try_get(index).map_err(corrupt)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt("a segment's hash is not 32 bytes long".to_owned()))
}

fn segment(row: &SqliteRow) -> Result<Segment, StoreError> {
    let recorded_at: i64 = row.try_get(10).map_err(corrupt)?;
    Ok(Segment {
        number: row.try_get(0).map_err(corrupt)?,
        month: row.try_get(1).map_err(corrupt)?,
        file: row.try_get(5).map_err(corrupt)?,
        facts: SegmentFacts {
            first: number(row, 2)?,
            last: number(row, 3)?,
            events: number(row, 4)?,
            bytes: number(row, 6)?,
            raw_bytes: number(row, 7)?,
            rows_sha256: hash(row, 8)?,
            file_sha256: hash(row, 9)?,
        },
        recorded_at: DateTime::<Utc>::from_timestamp_micros(recorded_at)
            .ok_or_else(|| StoreError::Corrupt(format!("the time {recorded_at} of a segment")))?,
    })
}

fn placed(row: &SqliteRow) -> Result<Placed, StoreError> {
    let frame = Frame {
        first: number(row, 0)?,
        last: number(row, 1)?,
        offset: number(row, 2)?,
        length: number(row, 3)?,
        raw_length: number(row, 4)?,
    };
    Ok(Placed { file: row.try_get(5).map_err(corrupt)?, frame })
}

/// All segments, in the order of the log.
pub(in crate::store::sqlite) async fn segments(readers: &SqlitePool) -> Result<Vec<Segment>, StoreError> {
    let rows = sqlx::query(SELECT_SEGMENTS).fetch_all(readers).await.map_err(unavailable)?;
    rows.iter().map(segment).collect()
}

/// The last position that a segment holds; 0 without segments.
pub(in crate::store::sqlite) async fn archived_up_to(readers: &SqlitePool) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT coalesce(max(last_position), 0) FROM segments").fetch_one(readers).await;
    number(&row.map_err(unavailable)?, 0)
}

/// The frames with events after a position, the next ones only.
pub(in crate::store::sqlite) async fn frames_after(
    readers: &SqlitePool,
    after: u64,
    limit: u32,
) -> Result<Vec<Placed>, StoreError> {
    let frames = sqlx::query(FRAMES_AFTER).bind(signed(after)).bind(limit).fetch_all(readers).await;
    frames.map_err(unavailable)?.iter().map(placed).collect()
}

/// The frame that holds a position, if one does.
pub(in crate::store::sqlite) async fn frame_of(
    readers: &SqlitePool,
    position: u64,
) -> Result<Option<Placed>, StoreError> {
    let frame = sqlx::query(FRAME_OF).bind(signed(position)).fetch_optional(readers).await.map_err(unavailable)?;
    let frame = frame.as_ref().map(placed).transpose()?;
    Ok(frame.filter(|placed| placed.frame.last >= position))
}

/// The frames of a segment, in the order of the file.
pub(in crate::store::sqlite) async fn frames_of(readers: &SqlitePool, segment: i64) -> Result<Vec<Frame>, StoreError> {
    let frames = sqlx::query(FRAMES_OF_SEGMENT).bind(segment).fetch_all(readers).await.map_err(unavailable)?;
    frames.iter().map(|row| Ok(placed(row)?.frame)).collect()
}

/// Archived versions of a stream after one, with their positions.
pub(in crate::store::sqlite) async fn places_in_stream(
    readers: &SqlitePool,
    stream: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, u64)>, StoreError> {
    let query = sqlx::query(PLACES_IN_STREAM).bind(stream.to_owned()).bind(signed(after)).bind(signed(limit as u64));
    let rows = query.fetch_all(readers).await.map_err(unavailable)?;
    rows.iter().map(|row| Ok((number(row, 0)?, number(row, 1)?))).collect()
}

/// How many archived events are known by version, and how many rows of them the log still has.
pub(in crate::store::sqlite) async fn counts(readers: &SqlitePool, up_to: u64) -> Result<(u64, u64), StoreError> {
    let text = "SELECT (SELECT count(*) FROM archived_events), (SELECT count(*) FROM events WHERE position <= $1)";
    let row = sqlx::query(text).bind(signed(up_to)).fetch_one(readers).await.map_err(unavailable)?;
    Ok((number(&row, 0)?, number(&row, 1)?))
}

/// Records a verified segment: itself, its frames, and where its events are. All in one transaction.
pub(in crate::store::sqlite) async fn record(
    connection: &mut SqliteConnection,
    segment: &Segment,
    frames: &[Frame],
) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
    let facts = &segment.facts;
    let insert = sqlx::query(INSERT_SEGMENT)
        .bind(segment.number)
        .bind(segment.month.clone())
        .bind(signed(facts.first))
        .bind(signed(facts.last))
        .bind(signed(facts.events))
        .bind(segment.file.clone())
        .bind(signed(facts.bytes))
        .bind(signed(facts.raw_bytes))
        .bind(facts.rows_sha256.to_vec())
        .bind(facts.file_sha256.to_vec())
        .bind(segment.recorded_at.timestamp_micros());
    insert.execute(&mut *transaction).await.map_err(unavailable)?;
    for frame in frames {
        let insert = sqlx::query(INSERT_FRAME)
            .bind(signed(frame.first))
            .bind(signed(frame.last))
            .bind(segment.number)
            .bind(signed(frame.offset))
            .bind(signed(frame.length))
            .bind(signed(frame.raw_length));
        insert.execute(&mut *transaction).await.map_err(unavailable)?;
    }
    let index = sqlx::query(INSERT_ARCHIVED).bind(signed(facts.first)).bind(signed(facts.last));
    let placed = index.execute(&mut *transaction).await.map_err(unavailable)?.rows_affected();
    if placed != facts.events {
        let events = facts.events;
        return Err(StoreError::Corrupt(format!("the segment holds {events} events, the log {placed} in its place")));
    }
    transaction.commit().await.map_err(unavailable)
}

/// Takes archived rows that lie after one position up to another out of the log, and says how many.
pub(in crate::store::sqlite) async fn remove(
    connection: &mut SqliteConnection,
    after: u64,
    up_to: u64,
) -> Result<u64, StoreError> {
    let delete = sqlx::query(DELETE_ARCHIVED).bind(signed(after)).bind(signed(up_to)).execute(connection).await;
    Ok(delete.map_err(unavailable)?.rows_affected())
}

/// The position that lies so many rows after another, as far as the archive reaches; none if no row is left.
pub(in crate::store::sqlite) async fn step(
    connection: &mut SqliteConnection,
    after: u64,
    up_to: u64,
    rows: u32,
) -> Result<Option<u64>, StoreError> {
    let text = "SELECT max(position) FROM (SELECT position FROM events WHERE position > $1 AND position <= $2 \
         ORDER BY position LIMIT $3)";
    let query = sqlx::query(text).bind(signed(after)).bind(signed(up_to)).bind(rows);
    let row = query.fetch_one(connection).await.map_err(unavailable)?;
    let last: Option<i64> = row.try_get(0).map_err(corrupt)?;
    Ok(last.map(i64::unsigned_abs))
}

/// The first event after a position: where it is and when it was recorded.
pub(in crate::store::sqlite) async fn first_after(
    readers: &SqlitePool,
    after: u64,
) -> Result<Option<(u64, DateTime<Utc>)>, StoreError> {
    let text = "SELECT position, recorded_at FROM events WHERE position > $1 ORDER BY position LIMIT 1";
    let row = sqlx::query(text).bind(signed(after)).fetch_optional(readers).await.map_err(unavailable)?;
    let Some(row) = row else { return Ok(None) };
    let at: i64 = row.try_get(1).map_err(corrupt)?;
    let at = DateTime::from_timestamp_micros(at).ok_or_else(|| StoreError::Corrupt(format!("the time {at}")))?;
    Ok(Some((number(&row, 0)?, at)))
}

/// The first and the last event of a piece, and how many it has: after a position, before the first event that was recorded at
/// an instant or later, and no more than so many. None if there is nothing in it.
pub(in crate::store::sqlite) async fn piece(
    readers: &SqlitePool,
    after: u64,
    before: DateTime<Utc>,
    events_max: u32,
) -> Result<Option<(u64, u64, u64)>, StoreError> {
    let text = "SELECT min(position), max(position), count(*) FROM (SELECT position FROM events WHERE position > $1 \
         AND position < coalesce((SELECT position FROM events WHERE position > $1 AND recorded_at >= $2 \
         ORDER BY position LIMIT 1), 9223372036854775807) ORDER BY position LIMIT $3)";
    let query = sqlx::query(text).bind(signed(after)).bind(before.timestamp_micros()).bind(events_max);
    let row = query.fetch_one(readers).await.map_err(unavailable)?;
    if row.try_get::<Option<i64>, _>(0).map_err(corrupt)?.is_none() {
        return Ok(None);
    }
    Ok(Some((number(&row, 0)?, number(&row, 1)?, number(&row, 2)?)))
}
