//! Changes behind the back of each store. The event in question is the eighth, number 7.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice::events::envelope::{NewEvent, Position, RecordedEvent, StreamName, StreamStart, Version};
use sluice::store::{AppendRequest, Appended, EventStore, ExpectedVersion, Numbers, StoreError};
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use super::bed::{Bed, Engine};
use crate::store::support::event;
use crate::support::database::connect;
use crate::support::positions::at;

/// What somebody does to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A byte of a payload.
    Payload,
    /// A part of a header.
    Header,
    /// An event goes and leaves a hole, where the log counts.
    Delete,
    /// An event goes, and those behind it move up.
    Close,
    /// An event comes between two others.
    Insert,
    /// Two events take each other's place.
    Swap,
    /// All events from number 25 on go.
    Truncate,
}

pub const ALL: [Change; 7] =
    [Change::Payload, Change::Header, Change::Delete, Change::Close, Change::Insert, Change::Swap, Change::Truncate];

/// The columns of an event but its position.
const REST: &str = "kind_id, event_id, occurred_at, recorded_at, actor_kind, actor_id, correlation_id, causation_id, reason, \
                    payload, salt, commitment";

/// The change as SQL, and by how much the log gets longer.
fn sql(change: Change) -> (String, i64) {
    let moved = |by: i64, from: u32| {
        format!(
            "UPDATE events SET position = position + 100000 WHERE position >= {from}; \
             UPDATE events SET position = position - 100000 + {by} WHERE position >= 100000;"
        )
    };
    match change {
        Change::Payload => ("UPDATE events SET payload = '8' WHERE position = 8;".to_owned(), 0),
        Change::Header => ("UPDATE events SET reason = 'another' WHERE position = 8;".to_owned(), 0),
        Change::Delete => ("DELETE FROM events WHERE position = 8;".to_owned(), 0),
        Change::Close => (format!("DELETE FROM events WHERE position = 8; {}", moved(-1, 9)), -1),
        Change::Insert => {
            let insert = format!(
                "INSERT INTO events (position, stream_id, version, {REST}) SELECT 8, stream_id, 999, {REST} FROM events \
                 WHERE position = 3;"
            );
            (format!("{} {insert}", moved(1, 8)), 1)
        }
        Change::Swap => (
            "UPDATE events SET position = 100000 WHERE position = 8; UPDATE events SET position = 8 WHERE position = 10; \
             UPDATE events SET position = 10 WHERE position = 100000;"
                .to_owned(),
            0,
        ),
        Change::Truncate => ("DELETE FROM events WHERE position > 25;".to_owned(), -13),
    }
}

impl Bed {
    /// Changes the log.
    pub async fn change(&self, change: Change) {
        match &self.engine {
            Engine::Memory(_, planned) => *planned.lock().unwrap() = Some(change),
            Engine::Sqlite(file) => {
                let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
                let triggers: Vec<(String,)> = sqlx::query_as("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                    .fetch_all(&mut raw)
                    .await
                    .unwrap();
                let drops = triggers.iter().map(|(name,)| format!("DROP TRIGGER {name};")).collect::<Vec<_>>().concat();
                let all = format!("PRAGMA foreign_keys = OFF; {drops} {}", sql(change).0);
                sqlx::raw_sql(AssertSqlSafe(all)).execute(&mut raw).await.unwrap();
                raw.close().await.unwrap();
            }
            Engine::Postgres(url) => {
                let (sql, longer) = sql(change);
                let all = format!(
                    "SET session_replication_role = replica; SET search_path = sluice; {sql} \
                     UPDATE log_head SET position = position + {longer};"
                );
                sqlx::raw_sql(AssertSqlSafe(all)).execute(&mut connect(url).await).await.unwrap();
            }
            Engine::EventStore(fixture) => on_fixture(fixture, change),
        }
    }
}

/// The same in the fixture, where an event that goes becomes one of another program's.
fn on_fixture(fixture: &crate::store::esdb::Fixture, change: Change) {
    let mut log = fixture.log();
    let places: Vec<usize> =
        (0..log.records.len()).filter(|place| log.records[*place].stream.starts_with("sluice.")).collect();
    let of =
        |number: u128| places.iter().copied().find(|place| log.records[*place].id == event(number).event_id).unwrap();
    let (third, eighth, tenth) = (of(2), of(7), of(9));
    match change {
        Change::Payload => log.records[eighth].data = "8".into(),
        Change::Header => {
            let header = String::from_utf8(log.records[eighth].custom_metadata.to_vec()).unwrap();
            let changed = header.replacen("\"system\"", "\"staff\"", 1);
            assert_ne!(header, changed);
            log.records[eighth].custom_metadata = changed.into();
        }
        Change::Delete | Change::Close => "another-program".clone_into(&mut log.records[eighth].stream),
        Change::Insert => {
            // What a server wrote to a stream of its own, right before the event.
            let mut copy = log.records[third].clone();
            let there = &mut log.records[eighth - 1];
            assert!(!there.stream.starts_with("sluice."));
            (copy.commit, copy.prepare, copy.revision, copy.id) =
                (there.commit, there.prepare, 998, Uuid::from_u128(999));
            *there = copy;
        }
        Change::Swap => {
            let (one, other) = (log.records[eighth].clone(), log.records[tenth].clone());
            for (place, mut record) in [(eighth, other), (tenth, one)] {
                (record.commit, record.prepare) = (log.records[place].commit, log.records[place].prepare);
                log.records[place] = record;
            }
        }
        Change::Truncate => log.cut(places[25]),
    }
}

/// A log in memory as somebody changed it.
pub struct Edited {
    inner: Arc<dyn EventStore>,
    events: Vec<RecordedEvent>,
}

impl Edited {
    pub async fn of(inner: Arc<dyn EventStore>, change: Change) -> Self {
        let mut events = inner.read_all(Position::START, 1_000).await.unwrap();
        match change {
            Change::Payload => events[7].payload = "8".into(),
            Change::Header => events[7].metadata.reason = Some("another".into()),
            Change::Delete | Change::Close => drop(events.remove(7)),
            Change::Insert => {
                let copy = RecordedEvent { version: 999, ..events[2].clone() };
                events.insert(7, copy);
            }
            Change::Swap => events.swap(7, 9),
            Change::Truncate => events.truncate(25),
        }
        if change != Change::Delete {
            for (number, event) in events.iter_mut().enumerate() {
                event.position = at(number as u64 + 1);
            }
        }
        Self { inner, events }
    }
}

#[async_trait]
impl EventStore for Edited {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> Result<Appended, StoreError> {
        self.inner.append(stream, expected, events).await
    }

    async fn append_many(&self, requests: Vec<AppendRequest>) -> Vec<Result<Appended, StoreError>> {
        self.inner.append_many(requests).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let of = |event: &&RecordedEvent| event.stream == *stream && event.version > after;
        Ok(self.events.iter().filter(of).take(limit).cloned().collect())
    }

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        self.inner.read_streams(streams).await
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        Ok(self.events.iter().filter(|event| event.position > after).take(limit).cloned().collect())
    }

    async fn head(&self) -> Result<Position, StoreError> {
        Ok(self.events.last().map(|event| event.position).unwrap_or_default())
    }

    async fn wait_beyond(&self, after: Position, at_most: Duration) {
        self.inner.wait_beyond(after, at_most).await;
    }

    fn numbers(&self) -> Option<Numbers> {
        self.inner.numbers()
    }
}
