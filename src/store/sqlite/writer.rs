//! The one thread that writes the log: it merges waiting appends into one transaction.
//!
//! Versions are checked against heads in memory. Inside the transaction, which holds the write lock, the writer first
//! checks whether another process has appended, and if so forgets its heads. An error before COMMIT means that nothing
//! was written; after an error of COMMIT itself the outcome is unknown.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Statement, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::connection::connect;
use super::heads::{Head, Heads};
use super::open::Access;
use super::rows::signed;
use crate::events::envelope::{Position, RecordedEvent, StreamName};
use crate::limits::Limits;
use crate::store::kinds::Kinds;
use crate::store::numbers::NUMBERS;
use crate::store::prepare::Prepared;
use crate::store::tail::Tail;
use crate::store::{Appended, Now, StoreError};

/// One outcome per request.
pub(super) type Outcomes = Vec<Result<Appended, StoreError>>;

/// What callers ask of the writer.
pub(super) enum Job {
    Append {
        requests: Vec<Prepared>,
        events: usize,
        reply: oneshot::Sender<Outcomes>,
    },
    /// Lets go of pages that are only kept for speed.
    Rest,
    Close(oneshot::Sender<()>),
}

pub(super) const INSERT_EVENT: &str = "INSERT INTO events (position, stream_id, version, kind_id, event_id, occurred_at, \
     recorded_at, actor_kind, actor_id, correlation_id, causation_id, reason, payload, salt, commitment) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";

const SELECT_HEAD: &str = "SELECT s.stream_id, \
     (SELECT e.version FROM events e WHERE e.stream_id = s.stream_id ORDER BY e.version DESC LIMIT 1) \
     FROM streams s WHERE s.name = ?1";

const SELECT_STATE: &str = "SELECT (SELECT coalesce(max(position), 0) FROM events), \
     (SELECT coalesce(max(stream_id), 0) FROM streams)";

pub(super) struct Writer {
    path: PathBuf,
    now: Now,
    limits: Limits,
    connection: Option<Connection>,
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
    NothingWritten(rusqlite::Error),
    NobodyKnows(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::NothingWritten(error)
    }
}

impl Writer {
    pub(super) fn connect(
        path: &Path,
        now: Now,
        limits: Limits,
        kinds: Kinds,
        tail: Arc<Tail>,
    ) -> Result<Self, StoreError> {
        let open = || {
            let connection = connect(path, Access::WriteDurably, &limits)?;
            let last = connection.query_row(SELECT_STATE, (), |row| row.get::<_, i64>(0))?;
            Ok((connection, last))
        };
        let (connection, last) = open().map_err(|error: rusqlite::Error| StoreError::Unavailable(Arc::new(error)))?;
        Ok(Self {
            path: path.to_owned(),
            now,
            connection: Some(connection),
            heads: Heads::new(limits.stream_heads_max),
            kinds,
            kind_ids: HashMap::new(),
            tail,
            head: watch::Sender::new(NUMBERS.at(last.unsigned_abs())),
            known: None,
            limits,
        })
    }

    /// Follows the newest position that this process knows to be committed.
    pub(super) fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Writes groups until it is told to close or nobody can ask any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(mut job) = queue.blocking_recv() else { break };
            let (mut requests, mut replies, mut size) = (Vec::new(), Vec::new(), 0);
            loop {
                match job {
                    Job::Append { requests: some, events, reply } => {
                        size += events;
                        requests.push(some);
                        replies.push(reply);
                    }
                    Job::Rest => {
                        if let Some(Err(error)) = self.connection.as_ref().map(shrink) {
                            tracing::warn!(%error, "the log's writer keeps its pages");
                        }
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
                for (reply, outcomes) in replies.into_iter().zip(self.write(requests)) {
                    // A caller that has gone away does not want to know.
                    let _ = reply.send(outcomes);
                }
            }
        }
        if let Some(connection) = self.connection.take()
            && let Err((_, error)) = connection.close()
        {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
        // Callers from here on learn that nothing was written.
        drop(queue);
        if let Some(done) = closing {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// One transaction for all requests; a failure is everybody's outcome.
    fn write(&mut self, requests: Vec<Vec<Prepared>>) -> Vec<Outcomes> {
        let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
        let failed = match self.try_write(requests) {
            Ok(outcomes) => return outcomes,
            Err(Failure::NothingWritten(error)) => StoreError::Unavailable(Arc::new(error)),
            Err(Failure::NobodyKnows(error)) => StoreError::Unknown(Arc::new(error)),
        };
        self.known = None;
        self.heads.clear();
        self.tail.clear();
        sizes.into_iter().map(|size| vec![Err(failed.clone()); size]).collect()
    }

    fn try_write(&mut self, requests: Vec<Vec<Prepared>>) -> Result<Vec<Outcomes>, Failure> {
        // Taken out and put back on success only: after a failure the next group gets a new connection.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path, Access::WriteDurably, &self.limits)?,
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut known = self.look(&transaction)?;
        let mut group = Group { heads: self.heads_of(&transaction, &requests)?, ..Group::default() };
        self.decide(requests, &mut known, &mut group);
        if group.rows.is_empty() {
            transaction.rollback()?;
        } else {
            let begun = std::time::Instant::now();
            insert(&transaction, &group)?;
            transaction.commit().map_err(Failure::NobodyKnows)?;
            crate::telemetry::metrics::committed(group.rows.len(), begun.elapsed());
        }
        self.connection = Some(connection);
        Ok(self.committed(known, group))
    }

    /// What the log looks like now, under the write lock.
    fn look(&mut self, connection: &Connection) -> Result<Known, rusqlite::Error> {
        let mut version = connection.prepare_cached("PRAGMA data_version")?;
        let data_version = version.query_row((), |row| row.get(0))?;
        if let Some(known) = self.known
            && known.data_version == data_version
        {
            return Ok(known);
        }
        let (last_position, last_stream_id) =
            connection.query_row(SELECT_STATE, (), |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?)))?;
        let known = Known { data_version, last_position, last_stream_id };
        // Others also write to this file without appending (the directory); then what is remembered still holds.
        if self.known.is_none_or(|before| before.last_position != last_position) {
            self.heads.clear();
            self.tail.clear();
            let mut kinds = connection.prepare("SELECT kind_id, name FROM event_kinds")?;
            let mut rows = kinds.query(())?;
            while let Some(row) = rows.next()? {
                let (kind_id, name): (i64, Arc<str>) = (row.get(0)?, Arc::from(row.get_ref(1)?.as_str()?));
                self.kinds.put(kind_id, Arc::clone(&name));
                self.kind_ids.insert(name, kind_id);
            }
        }
        self.known = Some(known);
        Ok(known)
    }

    /// The heads of all streams that the requests name; those not remembered are looked up.
    fn heads_of(
        &self,
        connection: &Connection,
        requests: &[Vec<Prepared>],
    ) -> Result<HashMap<StreamName, Head>, rusqlite::Error> {
        let mut heads = HashMap::new();
        let mut select = connection.prepare_cached(SELECT_HEAD)?;
        for request in requests.iter().flatten() {
            if heads.contains_key(&request.stream) {
                continue;
            }
            let head = if let Some(head) = self.heads.get(request.stream.as_str()) {
                head
            } else {
                let mut rows = select.query([request.stream.as_str()])?;
                match rows.next()? {
                    Some(row) => {
                        let version = row.get::<_, Option<i64>>(1)?.unwrap_or_default().unsigned_abs();
                        Head { stream_id: row.get(0)?, version }
                    }
                    None => Head::NONE,
                }
            };
            heads.insert(request.stream.clone(), head);
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
                    let position = NUMBERS.at(known.last_position);
                    let event = event.record(stream.clone(), head.version, position, event_type, recorded_at);
                    group.rows.push(PlacedEvent { event, stream_id: head.stream_id, kind_id });
                }
                group.heads.insert(stream, head);
                Ok(Appended { version: head.version, position: NUMBERS.at(known.last_position), duplicate: false })
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
            self.head.send_replace(NUMBERS.at(known.last_position));
        }
        group.outcomes
    }
}

/// Frees the pages that a connection has in memory, as far as it does not need them.
pub(in crate::store) fn shrink(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch("PRAGMA shrink_memory")
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

fn insert(connection: &Connection, group: &Group) -> Result<(), rusqlite::Error> {
    for (kind_id, name) in &group.new_kinds {
        let insert = "INSERT INTO event_kinds (kind_id, name) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.execute(params![kind_id, &**name])?;
    }
    let mut stream = connection.prepare_cached("INSERT INTO streams (stream_id, name) VALUES (?1, ?2)")?;
    for (stream_id, name) in &group.new_streams {
        stream.execute(params![stream_id, name.as_str()])?;
    }
    let mut statement = connection.prepare_cached(INSERT_EVENT)?;
    for PlacedEvent { event, stream_id, kind_id } in &group.rows {
        insert_event(&mut statement, event, *stream_id, *kind_id)?;
    }
    Ok(())
}

/// Writes an event with [`INSERT_EVENT`]; of one whose payload was disposed of, what is left.
pub(super) fn insert_event(
    statement: &mut Statement<'_>,
    event: &RecordedEvent,
    stream_id: i64,
    kind_id: i64,
) -> Result<(), rusqlite::Error> {
    let (metadata, kept) = (&event.metadata, !event.is_disposed());
    statement.execute(params![
        signed(NUMBERS.of(event.position)),
        stream_id,
        signed(event.version),
        kind_id,
        event.event_id.as_bytes(),
        event.occurred_at.timestamp_micros(),
        event.recorded_at.timestamp_micros(),
        metadata.actor.kind.code(),
        metadata.actor.id.as_ref().map(Uuid::as_bytes),
        metadata.correlation_id.as_bytes(),
        metadata.causation_id.as_ref().map(Uuid::as_bytes),
        metadata.reason.as_deref(),
        kept.then_some(&*event.payload),
        kept.then_some(event.salt),
        event.commitment,
    ])?;
    Ok(())
}
