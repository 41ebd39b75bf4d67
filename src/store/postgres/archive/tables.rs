//! The statements about segments, on `PostgreSQL`.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgPool};

use crate::store::StoreError;
use crate::store::archive::recorded::{self, all_placed, column, number, placed};
use crate::store::archive::{Frame, Placed, Segment};
use crate::store::postgres::rows::{fetch, signed, unavailable};

const CONTENT: &str = "SELECT content FROM segment_files WHERE file = $1 AND byte_offset = $2";

const LENGTH: &str = "SELECT coalesce(sum(length(content)), 0)::bigint FROM segment_files WHERE file = $1";

const PUT: &str = "INSERT INTO segment_files (file, byte_offset, content) VALUES ($1, $2, $3)";

/// The remains of an interrupted run, which nobody reads.
const DISCARD: &str = "DELETE FROM segment_files f WHERE NOT EXISTS (SELECT FROM segments s WHERE s.file = f.file)";

/// The archived rows that lie next after a position. Where the log ends a row stays, so that rows say where that is.
const DELETE_ARCHIVED: &str = "DELETE FROM events WHERE position > $1 AND position <= $2 \
     AND position < (SELECT position FROM log_head)";

const INSERT_FRAMES: &str = "INSERT INTO segment_frames (first_position, last_position, segment, byte_offset, byte_length, \
     raw_length) SELECT f.first, f.last, $1, f.place, f.length, f.raw \
     FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS f(first, last, place, length, raw)";

/// `lock_not_available`: others kept a lock for longer than one waits.
const LOCK_NOT_AVAILABLE: &str = "55P03";

pub(super) async fn segments(readers: &PgPool) -> Result<Vec<Segment>, StoreError> {
    let rows = fetch(readers, || sqlx::query(recorded::SELECT_SEGMENTS)).await?;
    rows.iter().map(recorded::segment).collect()
}

pub(super) async fn frames_after(readers: &PgPool, after: u64, limit: u32) -> Result<Vec<Placed>, StoreError> {
    let query = || sqlx::query(recorded::FRAMES_AFTER).bind(signed(after)).bind(i64::from(limit));
    fetch(readers, query).await?.iter().map(placed).collect()
}

pub(super) async fn frame_of(readers: &PgPool, position: u64) -> Result<Option<Placed>, StoreError> {
    let rows = fetch(readers, || sqlx::query(recorded::FRAME_OF).bind(signed(position))).await?;
    let frame = rows.first().map(placed).transpose()?;
    Ok(frame.filter(|placed| placed.frame.last >= position))
}

pub(super) async fn frames_of(readers: &PgPool, segment: i64) -> Result<Vec<Frame>, StoreError> {
    let rows = fetch(readers, || sqlx::query(recorded::FRAMES_OF_SEGMENT).bind(segment)).await?;
    rows.iter().map(|row| Ok(placed(row)?.frame)).collect()
}

pub(super) async fn places_in_stream(
    readers: &PgPool,
    stream: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, u64)>, StoreError> {
    let query = || sqlx::query(recorded::PLACES_IN_STREAM).bind(stream).bind(signed(after)).bind(signed(limit as u64));
    fetch(readers, query).await?.iter().map(|row| Ok((number(row, 0)?, number(row, 1)?))).collect()
}

pub(super) async fn content(readers: &PgPool, placed: &Placed) -> Result<Option<Vec<u8>>, StoreError> {
    let query = || sqlx::query(CONTENT).bind(placed.file.as_str()).bind(signed(placed.frame.offset));
    fetch(readers, query).await?.first().map(|row| column(row, 0)).transpose()
}

pub(super) async fn length(readers: &PgPool, file: &str) -> Result<u64, StoreError> {
    let rows = fetch(readers, || sqlx::query(LENGTH).bind(file)).await?;
    rows.first().map_or(Ok(0), |row| number(row, 0))
}

pub(super) async fn known_by_version(readers: &PgPool) -> Result<u64, StoreError> {
    let rows = fetch(readers, || sqlx::query(recorded::KNOWN_BY_VERSION)).await?;
    rows.first().map_or(Ok(0), |row| number(row, 0))
}

pub(super) async fn first_after(readers: &PgPool, after: u64) -> Result<Option<DateTime<Utc>>, StoreError> {
    let rows = fetch(readers, || sqlx::query(recorded::FIRST_AFTER).bind(signed(after))).await?;
    rows.first().map(|row| column(row, 0)).transpose()
}

pub(super) async fn piece(
    readers: &PgPool,
    after: u64,
    before: DateTime<Utc>,
    events_max: u32,
) -> Result<Option<(u64, u64, u64)>, StoreError> {
    let query = || sqlx::query(recorded::PIECE).bind(signed(after)).bind(before).bind(i64::from(events_max));
    fetch(readers, query).await?.first().map_or(Ok(None), recorded::piece)
}

/// Has a lock until the connection ends; false: another connection has it.
pub(super) async fn lock(connection: &mut PgConnection, lock: i64) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(lock).fetch_one(connection).await;
    column(&row.map_err(unavailable)?, 0)
}

/// Removes bytes that belong to no recorded segment.
pub(super) async fn discard(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(DISCARD).execute(connection).await.map(drop).map_err(unavailable)
}

pub(super) async fn put(
    connection: &mut PgConnection,
    file: &str,
    offset: u64,
    content: &[u8],
) -> Result<(), StoreError> {
    let put = sqlx::query(PUT).bind(file).bind(signed(offset)).bind(content);
    put.execute(connection).await.map(drop).map_err(unavailable)
}

pub(super) async fn record(
    connection: &mut PgConnection,
    segment: &Segment,
    frames: &[Frame],
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await.map_err(unavailable)?;
    let facts = &segment.facts;
    let insert = sqlx::query(recorded::INSERT_SEGMENT)
        .bind(segment.number)
        .bind(segment.month.as_str())
        .bind(signed(facts.first))
        .bind(signed(facts.last))
        .bind(signed(facts.events))
        .bind(segment.file.as_str())
        .bind(signed(facts.bytes))
        .bind(signed(facts.raw_bytes))
        .bind(&facts.rows_sha256[..])
        .bind(&facts.file_sha256[..])
        .bind(segment.recorded_at.timestamp_micros());
    insert.execute(&mut *transaction).await.map_err(unavailable)?;
    let each = |number: fn(&Frame) -> u64| frames.iter().map(|frame| signed(number(frame))).collect::<Vec<i64>>();
    let insert = sqlx::query(INSERT_FRAMES)
        .bind(segment.number)
        .bind(each(|frame| frame.first))
        .bind(each(|frame| frame.last))
        .bind(each(|frame| frame.offset))
        .bind(each(|frame| frame.length))
        .bind(each(|frame| frame.raw_length));
    insert.execute(&mut *transaction).await.map_err(unavailable)?;
    let index = sqlx::query(recorded::INSERT_ARCHIVED).bind(signed(facts.first)).bind(signed(facts.last));
    all_placed(facts, index.execute(&mut *transaction).await.map_err(unavailable)?.rows_affected())?;
    transaction.commit().await.map_err(unavailable)
}

/// Drops the oldest partition if all it can hold is archived: the last position that it was for, and how many rows it had.
pub(super) async fn drop_partition(connection: &mut PgConnection) -> Result<Option<(u64, u64)>, sqlx::Error> {
    let row =
        sqlx::query("SELECT last_position, dropped FROM drop_archived_partition()").fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let unsigned = |index| sqlx::Row::try_get::<i64, _>(&row, index).map(i64::unsigned_abs);
    Ok(Some((unsigned(0)?, unsigned(1)?)))
}

/// Whether others kept a lock for too long.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

/// Takes archived rows that lie after one position up to another out of the log, and says how many.
pub(super) async fn remove(connection: &mut PgConnection, after: u64, up_to: u64) -> Result<u64, StoreError> {
    let delete = sqlx::query(DELETE_ARCHIVED).bind(signed(after)).bind(signed(up_to)).execute(connection).await;
    Ok(delete.map_err(unavailable)?.rows_affected())
}

/// The position that lies so many rows after another, as far as the archive reaches; none if no row is left.
pub(super) async fn step(
    connection: &mut PgConnection,
    after: u64,
    up_to: u64,
    rows: u32,
) -> Result<Option<u64>, StoreError> {
    let query = sqlx::query(recorded::STEP).bind(signed(after)).bind(signed(up_to)).bind(i64::from(rows));
    let row = query.fetch_one(connection).await.map_err(unavailable)?;
    Ok(column::<_, Option<i64>>(&row, 0)?.map(i64::unsigned_abs))
}
