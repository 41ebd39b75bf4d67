//! Consumers: everything that is folded from the log, and the contract between them and the loop that feeds them.
//!
//! A consumer changes its tables in the given transaction; the loop stores its progress in the same transaction. So
//! every event is applied once: not twice after a crash, and not twice by two processes.

mod batches;
mod checkpoint;
mod follow;
mod rebuild;
mod run;

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;

pub use checkpoint::{made_from, set_made_from, stood};
pub use rebuild::RebuildProgress;
pub use run::ConsumerLoop;

use super::sql::{ReadTx, SqlError};
use super::{Distance, StoreError};
use crate::events::envelope::DecodeError;
use crate::events::envelope::{Position, RecordedEvent};

/// An event with its payload read; that is done once per batch, for all consumers.
#[derive(Clone, Debug)]
pub struct Decoded<E> {
    /// The envelope.
    pub recorded: RecordedEvent,
    /// What it says.
    pub event: E,
}

/// Reads the payload of an event.
pub type Decode<E> = fn(&RecordedEvent) -> Result<E, DecodeError>;

/// Why a consumer could not apply a batch or load its state. It is tried again, after a pause that grows.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// Its tables failed.
    #[error("a consumer's tables failed")]
    Sql(#[from] SqlError),
    /// The log failed.
    #[error("a consumer could not read the log")]
    Store(#[from] StoreError),
    /// The next event makes no sense to this program.
    #[error("a consumer cannot go on")]
    Decode(#[from] DecodeError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// A fold of the log into tables, and perhaps into memory.
#[async_trait]
pub trait Consumer<E: Send + Sync>: Send {
    /// The name of its checkpoint; never changes.
    fn name(&self) -> &'static str;

    /// The tables that it alone writes. Its statements name them with `{g}` after the name, so that a rebuild can fill
    /// others beside them.
    fn tables(&self) -> &'static [&'static str];

    /// Whether events of this type can matter to it. A batch without one passes it by.
    fn interested(&self, event_type: &str) -> bool {
        let _ = event_type;
        true
    }

    /// Applies events in order; they follow those applied before without a hole. Nothing with an effect outside the
    /// transaction happens here. After an error, or when the commit fails, `reload` comes before the next `apply`.
    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<E>]) -> Result<(), ConsumerError>;

    /// Forgets what is in memory and loads it from the tables: at the start, after a failure, and when another process has
    /// applied events or rebuilt the tables.
    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        let _ = tx;
        Ok(())
    }

    /// What `apply` or `reload` did is committed: the moment to show it to readers of its memory.
    fn committed(&mut self) {}
}

/// How far a consumer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: &'static str,
    /// The last event it has applied.
    pub position: Position,
    /// How far it is behind the head of the log.
    pub lag: Distance,
    /// Why it has stalled, if it has.
    pub error: Option<Arc<str>>,
}

/// Where a test may stop the loop as a crash would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Everything is written, nothing is committed.
    BeforeCommit,
    /// Everything is committed, nobody has been told.
    AfterCommit,
}

/// Says whether to fail at a point; for tests.
pub type Faults = Arc<dyn Fn(FaultPoint) -> bool + Send + Sync>;

/// Why the loop, or a rebuild, stopped.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The log failed.
    #[error("the consumers could not read the log")]
    Store(#[from] StoreError),
    /// The read models' database failed.
    #[error("the consumers could not write their tables")]
    Sql(#[from] SqlError),
    /// A consumer has stalled.
    #[error("consumer {name} stands still: {reason}")]
    Stalled {
        /// Its name.
        name: &'static str,
        /// Its error, with causes.
        reason: Arc<str>,
    },
    /// Somebody else has begun to rebuild the same consumer.
    #[error("another rebuild of {0} has begun")]
    Superseded(&'static str),
    /// A test asked for it.
    #[error("failed on purpose at {0:?}")]
    Injected(FaultPoint),
}

/// An error with all that lies behind it, in one line.
fn chain(error: &dyn std::error::Error) -> Arc<str> {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a String does not fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text.into()
}
