//! Counts what a task appends to the log, for the caller who caused it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::events::envelope::NewEvent;

tokio::task_local! {
    static SPENT: Arc<Spent>;
}

/// Events that were appended, and their bytes.
#[derive(Debug, Default)]
pub struct Spent {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Spent {
    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Bytes of their payloads so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts what a task appends while it does some work.
    pub async fn counting<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        SPENT.scope(self, work).await
    }
}

/// The size of an append, which is counted once it is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    events: u64,
    bytes: u64,
}

impl Size {
    pub(super) fn of(events: &[NewEvent]) -> Self {
        let bytes = events.iter().map(|event| event.payload.as_str().len() as u64).sum();
        Self { events: events.len() as u64, bytes }
    }

    /// Counts it for the task that appended it, if that counts.
    pub(super) fn spend(self) {
        // A task that does not count has not begun to.
        let _ = SPENT.try_with(|spent| {
            spent.events.fetch_add(self.events, Ordering::Relaxed);
            spent.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        });
    }
}
