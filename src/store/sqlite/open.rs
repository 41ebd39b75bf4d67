//! Opens the two `SQLite` files: their names, settings per connection, migrations.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlitePool};

use crate::limits::Limits;
use crate::store::newer::told;
use crate::store::{StoreError, private};

pub(super) static LOG: Migrator = sqlx::migrate!("migrations/sqlite/log");

/// Where a database lives: two files side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFiles {
    /// The log and the directory: what must never be lost (`x.db`).
    pub log: PathBuf,
    /// Data that can be rebuilt from the log (`x-read.db`).
    pub read: PathBuf,
}

impl DatabaseFiles {
    /// The files of the database whose log is in this file.
    pub fn of(log: &Path) -> Self {
        let mut name = log.file_stem().map_or_else(|| OsString::from("sluice"), OsString::from);
        name.push("-read.");
        name.push(log.extension().unwrap_or("db".as_ref()));
        Self { log: log.to_owned(), read: log.with_file_name(name) }
    }

    /// Everything of the database that only its owner is to use, as far as it is there: its folder, the files and what lies
    /// beside them (journals, locks, read models that were moved aside), the archive and its segments.
    pub fn owned(&self) -> Vec<PathBuf> {
        let folder = self.log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let archive = super::archive::folder_of(&self.log);
        let databases = [&self.log, &self.read, &self.aside()].map(Clone::clone);
        let beside = |path: PathBuf| {
            ["", "-wal", "-shm"].map(|end| {
                let mut name = path.clone().into_os_string();
                name.push(end);
                PathBuf::from(name)
            })
        };
        let locks = ["db.serving", "db.dispatching", "db.notifying"].map(|end| self.log.with_extension(end));
        let segments = std::fs::read_dir(&archive).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut all = vec![folder.to_owned()];
        all.extend(databases.into_iter().flat_map(beside).chain(locks));
        all.extend(segments.collect::<std::collections::BTreeSet<_>>());
        all.push(archive);
        all.retain(|path| path.exists());
        all
    }

    /// Where read models are moved that cannot be used (`x-read-aside.db`).
    pub fn aside(&self) -> PathBuf {
        let mut name = self.read.file_stem().map_or_else(|| OsString::from("sluice-read"), OsString::from);
        name.push("-aside.");
        name.push(self.read.extension().unwrap_or("db".as_ref()));
        self.read.with_file_name(name)
    }
}

/// Pages of the write-ahead log after which what is in it is copied to the file.
pub(super) const PAGES_IN_WAL_MAX: i64 = 4_000;

/// Bytes that the file of the write-ahead log keeps once it was larger.
pub(super) const JOURNAL_BYTES_MAX: i64 = 64 << 20;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Access {
    /// Reads only; a write is refused by `SQLite`.
    Read,
    /// Writes what must survive a loss of power.
    WriteDurably,
    /// Writes data that can be rebuilt: a loss of power may lose the last commits, in order.
    WriteRebuildable,
}

/// The settings of one connection.
pub(in crate::store) fn options(path: &Path, access: Access, limits: &Limits) -> SqliteConnectOptions {
    let cache_kib = if access == Access::Read { limits.reader_cache_kib } else { limits.writer_cache_kib };
    let synchronous = if access == Access::WriteDurably { SqliteSynchronous::Full } else { SqliteSynchronous::Normal };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(access != Access::Read)
        .page_size(8192)
        .foreign_keys(false) // the writer gives ids itself; a look-up per event would only repeat that
        .synchronous(synchronous)
        .busy_timeout(limits.lock_wait)
        .statement_cache_capacity(limits.statements_max)
        .row_buffer_size(limits.row_buffer_max)
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging();
    match access {
        Access::Read => options.pragma("query_only", "ON"),
        // A person who is erased from the directory is overwritten, not only unlinked.
        Access::WriteDurably | Access::WriteRebuildable => options
            .pragma("secure_delete", if access == Access::WriteDurably { "ON" } else { "OFF" })
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("wal_autocheckpoint", PAGES_IN_WAL_MAX.to_string())
            .pragma("journal_size_limit", JOURNAL_BYTES_MAX.to_string()),
    }
}

/// Makes or upgrades the tables of the log. Two processes may do so at once: the second finds the work done.
pub(super) async fn migrate(path: &Path, limits: &Limits) -> Result<(), StoreError> {
    // `SQLite` gives the files beside it the same rights.
    private::file(path).map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
    let connect = async {
        let mut connection = options(path, Access::WriteDurably, limits).connect().await?;
        run_migrations(&LOG, &mut connection).await?;
        connection.close().await
    };
    connect.await.map_err(|error| StoreError::Unavailable(told(error, &path.display())))
}

/// Runs migrations in one transaction that has the write lock from its start.
pub(in crate::store) async fn run_migrations(
    migrator: &Migrator,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    migrator.run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await
}

/// A pool of reading connections; none is opened before it is needed.
pub(in crate::store) async fn read_pool(path: &Path, max: u32, limits: &Limits) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(max)
        .test_before_acquire(false) // a file does not hang up
        .acquire_timeout(limits.lock_wait)
        .connect_with(options(path, Access::Read, limits))
        .await
}
