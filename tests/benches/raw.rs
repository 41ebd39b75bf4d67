//! The same rows without Sluice: what a run added to the tables, inserted into a copy of the files as they were before it,
//! with the same settings, by statements of many rows.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sluice::limits::Limits;
use sluice::store::sqlite::DatabaseFiles;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, ValueRef};

/// Rows of one statement; what is left over goes in smaller ones.
const CHUNKS: [usize; 5] = [256, 64, 16, 4, 1];

/// Rows of one transaction: as many events as the log's writer puts into one.
const TRANSACTION: usize = 4_096;

/// Tables that are not written per event.
const BESIDE: [&str; 2] = ["_sqlx_migrations", "meta"];

#[derive(Clone)]
enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// What a run added to a table, or changed in it.
#[derive(Clone)]
struct Added {
    table: String,
    columns: usize,
    rows: Vec<Vec<Value>>,
}

/// What a run added to both files.
pub struct Rows {
    log: Vec<Added>,
    read: Vec<Added>,
}

impl Rows {
    /// Rows in the log's file and in the read models'.
    pub fn count(&self) -> (usize, usize) {
        let count = |tables: &[Added]| tables.iter().map(|added| added.rows.len()).sum();
        (count(&self.log), count(&self.read))
    }

    /// Rows by table.
    pub fn by_table(&self) -> Vec<(String, usize)> {
        let tables = self.log.iter().chain(&self.read).filter(|added| !added.rows.is_empty());
        tables.map(|added| (added.table.clone(), added.rows.len())).collect()
    }
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).create_if_missing(false).statement_cache_capacity(256)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// As `store::sqlite` opens what it writes.
async fn writer(path: &Path, durable: bool) -> SqliteConnection {
    let limits = Limits::default();
    connect_options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(if durable { SqliteSynchronous::Full } else { SqliteSynchronous::Normal })
        .foreign_keys(false)
        .pragma("cache_size", format!("-{}", limits.writer_cache_kib))
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864")
        .connect()
        .await
        .unwrap()
}

/// Copies both files of a database that nobody writes to at the moment, with everything that was committed.
pub async fn copy(log: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    let (from, copy) = (DatabaseFiles::of(log), DatabaseFiles::of(&to.join("sluice.db")));
    for (from, to) in [(&from.log, &copy.log), (&from.read, &copy.read)] {
        let mut connection = connect_options(from).connect().await.unwrap();
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        std::fs::copy(from, to).unwrap();
    }
    copy.log
}

/// What is in a database and was not in the copy made before.
pub async fn added(log: &Path, before: &Path) -> Rows {
    let (now, before) = (DatabaseFiles::of(log), DatabaseFiles::of(before));
    Rows { log: added_to(&now.log, &before.log).await, read: added_to(&now.read, &before.read).await }
}

async fn added_to(now: &Path, before: &Path) -> Vec<Added> {
    let mut connection = connect_options(now).connect().await.unwrap();
    sqlx::query("ATTACH $1 AS before")
        .bind(before.to_str().unwrap().to_owned())
        .execute(&mut connection)
        .await
        .unwrap();
    let select = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    let tables: Vec<String> =
        sqlx::query(select).fetch_all(&mut connection).await.unwrap().iter().map(|row| row.get(0)).collect();
    let mut all = Vec::new();
    for table in tables.into_iter().filter(|table| !BESIDE.contains(&table.as_str())) {
        let select = format!("SELECT * FROM main.\"{table}\" EXCEPT SELECT * FROM before.\"{table}\"");
        let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(&mut connection).await.unwrap();
        let rows: Vec<Vec<Value>> = rows.iter().map(values).collect();
        all.push(Added { table, columns: rows.first().map_or(0, Vec::len), rows });
    }
    connection.close().await.unwrap();
    all
}

fn values(row: &SqliteRow) -> Vec<Value> {
    let value = |index| match row.try_get_raw(index).unwrap().type_info().to_string().as_str() {
        "NULL" => Value::Null,
        "INTEGER" => Value::Integer(row.get(index)),
        "TEXT" => Value::Text(row.get(index)),
        _ => Value::Blob(row.get(index)),
    };
    (0..row.len()).map(value).collect()
}

/// How long the rows take: one file after the other, and both at the same time.
pub struct RawTimes {
    pub one_after_the_other: Duration,
    pub side_by_side: Duration,
}

/// Inserts the rows into two copies of the files as they were.
pub async fn insert(rows: &Rows, before: &Path, folder: &Path) -> RawTimes {
    let files = DatabaseFiles::of(&copy(before, &folder.join("raw-1")).await);
    let (mut log, mut read) = (writer(&files.log, true).await, writer(&files.read, false).await);
    let (log_rows, read_rows) = (rows.log.clone(), rows.read.clone());
    let begun = Instant::now();
    insert_into(&mut log, ADD, log_rows).await;
    insert_into(&mut read, PUT, read_rows).await;
    let one_after_the_other = begun.elapsed();
    let files = DatabaseFiles::of(&copy(before, &folder.join("raw-2")).await);
    let (mut log, mut read) = (writer(&files.log, true).await, writer(&files.read, false).await);
    let (log_rows, read_rows) = (rows.log.clone(), rows.read.clone());
    let begun = Instant::now();
    let log = tokio::spawn(async move { insert_into(&mut log, ADD, log_rows).await });
    insert_into(&mut read, PUT, read_rows).await;
    log.await.unwrap();
    RawTimes { one_after_the_other, side_by_side: begun.elapsed() }
}

/// How rows of the log are written: they are new, all of them.
const ADD: &str = "INSERT";

/// How rows of the read models are written: some take the place of others.
const PUT: &str = "INSERT OR REPLACE";

async fn insert_into(connection: &mut SqliteConnection, verb: &str, tables: Vec<Added>) {
    for Added { table, columns, rows } in tables {
        let text = |rows: usize| {
            let places = format!("({})", vec!["?"; columns].join(","));
            format!("{verb} INTO \"{table}\" VALUES {}", vec![places; rows].join(","))
        };
        let texts = CHUNKS.map(|rows| (rows, text(rows)));
        let mut left = rows.len();
        let mut rows = rows.into_iter();
        while left > 0 {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let mut room = TRANSACTION.min(left);
            left -= room;
            while room > 0 {
                let (size, text) = texts.iter().find(|(size, _)| *size <= room).unwrap();
                room -= size;
                let query = sqlx::query(AssertSqlSafe(text.as_str()));
                let query = rows.by_ref().take(*size).flatten().fold(query, bound);
                query.execute(&mut *transaction).await.unwrap();
            }
            transaction.commit().await.unwrap();
        }
    }
}

fn bound(query: Query<'_>, value: Value) -> Query<'_> {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Integer(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Blob(value) => query.bind(value),
    }
}
