//! Rows returned by statements, independent of the engine.
//!
//! `PostgreSQL` has types where `SQLite` has numbers and bytes: a truth value reads as 0 or 1, an id as its 16 bytes,
//! and vice versa.

use chrono::{DateTime, Utc};
use rusqlite::types::Value;
use rust_decimal::Decimal;
use sqlx::postgres::{PgRow, PgValueRef, Postgres};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type, TypeInfo, ValueRef};
use uuid::Uuid;

use super::SqlError;
use crate::events::envelope::Position;

/// A row of an answer; columns count from 0.
#[derive(Debug)]
pub struct SqlRow(pub(super) EngineRow);

/// A row as its source gives it: `SQLite`'s pool that reads, its connection that writes, or `PostgreSQL`.
pub(super) enum EngineRow {
    Pool(SqliteRow),
    Writer(Box<[Value]>),
    Postgres(PgRow),
}

fn written_number(value: &Value) -> Option<i64> {
    if let Value::Integer(number) = value { Some(*number) } else { None }
}

fn written_text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn written_bytes(value: &Value) -> Option<&[u8]> {
    if let Value::Blob(bytes) = value { Some(bytes) } else { None }
}

fn written_id(value: &Value) -> Option<Uuid> {
    Uuid::from_slice(written_bytes(value)?).ok()
}

impl std::fmt::Debug for EngineRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row")
    }
}

fn postgres<'r, T: Decode<'r, Postgres>>(value: PgValueRef<'r>) -> Option<T> {
    T::decode(value).ok()
}

#[expect(clippy::needless_pass_by_value, reason = "as every reader of a column")]
fn raw_text<'r>(value: PgValueRef<'r>, name: &str) -> Option<&'r str> {
    matches!(name, "TEXT" | "VARCHAR" | "NAME" | "JSON").then(|| value.as_str().ok()).flatten()
}

#[expect(clippy::needless_pass_by_value, reason = "as every reader of a column")]
fn raw_bytes<'r>(value: PgValueRef<'r>, name: &str) -> Option<&'r [u8]> {
    matches!(name, "UUID" | "BYTEA").then(|| value.as_bytes().ok()).flatten()
}

impl SqlRow {
    fn required<T>(value: Option<T>, index: usize, expected: &'static str) -> Result<T, SqlError> {
        value.ok_or(SqlError::Column { index, expected })
    }

    /// Reads a column by what each engine has there; `read` answers none for a type it cannot make sense of.
    fn get<'r, T>(
        &'r self,
        index: usize,
        expected: &'static str,
        of_writer: impl FnOnce(&'r Value) -> Option<T>,
        of_postgres: impl FnOnce(PgValueRef<'r>, &str) -> Option<T>,
    ) -> Result<Option<T>, SqlError>
    where
        Option<T>: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        let wrong = SqlError::Column { index, expected };
        match &self.0 {
            EngineRow::Pool(row) => row.try_get(index).map_err(|_| wrong),
            EngineRow::Writer(values) => match values.get(index) {
                Some(Value::Null) => Ok(None),
                Some(value) => of_writer(value).map(Some).ok_or(wrong),
                None => Err(wrong),
            },
            EngineRow::Postgres(row) => {
                let Ok(value) = row.try_get_raw(index) else { return Err(wrong) };
                if value.is_null() {
                    return Ok(None);
                }
                let info = value.type_info().into_owned();
                of_postgres(value, info.name()).map(Some).ok_or(wrong)
            }
        }
    }

    /// A whole number.
    pub fn i64(&self, index: usize) -> Result<i64, SqlError> {
        Self::required(self.opt_i64(index)?, index, "a whole number")
    }

    /// A whole number or nothing.
    pub fn opt_i64(&self, index: usize) -> Result<Option<i64>, SqlError> {
        let of_postgres = |value: PgValueRef<'_>, name: &str| match name {
            "INT8" => postgres::<i64>(value),
            "INT4" => postgres::<i32>(value).map(i64::from),
            "INT2" => postgres::<i16>(value).map(i64::from),
            "BOOL" => postgres::<bool>(value).map(i64::from),
            "NUMERIC" => whole(value.as_bytes().ok()?),
            _ => None,
        };
        self.get(index, "a whole number or NULL", written_number, of_postgres)
    }

    /// A position in the log, from the two columns that keep one.
    pub fn position(&self, first: usize) -> Result<Position, SqlError> {
        Ok(Position::from_halves(self.i64(first)?.cast_unsigned(), self.i64(first + 1)?.cast_unsigned()))
    }

    /// A truth value.
    pub fn bool(&self, index: usize) -> Result<bool, SqlError> {
        Self::required(self.opt_bool(index)?, index, "a truth value")
    }

    /// A truth value or nothing.
    pub fn opt_bool(&self, index: usize) -> Result<Option<bool>, SqlError> {
        Ok(self.opt_i64(index)?.map(|value| value != 0))
    }

    /// A text.
    pub fn text(&self, index: usize) -> Result<&str, SqlError> {
        Self::required(self.opt_text(index)?, index, "a text")
    }

    /// A text or nothing.
    pub fn opt_text(&self, index: usize) -> Result<Option<&str>, SqlError> {
        self.get(index, "a text or NULL", written_text, raw_text)
    }

    /// A decimal number.
    pub fn decimal(&self, index: usize) -> Result<Decimal, SqlError> {
        Self::required(self.opt_decimal(index)?, index, "a decimal number")
    }

    /// A decimal number or nothing.
    pub fn opt_decimal(&self, index: usize) -> Result<Option<Decimal>, SqlError> {
        let wrong = |_| SqlError::Column { index, expected: "a decimal number or NULL" };
        self.opt_text(index)?.map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// An id.
    pub fn uuid(&self, index: usize) -> Result<Uuid, SqlError> {
        Self::required(self.opt_uuid(index)?, index, "an id")
    }

    /// An id or nothing.
    pub fn opt_uuid(&self, index: usize) -> Result<Option<Uuid>, SqlError> {
        let of_postgres = |value: PgValueRef<'_>, name: &str| match name {
            "UUID" | "BYTEA" => Uuid::from_slice(value.as_bytes().ok()?).ok(),
            _ => None,
        };
        self.get(index, "an id or NULL", written_id, of_postgres)
    }

    /// An instant.
    pub fn time(&self, index: usize) -> Result<DateTime<Utc>, SqlError> {
        Self::required(self.opt_time(index)?, index, "an instant")
    }

    /// An instant or nothing.
    pub fn opt_time(&self, index: usize) -> Result<Option<DateTime<Utc>>, SqlError> {
        let wrong = SqlError::Column { index, expected: "an instant or NULL" };
        match self.opt_i64(index)? {
            None => Ok(None),
            Some(micros) => DateTime::from_timestamp_micros(micros).map(Some).ok_or(wrong),
        }
    }

    /// Bytes.
    pub fn bytes(&self, index: usize) -> Result<&[u8], SqlError> {
        Self::required(self.opt_bytes(index)?, index, "bytes")
    }

    /// Bytes or nothing.
    pub fn opt_bytes(&self, index: usize) -> Result<Option<&[u8]>, SqlError> {
        self.get(index, "bytes or NULL", written_bytes, raw_bytes)
    }
}

/// The whole number in a `numeric` as it travels: digits of base 10,000, the first with this weight, the sign, the scale. A
/// sum of `bigint` is one. None if it has a fraction or is out of range.
fn whole(bytes: &[u8]) -> Option<i64> {
    let mut words = bytes.chunks_exact(2).map(|two| i16::from_be_bytes([two[0], two[1]]));
    let (digits, weight, sign, _scale) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let mut number: i64 = 0;
    for place in 0..=i32::from(weight) {
        let digit = if place < i32::from(digits) { words.next()? } else { 0 };
        number = number.checked_mul(10_000)?.checked_add(i64::from(digit))?;
    }
    // What is left stands behind the point.
    if words.any(|digit| digit != 0) {
        return None;
    }
    match sign {
        0 => Some(number),
        0x4000 => number.checked_neg(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::whole;

    fn numeric(weight: i16, sign: i16, digits: &[i16]) -> Option<i64> {
        let count = i16::try_from(digits.len()).ok()?;
        let words = [count, weight, sign, 0].into_iter().chain(digits.iter().copied());
        whole(&words.flat_map(i16::to_be_bytes).collect::<Vec<u8>>())
    }

    #[test]
    fn a_sum_reads_as_a_whole_number() {
        assert_eq!(numeric(0, 0, &[]), Some(0));
        assert_eq!(numeric(0, 0, &[7]), Some(7));
        assert_eq!(numeric(1, 0, &[12, 3456]), Some(123_456));
        assert_eq!(numeric(2, 0x4000, &[5]), Some(-500_000_000), "zeros at the end do not travel");
        assert_eq!(numeric(-1, 0, &[5000]), None, "a half");
        assert_eq!(numeric(0, i16::MIN | 0x4000, &[]), None, "not a number");
        assert_eq!(numeric(5, 0, &[9999]), None, "too large");
    }
}
