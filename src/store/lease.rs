//! Leases: who of several processes on one database does what alone, and how everybody else's writes are kept out.
//!
//! A lease is a row with a holder, an epoch and a time until which it holds. Whoever works under one says so with a
//! [`Fence`]; each write checks it in its own transaction, so that a process that was frozen past its lease and woken
//! writes nothing more, whatever it believes. `SQLite` has one serving process and needs none of this.

use sqlx::PgConnection;
use uuid::Uuid;

use super::sql::SqlError;

tokio::task_local! {
    static FENCE: Fence;
}

/// The lease that some work is done under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    name: &'static str,
    epoch: i64,
    holder: Uuid,
}

/// Shared: until the transaction of the check ends, nobody takes the lease over, and its holder may still renew it after.
const CHECK: &str = "SELECT 1 FROM sluice.leases WHERE name = $1 AND epoch = $2 AND holder = $3 FOR SHARE";

impl Fence {
    /// The name of the lease.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How often the lease has changed hands.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The lease that the current task works under, if any.
    pub fn current() -> Option<Self> {
        FENCE.try_with(Clone::clone).ok()
    }

    /// Runs work whose every write is checked against this lease.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        FENCE.scope(self, work).await
    }

    /// Whether the lease is still held; keeps it so until the transaction ends.
    pub(super) async fn holds(&self, connection: &mut PgConnection) -> Result<bool, SqlError> {
        let row =
            sqlx::query(CHECK).bind(self.name).bind(self.epoch).bind(self.holder).fetch_optional(connection).await?;
        Ok(row.is_some())
    }
}
