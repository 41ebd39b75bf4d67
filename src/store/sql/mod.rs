//! A small façade over the database of the read models, so that one SQL text can serve every engine.
//!
//! Placeholders are `$1`, `$2`, …; in `SQLite` an id is 16 bytes, a time microseconds since 1970 (UTC), a truth value 0 or 1,
//! a decimal its text. `{g}` after a table name stands for the generation of tables that a rebuild works on.

mod db;
mod row;
mod schema;
mod sqlite;
mod texts;
mod value;

pub(in crate::store) use db::READ_MODELS;
pub use db::{ReadDb, ReadTx};
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

/// Why the database of the read models did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The engine failed or refused.
    #[error("the read models' database failed")]
    Database(#[from] sqlx::Error),
    /// The same, said by the connection that writes.
    #[error("the read models' database failed")]
    Writer(#[from] rusqlite::Error),
    /// Others kept writing for too long.
    #[error("the read models' database is busy")]
    Busy,
    /// It was closed.
    #[error("the read models' database is closed")]
    Closed,
    /// A column does not hold what the reader expects.
    #[error("column {index} is not {expected}")]
    Column {
        /// Its place in the row, from 0.
        index: usize,
        /// What it should hold.
        expected: &'static str,
    },
    /// Tables that cannot be built beside themselves.
    #[error("the tables cannot be rebuilt: {0}")]
    Schema(String),
}
