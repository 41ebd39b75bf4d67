//! Sessions of the web interface: who is signed in, how, until when; and links that sign somebody in once.
//!
//! Each session has its own key, which only the browser's cookie holds; the database stores its SHA-256. A session ends
//! when it is unused for a while, at the latest after a week, and immediately when the token that opened it ends or the
//! person is erased.

use chrono::{DateTime, TimeDelta, Utc};

use super::tokens::{hash, random_key};
use super::{Directory, DirectoryError, Principal, Role};
use crate::domain::ids::{TokenId, UserId};
use crate::store::sql::{SqlRow, SqlValue};

/// How long a session lasts that nobody uses.
pub const IDLE_MAX: TimeDelta = TimeDelta::hours(8);

/// How long a session lasts however much it is used.
pub const SESSION_MAX: TimeDelta = TimeDelta::days(7);

/// Use is written down once in this time: a page of ten requests is no ten writes.
const SEEN_EVERY: TimeDelta = TimeDelta::minutes(5);

/// How a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With an API token.
    Token(TokenId),
    /// With a one-time link.
    Link,
}

impl Way {
    /// The word in tables and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Link => "link",
        }
    }
}

/// A session as the directory keeps it: everything but its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// The user's name; empty once erased.
    pub username: String,
    /// The user's full name, where one is known.
    pub full_name: String,
    /// What may be done in it.
    pub role: Role,
    /// How it was opened.
    pub way: Way,
    /// When it was opened.
    pub created: DateTime<Utc>,
    /// When it was used last, to five minutes.
    pub seen: DateTime<Utc>,
    /// When it ends at the latest.
    pub ends_at: DateTime<Utc>,
}

impl SessionRecord {
    /// The signed-in user.
    pub fn principal(&self) -> Principal {
        let token = match self.way {
            Way::Token(token) => token,
            Way::Link => self.id,
        };
        Principal { user: self.user, username: self.username.clone(), role: self.role, offering: None, token }
    }

    /// When it ends if nobody uses it any more.
    pub fn idle_end(&self) -> DateTime<Utc> {
        self.ends_at.min(self.seen + IDLE_MAX)
    }
}

/// Sessions that are open at $2, of which none has rested since $3, with a further condition.
macro_rules! open_sessions {
    ($condition:literal) => {
        concat!(
            "SELECT s.session_id, s.user_id, coalesce(e.username, ''), coalesce(e.full_name, ''), s.role, s.token_id, \
             s.created_at, s.seen_at, s.ends_at \
             FROM sessions s LEFT JOIN directory_entries e USING (user_id) LEFT JOIN tokens t ON t.token_id = s.token_id \
             WHERE s.ended_at IS NULL AND s.ends_at > $2 AND s.seen_at > $3 \
             AND (s.token_id IS NULL OR (t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2))) AND ",
            $condition
        )
    };
}

const OF_KEY: &str = open_sessions!("s.key_hash = $1");
const OF_USER: &str = open_sessions!("s.user_id = $1 ORDER BY s.created_at DESC, s.session_id");
const OF_ALL: &str = open_sessions!("s.created_at <= $1 ORDER BY s.created_at DESC, s.session_id");
const INSERT: &str = "INSERT INTO sessions \
    (session_id, user_id, role, token_id, way, key_hash, created_at, seen_at, ends_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)";
const SEEN: &str = "UPDATE sessions SET seen_at = $2 WHERE session_id = $1 AND seen_at < $2";
const END: &str = "UPDATE sessions SET ended_at = $2 WHERE session_id = $1 AND ended_at IS NULL";
const END_KEY: &str = "UPDATE sessions SET ended_at = $2 WHERE key_hash = $1 AND ended_at IS NULL";
const FORGET: &str = "DELETE FROM sessions WHERE ends_at < $1";
const INSERT_LINK: &str = "INSERT INTO login_links (link_id, user_id, role, key_hash, created_at, ends_at) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const LINK: &str = "SELECT l.user_id, l.role, coalesce(e.username, ''), coalesce(e.full_name, '') \
    FROM login_links l JOIN directory_entries e USING (user_id) \
    WHERE l.key_hash = $1 AND l.used_at IS NULL AND l.ends_at > $2";
const USE_LINK: &str = "UPDATE login_links SET used_at = $2 WHERE key_hash = $1 AND used_at IS NULL AND ends_at > $2";
const FORGET_LINKS: &str = "DELETE FROM login_links WHERE ends_at < $1";

fn session(row: &SqlRow) -> Result<SessionRecord, DirectoryError> {
    Ok(SessionRecord {
        id: row.uuid(0)?.into(),
        user: row.uuid(1)?.into(),
        username: row.text(2)?.to_owned(),
        full_name: row.text(3)?.to_owned(),
        role: Role::parse(row.text(4)?).ok_or(DirectoryError::Unreadable("an unknown role"))?,
        way: row.opt_uuid(5)?.map_or(Way::Link, |token| Way::Token(token.into())),
        created: row.time(6)?,
        seen: row.time(7)?,
        ends_at: row.time(8)?,
    })
}

/// Whom a one-time link signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFor {
    /// The user.
    pub user: UserId,
    /// The user's name.
    pub username: String,
    /// The user's full name, where one is known.
    pub full_name: String,
    /// What may be done then.
    pub role: Role,
}

impl Directory {
    /// Opens a session; the key comes back this once and is kept nowhere. What ended long ago is forgotten with it.
    pub async fn open_session(
        &self,
        user: UserId,
        role: Role,
        way: Way,
        now: DateTime<Utc>,
    ) -> Result<String, DirectoryError> {
        if role == Role::Agent {
            return Err(DirectoryError::NoSession);
        }
        let key = random_key();
        let token = match way {
            Way::Token(token) => Some(token.as_uuid()),
            Way::Link => None,
        };
        let values = [
            SqlValue::Uuid(self.ids.fresh()),
            user.as_uuid().into(),
            role.as_str().into(),
            token.into(),
            way.as_str().into(),
            hash(&key).to_vec().into(),
            now.into(),
            (now + SESSION_MAX).into(),
        ];
        let mut tx = self.db.begin().await?;
        tx.execute(FORGET, &[(now - SESSION_MAX).into()]).await?;
        tx.execute(INSERT, &values).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// The session of a key at `now`, if it is still one; its use is written down.
    pub async fn session(&self, key: &str, now: DateTime<Utc>) -> Result<Option<SessionRecord>, DirectoryError> {
        let values = [hash(key).to_vec().into(), now.into(), (now - IDLE_MAX).into()];
        let Some(row) = self.db.query_one(OF_KEY, &values).await? else { return Ok(None) };
        let mut found = session(&row)?;
        if now - found.seen >= SEEN_EVERY {
            let mut tx = self.db.begin().await?;
            tx.execute(SEEN, &[found.id.as_uuid().into(), now.into()]).await?;
            tx.commit().await?;
            found.seen = now;
        }
        Ok(Some(found))
    }

    /// The sessions of one user that are open at `now`, the newest first.
    pub async fn sessions_of(&self, user: UserId, now: DateTime<Utc>) -> Result<Vec<SessionRecord>, DirectoryError> {
        let values = [user.as_uuid().into(), now.into(), (now - IDLE_MAX).into()];
        self.db.query(OF_USER, &values).await?.iter().map(session).collect()
    }

    /// Every session that is open at `now`, the newest first.
    pub async fn open_sessions(&self, now: DateTime<Utc>) -> Result<Vec<SessionRecord>, DirectoryError> {
        let values = [now.into(), now.into(), (now - IDLE_MAX).into()];
        self.db.query(OF_ALL, &values).await?.iter().map(session).collect()
    }

    /// Ends a session; says whether it was open.
    pub async fn end_session(&self, id: TokenId, now: DateTime<Utc>) -> Result<bool, DirectoryError> {
        self.run_once(END, [id.as_uuid().into(), now.into()]).await
    }

    /// Ends the session of a key; says whether it was open.
    pub async fn end_session_of(&self, key: &str, now: DateTime<Utc>) -> Result<bool, DirectoryError> {
        self.run_once(END_KEY, [hash(key).to_vec().into(), now.into()]).await
    }

    /// Makes a link that signs a user in once, until `ends_at`; its key comes back this once.
    pub async fn create_login_link(
        &self,
        user: UserId,
        role: Role,
        ends_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<String, DirectoryError> {
        if role == Role::Agent {
            return Err(DirectoryError::NoSession);
        }
        let key = random_key();
        let values = [
            SqlValue::Uuid(self.ids.fresh()),
            user.as_uuid().into(),
            role.as_str().into(),
            hash(&key).to_vec().into(),
            now.into(),
            ends_at.into(),
        ];
        let mut tx = self.db.begin().await?;
        tx.execute(FORGET_LINKS, &[(now - SESSION_MAX).into()]).await?;
        tx.execute(INSERT_LINK, &values).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// Whom a link signs in, if it was not used and has not ended; the link stays good.
    pub async fn login_link(&self, key: &str, now: DateTime<Utc>) -> Result<Option<LinkFor>, DirectoryError> {
        let row = self.db.query_one(LINK, &[hash(key).to_vec().into(), now.into()]).await?;
        let read = |row: &SqlRow| {
            Ok(LinkFor {
                user: row.uuid(0)?.into(),
                role: Role::parse(row.text(1)?).ok_or(DirectoryError::Unreadable("an unknown role"))?,
                username: row.text(2)?.to_owned(),
                full_name: row.text(3)?.to_owned(),
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Uses a link up; returns whether it was valid. Of two concurrent uses only one succeeds.
    pub async fn use_login_link(&self, key: &str, now: DateTime<Utc>) -> Result<bool, DirectoryError> {
        self.run_once(USE_LINK, [hash(key).to_vec().into(), now.into()]).await
    }

    async fn run_once(&self, text: &'static str, values: [SqlValue; 2]) -> Result<bool, DirectoryError> {
        let mut tx = self.db.begin().await?;
        let done = tx.execute(text, &values).await?;
        tx.commit().await?;
        Ok(done > 0)
    }
}
