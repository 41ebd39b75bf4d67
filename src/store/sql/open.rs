//! Opens databases of tables: the read models, and the tables beside the log.

use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection};

use super::db::Engine;
use super::postgres::Statements;
use super::sqlite::SqliteWriter;
use super::{ReadDb, SqlError};
use crate::limits::Limits;
use crate::store::address::Database;
use crate::store::postgres::{self, Schema};
use crate::store::private;
use crate::store::sqlite::{Access, DatabaseFiles, options, read_pool, run_migrations};

pub(in crate::store) static READ_MODELS: Migrator = sqlx::migrate!("migrations/sqlite/read");

/// The locks of those who write tables, one writer at a time: the read models, and what stands beside the log.
const READ_LOCK: i64 = 7_305_804_402_333_419;
const LOG_LOCK: i64 = 7_305_804_402_333_420;

impl ReadDb {
    /// Opens the read models of a database and makes or upgrades their tables.
    pub async fn open_read(database: &Database, limits: &Limits) -> Result<Self, SqlError> {
        match database {
            Database::Sqlite(log) => Self::open(&DatabaseFiles::of(log).read, limits).await,
            Database::Postgres(url) => {
                postgres::migrate(url, Schema::Read, limits).await?;
                Self::postgres(url, Schema::Read, limits)
            }
        }
    }

    /// Opens the tables beside the log: the directory, and facts about the database itself. The log must have been opened
    /// before, which makes or upgrades them.
    pub async fn open_beside_log(database: &Database, limits: &Limits) -> Result<Self, SqlError> {
        match database {
            Database::Sqlite(log) => {
                let writer = SqliteWriter::new(log, Access::WriteDurably, limits);
                let readers = read_pool(log, limits.log_readers_max, limits).await?;
                Ok(Self { engine: Engine::Sqlite { path: Arc::new(log.clone()), readers, writer } })
            }
            Database::Postgres(url) => Self::postgres(url, Schema::Log, limits),
        }
    }

    /// Moves the read models of a database out of the way, so that the next who opens them makes new ones. They are kept until
    /// the next time. Nobody may use them; says where they are now.
    pub async fn set_aside_read(database: &Database, limits: &Limits) -> Result<String, SqlError> {
        match database {
            Database::Sqlite(log) => {
                let (from, to) = (DatabaseFiles::of(log).read, DatabaseFiles::of(log).aside());
                for suffix in ["", "-wal", "-shm"] {
                    let named = |path: &Path| {
                        let mut name = path.as_os_str().to_owned();
                        name.push(suffix);
                        std::path::PathBuf::from(name)
                    };
                    let moved = match std::fs::remove_file(named(&to)) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                        _ => std::fs::rename(named(&from), named(&to)),
                    };
                    match moved {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(sqlx::Error::Io(error).into());
                        }
                        _ => {}
                    }
                }
                Ok(to.display().to_string())
            }
            Database::Postgres(url) => {
                postgres::set_aside(url, limits).await?;
                Ok("the schema sluice_read_aside".to_owned())
            }
        }
    }

    /// Opens read models in a file and makes or upgrades their tables.
    pub async fn open(path: &Path, limits: &Limits) -> Result<Self, SqlError> {
        // `SQLite` gives the files beside it the same rights.
        private::file(path).map_err(sqlx::Error::Io)?;
        let mut connection = options(path, Access::WriteRebuildable, limits).connect().await?;
        run_migrations(&READ_MODELS, &mut connection).await?;
        connection.close().await?;
        let writer = SqliteWriter::new(path, Access::WriteRebuildable, limits);
        let readers = read_pool(path, limits.read_model_readers_max, limits).await?;
        Ok(Self { engine: Engine::Sqlite { path: Arc::new(path.to_owned()), readers, writer } })
    }

    fn postgres(url: &str, schema: Schema, limits: &Limits) -> Result<Self, SqlError> {
        let lock = match schema {
            Schema::Log => LOG_LOCK,
            Schema::Read => READ_LOCK,
        };
        let readers = postgres::read_pool(url, schema, limits.read_model_readers_max, limits)?;
        let writers = postgres::write_pool(url, schema, limits)?;
        Ok(Self { engine: Engine::Postgres { readers, writers, lock, statements: Statements::default() } })
    }
}
