//! The statements about segments, on `SQLite`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{Connection, SqliteConnection, SqlitePool};

use crate::store::StoreError;
use crate::store::archive::recorded::{self, all_placed, column, number, placed};
use crate::store::archive::{Frame, Placed, Segment};
use crate::store::sqlite::rows::signed;

/// The archived rows that lie next after a position and may go: those with a newer event in their stream.
const DELETE_ARCHIVED: &str = "DELETE FROM events WHERE position > $1 AND position <= $2 \
     AND EXISTS (SELECT 1 FROM events newer WHERE newer.stream_id = events.stream_id AND newer.version > events.version)";

pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}

pub(super) async fn segments(readers: &SqlitePool) -> Result<Vec<Segment>, StoreError> {
    let rows = sqlx::query(recorded::SELECT_SEGMENTS).fetch_all(readers).await.map_err(unavailable)?;
    rows.iter().map(recorded::segment).collect()
}

pub(super) async fn frames_after(readers: &SqlitePool, after: u64, limit: u32) -> Result<Vec<Placed>, StoreError> {
    let frames = sqlx::query(recorded::FRAMES_AFTER).bind(signed(after)).bind(limit).fetch_all(readers).await;
    frames.map_err(unavailable)?.iter().map(placed).collect()
}

pub(super) async fn frame_of(readers: &SqlitePool, position: u64) -> Result<Option<Placed>, StoreError> {
    let frame = sqlx::query(recorded::FRAME_OF).bind(signed(position)).fetch_optional(readers).await;
    let frame = frame.map_err(unavailable)?.as_ref().map(placed).transpose()?;
    Ok(frame.filter(|placed| placed.frame.last >= position))
}

pub(super) async fn frames_of(readers: &SqlitePool, segment: i64) -> Result<Vec<Frame>, StoreError> {
    let frames = sqlx::query(recorded::FRAMES_OF_SEGMENT).bind(segment).fetch_all(readers).await;
    frames.map_err(unavailable)?.iter().map(|row| Ok(placed(row)?.frame)).collect()
}

pub(super) async fn places_in_stream(
    readers: &SqlitePool,
    stream: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, u64)>, StoreError> {
    let query = sqlx::query(recorded::PLACES_IN_STREAM).bind(stream.to_owned());
    let query = query.bind(signed(after)).bind(signed(limit as u64));
    let rows = query.fetch_all(readers).await.map_err(unavailable)?;
    rows.iter().map(|row| Ok((number(row, 0)?, number(row, 1)?))).collect()
}

pub(super) async fn known_by_version(readers: &SqlitePool) -> Result<u64, StoreError> {
    let row = sqlx::query(recorded::KNOWN_BY_VERSION).fetch_one(readers).await.map_err(unavailable)?;
    number(&row, 0)
}

pub(super) async fn first_after(readers: &SqlitePool, after: u64) -> Result<Option<DateTime<Utc>>, StoreError> {
    let row = sqlx::query(recorded::FIRST_AFTER).bind(signed(after)).fetch_optional(readers).await;
    let Some(row) = row.map_err(unavailable)? else { return Ok(None) };
    let at: i64 = column(&row, 0)?;
    DateTime::from_timestamp_micros(at).map(Some).ok_or_else(|| StoreError::Corrupt(format!("the time {at}")))
}

pub(super) async fn piece(
    readers: &SqlitePool,
    after: u64,
    before: DateTime<Utc>,
    events_max: u32,
) -> Result<Option<(u64, u64, u64)>, StoreError> {
    let query = sqlx::query(recorded::PIECE).bind(signed(after)).bind(before.timestamp_micros()).bind(events_max);
    recorded::piece(&query.fetch_one(readers).await.map_err(unavailable)?)
}

pub(super) async fn record(
    connection: &mut SqliteConnection,
    segment: &Segment,
    frames: &[Frame],
) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
    let facts = &segment.facts;
    let insert = sqlx::query(recorded::INSERT_SEGMENT)
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
        let insert = sqlx::query(recorded::INSERT_FRAME)
            .bind(signed(frame.first))
            .bind(signed(frame.last))
            .bind(segment.number)
            .bind(signed(frame.offset))
            .bind(signed(frame.length))
            .bind(signed(frame.raw_length));
        insert.execute(&mut *transaction).await.map_err(unavailable)?;
    }
    let index = sqlx::query(recorded::INSERT_ARCHIVED).bind(signed(facts.first)).bind(signed(facts.last));
    all_placed(facts, index.execute(&mut *transaction).await.map_err(unavailable)?.rows_affected())?;
    transaction.commit().await.map_err(unavailable)
}

/// Takes archived rows that lie after one position up to another out of the log, and says how many.
pub(super) async fn remove(connection: &mut SqliteConnection, after: u64, up_to: u64) -> Result<u64, StoreError> {
    let delete = sqlx::query(DELETE_ARCHIVED).bind(signed(after)).bind(signed(up_to)).execute(connection).await;
    Ok(delete.map_err(unavailable)?.rows_affected())
}

/// The position that lies so many rows after another, as far as the archive reaches; none if no row is left.
pub(super) async fn step(
    connection: &mut SqliteConnection,
    after: u64,
    up_to: u64,
    rows: u32,
) -> Result<Option<u64>, StoreError> {
    let query = sqlx::query(recorded::STEP).bind(signed(after)).bind(signed(up_to)).bind(rows);
    let row = query.fetch_one(connection).await.map_err(unavailable)?;
    Ok(column::<_, Option<i64>>(&row, 0)?.map(i64::unsigned_abs))
}
