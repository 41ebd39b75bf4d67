//! Where a test keeps its data: files in a folder of its own, or, with `SLUICE_TEST_ENGINE=postgres`, a database of its own
//! on the server that `SLUICE_TEST_POSTGRES` names.
//!
//! The same file name is the same database, so that a test may open it again, or in another process. On a server a database
//! is copied from a template that has the tables already.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use sluice::app::AppOptions;
use sluice::limits::Limits;
use sluice::notify::MailTransportOptions;
use sluice::store::address::Database;
use sluice::store::postgres::PostgresStore;
use sluice::store::sql::ReadDb;
use sluice::store::sqlite::DatabaseFiles;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

/// Serialises whoever makes the template.
const TEMPLATE_LOCK: i64 = 4_711;

/// Whether tests run on `PostgreSQL`.
pub fn on_postgres() -> bool {
    match std::env::var("SLUICE_TEST_ENGINE").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite") | Err(_) => false,
        Ok(other) => panic!("SLUICE_TEST_ENGINE is {other}: there are sqlite and postgres"),
    }
}

/// The server for tests; none where there is none.
pub fn server() -> Option<String> {
    std::env::var("SLUICE_TEST_POSTGRES").ok().filter(|url| !url.is_empty())
}

/// The database of a test, by the file that it would be.
pub fn database(file: &Path) -> Database {
    if on_postgres() { postgres(file) } else { Database::from(file) }
}

/// Options for the database in a folder.
pub fn options(folder: &Path) -> AppOptions {
    let mut options = AppOptions::at(database(&folder.join("sluice.db")));
    options.notify.mail.transport = MailTransportOptions::Maildir(Some(folder.join("mail")));
    options
}

/// The database of this name on the server for tests; it is made if it is new, with tables and nothing in them.
pub fn postgres(file: &Path) -> Database {
    let server = server().expect("SLUICE_TEST_POSTGRES names a server");
    let mut hasher = DefaultHasher::new();
    file.hash(&mut hasher);
    let name = format!("test_{:016x}", hasher.finish());
    let url = with_name(&server, &name);
    // Wherever a test stands, on a runtime or not.
    let made = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(make(&server, &name));
    });
    made.join().expect("the database can be made");
    Database::Postgres(url)
}

fn with_name(server: &str, name: &str) -> String {
    format!("{}/{name}", server.rsplit_once('/').expect("the URL of the server names a database").0)
}

async fn make(server: &str, name: &str) {
    let mut connection = connect(server).await;
    if exists(&mut connection, name).await {
        return;
    }
    let mut hasher = DefaultHasher::new();
    for folder in ["log", "read"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres").join(folder);
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in &files {
            std::fs::read(file).unwrap().hash(&mut hasher);
        }
    }
    let template = format!("template_{:016x}", hasher.finish());
    run(&mut connection, &format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    if !exists(&mut connection, &template).await {
        let unfinished = format!("{template}_new");
        run(&mut connection, &format!("DROP DATABASE IF EXISTS {unfinished}")).await;
        run(&mut connection, &format!("CREATE DATABASE {unfinished}")).await;
        let url = with_name(server, &unfinished);
        let store = PostgresStore::open(&url, std::sync::Arc::new(sluice::clock::real_now), Limits::default());
        store.await.unwrap().close().await;
        ReadDb::open_read(&Database::Postgres(url), &Limits::default()).await.unwrap().close().await;
        run(&mut connection, &format!("ALTER DATABASE {unfinished} RENAME TO {template}")).await;
    }
    run(&mut connection, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    connection.close().await.unwrap();
}

/// Removes the read models, as an operator may who wants them made anew.
pub async fn drop_read_models(database: &Database) {
    match database {
        Database::Sqlite(log) => {
            let read = DatabaseFiles::of(log).read.display().to_string();
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{read}{suffix}"));
            }
        }
        Database::Postgres(url) => run(&mut connect(url).await, "DROP SCHEMA sluice_read CASCADE").await,
    }
}

/// A connection of the test's own.
pub async fn connect(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

async fn exists(connection: &mut PgConnection, name: &str) -> bool {
    let found = sqlx::query("SELECT count(*) FROM pg_database WHERE datname = $1").bind(name);
    found.fetch_one(connection).await.unwrap().get::<i64, _>(0) > 0
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false).execute(connection).await.unwrap();
}
