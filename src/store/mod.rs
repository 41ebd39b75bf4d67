//! The event log and what is folded from it: the `EventStore` trait, its engines, and the loop that feeds consumers.
//!
//! An append changes one stream, atomically, and checks the version on which the decision was based. An ordered read of
//! the log never passes a position that could still be filled later: each engine ensures that in its own way.

pub mod address;
pub mod archive;
pub mod consumer;
pub mod copy;
pub mod elsewhere;
pub mod eventstoredb;
pub mod guard;
pub mod lease;
pub mod memory;
pub mod meta;
pub mod postgres;
pub mod private;
pub mod sound;
pub mod spent;
pub mod sql;
pub mod sqlite;

mod kinds;
mod newer;
mod numbers;
mod outage;
mod prepare;
pub mod room;
mod tail;

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::events::envelope::{
    Actor, DecodeError, Metadata, NewEvent, NotReadBack, Position, RecordedEvent, StreamName, StreamStart, Version,
    damaged,
};

pub use newer::VersionError;
pub use numbers::{Distance, Known, Numbers};
pub use outage::{is_outage, may_pass};
use room::Room;

/// Tells a store what time it is; the store itself never looks at a clock.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What lies behind a store's failure. Shared, because one failed group answers many callers.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Which version of the stream an append was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Whatever it is. Such an append cannot be told from its own retry.
    Any,
    /// The stream does not exist.
    NoStream,
    /// The stream holds exactly this many events; 0 means the same as `NoStream`.
    Exact(Version),
}

impl ExpectedVersion {
    /// The version that the stream must have; none for `Any`.
    pub const fn version(self) -> Option<Version> {
        match self {
            Self::Any => None,
            Self::NoStream => Some(0),
            Self::Exact(version) => Some(version),
        }
    }
}

/// How long a waiter for events of a log goes without polling, unless the engine says otherwise.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One append of a bulk.
#[derive(Clone, Debug)]
pub struct AppendRequest {
    /// The stream to append to.
    pub stream: StreamName,
    /// The version it was decided on.
    pub expected: ExpectedVersion,
    /// What to append: at least one event.
    pub events: Vec<NewEvent>,
}

/// An append that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The version of the stream after the last of these events.
    pub version: Version,
    /// The position of the last of these events.
    pub position: Position,
    /// The same events were there already: this was a retry. An engine whose server answers a retry as it answered the first
    /// time (`EventStoreDB`) says so only where it knows.
    pub duplicate: bool,
}

/// Why a store did not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else appended first: load again, decide again.
    #[error("stream {stream} is at version {actual}, not at the expected {expected:?}")]
    Conflict {
        /// The stream.
        stream: StreamName,
        /// What the caller had decided on.
        expected: ExpectedVersion,
        /// What the stream is at.
        actual: Version,
    },
    /// Nothing was written; it may be tried again.
    #[error("the event store is not available")]
    Unavailable(#[source] Cause),
    /// It may have been written or not: try again with the same event ids and the same expected version.
    #[error("the event store did not say whether it wrote the events")]
    Unknown(#[source] Cause),
    /// Nothing was written: the work belongs to another process by now.
    #[error("another process has taken over the lease {0}")]
    LeaseLost(&'static str),
    /// The request can never succeed.
    #[error("the event store refuses the request: {0}")]
    Rejected(String),
    /// An event that nobody could read must not be stored; nothing was.
    #[error(transparent)]
    NotReadBack(#[from] NotReadBack),
    /// A stored event is unsound: its readers do not continue until it is set aside.
    #[error(transparent)]
    Unsound(Box<DecodeError>),
    /// A log that does not count was asked to read from a position at which no event stands.
    #[error("no event stands at the position that was asked for; positions are taken as this log gave them")]
    NoEventThere,
    /// What is stored makes no sense.
    #[error("the event store holds something unreadable: {0}")]
    Corrupt(String),
}

/// An immutable log of events in streams.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Appends events to one stream, all or none. The same event ids at the same exact version are answered as a duplicate.
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> Result<Appended, StoreError>;

    /// Appends to many streams, each at most once per call: one outcome per request, in their order; one that is refused
    /// does not hold up the others.
    async fn append_many(&self, requests: Vec<AppendRequest>) -> Vec<Result<Appended, StoreError>>;

    /// Events of a stream after a version, in order; none if it does not exist. A read ends with so many events, or with the
    /// event that reaches the bound in bytes: only an empty answer is the end of the stream.
    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError>;

    /// Streams from their first event on, in few round trips, in the order asked for, with no more than a fold needs; meant for
    /// streams that are short by design. All together bring no more than a read may, and the event that reaches the bound: what
    /// there is no room for is said not to be whole.
    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError>;

    /// Events of the log after a position, in order. Nothing will ever appear before the last one returned. A read ends with
    /// so many events, or with the event that reaches the bound in bytes: only an empty answer is the end of the log. A log that
    /// does not count may refuse a position at which no event stands.
    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError>;

    /// The position of the newest event; `START` in an empty log.
    async fn head(&self) -> Result<Position, StoreError>;

    /// Returns when there may be an event after the position, or when the time is over. A hint: callers read anyway. Also
    /// notices what another process appended, with some delay.
    async fn wait_beyond(&self, after: Position, at_most: Duration);

    /// How long a waiter for events goes without polling.
    fn look_again(&self) -> Duration {
        LOOK_AGAIN
    }

    /// The right to count with positions, where they are numbers without holes. None: they are places in a server's own
    /// log, and nobody can count with them.
    fn numbers(&self) -> Option<Numbers> {
        None
    }

    /// How many events lie after one position up to another.
    async fn distance(&self, after: Position, to: Position) -> Distance {
        match self.numbers() {
            Some(numbers) => Distance::Exact(numbers.of(to).saturating_sub(numbers.of(after))),
            None if to <= after => Distance::NONE,
            None => Distance::Unknown,
        }
    }

    /// Events of the log after a position, up to another and no further, in order.
    async fn read_up_to(
        &self,
        after: Position,
        last: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let there = self.numbers().map(|numbers| numbers.of(last).saturating_sub(numbers.of(after)));
        let there = there.and_then(|there| usize::try_from(there).ok()).unwrap_or(limit);
        let mut events = self.read_all(after, limit.min(there)).await?;
        events.retain(|event| event.position <= last);
        Ok(events)
    }

    /// Events of the log before a position, or up to its end, the newest first: so many at most, and fewer where their bytes
    /// reach a bound. Only an empty answer is the beginning of the log.
    async fn read_back(&self, before: Option<Position>, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        match self.numbers() {
            Some(numbers) => numbers::read_back(self, numbers, before, limit).await,
            None => Err(StoreError::Rejected("this log cannot be read from its end".to_owned())),
        }
    }

    /// The event at a position, if one stands there.
    async fn event_at(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        let Some(numbers) = self.numbers() else { return Ok(None) };
        let Some(before) = numbers.of(position).checked_sub(1) else { return Ok(None) };
        let next = self.read_all(numbers.at(before), 1).await?.into_iter().next();
        Ok(next.filter(|event| event.position == position))
    }

    /// Waits for memory to work through the events of one read.
    async fn room(&self) -> Room {
        Room::default()
    }

    /// The same, if there is some now.
    fn spare_room(&self) -> Option<Room> {
        Some(Room::default())
    }

    /// The position right before the newest so many events; the start where there are no more.
    async fn place_back(&self, events: u64) -> Result<Position, StoreError> {
        let head = self.head().await?;
        Ok(self.numbers().map_or(Position::START, |numbers| numbers.at(numbers.of(head).saturating_sub(events))))
    }

    /// The newest event; none in an empty log.
    async fn newest(&self) -> Result<Option<RecordedEvent>, StoreError> {
        let head = self.head().await?;
        self.event_at(head).await
    }

    /// Takes note of an event that somebody could not rely on, for those who look after the log.
    fn note(&self, unsound: &DecodeError) {
        let _ = unsound;
    }

    /// Lets go of memory that is held for speed alone; called when nothing happens for a while.
    async fn rest(&self) {}
}

/// So many events of a stream after a version, in as many reads as it takes; fewer if there are no more.
pub(crate) async fn read_exactly(
    store: &(impl EventStore + ?Sized),
    stream: &StreamName,
    after: Version,
    count: usize,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    while events.len() < count {
        let last = events.last().map_or(after, |event| event.version);
        let read = store.read_stream(stream, last, count - events.len()).await?;
        if read.is_empty() {
            break;
        }
        events.extend(read);
    }
    Ok(events)
}

/// Whether the stream holds exactly these events right after the expected version, and up to where: then a refused append
/// was a retry of one that had succeeded. Otherwise the conflict stands.
async fn settle_conflict(
    store: &(impl EventStore + ?Sized),
    conflict: StoreError,
    ids: &[uuid::Uuid],
) -> Result<Appended, StoreError> {
    let StoreError::Conflict { stream, expected, actual } = &conflict else { return Err(conflict) };
    let Some(after) = expected.version().filter(|after| after < actual) else { return Err(conflict) };
    let there = read_exactly(store, stream, after, ids.len()).await?;
    match there.last() {
        Some(last) if there.iter().map(|event| event.event_id).eq(ids.iter().copied()) => {
            Ok(Appended { version: last.version, position: last.position, duplicate: true })
        }
        _ => Err(conflict),
    }
}

/// What a store gives of an event that is there and makes no sense.
fn damaged_event(
    position: Position,
    stream: StreamName,
    version: Version,
    event_type: Arc<str>,
    problem: &str,
) -> RecordedEvent {
    let metadata = Metadata { actor: Actor::SYSTEM, correlation_id: Uuid::nil(), causation_id: None, reason: None };
    RecordedEvent {
        position,
        stream,
        version,
        event_id: Uuid::nil(),
        event_type,
        occurred_at: DateTime::UNIX_EPOCH,
        recorded_at: DateTime::UNIX_EPOCH,
        metadata,
        payload: damaged(problem),
        salt: [0; 16],
        commitment: [0; 32],
    }
}

/// Marks the requests of a bulk that name a stream a second time.
fn repeated_streams(requests: &[AppendRequest]) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(requests.len());
    requests.iter().map(|request| !seen.insert(request.stream.as_str())).collect()
}
