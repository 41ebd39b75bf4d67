//! Coordination of several processes on one database: reading the newest state before an answer, and serialising
//! changes that need uniqueness.

use std::sync::atomic::Ordering;

use tokio::sync::MutexGuard;

use super::known::as_far_as_known;
use super::{App, AppError, AppOptions};
use crate::clock::IdSource;
use crate::store::StoreError;
use crate::store::address::Database;
use crate::store::lease::{Alone, Leases};

/// The lease of the process that does the duties.
pub const LEADER: &str = "leader";

/// What is unique over all resources, as a lock over all processes.
const REGISTERING: &str = "registering";

/// The leases of a database that several processes may share.
pub(super) fn leases(options: &AppOptions) -> Result<Option<Leases>, StoreError> {
    match &options.database {
        Database::Sqlite(_) => Ok(None),
        Database::Postgres(url) => Leases::new(url, IdSource.fresh(), &options.limits).map(Some),
    }
}

/// The right to look up what must be unique and to record it, before anybody else does.
pub struct Registering<'a> {
    _here: MutexGuard<'a, ()>,
    _elsewhere: Option<Alone>,
}

impl App {
    /// Knows everything that any process has recorded by now. Costs nothing where there is one process.
    pub async fn fresh(&self) -> Result<(), AppError> {
        if self.leases.is_none() {
            return Ok(());
        }
        as_far_as_known(self.follower.fresh().await)?;
        let seen = self.follower.settings_seen();
        if self.settings_taken.load(Ordering::Acquire) < seen {
            self.reload_settings().await?;
            self.settings_taken.fetch_max(seen, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Waits until nobody else registers a resource or changes an account: what must be unique is looked up and recorded
    /// by one caller at a time.
    pub async fn registering(&self) -> Result<Registering<'_>, AppError> {
        let here = self.registering.lock().await;
        let elsewhere = match &self.leases {
            None => None,
            Some(leases) => Some(leases.alone(REGISTERING).await?),
        };
        self.fresh().await?;
        Ok(Registering { _here: here, _elsewhere: elsewhere })
    }

    /// Waits until the leader has brought the read side up to date.
    pub async fn caught_up(&self) -> Result<(), AppError> {
        as_far_as_known(self.follower.catch_up().await)?;
        self.consumers.settle().await?;
        Ok(())
    }
}
