//! Retention: the maximum age of rows in the evaluation log and the command history, as a recorded horizon.
//!
//! The event log itself does not change. The horizon is an event, so that a rebuild omits pruned rows.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;
use crate::commands::execute::CommandMeta;
use crate::events::Event;
use crate::events::site::{RetentionApplied, SiteEvent};
use crate::projections::retention::{self, Pruned};
use crate::site_settings::{Settings, site_event, site_events, site_stream};
use crate::store::consumer::{ConsumerLoop, LoopError};
use crate::store::sql::{ReadDb, SqlError};
use crate::store::{EventStore, ExpectedVersion, StoreError};

/// Why pruning failed; pruned rows stay pruned, and the next run continues with the rest.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The horizon could not be recorded.
    #[error("the event store failed")]
    Store(#[from] StoreError),
    /// The tables failed.
    #[error("the read models failed")]
    Sql(#[from] SqlError),
    /// The tables did not come to know the horizon.
    #[error("the read models stand still")]
    Loop(#[from] LoopError),
}

/// Compacts and prunes.
pub struct Retention {
    store: Arc<dyn EventStore>,
    consumers: Arc<ConsumerLoop<Event>>,
    db: ReadDb,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
}

impl Retention {
    /// Prunes the tables of `db` as the settings say.
    pub fn new(
        store: Arc<dyn EventStore>,
        consumers: Arc<ConsumerLoop<Event>>,
        db: ReadDb,
        settings: Arc<Settings>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, consumers, db, settings, clock }
    }

    /// Rows strictly older than this are to go now.
    pub fn horizon(&self) -> DateTime<Utc> {
        let days = TimeDelta::days(i64::from(self.settings.current().retention_days));
        self.clock.now().checked_sub_signed(days).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// What a clean-up would prune now; nothing is changed.
    pub async fn dry_run(&self) -> Result<Pruned, RetentionError> {
        self.settings.load().await?;
        Ok(retention::dry_run(&self.db, self.horizon()).await?)
    }

    /// Records the horizon and prunes what is older, in small transactions. A clean-up with nothing to prune records
    /// nothing.
    pub async fn clean_up(
        &self,
        meta: &CommandMeta,
        progress: impl FnMut(Pruned) + Send,
    ) -> Result<Pruned, RetentionError> {
        self.consumers.settle().await?;
        let due = self.dry_run().await?;
        if due.evaluations > 0 || due.dispatches > 0 {
            self.record(self.horizon(), meta).await?;
            self.consumers.settle().await?;
        }
        // Also what an earlier clean-up left when it was stopped.
        Ok(retention::prune(&self.db, progress).await?)
    }

    async fn record(&self, horizon: DateTime<Utc>, meta: &CommandMeta) -> Result<(), RetentionError> {
        let events = site_events(&*self.store).await?;
        let newest = events.iter().rev().find_map(|e| match SiteEvent::decode(&e.event_type, &e.payload) {
            Some(Ok(SiteEvent::RetentionApplied(applied))) => Some(applied.horizon),
            _ => None,
        });
        if newest.is_some_and(|newest| newest >= horizon) {
            return Ok(());
        }
        let retention_days = self.settings.current().retention_days;
        let applied = SiteEvent::RetentionApplied(RetentionApplied { horizon, retention_days });
        let version = events.last().map_or(0, |e| e.version);
        let event = site_event(&applied, self.clock.now(), meta).map_err(StoreError::from)?;
        self.store.append(&site_stream(), ExpectedVersion::Exact(version), vec![event]).await?;
        Ok(())
    }
}
