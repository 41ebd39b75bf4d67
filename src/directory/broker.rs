//! Agents' credentials at a broker with its own users: the broker's form of a hash, never the token.

use chrono::{DateTime, Utc};

use super::{Directory, DirectoryError};

const PUT: &str = "INSERT INTO broker_credentials (login, hash, updated_at) VALUES ($1, $2, $3) \
    ON CONFLICT (login) DO UPDATE SET hash = excluded.hash, updated_at = excluded.updated_at";
const GET: &str = "SELECT hash FROM broker_credentials WHERE login = $1";

impl Directory {
    /// Keeps the hash of a login, in place of an earlier one.
    pub async fn keep_broker_hash(&self, login: &str, hash: &str, now: DateTime<Utc>) -> Result<(), DirectoryError> {
        let mut tx = self.db.begin().await?;
        tx.execute(PUT, &[login.into(), hash.into(), now.into()]).await?;
        Ok(tx.commit().await?)
    }

    /// The hash of a login.
    pub async fn broker_hash(&self, login: &str) -> Result<Option<String>, DirectoryError> {
        let row = self.db.query_one(GET, &[login.into()]).await?;
        Ok(row.map(|row| row.text(0).map(str::to_owned)).transpose()?)
    }
}
