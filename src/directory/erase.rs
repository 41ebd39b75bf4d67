//! Erasing a person: the entry, mail addresses that are the person's too, and the tokens.
//!
//! The opaque ids stay in the log and stand for nobody then. What the file held of the person is overwritten, also in the
//! journal as soon as nobody reads from it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;
use uuid::Uuid;

use super::{Directory, DirectoryError};
use crate::domain::ids::UserId;

/// Who is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The entry of this id, a user's or an address's.
    Id(UserId),
    /// The user of this name.
    Username(String),
    /// Everybody and everything with this mail address, in whatever case.
    Email(String),
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Erased {
    /// Ids of the entries that are gone.
    pub entries: Vec<UserId>,
    /// Tokens that were in force until now.
    pub tokens_revoked: u64,
}

const BY_ID: &str = "SELECT user_id, email FROM directory_entries WHERE user_id = ?1";
const BY_NAME: &str = "SELECT user_id, email FROM directory_entries WHERE username = ?1";
const BY_EMAIL: &str = "SELECT user_id, email FROM directory_entries WHERE lower(email) = lower(?1)";
const ADDRESSES: &str = "SELECT user_id FROM directory_entries WHERE kind = 'address' AND lower(email) = lower(?1)";
const DELETE: &str = "DELETE FROM directory_entries WHERE user_id = ?1";
const REVOKE: &str = "UPDATE tokens SET revoked_at = ?2 WHERE user_id = ?1 AND revoked_at IS NULL";
const UNLABEL: &str = "UPDATE tokens SET label = NULL WHERE user_id = ?1";

impl Directory {
    /// Erases a person; nothing is left of the name, the address and what tokens were labelled with. An id erases also the
    /// addresses in policies that are the same as the user's.
    pub async fn erase(&self, subject: &Subject, now: DateTime<Utc>) -> Result<Erased, DirectoryError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let query = match subject {
            Subject::Id(id) => sqlx::query(BY_ID).bind(id.as_uuid()),
            Subject::Username(name) => sqlx::query(BY_NAME).bind(name),
            Subject::Email(email) => sqlx::query(BY_EMAIL).bind(email),
        };
        let mut entries: Vec<Uuid> = Vec::new();
        for row in query.fetch_all(&mut *transaction).await? {
            entries.push(row.try_get(0)?);
            if let Some(email) = row.try_get::<Option<String>, _>(1)? {
                for row in sqlx::query(ADDRESSES).bind(email).fetch_all(&mut *transaction).await? {
                    entries.push(row.try_get(0)?);
                }
            }
        }
        entries.sort_unstable();
        entries.dedup();
        let mut erased = Erased::default();
        for id in entries {
            sqlx::query(DELETE).bind(id).execute(&mut *transaction).await?;
            let revoked = sqlx::query(REVOKE).bind(id).bind(now.timestamp_micros()).execute(&mut *transaction).await?;
            erased.tokens_revoked += revoked.rows_affected();
            sqlx::query(UNLABEL).bind(id).execute(&mut *transaction).await?;
            erased.entries.push(id.into());
        }
        transaction.commit().await?;
        // Whoever reads just now keeps the journal; then the next checkpoint overwrites it.
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await {
            tracing::warn!(%error, "the journal still holds what was erased, until it is overwritten");
        }
        Ok(erased)
    }
}
