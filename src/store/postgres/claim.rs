//! Claims of serving processes on a database: locks that end with their connection.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::task::JoinHandle;

use super::{Schema, options, rows};
use crate::limits::Limits;
use crate::store::StoreError;

/// The lock for serving, and the lock for a simulated clock.
const SERVING_LOCK: i64 = 7_305_804_402_333_421;
const CLOCK_LOCK: i64 = 7_305_804_402_333_422;

/// Attempts of one of several: a command that asks whether anybody serves holds the lock for a moment.
const ATTEMPTS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// How often the connection of a claim is looked after.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// How a database is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// By one process alone.
    One,
    /// By one of several.
    Several,
    /// By the one that moves its clock.
    Clock,
}

/// A claim, for as long as this value lives. If its connection breaks, it reconnects and claims again.
#[derive(Debug)]
pub struct Claim {
    keeping: JoinHandle<()>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The connection ends with the task, and the lock with the connection.
        self.keeping.abort();
    }
}

/// Claims a database; none if another process has claimed it.
///
/// # Errors
/// The server does not answer.
pub async fn claim(url: &str, share: Share) -> Result<Option<Claim>, StoreError> {
    let Some(connection) = take(url, share).await.map_err(rows::unavailable)? else { return Ok(None) };
    Ok(Some(Claim { keeping: tokio::spawn(keep(url.to_owned(), share, connection)) }))
}

async fn take(url: &str, share: Share) -> Result<Option<PgConnection>, sqlx::Error> {
    let (statement, lock, attempts) = match share {
        Share::One => ("SELECT pg_try_advisory_lock($1)", SERVING_LOCK, 1),
        Share::Several => ("SELECT pg_try_advisory_lock_shared($1)", SERVING_LOCK, ATTEMPTS_MAX),
        Share::Clock => ("SELECT pg_try_advisory_lock($1)", CLOCK_LOCK, 1),
    };
    let mut connection = options(url, Schema::Log, &Limits::default())?.connect().await?;
    for attempt in 1..=attempts {
        let row = sqlx::query(statement).bind(lock).fetch_one(&mut connection).await?;
        if row.try_get(0)? {
            return Ok(Some(connection));
        }
        if attempt < attempts {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(None)
}

/// Maintains the connection while the claim is in use.
async fn keep(url: String, share: Share, first: PgConnection) {
    let mut held = Some(first);
    loop {
        tokio::time::sleep(LOOK_AFTER).await;
        if let Some(connection) = &mut held
            && connection.ping().await.is_err()
        {
            held = None;
        }
        if held.is_none() {
            match take(&url, share).await {
                Ok(Some(connection)) => held = Some(connection),
                Ok(None) => tracing::error!("another process has claimed the database meanwhile"),
                Err(error) => tracing::warn!(%error, "the claim to the database is lost; it will be made again"),
            }
        }
    }
}
