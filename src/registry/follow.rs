//! Keeps the registry up to date with the log, whichever process appends to it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::events::agent::AgentEvent;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::{DecodeError, RecordedEvent};
use crate::events::registry::RegistryEvent;
use crate::events::site::SiteEvent;
use crate::store::{EventStore, StoreError};
use crate::supervise::Worker;

/// Events read at a time.
const BATCH: usize = 2_000;

/// The registry cannot follow the log.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The log cannot be read.
    #[error("the registry cannot read the event log")]
    Store(#[from] StoreError),
    /// An event of the registry cannot be relied on.
    #[error("the registry cannot go on: set the event aside (sluice store quarantine), or restore a backup")]
    Event(#[from] DecodeError),
}

impl FollowError {
    /// Of a read of the log that may have met an event that cannot be read.
    pub fn from_read(error: StoreError) -> Self {
        match error {
            StoreError::Unsound(unsound) => Self::Event(*unsound),
            error => Self::Store(error),
        }
    }
}

/// Something that has to be read before the registry is known; again, until it can be.
pub type Before = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), FollowError>> + Send>> + Send + Sync>;

/// Reads the log after the registry's position and folds what concerns it.
///
/// It stops at an unreadable event: the registry stays at its position, and reports that to every decision.
pub struct Follower {
    store: Arc<dyn EventStore>,
    registry: Arc<Registry>,
    // One reader at a time: the position belongs to the state that it describes.
    reading: Mutex<()>,
    before: Mutex<Vec<Before>>,
    /// The event that the registry does not get past.
    stands_at: std::sync::Mutex<Option<DecodeError>>,
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
        let (reading, before, stands_at) = (Mutex::new(()), Mutex::default(), std::sync::Mutex::default());
        Self { store, registry, reading, before, stands_at, asked, answered, settings }
    }

    /// Has something read before anything else is folded.
    pub async fn first(&self, before: Before) {
        self.before.lock().await.push(before);
    }

    /// The event that the registry did not get past when it last tried, if there is one. What it says of later changes is
    /// missing.
    pub fn stands_at(&self) -> Option<DecodeError> {
        self.stands_at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing if everything that was recorded is known as far as this process has read.
    ///
    /// # Errors
    /// The registry stands at an event that it cannot read.
    pub fn is_known(&self) -> Result<(), FollowError> {
        self.stands_at().map_or(Ok(()), |unsound| Err(FollowError::Event(unsound)))
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
        let read = self.try_to_read_on().await;
        let stands_at = match &read {
            Ok(()) => None,
            Err(FollowError::Event(unsound)) => Some(unsound.clone()),
            // A log that does not answer says nothing of its events.
            Err(FollowError::Store(_)) => return read,
        };
        *self.stands_at.lock().unwrap_or_else(PoisonError::into_inner) = stands_at;
        read
    }

    async fn try_to_read_on(&self) -> Result<(), FollowError> {
        let mut before = self.before.lock().await;
        while let Some(next) = before.last() {
            next().await?;
            before.pop();
        }
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
    pub async fn run(&self, stop: CancellationToken, worker: &Worker) {
        while !stop.is_cancelled() {
            match worker.pass(self.catch_up()).await {
                Ok(()) => worker.goes_on(),
                Err(pause) => {
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
                    continue;
                }
            }
            let after = self.registry.read().position();
            tokio::select! { () = stop.cancelled() => {}, () = self.store.wait_beyond(after, self.store.look_again()) => {} }
        }
    }

    /// Folds events up to the first that cannot be read.
    fn fold(&self, events: &[RecordedEvent]) -> Result<(), FollowError> {
        let mut last = None;
        for event in events {
            if let Err(error) = self.fold_one(event) {
                if let Some(last) = last {
                    self.registry.write().set_position(last);
                }
                return Err(error);
            }
            last = Some(event.position);
        }
        Ok(())
    }

    fn fold_one(&self, event: &RecordedEvent) -> Result<(), FollowError> {
        let unreadable = |problem: serde_json::Error| {
            let unsound = DecodeError::new(event, problem);
            self.store.note(&unsound);
            FollowError::Event(unsound)
        };
        match &*event.event_type {
            "books_opened.v1" => {
                if let Some((resource, month)) = book_of(event.stream.as_str()) {
                    self.registry.write().opened(resource, month);
                }
            }
            "resource_registered.v1" | "resource_state_changed.v1" => {
                let decoded = AllocationEvent::decode(&event.event_type, &event.payload);
                if let (Some(decoded), Some((resource, month))) = (decoded, book_of(event.stream.as_str())) {
                    let decoded = decoded.map_err(unreadable)?;
                    self.registry.write().apply_allocation(resource, month, &decoded);
                }
            }
            "setting_changed.v1" => {
                // The settings read this event themselves; an unreadable one must not be skipped here.
                SiteEvent::decode(&event.event_type, &event.payload).transpose().map_err(unreadable)?;
                self.settings.fetch_add(1, Ordering::AcqRel);
            }
            other => {
                if let Some(decoded) = RegistryEvent::decode(other, &event.payload) {
                    let decoded = decoded.map_err(unreadable)?;
                    self.registry.write().apply(&decoded, event.version, event.occurred_at);
                } else if let Some(decoded) = AgentEvent::decode(other, &event.payload) {
                    let decoded = decoded.map_err(unreadable)?;
                    self.registry.write().apply_agent(&decoded, event.version, event.occurred_at);
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
    Some((resource.parse().ok()?, Month::read_recorded(month.strip_prefix('-')?)?))
}
