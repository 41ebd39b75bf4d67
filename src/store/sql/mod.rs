//! A small façade over the read-model tables and the tables beside the log, so that one SQL text serves every engine.
//!
//! Placeholders are `$1`, `$2`, …; in both engines a time is microseconds since 1970 (UTC), a truth value 0 or 1, a
//! decimal its text; an id is 16 bytes in `SQLite` and a `uuid` in `PostgreSQL`. `{g}` after a table name stands for
//! the generation of tables that a rebuild fills.

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
    /// Whether it speaks of tables that are damaged, or of another version: to try again would not help.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => is_damage(error),
            Self::Writer(error) => matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
            ),
            Self::Column { .. } | Self::Schema(_) => true,
            _ => false,
        }
    }

    /// Whether two rows were to have the same key.
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.is_unique_violation(),
            Self::Writer(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation),
            _ => false,
        }
    }
}

fn is_damage(error: &sqlx::Error) -> bool {
    use sqlx::migrate::MigrateError;
    match error {
        sqlx::Error::Migrate(error) => match &**error {
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => true,
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => is_damage(error),
            _ => false,
        },
        sqlx::Error::Database(error) => {
            let (code, said) = (error.code().unwrap_or_default(), error.message());
            // Of SQLite SQLITE_CORRUPT and SQLITE_NOTADB; of both tables and columns that are not there, or were there before.
            let sqlite = code.parse::<i32>().is_ok_and(|code| {
                matches!(code & 0xff, 11 | 26)
                    || (code == 1
                        && (said.starts_with("no such ")
                            || said.ends_with(" already exists")
                            || said.starts_with("malformed")))
            });
            sqlite || matches!(&*code, "42P01" | "42703" | "42P07" | "42701")
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => true,
        _ => false,
    }
}
