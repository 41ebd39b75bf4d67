//! What must hold of a database after its process was killed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use sluice::app::{App, AppOptions};
use sluice::events::envelope::{Position, RecordedEvent};
use sluice::store::EventStore;
use sluice::store::address::Database;
use sluice::store::sqlite::DatabaseFiles;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, ValueRef};
use uuid::Uuid;

use super::witness;
use super::writer::RESOURCES;
use crate::support::positions::number;
use crate::support::{database, fleet};

/// Tables that say how far something is, or what is still to be done; everything else is a fold of the log. The last ones
/// are the log itself on a server, where both stand in one database.
const NOT_FOLDED: [&str; 7] =
    ["consumers", "reactions", "_sqlx_migrations", "leases", "scheduler_runs", "streams", "log_head"];

async fn whole_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut log = Vec::new();
    loop {
        let after = log.last().map_or(Position::START, |event: &RecordedEvent| event.position);
        let page = store.read_all(after, 5_000).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

async fn opened(folder: &Path) -> Arc<App> {
    App::open(database::options(folder)).await.unwrap()
}

async fn close(app: Arc<App>) {
    app.directory.close().await;
    app.read.close().await;
}

/// Opens what the kill left, brings it up to date, and looks at the log and at who has seen it.
pub async fn recovered(folder: &Path, acknowledged: &[Uuid]) {
    let app = opened(folder).await;
    fleet::lay_out(&app, RESOURCES).await;
    app.settle().await.unwrap();
    let log = whole_log(&*app.store).await;

    let times = |times: &mut HashMap<Uuid, usize>, id| *times.entry(id).or_default() += 1;
    let mut seen = HashMap::new();
    for event in &log {
        times(&mut seen, event.event_id);
    }
    assert_eq!(seen.values().find(|times| **times != 1), None, "an event stands in the log twice");
    let lost: Vec<&Uuid> = acknowledged.iter().filter(|id| !seen.contains_key(id)).collect();
    assert_eq!(lost, Vec::<&Uuid>::new(), "acknowledged facts are not in the log");
    let distinct: HashSet<&Uuid> = acknowledged.iter().collect();
    assert_eq!(distinct.len(), acknowledged.len(), "a fact was acknowledged twice");

    let positions: Vec<u64> = log.iter().map(|event| number(event.position)).collect();
    assert_eq!(positions, (1..=log.len() as u64).collect::<Vec<_>>());
    let mut versions = HashMap::new();
    for event in &log {
        let version = versions.entry(event.stream.clone()).or_insert(0);
        *version += 1;
        assert_eq!(event.version, *version, "{}", event.stream);
        assert!(event.commitment_holds(), "{} {}", event.stream, event.version);
    }

    let witnessed = witness::settled(&app, folder).await;
    assert_eq!(
        witnessed,
        (1..=i64::try_from(log.len()).unwrap()).collect::<Vec<_>>(),
        "a consumer saw an event twice, or not at all"
    );
    assert_eq!(app.reactions.pending().await.unwrap(), [], "consequences of a policy change were not drawn");
    let newest = app.registry.read().policy(fleet::policy()).unwrap().version;
    for number in 0..RESOURCES {
        let book = app.allocations.book(fleet::resource(number)).await.unwrap();
        assert_eq!(book.policies[&fleet::policy()].version, newest, "resource {number} was not evaluated again");
    }
    close(app).await;
}

/// Makes the read models from the log alone, and compares them with those that lived through the crashes.
pub async fn same_as_rebuilt(folder: &Path) {
    let app = opened(folder).await;
    app.settle().await.unwrap();
    let original = app.options.database.clone();
    close(app).await;
    let fresh = tempfile::tempdir().unwrap();
    let copy = database::copy_of_log(&original, &fresh.path().join("sluice.db")).await;
    let app = App::open(AppOptions { database: copy.clone(), ..database::options(fresh.path()) }).await.unwrap();
    // Not `App::settle`: evaluations that the log has already are not to be made again.
    app.consumers.settle().await.unwrap();
    close(app).await;
    let (lived, rebuilt) = (folded(&original).await, folded(&copy).await);
    assert_eq!(lived.keys().collect::<Vec<_>>(), rebuilt.keys().collect::<Vec<_>>());
    for (table, rows) in &lived {
        assert_eq!(rows, &rebuilt[table], "table {table}");
    }
}

/// The rows of every table that is a fold of the log, in order.
async fn folded(of: &Database) -> BTreeMap<String, Vec<String>> {
    let mut folded = match of {
        Database::Sqlite(log) => in_file(&DatabaseFiles::of(log).read).await,
        Database::Postgres(url) => database::rows(url).await,
    };
    folded.retain(|table, _| !NOT_FOLDED.contains(&table.as_str()));
    assert!(folded.len() > 20, "{:?}", folded.keys());
    folded
}

async fn in_file(path: &Path) -> BTreeMap<String, Vec<String>> {
    let mut db = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let tables = sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    let names: Vec<String> = tables.fetch_all(&mut db).await.unwrap().iter().map(|row| row.get(0)).collect();
    let mut folded = BTreeMap::new();
    for table in names {
        let all = format!("SELECT * FROM \"{table}\"");
        let mut rows: Vec<_> =
            sqlx::query(AssertSqlSafe(all)).fetch_all(&mut db).await.unwrap().iter().map(texts).collect();
        rows.sort();
        folded.insert(table, rows);
    }
    folded
}

fn texts(row: &SqliteRow) -> String {
    let text = |index| {
        let value = row.try_get_raw(index).unwrap();
        match value.type_info().to_string().as_str() {
            "NULL" => String::from("NULL"),
            "INTEGER" => row.get::<i64, _>(index).to_string(),
            "TEXT" => row.get::<String, _>(index),
            "BLOB" => format!("{:x?}", row.get::<Vec<u8>, _>(index)),
            other => panic!("a column of type {other}"),
        }
    };
    (0..row.len()).map(text).collect::<Vec<_>>().join("|")
}
