//! Values that go into statements.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use uuid::Uuid;

use crate::events::envelope::Position;

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
    /// A position in the log, for the two columns that keep one: a table can compare it, and so nobody has to look into it.
    pub fn position(position: Position) -> [Self; 2] {
        let (hi, lo) = position.halves();
        [Self::I64(hi.cast_signed()), Self::I64(lo.cast_signed())]
    }

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
