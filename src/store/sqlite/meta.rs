//! Small facts about the database itself, beside the log: what clock it lives by, when each job last ran.

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Row, SqlitePool};

use super::open::{Access, options};
use crate::limits::Limits;
use crate::store::StoreError;

/// Named facts in the log's file, which is backed up with it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Meta {
    pool: SqlitePool,
}

impl Meta {
    /// Opens the log's file; the event store must have made it.
    pub async fn open(log: &Path, limits: &Limits) -> Result<Self, StoreError> {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options(log, Access::WriteDurably, limits))
            .await
            .map_err(unavailable)?;
        Ok(Self { pool })
    }

    /// A fact, if it is known.
    pub async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT value FROM meta WHERE key = $1").bind(key).fetch_optional(&self.pool).await;
        Ok(row.map_err(unavailable)?.map(|row| row.get(0)))
    }

    /// Sets a fact.
    pub async fn set(&self, key: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(key)
        .bind(value)
        .execute(&self.pool)
        .await
        .map_err(unavailable)?;
        Ok(())
    }

    /// Sets a fact unless it is known, and answers with what is known then.
    pub async fn get_or_set(&self, key: &str, value: &str) -> Result<String, StoreError> {
        sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
            .bind(key)
            .bind(value)
            .execute(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(self.get(key).await?.unwrap_or_else(|| value.to_owned()))
    }

    /// Closes the connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}
