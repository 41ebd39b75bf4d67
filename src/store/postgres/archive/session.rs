//! Archiving in a `PostgreSQL` database, on one connection that holds a lock: if it breaks, the run ends with the lock.
//!
//! Rows are deleted in order, so that the remaining rows of a stream are its newest. A fully archived partition is
//! dropped as a table. That takes a lock that blocks readers and writers, so the run waits for it only for an instant;
//! if somebody reads for long (a dump), it deletes the rows a few at a time instead.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::tables;
use crate::limits::Limits;
use crate::store::StoreError;
use crate::store::archive::{ArchiveError, Frame, Place, Segment, Session};
use crate::store::postgres::rows::unavailable;
use crate::store::postgres::{Schema, options};

/// The lock for archiving.
const ARCHIVE_LOCK: i64 = 7_305_804_402_333_423;

/// Attempts to have it: the connection of a process that has just died may last a moment longer.
const LOCK_ATTEMPTS: usize = 20;

/// Attempts to drop a partition that somebody reads, each of which keeps others waiting for a tenth of a second.
const DROP_ATTEMPTS: usize = 20;

const PAUSE: Duration = Duration::from_millis(50);

/// Rows removed in one transaction.
const REMOVED_AT_ONCE: u32 = 2_000;

/// A run of archiving.
pub(super) struct PostgresSession {
    connection: PgConnection,
    /// The segment that is being written, and how many bytes of it there are.
    file: String,
    bytes: u64,
    /// Partitions are dropped as long as that goes.
    drops: bool,
}

impl PostgresSession {
    pub(super) async fn begin(url: &str, limits: &Limits) -> Result<Self, ArchiveError> {
        let connect = async { options(url, Schema::Log, limits)?.connect().await };
        let mut connection = connect.await.map_err(unavailable)?;
        for _ in 0..LOCK_ATTEMPTS {
            if tables::lock(&mut connection, ARCHIVE_LOCK).await? {
                tables::discard(&mut connection).await?;
                return Ok(Self { connection, file: String::new(), bytes: 0, drops: true });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(ArchiveError::Busy(Place::Database))
    }

    /// Drops the oldest partition if everything in it is archived; says up to which position it reached, and how many rows it
    /// had. Not at all if somebody reads it all the time.
    async fn drop_partition(&mut self) -> Result<Option<(u64, u64)>, StoreError> {
        for _ in 0..DROP_ATTEMPTS {
            match tables::drop_partition(&mut self.connection).await {
                Err(error) if tables::is_lock_timeout(&error) => tokio::time::sleep(PAUSE).await,
                dropped => return dropped.map_err(unavailable),
            }
        }
        tracing::info!("a partition of the log is read all the time; its archived rows are removed one by one");
        Ok(None)
    }
}

#[async_trait]
impl Session for PostgresSession {
    async fn create(&mut self, file: &str) -> Result<(), ArchiveError> {
        file.clone_into(&mut self.file);
        self.bytes = 0;
        Ok(tables::discard(&mut self.connection).await?)
    }

    async fn put(&mut self, frame: &[u8]) -> Result<(), ArchiveError> {
        tables::put(&mut self.connection, &self.file, self.bytes, frame).await?;
        self.bytes += frame.len() as u64;
        Ok(())
    }

    /// Each frame was committed.
    async fn finish(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }

    /// It had its name from the beginning, and nobody looks there before it is recorded.
    async fn name(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }

    async fn record(&mut self, segment: &Segment, frames: &[Frame]) -> Result<(), StoreError> {
        tables::record(&mut self.connection, segment, frames).await
    }

    async fn remove(&mut self, after: u64, up_to: u64) -> Result<Option<(u64, u64)>, StoreError> {
        if self.drops {
            if let Some((last, rows)) = self.drop_partition().await? {
                return Ok(Some((last.max(after), rows)));
            }
            self.drops = false;
        }
        let Some(next) = tables::step(&mut self.connection, after, up_to, REMOVED_AT_ONCE).await? else {
            return Ok(None);
        };
        Ok(Some((next, tables::remove(&mut self.connection, after, next).await?)))
    }

    async fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.connection.close().await.map_err(unavailable)
    }
}
