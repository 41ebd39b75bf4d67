//! The records about segments: statements for both engines, and their decoding from rows.

use chrono::{DateTime, Utc};
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::{Frame, Segment, SegmentFacts};
use crate::store::StoreError;

pub(in crate::store) const SELECT_SEGMENTS: &str = "SELECT segment, month, first_position, last_position, events, file, file_bytes, raw_bytes, \
     rows_sha256, file_sha256, verified_at FROM segments ORDER BY first_position";

pub(in crate::store) const KNOWN_BY_VERSION: &str = "SELECT count(*) FROM archived_events";

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
pub(in crate::store) const FRAMES_AFTER: &str = frames!(
    "WHERE f.first_position >= (SELECT coalesce(max(first_position), 0) FROM segment_frames WHERE first_position <= $1) \
     AND f.last_position > $1 ORDER BY f.first_position LIMIT $2"
);

pub(in crate::store) const FRAME_OF: &str =
    frames!("WHERE f.first_position <= $1 ORDER BY f.first_position DESC LIMIT 1");

pub(in crate::store) const FRAMES_OF_SEGMENT: &str = frames!("WHERE f.segment = $1 ORDER BY f.first_position");

pub(in crate::store) const PLACES_IN_STREAM: &str = "SELECT version, position FROM archived_events \
     WHERE stream_id = (SELECT stream_id FROM streams WHERE name = $1) AND version > $2 ORDER BY version LIMIT $3";

pub(in crate::store) const INSERT_SEGMENT: &str = "INSERT INTO segments (segment, month, first_position, last_position, events, file, file_bytes, \
     raw_bytes, rows_sha256, file_sha256, verified_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

pub(in crate::store) const INSERT_FRAME: &str = "INSERT INTO segment_frames (first_position, last_position, segment, byte_offset, byte_length, raw_length) \
     VALUES ($1, $2, $3, $4, $5, $6)";

pub(in crate::store) const INSERT_ARCHIVED: &str = "INSERT INTO archived_events (stream_id, version, position) \
     SELECT stream_id, version, position FROM events WHERE position BETWEEN $1 AND $2";

/// The position that lies so many rows after another, as far as the archive reaches.
pub(in crate::store) const STEP: &str = "SELECT max(position) FROM (SELECT position FROM events WHERE position > $1 \
     AND position <= $2 ORDER BY position LIMIT $3) AS step";

pub(in crate::store) const FIRST_AFTER: &str =
    "SELECT recorded_at FROM events WHERE position > $1 ORDER BY position LIMIT 1";

/// No more rows are looked at than a piece may have.
pub(in crate::store) const PIECE: &str = "WITH next AS (SELECT position, recorded_at FROM events WHERE position > $1 \
     ORDER BY position LIMIT $3) SELECT min(position), max(position), count(*) FROM next \
     WHERE position < coalesce((SELECT min(position) FROM next WHERE recorded_at >= $2), 9223372036854775807)";

/// A frame and the name of its segment.
#[derive(Clone, Debug)]
pub(in crate::store) struct Placed {
    pub(in crate::store) file: String,
    pub(in crate::store) frame: Frame,
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn corrupt(error: sqlx::Error) -> StoreError {
    StoreError::Corrupt(format!("what is recorded about segments: {error}"))
}

/// A column of any engine.
pub(in crate::store) fn column<'r, R, T>(row: &'r R, index: usize) -> Result<T, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(index).map_err(corrupt)
}

/// A number that is not negative.
pub(in crate::store) fn number<'r, R>(row: &'r R, index: usize) -> Result<u64, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let value: i64 = column(row, index)?;
    u64::try_from(value).map_err(|_| StoreError::Corrupt(format!("column {index} of a segment is negative")))
}

fn hash<'r, R>(row: &'r R, index: usize) -> Result<[u8; 32], StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    let bytes: &[u8] = column(row, index)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt("a segment's hash is not 32 bytes long".to_owned()))
}

/// A row of `SELECT_SEGMENTS`.
pub(in crate::store) fn segment<'r, R>(row: &'r R) -> Result<Segment, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    let recorded_at: i64 = column(row, 10)?;
    Ok(Segment {
        number: column(row, 0)?,
        month: column(row, 1)?,
        file: column(row, 5)?,
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

/// A row of the statements about frames.
pub(in crate::store) fn placed<'r, R>(row: &'r R) -> Result<Placed, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    let frame = Frame {
        first: number(row, 0)?,
        last: number(row, 1)?,
        offset: number(row, 2)?,
        length: number(row, 3)?,
        raw_length: number(row, 4)?,
    };
    Ok(Placed { file: column(row, 5)?, frame })
}

/// A row of `PIECE`.
pub(in crate::store) fn piece<'r, R>(row: &'r R) -> Result<Option<(u64, u64, u64)>, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let ends: (Option<i64>, Option<i64>) = (column(row, 0)?, column(row, 1)?);
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    Ok(Some((first.unsigned_abs(), last.unsigned_abs(), number(row, 2)?)))
}

/// What a segment's index must hold, or it is not recorded.
pub(in crate::store) fn all_placed(facts: &SegmentFacts, placed: u64) -> Result<(), StoreError> {
    if placed == facts.events {
        return Ok(());
    }
    let events = facts.events;
    Err(StoreError::Corrupt(format!("the segment holds {events} events, the log {placed} in its place")))
}
