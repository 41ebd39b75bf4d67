//! Small facts about the database itself, beside the log: its kind of clock, the last run of each job.

use std::sync::Arc;

use super::StoreError;
use super::sql::{ReadDb, SqlError};

/// The key of the identity of a database's own log.
pub const OWN_LOG: &str = "log";

/// The key of the identity of the log that a database goes with, where that is in an event store.
pub const EVENT_LOG: &str = "event_log";

/// The key of how far the server's log was looked through, where the log is in an event store.
pub const LOOKED_THROUGH: &str = "event_log_looked_through";

/// The key of the events that somebody could not rely on.
pub const UNRELIABLE: &str = "unreliable_events";

/// Named facts in the tables beside the log, which are backed up with it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Meta {
    db: ReadDb,
}

impl Meta {
    /// Facts in the tables beside a log.
    pub fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// The tables beside the log, for modules that keep rows there.
    pub fn tables(&self) -> &ReadDb {
        &self.db
    }

    /// A fact, if it is known.
    pub async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        let read = async {
            let row = self.db.query_one("SELECT value FROM meta WHERE key = $1", &[key.into()]).await?;
            row.map(|row| row.text(0).map(str::to_owned)).transpose()
        };
        read.await.map_err(unavailable)
    }

    /// Sets a fact.
    pub async fn set(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let upsert =
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.write(upsert, key, value).await
    }

    /// Sets a fact unless it is known, and answers with what is known then.
    pub async fn get_or_set(&self, key: &str, value: &str) -> Result<String, StoreError> {
        if let Some(known) = self.get(key).await? {
            return Ok(known);
        }
        self.write("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING", key, value).await?;
        Ok(self.get(key).await?.unwrap_or_else(|| value.to_owned()))
    }

    async fn write(&self, sql: &'static str, key: &str, value: &str) -> Result<(), StoreError> {
        let write = async {
            let mut tx = self.db.begin().await?;
            tx.execute(sql, &[key.into(), value.into()]).await?;
            tx.commit().await
        };
        write.await.map_err(unavailable)
    }
}

fn unavailable(error: SqlError) -> StoreError {
    match error {
        SqlError::LeaseLost(name) => StoreError::LeaseLost(name),
        error => StoreError::Unavailable(Arc::new(error)),
    }
}
