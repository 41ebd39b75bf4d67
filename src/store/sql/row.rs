//! Rows that come out of statements, from the pool that reads or from the connection that writes.

use chrono::{DateTime, Utc};
use rusqlite::types::Value;
use rust_decimal::Decimal;
use sqlx::Row;
use sqlx::sqlite::{Sqlite, SqliteRow};
use uuid::Uuid;

use super::SqlError;

/// A row of an answer; columns count from 0.
#[derive(Debug)]
pub struct SqlRow(pub(super) EngineRow);

/// A row as its source gives it.
pub(super) enum EngineRow {
    Pool(SqliteRow),
    Writer(Box<[Value]>),
}

impl std::fmt::Debug for EngineRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row")
    }
}

fn number(value: &Value) -> Option<i64> {
    if let Value::Integer(number) = value { Some(*number) } else { None }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::Blob(bytes) = value { Some(bytes) } else { None }
}

fn id(value: &Value) -> Option<Uuid> {
    Uuid::from_slice(bytes(value)?).ok()
}

impl SqlRow {
    fn get<'r, T>(
        &'r self,
        index: usize,
        expected: &'static str,
        of_writer: impl FnOnce(&'r Value) -> Option<T>,
    ) -> Result<Option<T>, SqlError>
    where
        Option<T>: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        let wrong = SqlError::Column { index, expected };
        match &self.0 {
            EngineRow::Pool(row) => row.try_get(index).map_err(|_| wrong),
            EngineRow::Writer(values) => match values.get(index) {
                Some(Value::Null) => Ok(None),
                Some(value) => of_writer(value).map(Some).ok_or(wrong),
                None => Err(wrong),
            },
        }
    }

    fn required<'r, T>(
        &'r self,
        index: usize,
        expected: &'static str,
        of_writer: impl FnOnce(&'r Value) -> Option<T>,
    ) -> Result<T, SqlError>
    where
        Option<T>: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        self.get(index, expected, of_writer)?.ok_or(SqlError::Column { index, expected })
    }

    /// A whole number.
    pub fn i64(&self, index: usize) -> Result<i64, SqlError> {
        self.required(index, "a whole number", number)
    }

    /// A whole number or nothing.
    pub fn opt_i64(&self, index: usize) -> Result<Option<i64>, SqlError> {
        self.get(index, "a whole number or NULL", number)
    }

    /// A truth value.
    pub fn bool(&self, index: usize) -> Result<bool, SqlError> {
        Ok(self.required(index, "a truth value", number)? != 0)
    }

    /// A truth value or nothing.
    pub fn opt_bool(&self, index: usize) -> Result<Option<bool>, SqlError> {
        Ok(self.get(index, "a truth value or NULL", number)?.map(|value| value != 0))
    }

    /// A text.
    pub fn text(&self, index: usize) -> Result<&str, SqlError> {
        self.required(index, "a text", text)
    }

    /// A text or nothing.
    pub fn opt_text(&self, index: usize) -> Result<Option<&str>, SqlError> {
        self.get(index, "a text or NULL", text)
    }

    /// A decimal number.
    pub fn decimal(&self, index: usize) -> Result<Decimal, SqlError> {
        self.opt_decimal(index)?.ok_or(SqlError::Column { index, expected: "a decimal number" })
    }

    /// A decimal number or nothing.
    pub fn opt_decimal(&self, index: usize) -> Result<Option<Decimal>, SqlError> {
        let wrong = |_| SqlError::Column { index, expected: "a decimal number or NULL" };
        self.opt_text(index)?.map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// An id.
    pub fn uuid(&self, index: usize) -> Result<Uuid, SqlError> {
        self.required(index, "an id", id)
    }

    /// An id or nothing.
    pub fn opt_uuid(&self, index: usize) -> Result<Option<Uuid>, SqlError> {
        self.get(index, "an id or NULL", id)
    }

    /// An instant.
    pub fn time(&self, index: usize) -> Result<DateTime<Utc>, SqlError> {
        self.opt_time(index)?.ok_or(SqlError::Column { index, expected: "an instant" })
    }

    /// An instant or nothing.
    pub fn opt_time(&self, index: usize) -> Result<Option<DateTime<Utc>>, SqlError> {
        let wrong = SqlError::Column { index, expected: "an instant or NULL" };
        match self.get(index, "an instant or NULL", number)? {
            None => Ok(None),
            Some(micros) => DateTime::from_timestamp_micros(micros).map(Some).ok_or(wrong),
        }
    }

    /// Bytes.
    pub fn bytes(&self, index: usize) -> Result<&[u8], SqlError> {
        self.required(index, "bytes", bytes)
    }

    /// Bytes or nothing.
    pub fn opt_bytes(&self, index: usize) -> Result<Option<&[u8]>, SqlError> {
        self.get(index, "bytes or NULL", bytes)
    }
}
