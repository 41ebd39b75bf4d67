//! Erases a person: the entry, mail addresses that are also the person's, the tokens, and every means to sign in.
//!
//! The opaque ids stay in the log, but no longer identify anybody. The person's data in the file is overwritten, also
//! in the journal as soon as nobody reads from it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Directory, DirectoryError};
use crate::domain::ids::UserId;
use crate::store::sql::SqlValue;

/// The person to erase.
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

const BY_ID: &str = "SELECT user_id, email FROM directory_entries WHERE user_id = $1";
const BY_NAME: &str = "SELECT user_id, email FROM directory_entries WHERE username = $1";
const BY_EMAIL: &str = "SELECT user_id, email FROM directory_entries WHERE lower(email) = lower($1)";
const ADDRESSES: &str = "SELECT user_id FROM directory_entries WHERE kind = 'address' AND lower(email) = lower($1)";
const DELETE: &str = "DELETE FROM directory_entries WHERE user_id = $1";
const REVOKE: &str = "UPDATE tokens SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL";
const END_SESSIONS: &str = "DELETE FROM sessions WHERE user_id = $1";
const END_LINKS: &str = "DELETE FROM login_links WHERE user_id = $1";
const UNLABEL: &str = "UPDATE tokens SET label = NULL WHERE user_id = $1";

impl Directory {
    /// Erases a person; nothing is left of the name, the address and what tokens were labelled with. An id erases also the
    /// addresses in policies that are the same as the user's.
    pub async fn erase(&self, subject: &Subject, now: DateTime<Utc>) -> Result<Erased, DirectoryError> {
        let mut tx = self.db.begin().await?;
        let (text, key): (_, SqlValue) = match subject {
            Subject::Id(id) => (BY_ID, id.as_uuid().into()),
            Subject::Username(name) => (BY_NAME, name.as_str().into()),
            Subject::Email(email) => (BY_EMAIL, email.as_str().into()),
        };
        let mut entries: Vec<Uuid> = Vec::new();
        for row in tx.query(text, &[key]).await? {
            entries.push(row.uuid(0)?);
            if let Some(email) = row.opt_text(1)? {
                for row in tx.query(ADDRESSES, &[email.into()]).await? {
                    entries.push(row.uuid(0)?);
                }
            }
        }
        entries.sort_unstable();
        entries.dedup();
        let mut erased = Erased::default();
        for id in entries {
            tx.execute(DELETE, &[id.into()]).await?;
            erased.tokens_revoked += tx.execute(REVOKE, &[id.into(), now.into()]).await?;
            for text in [UNLABEL, END_SESSIONS, END_LINKS] {
                tx.execute(text, &[id.into()]).await?;
            }
            erased.entries.push(id.into());
        }
        tx.commit().await?;
        // A current reader keeps the journal; then the next checkpoint overwrites it.
        if let Err(error) = self.db.overwrite_journal().await {
            tracing::warn!(%error, "the journal still holds what was erased, until it is overwritten");
        }
        Ok(erased)
    }
}
