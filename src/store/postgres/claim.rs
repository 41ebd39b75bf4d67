//! One serving process at a time on a database: a lock that ends with the connection that holds it.

use sqlx::{ConnectOptions, PgConnection, Row};

use super::{Schema, options, rows};
use crate::limits::Limits;
use crate::store::StoreError;

/// The lock of whoever serves.
const SERVING_LOCK: i64 = 7_305_804_402_333_421;

/// The right to serve a database, for as long as this is kept.
#[derive(Debug)]
pub struct Claim {
    _connection: PgConnection,
}

/// Takes the right to serve; none if another process has it.
///
/// # Errors
/// The server does not answer.
pub async fn claim(url: &str) -> Result<Option<Claim>, StoreError> {
    let take = async {
        let mut connection = options(url, Schema::Log, &Limits::default())?.connect().await?;
        let row = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(SERVING_LOCK).fetch_one(&mut connection).await?;
        Ok(row.try_get::<bool, _>(0)?.then_some(Claim { _connection: connection }))
    };
    take.await.map_err(rows::unavailable)
}
