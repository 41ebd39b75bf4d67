//! A server's claim to a database. One process serves a database in files; several may serve one on a database server,
//! except with a simulated clock, which lives in one process's memory.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::{App, AppClock, AppError};
use crate::store::address::Database;
use crate::store::postgres::{self, Share};
use crate::store::private;

/// A server's claim to a database.
pub struct ServeClaim {
    _lock: Option<File>,
    _session: Option<postgres::Claim>,
}

impl App {
    /// Claims the database for one server; the claim lasts as long as the answer is kept.
    pub async fn claim(database: &Database) -> Result<ServeClaim, AppError> {
        match database {
            Database::Sqlite(log) => Ok(ServeClaim { _lock: Some(lock(log)?), _session: None }),
            Database::Postgres(url) => Self::on_server(database, url, Share::One).await,
        }
    }

    /// The same for one of several servers, where the database takes several.
    pub async fn claim_beside_others(database: &Database) -> Result<ServeClaim, AppError> {
        match database {
            Database::Sqlite(_) => Self::claim(database).await,
            Database::Postgres(url) => Self::on_server(database, url, Share::Several).await,
        }
    }

    /// What else an opened application needs of a claim: nobody beside it on a simulated clock.
    pub async fn claim_clock(&self) -> Result<Option<ServeClaim>, AppError> {
        match (&self.clock_kind, &self.options.database) {
            (AppClock::Simulated(_), database @ Database::Postgres(url)) => {
                Ok(Some(Self::on_server(database, url, Share::Clock).await?))
            }
            _ => Ok(None),
        }
    }

    async fn on_server(database: &Database, url: &str, share: Share) -> Result<ServeClaim, AppError> {
        let claim = postgres::claim(url, share).await?;
        let taken = || AppError::Served(database.to_string().into());
        Ok(ServeClaim { _lock: None, _session: Some(claim.ok_or_else(taken)?) })
    }

    /// True if a server has claimed the database.
    pub async fn is_served(database: &Database) -> bool {
        matches!(Self::claim(database).await, Err(AppError::Served(_)))
    }
}

fn lock(log: &Path) -> Result<File, AppError> {
    // The claim is the first that a new installation writes.
    if let Some(folder) = log.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        private::folder(folder).map_err(|source| AppError::File { path: folder.to_owned(), source })?;
    }
    let path = private::real(log).with_extension("db.serving");
    let file = |source| AppError::File { path: path.clone(), source };
    let lock = private::file(&path).map_err(file)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(AppError::Served(log.to_owned())),
        Err(TryLockError::Error(source)) => Err(file(source)),
    }
}
