//! A database copied to another: the same log, cut off and gone on with, and nothing that is not its beginning written over.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sluice::directory::{Directory, NewToken, Role, UserDetails};
use sluice::domain::ids::slug_uuid;
use sluice::events::envelope::{Position, RecordedEvent};
use sluice::limits::Limits;
use sluice::store::address::Database;
use sluice::store::copy::{CopyError, CopyStep, copy};
use sluice::store::meta::Meta;
use sluice::store::postgres::PostgresStore;
use sluice::store::sql::ReadDb;
use sluice::store::sqlite::SqliteStore;
use sluice::store::{EventStore, ExpectedVersion};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use super::support::{events, stream, ticking};
use crate::support::database::{postgres, server};

/// So small that a few events are several batches.
fn limits() -> Limits {
    Limits { read_events_max: 7, ..Limits::default() }
}

async fn open(database: &Database) -> Arc<dyn EventStore> {
    match database {
        Database::Sqlite(log) => Arc::new(SqliteStore::open(log, ticking(), limits()).await.unwrap()),
        Database::Postgres(url) => Arc::new(PostgresStore::open(url, ticking(), limits()).await.unwrap()),
    }
}

async fn append(database: &Database, numbers: std::ops::Range<u128>) {
    let store = open(database).await;
    for number in numbers {
        let name = stream(&format!("stream-{}", number % 5));
        store.append(&name, ExpectedVersion::Any, events(number..number + 1)).await.unwrap();
    }
}

async fn log(database: &Database) -> Vec<RecordedEvent> {
    let store = open(database).await;
    let mut log: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = log.last().map_or(Position::START, |event| event.position);
        let page = store.read_all(after, 1_000).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

/// Fifty events of five streams, a user with a token, and a fact.
async fn filled(database: &Database) {
    append(database, 0..50).await;
    let now: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
    let beside = ReadDb::open_beside_log(database, &limits()).await.unwrap();
    Meta::new(beside.clone()).set("clock", "real").await.unwrap();
    let directory = Directory::new(beside);
    let user = UserDetails {
        id: slug_uuid("user", "alice").into(),
        username: "alice".into(),
        email: Some("alice@uni-a.example".into()),
        full_name: "Alice A".into(),
    };
    directory.put_user(&user, now).await.unwrap();
    let key = Some("0123456789abcdef0123456789abcdef01234567".into());
    let token = NewToken { user: user.id, role: Role::Staff, offering: None, label: None, expires_at: None, key };
    directory.create_token(token, now).await.unwrap();
}

/// Databases of each kind that there is a server for, and every way from one to another.
fn ways(folder: &TempDir) -> Vec<(Database, Database)> {
    let file = |name: &str| folder.path().join(name);
    let mut ways = vec![(Database::from(file("a.db")), Database::from(file("b.db")))];
    if server().is_some() {
        ways.push((Database::from(file("c.db")), postgres(&file("d.db"))));
        ways.push((postgres(&file("e.db")), Database::from(file("f.db"))));
        ways.push((postgres(&file("g.db")), postgres(&file("h.db"))));
    }
    ways
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_log_with_what_stands_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in ways(&folder) {
        filled(&from).await;
        let mut steps = Vec::new();
        let copied = copy(&from, &to, &limits(), |step| steps.push(step)).await.unwrap();
        assert_eq!((copied.events, copied.copied, copied.rows), (50, 50, 3), "{from} to {to}");
        assert_eq!(log(&to).await, log(&from).await, "{from} to {to}");
        assert_eq!(steps.first(), Some(&CopyStep::Copied(7, 50)));
        assert_eq!(steps.last(), Some(&CopyStep::Compared(50, 50)));
        let directory = Directory::new(ReadDb::open_beside_log(&to, &limits()).await.unwrap());
        let now = "2026-03-02T00:00:00Z".parse().unwrap();
        let known = directory.authenticate("0123456789abcdef0123456789abcdef01234567", now).await.unwrap().unwrap();
        assert_eq!(known.username, "alice");

        // It lives on: versions and positions go on where they were.
        append(&to, 50..60).await;
        let whole = log(&to).await;
        let places: Vec<u64> = whole.iter().map(|event| event.position.as_seq()).collect();
        assert_eq!(places, (1..=60).collect::<Vec<_>>(), "{from} to {to}");
        assert_eq!(whole[59].version, 12, "{from} to {to}");
        let again = copy(&from, &to, &limits(), |_| ()).await;
        assert!(matches!(again, Err(CopyError::Foreign(60))), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_cut_short_goes_on_and_one_that_was_overtaken_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in ways(&folder) {
        filled(&from).await;
        let (of, into) = (from.clone(), to.clone());
        let cut = tokio::spawn(async move {
            let stop = |step| assert!(step != CopyStep::Copied(21, 50), "cut short");
            copy(&of, &into, &limits(), stop).await
        });
        assert!(cut.await.unwrap_err().is_panic());
        assert_eq!(log(&to).await.len(), 21, "{from} to {to}");
        append(&from, 50..55).await;
        let copied = copy(&from, &to, &limits(), |_| ()).await.unwrap();
        assert_eq!((copied.events, copied.copied), (55, 34), "{from} to {to}");
        let again = copy(&from, &to, &limits(), |_| ()).await.unwrap();
        assert_eq!((again.events, again.copied, again.sha256), (55, 0, copied.sha256), "{from} to {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_not_written_over_and_a_difference_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to, none] = ["a.db", "b.db", "none.db"].map(|name| Database::from(folder.path().join(name)));
    filled(&from).await;
    append(&to, 100..103).await;
    let foreign = copy(&from, &to, &limits(), |_| ()).await;
    assert!(matches!(foreign, Err(CopyError::Foreign(3))), "{foreign:?}");
    assert_eq!(log(&to).await.len(), 3);
    let nothing = copy(&none, &from, &limits(), |_| ()).await;
    assert!(matches!(nothing, Err(CopyError::NoSource(_))), "{nothing:?}");

    let to = Database::from(folder.path().join("c.db"));
    copy(&from, &to, &limits(), |_| ()).await.unwrap();
    let mut file = SqliteConnectOptions::new().filename(to.file().unwrap()).connect().await.unwrap();
    let change = "DROP TRIGGER events_append_only; UPDATE events SET reason = 'another' WHERE position = 10";
    sqlx::raw_sql(change).execute(&mut file).await.unwrap();
    let different = copy(&from, &to, &limits(), |_| ()).await;
    assert!(matches!(different, Err(CopyError::Different(_))), "{different:?}");
}
