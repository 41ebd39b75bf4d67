//! API tokens: who may call, in which role, until when.
//!
//! A key is 160 random bits, shown once at its creation. The database stores its SHA-256, which suffices for a key that
//! cannot be guessed, and is fast enough to check on each request.

use std::fmt;

use chrono::{DateTime, Utc};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Directory, DirectoryError};
use crate::domain::ids::{OfferingId, TokenId, UserId};
use crate::store::sql::{SqlRow, SqlValue};

/// The fewest characters of a key that somebody brings along.
pub const KEY_CHARS_MIN: usize = 20;

/// The most characters of a key.
const KEY_CHARS_MAX: usize = 200;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Staff,
    /// Read everything.
    Support,
    /// What an owner of a customer may.
    Owner,
    /// What a member of a project may.
    Member,
    /// Report usage and results of one offering.
    Agent,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Staff, Self::Support, Self::Owner, Self::Member, Self::Agent];

    /// The word in files and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staff => "staff",
            Self::Support => "support",
            Self::Owner => "owner",
            Self::Member => "member",
            Self::Agent => "agent",
        }
    }

    /// The role of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The principal of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// The user's name; empty once erased.
    pub username: String,
    /// What the token may do.
    pub role: Role,
    /// The offering of an agent.
    pub offering: Option<OfferingId>,
    /// The token.
    pub token: TokenId,
}

/// A token to be made.
#[derive(Clone)]
pub struct NewToken {
    /// Whose it is.
    pub user: UserId,
    /// What it may do.
    pub role: Role,
    /// The offering of an agent.
    pub offering: Option<OfferingId>,
    /// What it is for.
    pub label: Option<String>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// The key, where somebody brings one along; none = a random one is made.
    pub key: Option<String>,
}

// By hand, so that no key ever reaches a log.
impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("user", &self.user)
            .field("role", &self.role)
            .field("offering", &self.offering)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A token as the directory keeps it: everything but its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// The user's name; empty once erased.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// The offering of an agent.
    pub offering: Option<OfferingId>,
    /// What it is for.
    pub label: Option<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl TokenRecord {
    /// Whether its key opens anything at `now`.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Says why a key cannot be used, or nothing.
pub fn key_complaint(key: &str) -> Option<&'static str> {
    if key.chars().any(|c| !c.is_ascii_graphic()) {
        Some("it holds blanks, control characters or letters outside ASCII")
    } else if !(KEY_CHARS_MIN..=KEY_CHARS_MAX).contains(&key.len()) {
        Some("it has fewer than 20 or more than 200 characters (40 hex digits are usual)")
    } else {
        None
    }
}

const INSERT: &str = "INSERT INTO tokens \
    (token_id, user_id, role, offering_id, label, key_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const BY_HASH: &str = "SELECT t.token_id, t.user_id, coalesce(e.username, ''), t.role, t.offering_id, t.label, \
    t.created_at, t.expires_at, t.revoked_at, t.key_hash \
    FROM tokens t LEFT JOIN directory_entries e USING (user_id) WHERE t.key_hash = $1";
const ALL: &str = "SELECT t.token_id, t.user_id, coalesce(e.username, ''), t.role, t.offering_id, t.label, \
    t.created_at, t.expires_at, t.revoked_at, t.key_hash \
    FROM tokens t LEFT JOIN directory_entries e USING (user_id) ORDER BY t.created_at, t.token_id";
const REVOKE: &str = "UPDATE tokens SET revoked_at = $2 WHERE token_id = $1 AND revoked_at IS NULL";

/// What is kept of a key.
pub(super) fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// A key of 160 random bits.
pub(super) fn random_key() -> String {
    let mut bits = [0_u8; 20];
    rand::rng().fill_bytes(&mut bits);
    bits.iter().fold(String::with_capacity(40), |mut key, byte| {
        for half in [byte >> 4, byte & 15] {
            key.extend(char::from_digit(half.into(), 16));
        }
        key
    })
}

fn token(row: &SqlRow) -> Result<TokenRecord, DirectoryError> {
    Ok(TokenRecord {
        id: row.uuid(0)?.into(),
        user: row.uuid(1)?.into(),
        username: row.text(2)?.to_owned(),
        role: Role::parse(row.text(3)?).ok_or(DirectoryError::Unreadable("an unknown role"))?,
        offering: row.opt_uuid(4)?.map(Into::into),
        label: row.opt_text(5)?.map(str::to_owned),
        created: row.time(6)?,
        expires_at: row.opt_time(7)?,
        revoked_at: row.opt_time(8)?,
    })
}

impl Directory {
    /// Makes a token; the key comes back this once and is kept nowhere.
    pub async fn create_token(&self, new: NewToken, now: DateTime<Utc>) -> Result<(TokenId, String), DirectoryError> {
        if (new.role == Role::Agent) != new.offering.is_some() {
            return Err(DirectoryError::OfferingMismatch);
        }
        let key = new.key.unwrap_or_else(random_key);
        if let Some(complaint) = key_complaint(&key) {
            return Err(DirectoryError::KeyUnusable(complaint));
        }
        let id = self.ids.fresh();
        let values = [
            SqlValue::Uuid(id),
            new.user.as_uuid().into(),
            new.role.as_str().into(),
            new.offering.map(|offering| offering.as_uuid()).into(),
            new.label.into(),
            hash(&key).to_vec().into(),
            now.into(),
            new.expires_at.into(),
        ];
        let mut tx = self.db.begin().await?;
        match tx.execute(INSERT, &values).await {
            Err(error) if error.is_unique_violation() => return Err(DirectoryError::KeyInUse),
            done => done?,
        };
        tx.commit().await?;
        Ok((id.into(), key))
    }

    /// The token that this key was made for, in force or not.
    pub async fn token_of_key(&self, key: &str) -> Result<Option<TokenRecord>, DirectoryError> {
        let wanted = hash(key);
        let Some(row) = self.db.query_one(BY_HASH, &[wanted.to_vec().into()]).await? else {
            return Ok(None);
        };
        let kept = row.bytes(9)?;
        if bool::from(kept.ct_eq(&wanted[..])) { token(&row).map(Some) } else { Ok(None) }
    }

    /// The principal of this key at `now`; none if it is unknown, has expired or was revoked.
    pub async fn authenticate(&self, key: &str, now: DateTime<Utc>) -> Result<Option<Principal>, DirectoryError> {
        let found = self.token_of_key(key).await?.filter(|token| token.is_active(now));
        Ok(found.map(|token| Principal {
            user: token.user,
            username: token.username,
            role: token.role,
            offering: token.offering,
            token: token.id,
        }))
    }

    /// Every token ever made, oldest first.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, DirectoryError> {
        let rows = self.db.query(ALL, &[]).await?;
        rows.iter().map(token).collect()
    }

    /// Revokes a token; says whether it was there and in force.
    pub async fn revoke_token(&self, id: TokenId, now: DateTime<Utc>) -> Result<bool, DirectoryError> {
        let mut tx = self.db.begin().await?;
        let done = tx.execute(REVOKE, &[id.as_uuid().into(), now.into()]).await?;
        tx.commit().await?;
        Ok(done > 0)
    }
}
