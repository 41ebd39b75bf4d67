//! Keeps the registry in step with the log, whoever appends to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::events::agent::AgentEvent;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::{Position, RecordedEvent};
use crate::events::registry::RegistryEvent;
use crate::store::{EventStore, StoreError};

/// Events read at a time.
const BATCH: usize = 2_000;

/// How long to wait for news before looking anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The registry cannot follow the log.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The log cannot be read.
    #[error("the registry cannot read the event log")]
    Store(#[from] StoreError),
    /// An event of the registry cannot be read.
    #[error("event {event_type} at position {position} is unreadable to the registry")]
    Event {
        /// Stored type name.
        event_type: String,
        /// Where it stands.
        position: Position,
        /// What the decoder said.
        source: serde_json::Error,
    },
}

/// Reads the log after the registry's position and folds what concerns it.
pub struct Follower {
    store: Arc<dyn EventStore>,
    registry: Arc<Registry>,
    // One reader at a time: the position belongs to the state that it describes.
    reading: Mutex<()>,
    /// Callers that wanted to be up to date so far, and of how many a read has begun after they came.
    asked: AtomicU64,
    answered: AtomicU64,
    /// Changes of settings in the log so far.
    settings: AtomicU64,
}

impl Follower {
    /// Follows `store` into `registry`.
    pub fn new(store: Arc<dyn EventStore>, registry: Arc<Registry>) -> Self {
        let (asked, answered, settings) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { store, registry, reading: Mutex::new(()), asked, answered, settings }
    }

    /// Changes of settings that were read so far.
    pub fn settings_seen(&self) -> u64 {
        self.settings.load(Ordering::Acquire)
    }

    /// Reads on to the head of the log.
    pub async fn catch_up(&self) -> Result<(), FollowError> {
        let _reading = self.reading.lock().await;
        self.read_on().await
    }

    /// The same for many callers at once: one read serves all who came before it began.
    pub async fn fresh(&self) -> Result<(), FollowError> {
        let mine = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let _reading = self.reading.lock().await;
        if self.answered.load(Ordering::Acquire) >= mine {
            return Ok(());
        }
        let all = self.asked.load(Ordering::Acquire);
        self.read_on().await?;
        self.answered.fetch_max(all, Ordering::AcqRel);
        Ok(())
    }

    async fn read_on(&self) -> Result<(), FollowError> {
        loop {
            let after = self.registry.read().position();
            let events = self.store.read_all(after, BATCH).await?;
            let Some(last) = events.last() else { return Ok(()) };
            let position = last.position;
            self.fold(&events)?;
            // A short page is not the end: a store may answer with what it has at hand, before what others appended.
            self.registry.write().set_position(position);
        }
    }

    /// Follows until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.catch_up().await {
                tracing::error!(error = &error as &dyn std::error::Error, "the registry is behind the log");
                tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(LOOK_AGAIN) => {} }
            }
            let after = self.registry.read().position();
            tokio::select! { () = stop.cancelled() => {}, () = self.store.wait_beyond(after, LOOK_AGAIN) => {} }
        }
    }

    fn fold(&self, events: &[RecordedEvent]) -> Result<(), FollowError> {
        let unreadable = |event: &RecordedEvent, source| FollowError::Event {
            event_type: event.event_type.to_string(),
            position: event.position,
            source,
        };
        for event in events {
            match &*event.event_type {
                "books_opened.v1" => {
                    if let Some((resource, month)) = book_of(event.stream.as_str()) {
                        self.registry.write().opened(resource, month);
                    }
                }
                "resource_registered.v1" | "resource_state_changed.v1" => {
                    let decoded = AllocationEvent::decode(&event.event_type, &event.payload);
                    if let (Some(decoded), Some((resource, month))) = (decoded, book_of(event.stream.as_str())) {
                        let decoded = decoded.map_err(|e| unreadable(event, e))?;
                        self.registry.write().apply_allocation(resource, month, &decoded);
                    }
                }
                "setting_changed.v1" => drop(self.settings.fetch_add(1, Ordering::AcqRel)),
                other => {
                    if let Some(decoded) = RegistryEvent::decode(other, &event.payload) {
                        let decoded = decoded.map_err(|e| unreadable(event, e))?;
                        self.registry.write().apply(&decoded, event.version, event.occurred_at);
                    } else if let Some(decoded) = AgentEvent::decode(other, &event.payload) {
                        let decoded = decoded.map_err(|e| unreadable(event, e))?;
                        self.registry.write().apply_agent(&decoded, event.version, event.occurred_at);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Resource and month of an allocation book's stream name.
pub fn book_of(stream: &str) -> Option<(ResourceId, Month)> {
    let rest = stream.strip_prefix("allocation-")?;
    let (resource, month) = rest.split_at_checked(32)?;
    Some((resource.parse().ok()?, month.strip_prefix('-')?.parse().ok()?))
}
