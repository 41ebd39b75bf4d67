//! Values that go into statements and rows that come out of them, whatever the engine.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use uuid::Uuid;

use super::SqlError;

/// A value for a placeholder.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue {
    /// No value.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    I64(i64),
    /// A text of its own; decimals too.
    Text(String),
    /// A text known to the program.
    Static(&'static str),
    /// A text shared with somebody else.
    Shared(Arc<str>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An id.
    Uuid(Uuid),
    /// An instant, kept to the microsecond.
    Time(DateTime<Utc>),
}

macro_rules! from {
    ($($type:ty => |$value:ident| $made:expr;)*) => {
        $(impl From<$type> for SqlValue {
            fn from($value: $type) -> Self {
                $made
            }
        })*
    };
}

from! {
    bool => |value| Self::Bool(value);
    i64 => |value| Self::I64(value);
    i32 => |value| Self::I64(value.into());
    u32 => |value| Self::I64(value.into());
    String => |value| Self::Text(value);
    &str => |value| Self::Text(value.to_owned());
    Arc<str> => |value| Self::Shared(value);
    Vec<u8> => |value| Self::Bytes(value);
    Uuid => |value| Self::Uuid(value);
    DateTime<Utc> => |value| Self::Time(value);
    Decimal => |value| Self::Text(value.to_string());
}

impl<T: Into<SqlValue>> From<Option<T>> for SqlValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A statement with its values bound so far.
pub(super) type Bound = Query<'static, Sqlite, SqliteArguments>;

impl SqlValue {
    /// Binds the value to the next placeholder.
    pub(super) fn bind(self, query: Bound) -> Bound {
        match self {
            Self::Null => query.bind(None::<i64>),
            Self::Bool(value) => query.bind(i64::from(value)),
            Self::I64(value) => query.bind(value),
            Self::Text(value) => query.bind(value),
            Self::Static(value) => query.bind(value),
            Self::Shared(value) => query.bind(value),
            Self::Bytes(value) => query.bind(value),
            Self::Uuid(value) => query.bind(value),
            Self::Time(value) => query.bind(value.timestamp_micros()),
        }
    }
}

/// A row of an answer; columns count from 0.
#[derive(Debug)]
pub struct SqlRow(pub(super) SqliteRow);

impl SqlRow {
    fn get<'r, T>(&'r self, index: usize, expected: &'static str) -> Result<Option<T>, SqlError>
    where
        Option<T>: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        self.0.try_get(index).map_err(|_| SqlError::Column { index, expected })
    }

    fn required<'r, T>(&'r self, index: usize, expected: &'static str) -> Result<T, SqlError>
    where
        Option<T>: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
    {
        self.get(index, expected)?.ok_or(SqlError::Column { index, expected })
    }

    /// A whole number.
    pub fn i64(&self, index: usize) -> Result<i64, SqlError> {
        self.required(index, "a whole number")
    }

    /// A whole number or nothing.
    pub fn opt_i64(&self, index: usize) -> Result<Option<i64>, SqlError> {
        self.get(index, "a whole number or NULL")
    }

    /// A truth value.
    pub fn bool(&self, index: usize) -> Result<bool, SqlError> {
        Ok(self.required::<i64>(index, "a truth value")? != 0)
    }

    /// A truth value or nothing.
    pub fn opt_bool(&self, index: usize) -> Result<Option<bool>, SqlError> {
        Ok(self.get::<i64>(index, "a truth value or NULL")?.map(|value| value != 0))
    }

    /// A text.
    pub fn text(&self, index: usize) -> Result<&str, SqlError> {
        self.required(index, "a text")
    }

    /// A text or nothing.
    pub fn opt_text(&self, index: usize) -> Result<Option<&str>, SqlError> {
        self.get(index, "a text or NULL")
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
        self.required(index, "an id")
    }

    /// An id or nothing.
    pub fn opt_uuid(&self, index: usize) -> Result<Option<Uuid>, SqlError> {
        self.get(index, "an id or NULL")
    }

    /// An instant.
    pub fn time(&self, index: usize) -> Result<DateTime<Utc>, SqlError> {
        self.opt_time(index)?.ok_or(SqlError::Column { index, expected: "an instant" })
    }

    /// An instant or nothing.
    pub fn opt_time(&self, index: usize) -> Result<Option<DateTime<Utc>>, SqlError> {
        let wrong = SqlError::Column { index, expected: "an instant or NULL" };
        match self.get::<i64>(index, "an instant or NULL")? {
            None => Ok(None),
            Some(micros) => DateTime::from_timestamp_micros(micros).map(Some).ok_or(wrong),
        }
    }

    /// Bytes.
    pub fn bytes(&self, index: usize) -> Result<&[u8], SqlError> {
        self.required(index, "bytes")
    }

    /// Bytes or nothing.
    pub fn opt_bytes(&self, index: usize) -> Result<Option<&[u8]>, SqlError> {
        self.get(index, "bytes or NULL")
    }
}
