//! A small façade over the tables beside the log and of the read models, so that one SQL text serves every engine.
//!
//! Placeholders are `$1`, `$2`, …; in both engines a time is microseconds since 1970 (UTC), a truth value 0 or 1, a decimal
//! its text; an id is 16 bytes in `SQLite` and a `uuid` in `PostgreSQL`. `{g}` after a table name stands for the generation
//! of tables that a rebuild works on.

mod db;
mod lists;
mod open;
mod postgres;
mod row;
mod schema;
mod sqlite;
mod texts;
mod value;

pub use db::{ReadDb, ReadTx};
pub use lists::{IN_LIST, execute_in, in_list, query_in, read_in};
pub(in crate::store) use open::READ_MODELS;
pub(in crate::store) use postgres::is_connection_loss;
pub use row::SqlRow;
pub use texts::sql_for;
pub use value::SqlValue;

/// Which generation of a read model's tables a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The tables in use.
    Live,
    /// The tables that a rebuild is filling beside them.
    Building,
}

impl Target {
    /// What stands after a table's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Building => "_next",
        }
    }
}

/// Why a database did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The engine failed or refused.
    #[error("the database of tables failed")]
    Database(#[from] sqlx::Error),
    /// The same, said by the connection that writes a file.
    #[error("the database of tables failed")]
    Writer(#[from] rusqlite::Error),
    /// Others kept writing for too long.
    #[error("the database of tables is busy")]
    Busy,
    /// It was closed.
    #[error("the database of tables is closed")]
    Closed,
    /// A column does not hold what the reader expects.
    #[error("column {index} is not {expected}")]
    Column {
        /// Its place in the row, from 0.
        index: usize,
        /// What it should hold.
        expected: &'static str,
    },
    /// A value does not fit its placeholder.
    #[error("value {index} is no {expected}")]
    Value {
        /// Its place, from 0.
        index: usize,
        /// The type of the placeholder.
        expected: &'static str,
    },
    /// Tables that cannot be built beside themselves, or a statement that does not fit them.
    #[error("the tables cannot be worked on: {0}")]
    Schema(String),
    /// The work belongs to another process by now: its lease ran out and was taken over.
    #[error("another process has taken over the lease {0}")]
    LeaseLost(&'static str),
}

impl SqlError {
    /// Whether two rows were to have the same key.
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.is_unique_violation(),
            Self::Writer(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation),
            _ => false,
        }
    }
}
