//! What agents log in with at a broker that keeps users of its own: the broker's form of a hash, never the token.

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{Directory, DirectoryError};

const PUT: &str = "INSERT INTO broker_credentials (login, hash, updated_at) VALUES (?1, ?2, ?3) \
    ON CONFLICT (login) DO UPDATE SET hash = excluded.hash, updated_at = excluded.updated_at";
const GET: &str = "SELECT hash FROM broker_credentials WHERE login = ?1";

impl Directory {
    /// Keeps the hash of a login, in place of an earlier one.
    pub async fn keep_broker_hash(&self, login: &str, hash: &str, now: DateTime<Utc>) -> Result<(), DirectoryError> {
        sqlx::query(PUT).bind(login).bind(hash).bind(now.timestamp_micros()).execute(&self.writer).await?;
        Ok(())
    }

    /// The hash of a login.
    pub async fn broker_hash(&self, login: &str) -> Result<Option<String>, DirectoryError> {
        let row = sqlx::query(GET).bind(login.to_owned()).fetch_optional(&self.readers).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}
