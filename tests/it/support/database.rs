//! Where a test keeps its data: files in a folder of its own, or, with `SLUICE_TEST_ENGINE=postgres`, a database of its own
//! on the server that `SLUICE_TEST_POSTGRES` names.
//!
//! The same file name is the same database, so that a test may open it again, or in another process. On a server a database
//! is copied from a template that has the tables already.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use sluice::app::AppOptions;
use sluice::limits::Limits;
use sluice::notify::{MailTransportOptions, NotifyOptions};
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
    options.notify = with_mail(options.notify, folder);
    options
}

/// Mail into a folder in this one, if it goes into a folder: a database on a server has none beside it.
pub fn with_mail(mut notify: NotifyOptions, folder: &Path) -> NotifyOptions {
    if let MailTransportOptions::Maildir(into @ None) = &mut notify.mail.transport {
        *into = Some(folder.join("mail"));
    }
    notify
}

/// Read models without a log of their own, by the file that they would be.
pub async fn read_models(file: &Path, limits: &Limits) -> ReadDb {
    if on_postgres() {
        ReadDb::open_read(&postgres(file), limits).await.unwrap()
    } else {
        ReadDb::open(file, limits).await.unwrap()
    }
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

pub fn with_name(server: &str, name: &str) -> String {
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

/// A copy of a database that nobody has open, by the file that the copy would be; without read models.
pub async fn copy_of_log(database: &Database, file: &Path) -> Database {
    match database {
        Database::Sqlite(log) => {
            let mut from = sqlx::sqlite::SqliteConnectOptions::new().filename(log).connect().await.unwrap();
            sqlx::query("VACUUM INTO $1").bind(file.to_str().unwrap().to_owned()).execute(&mut from).await.unwrap();
            Database::from(file)
        }
        Database::Postgres(url) => {
            let server = server().expect("SLUICE_TEST_POSTGRES names a server");
            let mut hasher = DefaultHasher::new();
            file.hash(&mut hasher);
            let name = format!("copy_{:016x}", hasher.finish());
            let (_, of) = url.rsplit_once('/').unwrap();
            let mut connection = connect(&server).await;
            // Connections of what was dropped end in their own time.
            let gone =
                sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1").bind(of);
            gone.execute(&mut connection).await.unwrap();
            run(&mut connection, &format!("DROP DATABASE IF EXISTS {name}")).await;
            run(&mut connection, &format!("CREATE DATABASE {name} TEMPLATE {of}")).await;
            let copy = Database::Postgres(with_name(&server, &name));
            drop_read_models(&copy).await;
            copy
        }
    }
}

/// Every row of every table on a server, as text, by the name of the table; of both schemas.
pub async fn rows(url: &str) -> BTreeMap<String, Vec<String>> {
    let mut connection = connect(url).await;
    let tables = "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname IN ('sluice', 'sluice_read') AND c.relkind IN ('r', 'p') AND NOT c.relispartition";
    let mut found = BTreeMap::new();
    for table in sqlx::query(tables).fetch_all(&mut connection).await.unwrap() {
        let (schema, name): (String, String) = (table.get(0), table.get(1));
        // Automatic numbers have holes, which say nothing; their order does.
        let row = if ["registry_resources", "user_usage"].contains(&name.as_str()) {
            "to_jsonb(t) || jsonb_build_object('no', row_number() OVER (ORDER BY no))"
        } else {
            "to_jsonb(t)"
        };
        let select = format!("SELECT ({row})::text FROM {schema}.\"{name}\" t");
        let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(&mut connection).await.unwrap();
        let mut rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        rows.sort();
        found.insert(name, rows);
    }
    found
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
