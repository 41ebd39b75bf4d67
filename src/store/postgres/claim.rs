//! Claims of serving processes on a database: locks that end with the connection that holds them.

use std::time::Duration;

use sqlx::{ConnectOptions, PgConnection, Row};

use super::{Schema, options, rows};
use crate::limits::Limits;
use crate::store::StoreError;

/// The lock of whoever serves, and that of whoever lives by a simulated clock.
const SERVING_LOCK: i64 = 7_305_804_402_333_421;
const CLOCK_LOCK: i64 = 7_305_804_402_333_422;

/// Attempts of one of several: a command that asks whether anybody serves holds the lock for a moment.
const ATTEMPTS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

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

/// A claim, for as long as this is kept.
#[derive(Debug)]
pub struct Claim {
    _connection: PgConnection,
}

/// Claims a database; none if another process has claimed it.
///
/// # Errors
/// The server does not answer.
pub async fn claim(url: &str, share: Share) -> Result<Option<Claim>, StoreError> {
    let (statement, lock, attempts) = match share {
        Share::One => ("SELECT pg_try_advisory_lock($1)", SERVING_LOCK, 1),
        Share::Several => ("SELECT pg_try_advisory_lock_shared($1)", SERVING_LOCK, ATTEMPTS_MAX),
        Share::Clock => ("SELECT pg_try_advisory_lock($1)", CLOCK_LOCK, 1),
    };
    let take = async {
        let mut connection = options(url, Schema::Log, &Limits::default())?.connect().await?;
        for attempt in 1..=attempts {
            let row = sqlx::query(statement).bind(lock).fetch_one(&mut connection).await?;
            if row.try_get::<bool, _>(0)? {
                return Ok(Some(Claim { _connection: connection }));
            }
            if attempt < attempts {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(None)
    };
    take.await.map_err(rows::unavailable)
}
