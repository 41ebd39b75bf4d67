//! The database of the read models: a pool that reads, one connection that writes, transactions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection, SqlitePool};

use super::row::EngineRow;
use super::sqlite::{SqliteTx, SqliteWriter};
use super::texts::sql_for;
use super::{SqlError, SqlRow, SqlValue, Target};
use crate::limits::Limits;
use crate::store::sqlite::{Access, options, read_pool, run_migrations};

pub(in crate::store) static READ_MODELS: Migrator = sqlx::migrate!("migrations/sqlite/read");

/// The database of the read models and everything else that can be made again from the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReadDb {
    path: Arc<PathBuf>,
    readers: SqlitePool,
    writer: SqliteWriter,
}

impl ReadDb {
    /// Opens the file and makes or upgrades its tables.
    pub async fn open(path: &Path, limits: &Limits) -> Result<Self, SqlError> {
        let mut connection = options(path, Access::WriteRebuildable, limits).connect().await?;
        run_migrations(&READ_MODELS, &mut connection).await?;
        connection.close().await?;
        let writer = SqliteWriter::new(path, Access::WriteRebuildable, limits);
        let readers = read_pool(path, limits.read_model_readers_max, limits).await?;
        Ok(Self { path: Arc::new(path.to_owned()), readers, writer })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes every connection; later calls fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Rows of the tables in use, as of the last commit.
    pub async fn query(&self, sql: &'static str, values: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        let rows = bound(sql_for(sql, Target::Live), values).fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(|row| SqlRow(EngineRow::Pool(row))).collect())
    }

    /// The first row, if there is one.
    pub async fn query_one(&self, sql: &'static str, values: &[SqlValue]) -> Result<Option<SqlRow>, SqlError> {
        let row = bound(sql_for(sql, Target::Live), values).fetch_optional(&self.readers).await?;
        Ok(row.map(|row| SqlRow(EngineRow::Pool(row))))
    }

    /// Lets go of memory that is held for speed alone; called when nothing happens for a while.
    pub fn rest(&self) -> Result<(), SqlError> {
        self.writer.rest()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), SqlError> {
        self.query_one("SELECT 1", &[]).await.map(drop)
    }

    /// Starts a transaction on the tables in use. It holds the write lock from its start, so what it reads stays so.
    pub async fn begin(&self) -> Result<ReadTx, SqlError> {
        self.begin_on(Target::Live).await
    }

    /// Starts a transaction on one generation of tables.
    pub async fn begin_on(&self, target: Target) -> Result<ReadTx, SqlError> {
        Ok(ReadTx { transaction: self.writer.begin().await?, target })
    }
}

/// A transaction on the read models; dropped without `commit`, it leaves no trace.
#[derive(Debug)]
pub struct ReadTx {
    transaction: SqliteTx,
    target: Target,
}

impl ReadTx {
    /// The generation of tables that `{g}` stands for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Runs a statement and says how many rows it touched.
    pub async fn execute(&mut self, sql: &'static str, values: &[SqlValue]) -> Result<u64, SqlError> {
        self.transaction.execute(sql, self.target, values)
    }

    /// Rows as this transaction sees them.
    pub async fn query(&mut self, sql: &'static str, values: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        let rows = self.transaction.query(sql, self.target, values)?;
        Ok(rows.into_iter().map(|row| SqlRow(EngineRow::Writer(row))).collect())
    }

    /// The first row, if there is one.
    pub async fn query_one(&mut self, sql: &'static str, values: &[SqlValue]) -> Result<Option<SqlRow>, SqlError> {
        Ok(self.query(sql, values).await?.into_iter().next())
    }

    /// Inserts rows, given as one flat list of values, with few statements: `insert` is `INSERT INTO t (a, b)`, `columns`
    /// how many values make a row, `suffix` what follows the rows, such as `ON CONFLICT …`. Says how many rows it touched.
    pub async fn insert_many(
        &mut self,
        insert: &'static str,
        columns: usize,
        rows: Vec<SqlValue>,
        suffix: &'static str,
    ) -> Result<u64, SqlError> {
        debug_assert!(columns > 0 && rows.len().is_multiple_of(columns), "the list holds whole rows");
        self.transaction.insert((insert, suffix), self.target, columns, &rows)
    }

    /// Makes it last and visible, all of it at once.
    pub async fn commit(self) -> Result<(), SqlError> {
        self.transaction.commit().await
    }

    /// Marks the place that `undo` goes back to.
    pub(in crate::store) async fn mark(&mut self) -> Result<(), SqlError> {
        self.execute("SAVEPOINT one_consumer", &[]).await.map(drop)
    }

    /// Undoes what was done since the mark.
    pub(in crate::store) async fn undo(&mut self) -> Result<(), SqlError> {
        self.execute("ROLLBACK TO one_consumer", &[]).await.map(drop)
    }

    /// Removes the mark; what was done since stays part of the transaction.
    pub(in crate::store) async fn keep(&mut self) -> Result<(), SqlError> {
        self.execute("RELEASE one_consumer", &[]).await.map(drop)
    }

    /// Turns to the other generation of tables within the same transaction.
    pub(in crate::store) fn set_target(&mut self, target: Target) {
        self.target = target;
    }

    /// Runs a statement about the schema.
    pub(super) fn run(&mut self, sql: &str) -> Result<(), SqlError> {
        self.transaction.run(sql)
    }
}

fn bound(sql: &'static str, values: &[SqlValue]) -> super::value::Bound {
    values.iter().cloned().fold(sqlx::query(sql), |query, value| value.bind(query))
}
