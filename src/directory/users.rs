//! Users and mail addresses: what an opaque id stands for.
//!
//! Recipients who are not users have an address entry. Its id is random: an id derived from the address would reveal
//! the address to anybody who can guess it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{Directory, DirectoryError};
use crate::domain::ids::UserId;
use crate::store::sql::{SqlRow, SqlValue};

/// A user as the directory keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The id that events carry.
    pub id: UserId,
    /// Unique name.
    pub username: String,
    /// Where notices go.
    pub email: Option<String>,
    /// Name for humans; may be empty.
    pub full_name: String,
    /// When the entry was made.
    pub created: DateTime<Utc>,
    /// When it last changed.
    pub modified: DateTime<Utc>,
}

/// What somebody wants a user's entry to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDetails {
    /// The id that events carry.
    pub id: UserId,
    /// Unique name.
    pub username: String,
    /// Where notices go.
    pub email: Option<String>,
    /// Name for humans; may be empty.
    pub full_name: String,
}

const INSERT_USER: &str = "INSERT INTO directory_entries \
    (user_id, kind, username, email, full_name, created_at, modified_at) VALUES ($1, 'user', $2, $3, $4, $5, $5)";
const UPDATE_USER: &str = "UPDATE directory_entries SET kind = 'user', username = $2, email = $3, full_name = $4, \
    modified_at = $5 WHERE user_id = $1";
const USER_BY_ID: &str = "SELECT user_id, username, email, full_name, created_at, modified_at FROM directory_entries \
    WHERE user_id = $1 AND kind = 'user'";
const USER_BY_NAME: &str = "SELECT user_id, username, email, full_name, created_at, modified_at FROM directory_entries \
    WHERE username = $1";
// The ids travel as one JSON list, so that the text is the same for any number of them.
const USERS_BY_IDS: &str = "SELECT user_id, username, email, full_name, created_at, modified_at FROM directory_entries \
    WHERE kind = 'user' AND user_id IN (SELECT unhex(value) FROM json_each($1))";
const ALL_USERS: &str = "SELECT user_id, username, email, full_name, created_at, modified_at FROM directory_entries \
    WHERE kind = 'user' ORDER BY username";
const EMAILS_BY_IDS: &str = "SELECT user_id, email FROM directory_entries \
    WHERE email IS NOT NULL AND user_id IN (SELECT unhex(value) FROM json_each($1))";
const FIND_ADDRESS: &str = "SELECT user_id FROM directory_entries WHERE kind = 'address' AND lower(email) = lower($1)";
const INSERT_ADDRESS: &str = "INSERT INTO directory_entries (user_id, kind, email, created_at, modified_at) \
    VALUES ($1, 'address', $2, $3, $3)";

fn user(row: &SqlRow) -> Result<UserRecord, DirectoryError> {
    Ok(UserRecord {
        id: row.uuid(0)?.into(),
        username: row.text(1)?.to_owned(),
        email: row.opt_text(2)?.map(str::to_owned),
        full_name: row.text(3)?.to_owned(),
        created: row.time(4)?,
        modified: row.time(5)?,
    })
}

fn list_of(ids: &[UserId]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!("[{}]", quoted.join(","))
}

impl Directory {
    /// Makes or changes a user's entry; says whether anything was different.
    pub async fn put_user(&self, wanted: &UserDetails, now: DateTime<Utc>) -> Result<bool, DirectoryError> {
        let mut tx = self.db.begin().await?;
        let id = SqlValue::Uuid(wanted.id.as_uuid());
        let named = tx.query_one(USER_BY_NAME, &[wanted.username.as_str().into()]).await?;
        if named.as_ref().map(user).transpose()?.is_some_and(|other| other.id != wanted.id) {
            return Err(DirectoryError::UsernameTaken(wanted.username.clone()));
        }
        let known = tx.query_one(USER_BY_ID, std::slice::from_ref(&id)).await?;
        let known = known.as_ref().map(user).transpose()?;
        if known.as_ref().is_some_and(|known| known.matches(wanted)) {
            return Ok(false);
        }
        let text = if known.is_some() { UPDATE_USER } else { INSERT_USER };
        let name = SqlValue::from(wanted.username.as_str());
        let values = [id, name, wanted.email.clone().into(), wanted.full_name.as_str().into(), now.into()];
        tx.execute(text, &values).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A user.
    pub async fn user(&self, id: UserId) -> Result<Option<UserRecord>, DirectoryError> {
        let row = self.db.query_one(USER_BY_ID, &[id.as_uuid().into()]).await?;
        row.as_ref().map(user).transpose()
    }

    /// The user of this name.
    pub async fn user_by_username(&self, username: &str) -> Result<Option<UserRecord>, DirectoryError> {
        let row = self.db.query_one(USER_BY_NAME, &[username.into()]).await?;
        row.as_ref().map(user).transpose()
    }

    /// Users by id; ids that no user has, or no longer, are left out.
    pub async fn users(&self, ids: &[UserId]) -> Result<HashMap<UserId, UserRecord>, DirectoryError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.db.query(USERS_BY_IDS, &[list_of(ids).into()]).await?;
        rows.iter().map(|row| user(row).map(|user| (user.id, user))).collect()
    }

    /// Every user, by name.
    pub async fn all_users(&self) -> Result<Vec<UserRecord>, DirectoryError> {
        let rows = self.db.query(ALL_USERS, &[]).await?;
        rows.iter().map(user).collect()
    }

    /// The ids that stand for these mail addresses, in their order; an address that is new gets one.
    pub async fn address_ids(&self, emails: &[String], now: DateTime<Utc>) -> Result<Vec<UserId>, DirectoryError> {
        let mut tx = self.db.begin().await?;
        let mut found = Vec::with_capacity(emails.len());
        for email in emails {
            let known = tx.query_one(FIND_ADDRESS, &[email.as_str().into()]).await?;
            let id = if let Some(row) = known {
                row.uuid(0)?
            } else {
                let id = self.ids.fresh();
                tx.execute(INSERT_ADDRESS, &[id.into(), email.as_str().into(), now.into()]).await?;
                id
            };
            found.push(id.into());
        }
        tx.commit().await?;
        Ok(found)
    }

    /// The mail addresses of addresses and users, in the order of the ids; what was erased is left out.
    pub async fn addresses(&self, ids: &[UserId]) -> Result<Vec<String>, DirectoryError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.db.query(EMAILS_BY_IDS, &[list_of(ids).into()]).await?;
        let mut emails: HashMap<UserId, String> = HashMap::with_capacity(rows.len());
        for row in &rows {
            emails.insert(row.uuid(0)?.into(), row.text(1)?.to_owned());
        }
        Ok(ids.iter().filter_map(|id| emails.remove(id)).collect())
    }
}

impl UserRecord {
    fn matches(&self, wanted: &UserDetails) -> bool {
        (&self.username, &self.email, &self.full_name) == (&wanted.username, &wanted.email, &wanted.full_name)
    }
}
