//! Leases: which of several processes on one database does the exclusive work, and how writes of the others are
//! rejected.
//!
//! A lease is a row with a holder, an epoch and an expiry time by the server's clock. Work under a lease carries a
//! [`Fence`]; each write checks it in its own transaction, so that a process that was frozen past its lease and wakes
//! up can write nothing more, whatever it believes. `SQLite` has one serving process and needs none of this.

mod lead;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgPool, Postgres};
use sqlx::{PgConnection, Row, Transaction};
use uuid::Uuid;

use super::StoreError;
use super::postgres::{Schema, write_pool};
use super::sql::SqlError;
use crate::limits::Limits;

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

/// Until the transaction of the check ends, nobody takes the lease over; its holder renews it meanwhile.
const CHECK: &str = "SELECT 1 FROM sluice.leases WHERE name = $1 AND epoch = $2 AND holder = $3 FOR KEY SHARE";

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

/// Checked before anything is locked: a process that waits for the row would keep its holder from checking it.
const LOOK: &str = "SELECT holder, epoch, expires_at <= clock_timestamp() FROM sluice.leases WHERE name = $1";

const FIRST: &str = "INSERT INTO sluice.leases (name, holder, epoch, expires_at) \
                     VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 microsecond') \
                     ON CONFLICT (name) DO NOTHING RETURNING epoch";

/// The strongest row lock, for which checks have to end, and then once more a look at what stands there.
const TAKE_OVER: &str = "WITH over AS (SELECT name FROM sluice.leases \
                         WHERE name = $1 AND epoch = $4 AND expires_at <= clock_timestamp() FOR UPDATE) \
                         UPDATE sluice.leases l SET holder = $2, epoch = l.epoch + 1, \
                         expires_at = clock_timestamp() + $3 * interval '1 microsecond' \
                         FROM over WHERE l.name = over.name RETURNING l.epoch";

const KEEP: &str = "UPDATE sluice.leases SET expires_at = clock_timestamp() + $3 * interval '1 microsecond' \
                    WHERE name = $1 AND holder = $2 AND epoch = $4";

const GIVE_BACK: &str = "UPDATE sluice.leases SET expires_at = clock_timestamp() \
                         WHERE name = $1 AND holder = $2 AND epoch = $3";

/// A lease as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// What it is for.
    pub name: String,
    /// The process that holds it, or held it last.
    pub holder: Uuid,
    /// How often it has changed hands.
    pub epoch: i64,
    /// Whether it still holds.
    pub holds: bool,
}

/// The leases of one database, for one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leases {
    pool: PgPool,
    holder: Uuid,
    lasts: Duration,
}

impl Leases {
    /// Leases in the database of this URL, for a process that goes by this id. Nothing is connected yet.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new(url: &str, holder: Uuid, limits: &Limits) -> Result<Self, StoreError> {
        let pool = write_pool(url, Schema::Log, limits).map_err(unavailable)?;
        Ok(Self { pool, holder, lasts: limits.lease })
    }

    /// The process that they are taken for.
    pub fn holder(&self) -> Uuid {
        self.holder
    }

    /// How long a lease holds when it is not renewed.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    fn micros(&self) -> i64 {
        i64::try_from(self.lasts.as_micros()).unwrap_or(i64::MAX)
    }

    /// Takes a lease if nobody has it, or its holder let it run out; none if somebody has it. Who has it already has it again.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn take(&self, name: &'static str) -> Result<Option<Fence>, StoreError> {
        let fence = |epoch| Fence { name, epoch, holder: self.holder };
        let taken = async {
            let Some(row) = sqlx::query(LOOK).bind(name).fetch_optional(&self.pool).await? else {
                let first = sqlx::query(FIRST).bind(name).bind(self.holder).bind(self.micros());
                let row = first.fetch_optional(&self.pool).await?;
                return row.map(|row| row.try_get(0)).transpose();
            };
            let (holder, epoch, over): (Uuid, i64, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if !over {
                return Ok((holder == self.holder).then_some(epoch));
            }
            let over = sqlx::query(TAKE_OVER).bind(name).bind(self.holder).bind(self.micros()).bind(epoch);
            let row = over.fetch_optional(&self.pool).await?;
            row.map(|row| row.try_get(0)).transpose()
        };
        Ok(taken.await.map_err(unavailable)?.map(fence))
    }

    /// Has a lease hold for its full time from now. False: it has gone to somebody else.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn keep(&self, fence: &Fence) -> Result<bool, StoreError> {
        let keep = sqlx::query(KEEP).bind(fence.name).bind(fence.holder).bind(self.micros()).bind(fence.epoch);
        Ok(keep.execute(&self.pool).await.map_err(unavailable)?.rows_affected() == 1)
    }

    /// Lets others take it at once.
    ///
    /// # Errors
    /// The server does not answer; then it runs out by itself.
    pub async fn give_back(&self, fence: &Fence) -> Result<(), StoreError> {
        let give = sqlx::query(GIVE_BACK).bind(fence.name).bind(fence.holder).bind(fence.epoch);
        give.execute(&self.pool).await.map(drop).map_err(unavailable)
    }

    /// Every lease there is.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn all(&self) -> Result<Vec<LeaseState>, StoreError> {
        let select = "SELECT name, holder, epoch, expires_at > clock_timestamp() FROM sluice.leases ORDER BY name";
        let state = |row: &sqlx::postgres::PgRow| -> Result<LeaseState, sqlx::Error> {
            Ok(LeaseState {
                name: row.try_get(0)?,
                holder: row.try_get(1)?,
                epoch: row.try_get(2)?,
                holds: row.try_get(3)?,
            })
        };
        let read = async {
            let rows = sqlx::query(select).fetch_all(&self.pool).await?;
            rows.iter().map(state).collect::<Result<_, _>>()
        };
        read.await.map_err(unavailable)
    }

    /// Waits until no other process holds this, and holds it until the answer is dropped, or the connection breaks.
    ///
    /// # Errors
    /// The server does not answer, or others hold it for too long.
    pub async fn alone(&self, name: &'static str) -> Result<Alone, StoreError> {
        let wait = async {
            let mut transaction = self.pool.begin().await?;
            let lock = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))");
            lock.bind(name).execute(&mut *transaction).await?;
            Ok(Alone { _transaction: transaction })
        };
        wait.await.map_err(unavailable)
    }
}

/// The right to do something while no other process does.
#[derive(Debug)]
pub struct Alone {
    _transaction: Transaction<'static, Postgres>,
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}
