//! The event log and what is folded from it: the `EventStore` trait, its engines, and the loop that feeds consumers.
//!
//! An append touches one stream, atomically, and checks the version it was decided on. A read of the log in order never
//! passes a position that could still be filled later: each engine sees to that on its own.

pub mod address;
pub mod archive;
pub mod consumer;
pub mod copy;
pub mod eventstoredb;
pub mod lease;
pub mod memory;
pub mod meta;
pub mod postgres;
pub mod sql;
pub mod sqlite;

mod kinds;
mod outage;
mod prepare;
mod tail;

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::events::envelope::{NewEvent, Position, RecordedEvent, StreamEvent, StreamName, Version};

pub use outage::is_outage;

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

    /// Events of a stream after a version, in order; none if it does not exist.
    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError>;

    /// Whole streams in few round trips, in the order asked for, with no more than a fold needs; meant for streams that are
    /// short by design.
    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<Vec<StreamEvent>>, StoreError>;

    /// Events of the log after a position, in order. Nothing will ever appear before the last one returned.
    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError>;

    /// The position of the newest event; `START` in an empty log.
    async fn head(&self) -> Result<Position, StoreError>;

    /// Returns when there may be an event after the position, or when the time is over. A hint: callers read anyway. Also
    /// notices what another process appended, with some delay.
    async fn wait_beyond(&self, after: Position, at_most: Duration);

    /// How many events lie after one position up to another: exact in a log that counts, an estimate where positions are
    /// places in the server's own log. 0 only if there is none.
    fn events_between(&self, after: Position, to: Position) -> u64 {
        to.as_seq().saturating_sub(after.as_seq())
    }

    /// Lets go of memory that is held for speed alone; called when nothing happens for a while.
    async fn rest(&self) {}
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
    let there = store.read_stream(stream, after, ids.len()).await?;
    match there.last() {
        Some(last) if there.iter().map(|event| event.event_id).eq(ids.iter().copied()) => {
            Ok(Appended { version: last.version, position: last.position, duplicate: true })
        }
        _ => Err(conflict),
    }
}

/// Marks the requests of a bulk that name a stream a second time.
fn repeated_streams(requests: &[AppendRequest]) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(requests.len());
    requests.iter().map(|request| !seen.insert(request.stream.as_str())).collect()
}
