//! The one task that writes the log: it merges the appends that are waiting into one transaction.
//!
//! Versions are checked against heads in memory; inside the transaction, which holds the write lock, the writer first
//! looks whether another process has appended and forgets what it knew if so. An error before COMMIT means that nothing was
//! written; an error of COMMIT itself means that nobody knows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::{mpsc, oneshot, watch};

use super::heads::{Head, Heads};
use super::open::{Access, options};
use super::rows::{Kinds, signed};
use super::tail::Tail;
use crate::events::envelope::{Position, RecordedEvent, StreamName};
use crate::limits::Limits;
use crate::store::prepare::Prepared;
use crate::store::sql::{chunk, insert_text};
use crate::store::{Appended, Now, StoreError};

/// One outcome per request.
pub(super) type Outcomes = Vec<Result<Appended, StoreError>>;

/// What callers ask of the writer.
pub(super) enum Job {
    Append { requests: Vec<Prepared>, events: usize, reply: oneshot::Sender<Outcomes> },
    Close(oneshot::Sender<()>),
}

const INSERT_EVENTS: &str = "INSERT INTO events (position, stream_id, version, kind_id, event_id, occurred_at, \
     recorded_at, actor_kind, actor_id, correlation_id, causation_id, reason, payload, salt, commitment)";
const EVENT_COLUMNS: usize = 15;

const SELECT_HEADS: &str = "SELECT j.value, s.stream_id, \
     (SELECT e.version FROM events e WHERE e.stream_id = s.stream_id ORDER BY e.version DESC LIMIT 1) \
     FROM json_each($1) j CROSS JOIN streams s ON s.name = j.value";

const SELECT_STATE: &str = "SELECT (SELECT coalesce(max(position), 0) FROM events), \
     (SELECT coalesce(max(stream_id), 0) FROM streams)";

pub(super) struct Writer {
    path: PathBuf,
    now: Now,
    limits: Limits,
    connection: Option<SqliteConnection>,
    heads: Heads,
    kinds: Kinds,
    kind_ids: HashMap<Arc<str>, i64>,
    tail: Arc<Tail>,
    head: watch::Sender<Position>,
    /// What the log looked like after our last transaction; none when it must be looked at again.
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// `SQLite`'s counter of commits by others.
    data_version: i64,
    last_position: u64,
    last_stream_id: i64,
}

/// An event with the numbers that its stream and type have in the tables.
struct PlacedEvent {
    event: RecordedEvent,
    stream_id: i64,
    kind_id: i64,
}

/// What one transaction is about to write.
#[derive(Default)]
struct Group {
    rows: Vec<PlacedEvent>,
    new_streams: Vec<(i64, StreamName)>,
    new_kinds: Vec<(i64, Arc<str>)>,
    /// Heads after this transaction, of the streams that its requests name.
    heads: HashMap<StreamName, Head>,
    outcomes: Vec<Outcomes>,
}

/// Why a group failed as a whole.
enum Failure {
    NothingWritten(sqlx::Error),
    NobodyKnows(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::NothingWritten(error)
    }
}

impl Writer {
    pub(super) async fn connect(
        path: &Path,
        now: Now,
        limits: Limits,
        kinds: Kinds,
        tail: Arc<Tail>,
    ) -> Result<Self, StoreError> {
        let connect = async {
            let mut connection = options(path, Access::WriteDurably, &limits).connect().await?;
            let row = sqlx::query(SELECT_STATE).fetch_one(&mut connection).await?;
            Ok((connection, row.try_get::<i64, _>(0)?))
        };
        let (connection, last) =
            connect.await.map_err(|error: sqlx::Error| StoreError::Unavailable(Arc::new(error)))?;
        Ok(Self {
            path: path.to_owned(),
            now,
            connection: Some(connection),
            heads: Heads::new(limits.stream_heads_max),
            kinds,
            kind_ids: HashMap::new(),
            tail,
            head: watch::Sender::new(Position::seq(last.unsigned_abs())),
            known: None,
            limits,
        })
    }

    /// Follows the newest position that this process knows to be committed.
    pub(super) fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Writes groups until it is told to close or nobody can ask any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(mut job) = queue.recv().await else { break };
            let (mut requests, mut replies, mut size) = (Vec::new(), Vec::new(), 0);
            loop {
                match job {
                    Job::Append { requests: some, events, reply } => {
                        size += events;
                        requests.push(some);
                        replies.push(reply);
                    }
                    Job::Close(done) => {
                        closing = Some(done);
                        break;
                    }
                }
                if size >= self.limits.group_events_max {
                    break;
                }
                let Ok(next) = queue.try_recv() else { break };
                job = next;
            }
            if !requests.is_empty() {
                for (reply, outcomes) in replies.into_iter().zip(self.write(requests).await) {
                    // A caller that has gone away does not want to know.
                    let _ = reply.send(outcomes);
                }
            }
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
        if let Some(done) = closing {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// One transaction for all requests; a failure is everybody's outcome.
    async fn write(&mut self, requests: Vec<Vec<Prepared>>) -> Vec<Outcomes> {
        let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
        let failed = match self.try_write(requests).await {
            Ok(outcomes) => return outcomes,
            Err(Failure::NothingWritten(error)) => StoreError::Unavailable(Arc::new(error)),
            Err(Failure::NobodyKnows(error)) => StoreError::Unknown(Arc::new(error)),
        };
        self.known = None;
        self.heads.clear();
        self.tail.clear();
        sizes.into_iter().map(|size| vec![Err(failed.clone()); size]).collect()
    }

    async fn try_write(&mut self, requests: Vec<Vec<Prepared>>) -> Result<Vec<Outcomes>, Failure> {
        // Taken out and put back on success only: after a failure the next group gets a new connection.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => options(&self.path, Access::WriteDurably, &self.limits).connect().await?,
        };
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut known = self.look(&mut transaction).await?;
        let mut group = Group { heads: self.heads_of(&mut transaction, &requests).await?, ..Group::default() };
        self.decide(requests, &mut known, &mut group);
        if group.rows.is_empty() {
            transaction.rollback().await?;
        } else {
            let begun = std::time::Instant::now();
            insert(&mut transaction, &group).await?;
            transaction.commit().await.map_err(Failure::NobodyKnows)?;
            crate::telemetry::metrics::committed(group.rows.len(), begun.elapsed());
        }
        self.connection = Some(connection);
        Ok(self.committed(known, group))
    }

    /// What the log looks like now, under the write lock.
    async fn look(&mut self, connection: &mut SqliteConnection) -> Result<Known, sqlx::Error> {
        let row = sqlx::query("PRAGMA data_version").fetch_one(&mut *connection).await?;
        let data_version = row.try_get(0)?;
        if let Some(known) = self.known
            && known.data_version == data_version
        {
            return Ok(known);
        }
        let row = sqlx::query(SELECT_STATE).fetch_one(&mut *connection).await?;
        let last_position = row.try_get::<i64, _>(0)?.unsigned_abs();
        let known = Known { data_version, last_position, last_stream_id: row.try_get(1)? };
        // Others also write to this file without appending (the directory); then what is remembered still holds.
        if self.known.is_none_or(|before| before.last_position != last_position) {
            self.heads.clear();
            self.tail.clear();
            for row in sqlx::query("SELECT kind_id, name FROM event_kinds").fetch_all(&mut *connection).await? {
                let (kind_id, name): (i64, Arc<str>) = (row.try_get(0)?, Arc::from(row.try_get::<&str, _>(1)?));
                self.kinds.put(kind_id, Arc::clone(&name));
                self.kind_ids.insert(name, kind_id);
            }
        }
        self.known = Some(known);
        Ok(known)
    }

    /// The heads of all streams that the requests name; those not remembered come with one query.
    async fn heads_of(
        &mut self,
        connection: &mut SqliteConnection,
        requests: &[Vec<Prepared>],
    ) -> Result<HashMap<StreamName, Head>, sqlx::Error> {
        let mut heads = HashMap::new();
        let mut missing = Vec::new();
        for request in requests.iter().flatten() {
            if heads.contains_key(&request.stream) {
                continue;
            }
            let head = self.heads.get(request.stream.as_str());
            if head.is_none() {
                missing.push(request.stream.as_str());
            }
            heads.insert(request.stream.clone(), head.unwrap_or(Head::NONE));
        }
        if !missing.is_empty() {
            let names = serde_json::Value::from(missing).to_string();
            for row in sqlx::query(SELECT_HEADS).bind(names).fetch_all(connection).await? {
                let head = Head { stream_id: row.try_get(1)?, version: row.try_get::<i64, _>(2)?.unsigned_abs() };
                if let Some(place) = heads.get_mut(row.try_get::<&str, _>(0)?) {
                    *place = head;
                }
            }
        }
        Ok(heads)
    }

    /// Checks each request against the heads as the requests before it leave them, and gives places to what passes.
    fn decide(&self, requests: Vec<Vec<Prepared>>, known: &mut Known, group: &mut Group) {
        let recorded_at = (self.now)();
        for job in requests {
            let outcomes = job.into_iter().map(|request| {
                let Prepared { stream, expected, events } = request;
                let mut head = group.heads.get(&stream).copied().unwrap_or(Head::NONE);
                if expected.version().is_some_and(|expected| expected != head.version) {
                    return Err(StoreError::Conflict { stream, expected, actual: head.version });
                }
                if head.stream_id == 0 {
                    known.last_stream_id += 1;
                    head.stream_id = known.last_stream_id;
                    group.new_streams.push((head.stream_id, stream.clone()));
                }
                for event in events {
                    head.version += 1;
                    known.last_position += 1;
                    let (kind_id, event_type) = kind(&self.kind_ids, &mut group.new_kinds, event.event_type);
                    let position = Position::seq(known.last_position);
                    let event = event.record(stream.clone(), head.version, position, event_type, recorded_at);
                    group.rows.push(PlacedEvent { event, stream_id: head.stream_id, kind_id });
                }
                group.heads.insert(stream, head);
                Ok(Appended { version: head.version, position: Position::seq(known.last_position), duplicate: false })
            });
            let outcomes = outcomes.collect();
            group.outcomes.push(outcomes);
        }
    }

    /// Remembers what is now in the log and lets readers know.
    fn committed(&mut self, known: Known, group: Group) -> Vec<Outcomes> {
        for (stream, head) in &group.heads {
            if head.stream_id != 0 {
                self.heads.put(stream.as_str(), *head);
            }
        }
        for (kind_id, name) in group.new_kinds {
            self.kinds.put(kind_id, Arc::clone(&name));
            self.kind_ids.insert(name, kind_id);
        }
        self.known = Some(known);
        if !group.rows.is_empty() {
            self.tail.extend(group.rows.into_iter().map(|row| row.event).collect());
            self.head.send_replace(Position::seq(known.last_position));
        }
        group.outcomes
    }
}

/// The number and the shared name of an event type; a type that nobody has used yet gets the next number.
fn kind(
    kind_ids: &HashMap<Arc<str>, i64>,
    new_kinds: &mut Vec<(i64, Arc<str>)>,
    event_type: &'static str,
) -> (i64, Arc<str>) {
    if let Some((name, kind_id)) = kind_ids.get_key_value(event_type) {
        return (*kind_id, Arc::clone(name));
    }
    if let Some((kind_id, name)) = new_kinds.iter().find(|(_, name)| **name == *event_type) {
        return (*kind_id, Arc::clone(name));
    }
    let last = kind_ids.values().chain(new_kinds.iter().map(|(kind_id, _)| kind_id)).max();
    let (kind_id, name) = (last.map_or(1, |last| last + 1), Arc::from(event_type));
    new_kinds.push((kind_id, Arc::clone(&name)));
    (kind_id, name)
}

async fn insert(connection: &mut SqliteConnection, group: &Group) -> Result<(), sqlx::Error> {
    for (kind_id, name) in &group.new_kinds {
        let insert = sqlx::query("INSERT INTO event_kinds (kind_id, name) VALUES ($1, $2)");
        insert.bind(*kind_id).bind(Arc::clone(name)).execute(&mut *connection).await?;
    }
    let mut streams = group.new_streams.as_slice();
    while !streams.is_empty() {
        let (some, rest) = streams.split_at(chunk(streams.len(), 2));
        let mut query = sqlx::query(insert_text("INSERT INTO streams (stream_id, name)", 2, some.len(), ""));
        for (stream_id, name) in some {
            query = query.bind(*stream_id).bind(name.as_str().to_owned());
        }
        query.execute(&mut *connection).await?;
        streams = rest;
    }
    let mut rows = group.rows.as_slice();
    while !rows.is_empty() {
        let (some, rest) = rows.split_at(chunk(rows.len(), EVENT_COLUMNS));
        let mut query = sqlx::query(insert_text(INSERT_EVENTS, EVENT_COLUMNS, some.len(), ""));
        for PlacedEvent { event, stream_id, kind_id } in some {
            let metadata = &event.metadata;
            query = query
                .bind(signed(event.position.as_seq()))
                .bind(*stream_id)
                .bind(signed(event.version))
                .bind(*kind_id)
                .bind(event.event_id)
                .bind(event.occurred_at.timestamp_micros())
                .bind(event.recorded_at.timestamp_micros())
                .bind(i64::from(metadata.actor.kind.code()))
                .bind(metadata.actor.id)
                .bind(metadata.correlation_id)
                .bind(metadata.causation_id)
                .bind(metadata.reason.clone())
                .bind(Arc::clone(&event.payload))
                .bind(event.salt.to_vec())
                .bind(event.commitment.to_vec());
        }
        query.execute(&mut *connection).await?;
        rows = rest;
    }
    Ok(())
}
