//! A database of tables: a pool of readers, one writer at a time, transactions.

use std::sync::Arc;

use sqlx::postgres::{PgPool, Postgres};
use sqlx::{SqlitePool, Transaction};

use super::postgres::{Statements, is_connection_loss};
use super::row::EngineRow;
use super::sqlite::{SqliteTx, SqliteWriter};
use super::texts::sql_for;
use super::{SqlError, SqlRow, SqlValue, Target};
use crate::store::lease::Fence;
use crate::store::postgres::NotifyListener;

/// A database of tables: the read models and everything else that can be rebuilt from the log, or the tables beside
/// the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReadDb {
    pub(super) engine: Engine,
}

/// Where the tables are.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    Sqlite {
        path: Arc<std::path::PathBuf>,
        readers: SqlitePool,
        writer: SqliteWriter,
    },
    Postgres {
        readers: PgPool,
        writers: PgPool,
        /// The key of the lock that one writer at a time holds, over all processes.
        lock: i64,
        statements: Statements,
    },
}

impl ReadDb {
    /// Whether the tables are on a server that several processes share.
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres { .. })
    }

    /// The file, where there is one.
    pub fn path(&self) -> Option<&std::path::Path> {
        match &self.engine {
            Engine::Sqlite { path, .. } => Some(path),
            Engine::Postgres { .. } => None,
        }
    }

    /// Hears of what other processes announce; none where there are no others.
    pub fn listener(&self, channel: &'static str) -> Option<NotifyListener> {
        match &self.engine {
            Engine::Sqlite { .. } => None,
            Engine::Postgres { readers, .. } => Some(NotifyListener::of(readers, channel)),
        }
    }

    /// Closes every connection; later calls fail.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite { readers, writer, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Engine::Postgres { readers, writers, .. } => {
                readers.close().await;
                writers.close().await;
            }
        }
    }

    /// Rows of the tables in use, as of the last commit.
    pub async fn query(&self, sql: &'static str, values: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        match &self.engine {
            Engine::Sqlite { readers, .. } => {
                let rows = bound(sql_for(sql, Target::Live), values).fetch_all(readers).await?;
                Ok(rows.into_iter().map(|row| SqlRow(EngineRow::Pool(row))).collect())
            }
            Engine::Postgres { readers, statements, .. } => {
                let rows = Box::pin(statements.read(readers, sql, values, true)).await?;
                Ok(rows.into_iter().map(|row| SqlRow(EngineRow::Postgres(row))).collect())
            }
        }
    }

    /// The first row, if there is one.
    pub async fn query_one(&self, sql: &'static str, values: &[SqlValue]) -> Result<Option<SqlRow>, SqlError> {
        match &self.engine {
            Engine::Sqlite { readers, .. } => {
                let row = bound(sql_for(sql, Target::Live), values).fetch_optional(readers).await?;
                Ok(row.map(|row| SqlRow(EngineRow::Pool(row))))
            }
            Engine::Postgres { readers, statements, .. } => {
                let rows = Box::pin(statements.read(readers, sql, values, false)).await?;
                Ok(rows.into_iter().next().map(|row| SqlRow(EngineRow::Postgres(row))))
            }
        }
    }

    /// Overwrites what was deleted in the journal of a file; a server keeps its own.
    pub async fn overwrite_journal(&self) -> Result<(), SqlError> {
        if let Engine::Sqlite { writer, .. } = &self.engine {
            writer.truncate_journal().await?;
        }
        Ok(())
    }

    /// Lets go of memory that is held for speed alone; called when nothing happens for a while.
    pub fn rest(&self) -> Result<(), SqlError> {
        match &self.engine {
            Engine::Sqlite { writer, .. } => writer.rest(),
            Engine::Postgres { .. } => Ok(()),
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), SqlError> {
        self.query_one("SELECT 1", &[]).await.map(drop)
    }

    /// Starts a transaction on the tables in use. It holds the write lock from its start, so what it reads stays so.
    pub async fn begin(&self) -> Result<ReadTx, SqlError> {
        self.begin_on(Target::Live).await
    }

    /// Starts a transaction on one generation of tables. What runs under a lease goes no further once that is lost.
    pub async fn begin_on(&self, target: Target) -> Result<ReadTx, SqlError> {
        let transaction = match &self.engine {
            Engine::Sqlite { writer, .. } => EngineTx::Sqlite(writer.begin().await?),
            Engine::Postgres { writers, lock, statements, .. } => EngineTx::Postgres {
                transaction: Box::pin(begin_postgres(writers, *lock)).await?,
                statements: statements.clone(),
            },
        };
        let mut tx = ReadTx { transaction, target };
        if let Some(fence) = Fence::current() {
            tx.check(&fence).await?;
        }
        Ok(tx)
    }
}

/// Begins and takes the lock of the writers; a connection that died in the pool is replaced, a few times.
async fn begin_postgres(writers: &PgPool, lock: i64) -> Result<Transaction<'static, Postgres>, SqlError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let begun = async {
            let mut transaction = writers.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock).execute(&mut *transaction).await?;
            Ok(transaction)
        };
        match begun.await {
            Err(error) if is_connection_loss(&error) && attempts <= writers.options().get_max_connections() => {}
            begun => return Ok(begun?),
        }
    }
}

/// A transaction; dropped without `commit`, it leaves no trace.
#[derive(Debug)]
pub struct ReadTx {
    transaction: EngineTx,
    target: Target,
}

#[derive(Debug)]
enum EngineTx {
    Sqlite(SqliteTx),
    Postgres { transaction: Transaction<'static, Postgres>, statements: Statements },
}

/// The connection of a transaction, for statements about the schema.
pub(super) enum EngineConnection<'c> {
    Sqlite(&'c mut SqliteTx),
    Postgres(&'c mut sqlx::PgConnection),
}

impl ReadTx {
    /// The generation of tables that `{g}` stands for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Runs a statement and says how many rows it touched.
    pub async fn execute(&mut self, sql: &'static str, values: &[SqlValue]) -> Result<u64, SqlError> {
        match &mut self.transaction {
            EngineTx::Sqlite(transaction) => transaction.execute(sql, self.target, values),
            EngineTx::Postgres { transaction, statements } => {
                Box::pin(statements.execute(transaction, sql, self.target, values)).await
            }
        }
    }

    /// Rows as this transaction sees them.
    pub async fn query(&mut self, sql: &'static str, values: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        match &mut self.transaction {
            EngineTx::Sqlite(transaction) => {
                let rows = transaction.query(sql, self.target, values)?;
                Ok(rows.into_iter().map(|row| SqlRow(EngineRow::Writer(row))).collect())
            }
            EngineTx::Postgres { transaction, statements } => {
                let rows = Box::pin(statements.rows(transaction, sql, self.target, values)).await?;
                Ok(rows.into_iter().map(|row| SqlRow(EngineRow::Postgres(row))).collect())
            }
        }
    }

    /// The first row, if there is one.
    pub async fn query_one(&mut self, sql: &'static str, values: &[SqlValue]) -> Result<Option<SqlRow>, SqlError> {
        match &mut self.transaction {
            EngineTx::Sqlite(transaction) => {
                let rows = transaction.query(sql, self.target, values)?;
                Ok(rows.into_iter().next().map(|row| SqlRow(EngineRow::Writer(row))))
            }
            EngineTx::Postgres { transaction, statements } => {
                let row = Box::pin(statements.row(transaction, sql, self.target, values)).await?;
                Ok(row.map(|row| SqlRow(EngineRow::Postgres(row))))
            }
        }
    }

    /// Inserts rows, given as one flat list of values, with few statements: `insert` is `INSERT INTO t (a, b)`, `columns`
    /// how many values make a row, `suffix` what follows the rows, such as `ON CONFLICT …`; no two rows of one call may
    /// meet in such a conflict. Says how many rows it touched.
    pub async fn insert_many(
        &mut self,
        insert: &'static str,
        columns: usize,
        rows: Vec<SqlValue>,
        suffix: &'static str,
    ) -> Result<u64, SqlError> {
        debug_assert!(columns > 0 && rows.len().is_multiple_of(columns), "the list holds whole rows");
        if rows.is_empty() {
            return Ok(0);
        }
        match &mut self.transaction {
            EngineTx::Sqlite(transaction) => transaction.insert((insert, suffix), self.target, columns, &rows),
            EngineTx::Postgres { transaction, statements } => {
                Box::pin(statements.insert(transaction, (insert, suffix), self.target, columns, &rows)).await
            }
        }
    }

    /// Lets other processes know once this is committed; nothing where there are no others.
    pub async fn announce(&mut self, channel: &'static str) -> Result<(), SqlError> {
        if let EngineTx::Postgres { transaction, .. } = &mut self.transaction {
            sqlx::query("SELECT pg_notify($1, '')").bind(channel).execute(&mut **transaction).await?;
        }
        Ok(())
    }

    /// Makes it last and visible, all of it at once.
    pub async fn commit(self) -> Result<(), SqlError> {
        match self.transaction {
            EngineTx::Sqlite(transaction) => transaction.commit().await?,
            EngineTx::Postgres { transaction, .. } => transaction.commit().await?,
        }
        Ok(())
    }

    /// Ends with an error if the lease has gone to somebody else; until this transaction ends nobody takes it over.
    async fn check(&mut self, fence: &Fence) -> Result<(), SqlError> {
        let EngineTx::Postgres { transaction, .. } = &mut self.transaction else { return Ok(()) };
        if fence.holds(transaction).await? { Ok(()) } else { Err(SqlError::LeaseLost(fence.name())) }
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

    /// The connection itself, for statements about the schema.
    pub(super) fn connection(&mut self) -> EngineConnection<'_> {
        match &mut self.transaction {
            EngineTx::Sqlite(transaction) => EngineConnection::Sqlite(transaction),
            EngineTx::Postgres { transaction, .. } => EngineConnection::Postgres(transaction),
        }
    }
}

fn bound(sql: &'static str, values: &[SqlValue]) -> super::value::Bound {
    values.iter().cloned().fold(sqlx::query(sql), |query, value| value.bind(query))
}
