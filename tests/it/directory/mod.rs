//! The directory: users and addresses, and tokens.

mod tokens;
mod users;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sluice::clock::real_now;
use sluice::directory::{Directory, UserDetails};
use sluice::domain::ids::{UserId, slug_uuid};
use sluice::limits::Limits;
use sluice::store::address::Database;
use sluice::store::postgres::PostgresStore;
use sluice::store::sql::ReadDb;
use sluice::store::sqlite::SqliteStore;
use tempfile::TempDir;

use crate::support::database::database;

pub(crate) struct Fixture {
    pub(crate) directory: Directory,
    folder: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let directory = open(&folder).await;
        Self { directory, folder }
    }

    /// The same files, opened again.
    pub(crate) async fn restart(self) -> Self {
        self.directory.close().await;
        let directory = open(&self.folder).await;
        Self { directory, folder: self.folder }
    }

    /// What is stored, as it is stored: the files, or every row of every table on a server.
    pub(crate) async fn bytes(&self) -> Vec<u8> {
        if let Database::Postgres(url) = database(&self.folder.path().join("sluice.db")) {
            let tables = crate::support::database::rows(&url).await;
            return tables.into_values().flatten().collect::<Vec<_>>().join("\n").into_bytes();
        }
        let read = |name: &str| std::fs::read(self.folder.path().join(name)).unwrap_or_default();
        [read("sluice.db"), read("sluice.db-wal")].concat()
    }
}

async fn open(folder: &TempDir) -> Directory {
    let database = database(&folder.path().join("sluice.db"));
    let limits = Limits::default();
    match &database {
        Database::Sqlite(log) => {
            SqliteStore::open(log, Arc::new(real_now), limits.clone()).await.unwrap().close().await;
        }
        Database::Postgres(url) => {
            PostgresStore::open(url, Arc::new(real_now), limits.clone()).await.unwrap().close().await;
        }
    }
    Directory::new(ReadDb::open_beside_log(&database, &limits).await.expect("opens"))
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

pub(crate) fn user_id(name: &str) -> UserId {
    slug_uuid("user", name).into()
}

pub(crate) fn details(name: &str) -> UserDetails {
    UserDetails {
        id: user_id(name),
        username: name.to_owned(),
        email: Some(format!("{name}@example.org")),
        full_name: String::new(),
    }
}
