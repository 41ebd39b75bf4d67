//! Stores in temporary directories, events, and a consumer whose tables tell what was applied.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sluice::events::envelope::{
    Actor, DecodeError, Metadata, NewEvent, Payload, RecordedEvent, StreamEvent, StreamName,
};
use sluice::limits::Limits;
use sluice::store::address::Database;
use sluice::store::consumer::{Consumer, ConsumerError, Decoded};
use sluice::store::memory::MemoryStore;
use sluice::store::postgres::PostgresStore;
use sluice::store::sql::{ReadDb, ReadTx, SqlValue, Target};
use sluice::store::sqlite::SqliteStore;
use sluice::store::{EventStore, Now};
use tempfile::TempDir;
use uuid::Uuid;

use super::esdb;
use crate::support::database::{database, postgres, server};
use crate::support::positions::number;

/// 2026-03-01T00:00:00Z.
pub fn start() -> DateTime<Utc> {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

/// A clock that moves by a microsecond each time somebody looks.
pub fn ticking() -> Now {
    let ticks = AtomicU64::new(0);
    Arc::new(move || start() + TimeDelta::microseconds(ticks.fetch_add(1, Ordering::Relaxed).try_into().unwrap()))
}

pub fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

/// Ids of events in tests begin here: a nil id is refused by every engine.
const FIRST_EVENT_ID: u128 = 0x5eed << 64;

/// The same number is the same fact.
pub fn event(number: u128) -> NewEvent {
    NewEvent {
        event_id: Uuid::from_u128(FIRST_EVENT_ID + number),
        event_type: if number.is_multiple_of(2) { "even.v1" } else { "odd.v1" },
        occurred_at: start(),
        metadata: Metadata {
            actor: Actor::SYSTEM,
            correlation_id: Uuid::from_u128(7),
            causation_id: None,
            reason: (number == 0).then(|| "because".into()),
        },
        payload: Payload::of_no_family(number.to_string()),
    }
}

pub fn events(numbers: std::ops::Range<u128>) -> Vec<NewEvent> {
    numbers.map(event).collect()
}

pub fn ids(events: &[RecordedEvent]) -> Vec<u128> {
    events.iter().map(|event| event.event_id.as_u128() - FIRST_EVENT_ID).collect()
}

/// Small enough that pages, groups and caches overflow in tests.
pub fn small_limits() -> Limits {
    Limits {
        group_events_max: 16,
        stream_heads_max: 8,
        read_streams_max: 3,
        tail_events_max: 10,
        consumer_batch_events: 7,
        foreign_poll: std::time::Duration::from_millis(5),
        consumer_retry_first: std::time::Duration::from_millis(1),
        consumer_retry_max: std::time::Duration::from_millis(4),
        ..Limits::default()
    }
}

/// A database in a directory of its own, which goes when it is dropped.
pub struct Site {
    dir: TempDir,
    pub limits: Limits,
}

impl Site {
    pub fn new(limits: Limits) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), limits }
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("site.db")
    }

    /// The same on the engine that the tests run on.
    pub async fn store(&self) -> Arc<dyn EventStore> {
        match database(&self.log_path()) {
            Database::Sqlite(_) => Arc::new(self.log().await),
            Database::Postgres(url) => {
                Arc::new(PostgresStore::open(&url, ticking(), self.limits.clone()).await.unwrap())
            }
        }
    }

    /// Another process on the same files is another store on the same files.
    pub async fn log(&self) -> SqliteStore {
        SqliteStore::open(&self.log_path(), ticking(), self.limits.clone()).await.unwrap()
    }

    /// The read models with the tables of `Ledger`.
    pub async fn read_db(&self) -> ReadDb {
        let db = ReadDb::open_read(&database(&self.log_path()), &self.limits).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        for statement in [
            "CREATE TABLE IF NOT EXISTS ledger (position BIGINT NOT NULL, number BIGINT NOT NULL)",
            "CREATE INDEX IF NOT EXISTS ledger_by_number ON ledger (number)",
            "CREATE TABLE IF NOT EXISTS other (number BIGINT NOT NULL)",
        ] {
            tx.execute(statement, &[]).await.unwrap();
        }
        tx.commit().await.unwrap();
        db
    }
}

/// What must stay alive as long as a store is used.
pub type Kept = Box<dyn Any + Send>;

/// Every engine that must keep the contract, empty: `EventStoreDB`'s client against the fixture always, and against a real
/// server if `SLUICE_TEST_ESDB` gives its address; `PostgreSQL` if `SLUICE_TEST_POSTGRES` names a server.
pub async fn engines(limits: Limits) -> Vec<(&'static str, Arc<dyn EventStore>, Kept)> {
    let site = Site::new(limits.clone());
    let sqlite = site.log().await;
    let fixture = esdb::Fixture::start();
    let on_fixture = esdb::store(&fixture, limits.clone());
    let mut engines: Vec<(&'static str, Arc<dyn EventStore>, Kept)> = vec![
        ("memory", Arc::new(MemoryStore::with_limits(ticking(), limits.clone())), Box::new(())),
        ("sqlite", Arc::new(sqlite), Box::new(site)),
        ("eventstoredb (fixture)", on_fixture, Box::new(fixture)),
    ];
    if server().is_some() {
        let folder = tempfile::tempdir().unwrap();
        let Database::Postgres(url) = postgres(&folder.path().join("site.db")) else { unreachable!() };
        let store = PostgresStore::open(&url, ticking(), limits.clone()).await.unwrap();
        engines.push(("postgres", Arc::new(store), Box::new(folder)));
    }
    if let Some(address) = esdb::live_address() {
        engines.push(("eventstoredb (live)", esdb::store_at(&address, limits), Box::new(())));
    }
    engines
}

/// The payload of a test event is a number.
pub fn decode(event: &RecordedEvent) -> Result<i64, DecodeError> {
    serde_json::from_str(&event.payload).map_err(|error| DecodeError::new(event, error))
}

/// Writes a row per event, with nothing that would forgive an event applied twice, and adds up in memory.
pub struct Ledger {
    pub sum: Arc<AtomicU64>,
    /// What is added to each number, so that a rebuild can be told from what was there.
    pub shift: i64,
}

impl Ledger {
    pub fn new() -> Self {
        Self { sum: Arc::default(), shift: 0 }
    }
}

#[async_trait]
impl Consumer<i64> for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn tables(&self) -> &'static [&'static str] {
        &["ledger"]
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<i64>]) -> Result<(), ConsumerError> {
        let position = |event: &Decoded<i64>| SqlValue::I64(number(event.recorded.position).try_into().unwrap());
        let rows = batch.iter().flat_map(|event| [position(event), SqlValue::I64(event.event + self.shift)]).collect();
        tx.insert_many("INSERT INTO ledger{g} (position, number)", 2, rows, "").await?;
        for event in batch {
            self.sum.fetch_add(event.event.try_into().unwrap(), Ordering::Relaxed);
        }
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        let row = tx.query_one("SELECT coalesce(sum(number), 0) FROM ledger{g}", &[]).await?;
        self.sum.store(row.unwrap().i64(0)?.try_into().unwrap(), Ordering::Relaxed);
        Ok(())
    }
}

/// The rows of the ledger: (position, number), in the order of positions.
pub async fn ledger(db: &ReadDb) -> Vec<(i64, i64)> {
    let rows = db.query("SELECT position, number FROM ledger{g} ORDER BY position", &[]).await.unwrap();
    rows.iter().map(|row| (row.i64(0).unwrap(), row.i64(1).unwrap())).collect()
}

/// What the ledger must hold for this log.
pub async fn expected_ledger(store: &dyn EventStore) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    let mut after = sluice::events::envelope::Position::START;
    loop {
        let page = store.read_all(after, 1000).await.unwrap();
        let Some(last) = page.last() else { return rows };
        after = last.position;
        rows.extend(page.iter().map(|event| (number(event.position).try_into().unwrap(), decode(event).unwrap())));
    }
}

/// Whether there are tables under construction.
pub async fn is_building(db: &ReadDb) -> bool {
    let mut tx = db.begin_on(Target::Building).await.unwrap();
    tx.query("SELECT count(*) FROM ledger{g}", &[]).await.is_ok()
}

/// Whole streams, in as many reads as it takes.
pub async fn whole_streams(store: &dyn EventStore, names: &[StreamName]) -> Vec<Vec<StreamEvent>> {
    let mut found = Vec::new();
    for (name, start) in names.iter().zip(store.read_streams(names).await.unwrap()) {
        let mut events = start.events;
        let mut whole = start.whole;
        while !whole {
            let more = store.read_stream(name, events.len() as u64, 1_000).await.unwrap();
            whole = more.is_empty();
            events.extend(more.iter().map(StreamEvent::from));
        }
        found.push(events);
    }
    found
}
