//! The directory: users, mail addresses, API tokens and sessions, in tables beside the log.
//!
//! It is primary data, not a projection, and the only place with personal data: events carry opaque ids that are
//! resolved here, so that a person can be erased without changing the log. Keys are stored as hashes and never logged.

mod broker;
mod erase;
mod sessions;
mod tokens;
mod users;

pub use erase::{Erased, Subject};
pub use sessions::{IDLE_MAX, LinkFor, SESSION_MAX, SessionRecord, Way};
pub use tokens::{KEY_CHARS_MIN, NewToken, Principal, Role, TokenRecord, key_complaint};
pub use users::{UserDetails, UserRecord};

use crate::clock::IdSource;
use crate::store::sql::{ReadDb, SqlError};

/// Why the directory did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The database failed or refused.
    #[error("the directory's database failed")]
    Database(#[from] SqlError),
    /// Two persons, one name.
    #[error("the user name {0:?} is taken by another user")]
    UsernameTaken(String),
    /// A key that somebody else has, or that was revoked.
    #[error("the key is in use for another token, or was revoked; choose a fresh one")]
    KeyInUse,
    /// A key that could be guessed.
    #[error("the key is not usable: {0}")]
    KeyUnusable(&'static str),
    /// An agent without an offering, or an offering without an agent.
    #[error("a token has an offering if its role is agent, and only then")]
    OfferingMismatch,
    /// An agent does not sign in.
    #[error("an agent has no session: the role has no pages")]
    NoSession,
    /// A stored row that does not read.
    #[error("a row of the directory is unreadable: {0}")]
    Unreadable(&'static str),
}

/// Users, addresses and tokens. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    db: ReadDb,
    ids: IdSource,
}

impl Directory {
    /// The directory in the tables beside a log.
    pub fn new(db: ReadDb) -> Self {
        Self { db, ids: IdSource }
    }

    /// Closes every connection; later calls fail.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
