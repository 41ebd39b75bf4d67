//! Connections for bulk work, row by row: a statement runs on the calling thread.
//!
//! A pool of sqlx answers from a separate thread, row by row through a queue. That suits requests; for the log and for
//! batches of rows the thread switches would cost more than the work.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::open::{Access, JOURNAL_BYTES_MAX, PAGES_IN_WAL_MAX};
use crate::limits::Limits;
use crate::store::StoreError;

/// Opens a file that the migrations have made, with the settings of [`super::options`].
pub(in crate::store) fn connect(path: &Path, access: Access, limits: &Limits) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(limits.lock_wait)?;
    connection.set_prepared_statement_cache_capacity(limits.statements_max);
    let set = |name: &str, value: &str| connection.pragma_update(None, name, value);
    set("foreign_keys", "OFF")?;
    set("temp_store", "MEMORY")?;
    let cache_kib = if access == Access::Read { limits.reader_cache_kib } else { limits.writer_cache_kib };
    set("cache_size", &format!("-{cache_kib}"))?;
    match access {
        Access::Read => set("query_only", "ON")?,
        Access::WriteDurably => set("synchronous", "FULL")?,
        Access::WriteRebuildable => set("synchronous", "NORMAL")?,
    }
    if access != Access::Read {
        // The directory is written through here too: what is erased there is overwritten, not only unlinked.
        let erases = if access == Access::WriteDurably { "ON" } else { "OFF" };
        connection.pragma_update_and_check(None, "secure_delete", erases, |_| Ok(()))?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", PAGES_IN_WAL_MAX, |_| Ok(()))?;
        connection.pragma_update_and_check(None, "journal_size_limit", JOURNAL_BYTES_MAX, |_| Ok(()))?;
    }
    Ok(connection)
}

/// A few connections that read, none of which is opened before it is needed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers(Arc<Inner>);

struct Inner {
    path: PathBuf,
    limits: Limits,
    free: Mutex<Vec<Connection>>,
    places: Semaphore,
}

impl Inner {
    /// Putting a connection in or taking one out cannot stop half way.
    fn free(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    pub(super) fn new(path: &Path, limits: &Limits) -> Self {
        let places = Semaphore::new(usize::try_from(limits.log_readers_max).unwrap_or(1));
        Self(Arc::new(Inner { path: path.to_owned(), limits: limits.clone(), free: Mutex::default(), places }))
    }

    /// Reads on a thread that may wait for the disk. After an error the connection is not used again.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _place = self.0.places.acquire().await.map_err(|closed| StoreError::Unavailable(Arc::new(closed)))?;
        let inner = Arc::clone(&self.0);
        let read = move || {
            let free = inner.free().pop();
            let connection = match free {
                Some(connection) => connection,
                None => connect(&inner.path, Access::Read, &inner.limits)?,
            };
            let done = work(&connection)?;
            inner.free().push(connection);
            Ok(done)
        };
        let done = tokio::task::spawn_blocking(read).await.map_err(|gone| StoreError::Unavailable(Arc::new(gone)))?;
        done.map_err(ReadError::into)
    }

    /// Closes those that nobody uses; they come back when they are needed.
    pub(super) fn rest(&self) {
        let idle = std::mem::take(&mut *self.0.free());
        drop(idle);
    }

    /// Closes the connections; later reads fail.
    pub(super) fn close(&self) {
        self.0.places.close();
        self.0.free().clear();
    }
}

/// Why a read gave nothing.
pub(super) enum ReadError {
    /// The file could not be read.
    Database(rusqlite::Error),
    /// What was read makes no sense.
    Corrupt(String),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Corrupt(what) => f.write_str(what),
        }
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => Self::Unavailable(Arc::new(error)),
            ReadError::Corrupt(what) => Self::Corrupt(what),
        }
    }
}
