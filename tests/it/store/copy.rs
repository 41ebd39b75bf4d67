//! A database copied to another: the same log, cut off and gone on with, and nothing that is not its beginning written over.
//! Either side may have its events in an event store, where they stand at other positions.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sluice::directory::{Directory, NewToken, Role, UserDetails};
use sluice::domain::ids::slug_uuid;
use sluice::events::envelope::{Position, RecordedEvent};
use sluice::limits::Limits;
use sluice::store::address::Database;
use sluice::store::copy::{CopyError, CopyStep, Place, copy};
use sluice::store::eventstoredb::EventStoreDb;
use sluice::store::meta::{EVENT_LOG, Meta};
use sluice::store::postgres::PostgresStore;
use sluice::store::sql::{ReadDb, SqlValue};
use sluice::store::sqlite::SqliteStore;
use sluice::store::{Distance, EventStore, ExpectedVersion};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use uuid::Uuid;

use super::esdb::{self, Fault};
use super::support::{events, ids, stream, ticking};
use crate::support::database::{postgres, server};
use crate::support::positions::{at, number};

/// So small that a few events are several batches.
fn limits() -> Limits {
    Limits { read_events_max: 7, ..Limits::default() }
}

async fn open(place: &Place) -> Arc<dyn EventStore> {
    if let Some(address) = &place.event_store {
        return Arc::new(EventStoreDb::open(address, ticking(), limits()).unwrap());
    }
    match &place.database {
        Database::Sqlite(log) => Arc::new(SqliteStore::open(log, ticking(), limits()).await.unwrap()),
        Database::Postgres(url) => Arc::new(PostgresStore::open(url, ticking(), limits()).await.unwrap()),
    }
}

async fn append(place: &Place, numbers: std::ops::Range<u128>) {
    let store = open(place).await;
    for number in numbers {
        let name = stream(&format!("stream-{}", number % 5));
        store.append(&name, ExpectedVersion::Any, events(number..number + 1)).await.unwrap();
    }
}

/// The events as they stand there.
async fn stored(place: &Place) -> Vec<RecordedEvent> {
    let store = open(place).await;
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

/// The same with numbers in the place of positions: what all copies have in common.
async fn log(place: &Place) -> Vec<RecordedEvent> {
    let numbered = stored(place).await.into_iter().zip(1..);
    numbered.map(|(event, number)| RecordedEvent { position: at(number), ..event }).collect()
}

/// Fifty events of five streams, a user with a token, a webhook that has heard of ten, and two facts.
async fn filled(place: &Place) {
    if place.event_store.is_some() {
        open(&Place::from(place.database.clone())).await;
    }
    let beside = ReadDb::open_beside_log(&place.database, &limits()).await;
    if let Some(address) = &place.event_store {
        let log = EventStoreDb::open(address, ticking(), limits()).unwrap();
        let identity = log.identity(Uuid::from_u128(77)).await.unwrap();
        Meta::new(beside.unwrap()).set(EVENT_LOG, &identity.to_string()).await.unwrap();
    }
    append(place, 0..50).await;
    let now: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
    let beside = ReadDb::open_beside_log(&place.database, &limits()).await.unwrap();
    let meta = Meta::new(beside.clone());
    meta.set("clock", "real").await.unwrap();
    meta.set("unreliable_events", "[]").await.unwrap();
    let heard = stored(place).await[9].position;
    let mut tx = beside.begin().await.unwrap();
    let insert = "INSERT INTO event_consumers (id, owner, url, object_types, scopes, payload_filters, heard, error, attempts, \
                  created_at, modified_at) VALUES ($1, $1, 'https://portal.example/', '[]', '[]', '{}', $2, '', 0, $3, $3)";
    let webhook: SqlValue = slug_uuid("webhook", "portal").into();
    tx.execute(insert, &[webhook, heard.to_string().into(), now.into()]).await.unwrap();
    tx.commit().await.unwrap();
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

/// One way from a place to another, with the servers on it.
struct Way {
    from: Place,
    to: Place,
    fixtures: Vec<esdb::Fixture>,
}

impl Way {
    fn new(from: Database, to: Database) -> Self {
        Self { from: from.into(), to: to.into(), fixtures: Vec::new() }
    }

    fn with_events_from(mut self, fixture: esdb::Fixture) -> Self {
        self.from.event_store = Some(fixture.address().parse().unwrap());
        self.fixtures.push(fixture);
        self
    }

    fn with_events_to(mut self, fixture: esdb::Fixture) -> Self {
        self.to.event_store = Some(fixture.address().parse().unwrap());
        self.fixtures.push(fixture);
        self
    }

    fn keeps_positions(&self) -> bool {
        self.fixtures.is_empty()
    }
}

/// Databases of each kind that there is a server for, with their events in them or in an event store, and every way from
/// one to another.
fn ways(folder: &TempDir) -> Vec<Way> {
    let file = |name: &str| Database::from(folder.path().join(name));
    let fixture = esdb::Fixture::start;
    let mut ways = vec![
        Way::new(file("a.db"), file("b.db")),
        Way::new(file("i.db"), file("j.db")).with_events_to(fixture()),
        Way::new(file("k.db"), file("l.db")).with_events_from(fixture()),
        Way::new(file("m.db"), file("n.db")).with_events_from(fixture()).with_events_to(fixture()),
    ];
    if server().is_some() {
        let on_server = |name: &str| postgres(&folder.path().join(name));
        ways.push(Way::new(file("c.db"), on_server("d.db")));
        ways.push(Way::new(on_server("e.db"), file("f.db")));
        ways.push(Way::new(on_server("g.db"), on_server("h.db")));
        ways.push(Way::new(on_server("o.db"), file("p.db")).with_events_to(fixture()));
        ways.push(Way::new(file("q.db"), on_server("r.db")).with_events_from(fixture()));
    }
    ways
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_log_with_what_stands_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    for way in ways(&folder) {
        let Way { from, to, .. } = &way;
        filled(from).await;
        let mut steps = Vec::new();
        let copied = copy(from, to, &limits(), |step| steps.push(step)).await.unwrap();
        assert_eq!((copied.events, copied.copied), (50, 50), "{from} to {to}");
        assert_eq!(copied.moved, !way.keeps_positions(), "{from} to {to}");
        assert_eq!(log(to).await, log(from).await, "{from} to {to}");
        if way.keeps_positions() {
            assert_eq!(stored(to).await, stored(from).await, "{from} to {to}");
        }
        assert!(matches!(steps.first(), Some(CopyStep::Copied(7, _))), "{from} to {to}: {steps:?}");
        assert!(matches!(steps.last(), Some(CopyStep::Compared(50, _))), "{from} to {to}: {steps:?}");
        if from.event_store.is_none() {
            assert_eq!(steps.first(), Some(&CopyStep::Copied(7, Distance::Exact(50))));
        }
        let beside = ReadDb::open_beside_log(&to.database, &limits()).await.unwrap();
        let rows = beside.query("SELECT heard FROM event_consumers", &[]).await.unwrap();
        let heard: Position = rows[0].text(0).unwrap().parse().unwrap();
        let there = open(to).await.event_at(heard).await.unwrap().unwrap();
        assert_eq!(ids(&[there]), [9], "{from} to {to}: the webhook goes on where it was");
        let meta = Meta::new(beside.clone());
        assert_eq!(meta.get("clock").await.unwrap().as_deref(), Some("real"), "{from} to {to}");
        assert_eq!(meta.get("unreliable_events").await.unwrap().is_some(), way.keeps_positions(), "{from} to {to}");
        assert_eq!(meta.get(EVENT_LOG).await.unwrap().is_some(), to.event_store.is_some(), "{from} to {to}");
        let directory = Directory::new(beside);
        let now = "2026-03-02T00:00:00Z".parse().unwrap();
        let known = directory.authenticate("0123456789abcdef0123456789abcdef01234567", now).await.unwrap().unwrap();
        assert_eq!(known.username, "alice");

        // It lives on: versions, and positions that are numbers, go on where they were.
        append(to, 50..60).await;
        let whole = stored(to).await;
        assert_eq!((whole.len(), whole[59].version), (60, 12), "{from} to {to}");
        if to.event_store.is_none() {
            let places: Vec<u64> = whole.iter().map(|event| number(event.position)).collect();
            assert_eq!(places, (1..=60).collect::<Vec<_>>(), "{from} to {to}");
        }
        let again = copy(from, to, &limits(), |_| ()).await;
        assert!(matches!(again, Err(CopyError::Foreign(51 | 60))), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_cut_short_goes_on_and_one_that_was_overtaken_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    for way in ways(&folder) {
        let Way { from, to, .. } = &way;
        filled(from).await;
        let (of, into) = (from.clone(), to.clone());
        let cut = tokio::spawn(async move {
            let stop = |step| assert!(!matches!(step, CopyStep::Copied(21, _)), "cut short");
            copy(&of, &into, &limits(), stop).await
        });
        assert!(cut.await.unwrap_err().is_panic());
        assert_eq!(log(to).await.len(), 21, "{from} to {to}");
        append(from, 50..55).await;
        // An append whose answer is lost is sent again, and is one fact.
        if let (Some(_), Some(fixture)) = (&to.event_store, way.fixtures.last()) {
            fixture.plan([Fault::AppendLostAfter]);
        }
        let copied = copy(from, to, &limits(), |_| ()).await.unwrap();
        assert_eq!((copied.events, copied.copied), (55, 34), "{from} to {to}");
        let again = copy(from, to, &limits(), |_| ()).await.unwrap();
        assert_eq!((again.events, again.copied, again.sha256), (55, 0, copied.sha256), "{from} to {to}");
        assert_eq!(log(to).await, log(from).await, "{from} to {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_is_the_log_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| Place::from(Database::from(folder.path().join(name)));
    let fixture = esdb::Fixture::start();
    let (first, last) = (file("a.db"), file("c.db"));
    let between = Place { event_store: Some(fixture.address().parse().unwrap()), ..file("b.db") };
    filled(&first).await;
    let there = copy(&first, &between, &limits(), |_| ()).await.unwrap();
    let back = copy(&between, &last, &limits(), |_| ()).await.unwrap();
    assert_eq!((there.events, there.sha256), (back.events, back.sha256));
    assert_eq!(stored(&last).await, stored(&first).await, "positions too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| Place::from(Database::from(folder.path().join(name)));
    let fixture = esdb::Fixture::start();
    let in_store = |name: &str, prefix: &str| {
        let address = format!("{}&streamPrefix={prefix}", fixture.address());
        Place { event_store: Some(address.parse().unwrap()), ..file(name) }
    };
    let (own, elsewhere) = (file("own.db"), in_store("elsewhere.db", "one."));
    filled(&own).await;
    filled(&elsewhere).await;
    let fails = async |from: &Place, to: &Place| copy(from, to, &limits(), |_| ()).await.unwrap_err().to_string();
    let unnamed = fails(&file("elsewhere.db"), &file("new.db")).await;
    assert!(unnamed.contains("name it with --from-event-store"), "{unnamed}");
    let unnamed = fails(&own, &file("elsewhere.db")).await;
    assert!(unnamed.contains("name it with --to-event-store"), "{unnamed}");
    let needless = fails(&in_store("own.db", "one."), &file("new.db")).await;
    assert!(needless.contains("leave out --from-event-store"), "{needless}");
    let none = fails(&in_store("elsewhere.db", "two."), &file("new.db")).await;
    assert!(none.contains("holds no log"), "{none}");
    let taken = fails(&elsewhere, &in_store("own.db", "three.")).await;
    assert!(taken.contains("a log of its own"), "{taken}");
    let foreign = fails(&own, &in_store("new-beside.db", "one.")).await;
    assert!(foreign.contains("not the first"), "{foreign}");
    assert_eq!(log(&elsewhere).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_not_written_over_and_a_difference_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to, none] =
        ["a.db", "b.db", "none.db"].map(|name| Place::from(Database::from(folder.path().join(name))));
    filled(&from).await;
    append(&to, 100..103).await;
    let foreign = copy(&from, &to, &limits(), |_| ()).await;
    assert!(matches!(foreign, Err(CopyError::Foreign(3))), "{foreign:?}");
    assert_eq!(log(&to).await.len(), 3);
    let nothing = copy(&none, &from, &limits(), |_| ()).await;
    assert!(matches!(nothing, Err(CopyError::NoSource(_))), "{nothing:?}");

    let change = async |place: &Place, set: &str| {
        let mut file = SqliteConnectOptions::new().filename(place.database.file().unwrap()).connect().await.unwrap();
        let change = format!("DROP TRIGGER IF EXISTS events_append_only; UPDATE events SET {set} WHERE position = 10");
        sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(&mut file).await.unwrap();
    };
    let to = Place::from(Database::from(folder.path().join("c.db")));
    copy(&from, &to, &limits(), |_| ()).await.unwrap();
    change(&to, "reason = 'another'").await;
    let different = copy(&from, &to, &limits(), |_| ()).await;
    assert!(matches!(different, Err(CopyError::Different(_))), "{different:?}");

    // An event that is not the one that was committed to goes nowhere.
    change(&from, "payload = '10'").await;
    let fixture = esdb::Fixture::start();
    let event_store = Some(fixture.address().parse().unwrap());
    for to in [Place::from(Database::from(folder.path().join("d.db"))), Place { event_store, ..to.clone() }] {
        let to = Place { database: Database::from(folder.path().join("e.db")), ..to };
        let unsound = copy(&from, &to, &limits(), |_| ()).await;
        let Err(CopyError::Unreadable { position, problem }) = unsound else { panic!("{unsound:?}") };
        assert!(position == at(10) && problem.contains("committed to"), "{position} {problem}");
        assert_eq!(log(&to).await.len(), 7, "the batch with it was not written");
        std::fs::remove_file(folder.path().join("e.db")).unwrap();
    }
}
