//! Transactions of `SQLite`: one connection for writing, whose statements run on the calling thread.
//!
//! A batch is thousands of small statements; handing each to another thread would cost more than most of them do. Begin
//! and commit, which may wait for a lock or for the disk, run on threads that may block.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement, ToSql};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::texts::{insert_text, sqlite_text};
use super::{SqlError, SqlValue, Target};
use crate::limits::Limits;
use crate::store::sqlite::{Access, connect, shrink};

/// The one connection that writes a file, which is opened when it is first needed. Cheap to clone.
#[derive(Clone)]
pub(super) struct SqliteWriter(Arc<Inner>);

struct Inner {
    path: PathBuf,
    access: Access,
    limits: Limits,
    connection: Arc<Mutex<Option<Connection>>>,
    closed: AtomicBool,
}

impl std::fmt::Debug for SqliteWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the writer of {}", self.0.path.display())
    }
}

impl SqliteWriter {
    pub(super) fn new(path: &Path, access: Access, limits: &Limits) -> Self {
        let (path, limits, connection) = (path.to_owned(), limits.clone(), Arc::default());
        Self(Arc::new(Inner { path, access, limits, connection, closed: AtomicBool::new(false) }))
    }

    /// Begins with the write lock. A writer waits for the current one, up to a limit.
    pub(super) async fn begin(&self) -> Result<SqliteTx, SqlError> {
        let inner = Arc::clone(&self.0);
        // A rebuild's last step may hold the connection for a while.
        let waited = tokio::time::timeout(inner.limits.lock_wait * 6, Arc::clone(&inner.connection).lock_owned());
        let mut slot = waited.await.map_err(|_| SqlError::Busy)?;
        if inner.closed.load(Ordering::Acquire) {
            return Err(SqlError::Closed);
        }
        let begin = move || {
            let connection = match slot.take() {
                Some(connection) => connection,
                None => connect(&inner.path, inner.access, &inner.limits)?,
            };
            connection.execute_batch("BEGIN IMMEDIATE")?;
            *slot = Some(connection);
            Ok(SqliteTx { slot, open: true })
        };
        off_thread(begin).await
    }

    /// Frees the pages that the connection has in memory, unless somebody writes.
    pub(super) fn rest(&self) -> Result<(), SqlError> {
        match self.0.connection.try_lock() {
            Ok(slot) => Ok(slot.as_ref().map_or(Ok(()), shrink)?),
            Err(_) => Ok(()),
        }
    }

    /// Copies what is in the journal to the file, and empties it.
    pub(super) async fn truncate_journal(&self) -> Result<(), SqlError> {
        let inner = Arc::clone(&self.0);
        let slot = Arc::clone(&inner.connection).lock_owned().await;
        off_thread(move || match slot.as_ref() {
            Some(connection) => connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())),
            None => Ok(()),
        })
        .await
    }

    /// Closes the connection once nobody writes; later transactions fail.
    pub(super) async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        drop(self.0.connection.lock().await.take());
    }
}

/// Runs what may wait on a thread that may.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, rusqlite::Error> + Send + 'static,
) -> Result<T, SqlError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        // The runtime is going down.
        Err(_) => Err(SqlError::Closed),
    }
}

/// A transaction; dropped without `commit`, it leaves no trace.
pub(super) struct SqliteTx {
    slot: OwnedMutexGuard<Option<Connection>>,
    open: bool,
}

impl std::fmt::Debug for SqliteTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a transaction of SQLite")
    }
}

impl SqliteTx {
    fn connection(&self) -> Result<&Connection, SqlError> {
        self.slot.as_ref().ok_or(SqlError::Closed)
    }

    /// Runs a statement and says how many rows it touched.
    pub(super) fn execute(&mut self, sql: &'static str, target: Target, values: &[SqlValue]) -> Result<u64, SqlError> {
        let mut statement = self.connection()?.prepare_cached(sqlite_text(sql, target))?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }

    /// Rows as this transaction sees them.
    pub(super) fn query(
        &mut self,
        sql: &'static str,
        target: Target,
        values: &[SqlValue],
    ) -> Result<Vec<Box<[Value]>>, SqlError> {
        let mut statement = self.connection()?.prepare_cached(sqlite_text(sql, target))?;
        bind(&mut statement, values)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((0..columns).map(|index| row.get(index)).collect::<Result<_, _>>()?);
        }
        Ok(found)
    }

    /// Inserts rows given as one flat list, one by one with one statement.
    pub(super) fn insert(
        &mut self,
        (insert, suffix): (&'static str, &'static str),
        target: Target,
        columns: usize,
        rows: &[SqlValue],
    ) -> Result<u64, SqlError> {
        let text = insert_text(sqlite_text(insert, target), columns, 1, sqlite_text(suffix, target));
        let mut statement = self.connection()?.prepare_cached(text)?;
        let mut touched = 0;
        for row in rows.chunks_exact(columns) {
            bind(&mut statement, row)?;
            touched += statement.raw_execute()? as u64;
        }
        Ok(touched)
    }

    /// Runs a statement about the schema, whose text is made from the schema itself.
    pub(super) fn run(&mut self, sql: &str) -> Result<(), SqlError> {
        // Prepared statements would see the old schema; they are prepared again automatically.
        Ok(self.connection()?.execute_batch(sql)?)
    }

    /// Makes it last and visible, all of it at once.
    pub(super) async fn commit(mut self) -> Result<(), SqlError> {
        let commit = move || {
            if let Some(connection) = self.slot.as_ref() {
                connection.execute_batch("COMMIT")?;
            }
            self.open = false;
            Ok(())
        };
        off_thread(commit).await
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        let rolled_back =
            |connection: &Connection| connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        // A connection that cannot be brought back to its senses is replaced.
        if self.open && !self.slot.as_ref().is_some_and(rolled_back) {
            *self.slot = None;
        }
    }
}

/// Binds the values to `?1`, `?2` and so on.
fn bind(statement: &mut Statement<'_>, values: &[SqlValue]) -> Result<(), rusqlite::Error> {
    for (place, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, value)?;
    }
    Ok(())
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number = |value| ToSqlOutput::Owned(Value::Integer(value));
        let text = |value| ToSqlOutput::Borrowed(ValueRef::Text(value));
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Bool(value) => number(i64::from(*value)),
            Self::I64(value) => number(*value),
            Self::Text(value) => text(value.as_bytes()),
            Self::Static(value) => text(value.as_bytes()),
            Self::Shared(value) => text(value.as_bytes()),
            Self::Bytes(value) => ToSqlOutput::Borrowed(ValueRef::Blob(value)),
            Self::Uuid(value) => ToSqlOutput::Borrowed(ValueRef::Blob(value.as_bytes())),
            Self::Time(value) => number(value.timestamp_micros()),
        })
    }
}
