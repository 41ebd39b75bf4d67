//! The log for all readers except maintenance: it skips events that were set aside.
//!
//! A read of the whole log omits them; in its stream such an event keeps its place and version, under a type that no
//! family reads. Appends pass through. The guard also keeps the list of unsound events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::room::{Room, Rooms};
use super::sound::{SetAside, quarantine_stream};
use super::spent::Size;
use super::{AppendRequest, Appended, Distance, EventStore, ExpectedVersion, Numbers, StoreError};
use crate::events::envelope::{
    DecodeError, NewEvent, Position, RecordedEvent, SET_ASIDE, StreamName, StreamStart, Version,
};
use crate::limits::Limits;

/// How long what is known to be set aside is taken for all of it: another process may set something aside.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Events that are remembered as unreliable.
const NOTED_MAX: usize = 100;

/// A log, and the events in it to skip.
pub struct Guard {
    log: Arc<dyn EventStore>,
    set_aside: RwLock<Arc<SetAside>>,
    /// When it was read, and how far.
    looked: Mutex<(Option<Instant>, Version)>,
    noted: Mutex<BTreeMap<Position, DecodeError>>,
    tell: Box<dyn Fn(Vec<DecodeError>) + Send + Sync>,
    rooms: Rooms,
}

impl Guard {
    /// Guards a log. `tell` gets the list of unreliable events whenever it grows.
    pub fn new(
        log: Arc<dyn EventStore>,
        limits: &Limits,
        tell: impl Fn(Vec<DecodeError>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            log,
            set_aside: RwLock::default(),
            looked: Mutex::default(),
            noted: Mutex::default(),
            tell: Box::new(tell),
            rooms: Rooms::new(limits),
        }
    }

    /// The log as it is.
    pub fn log(&self) -> &Arc<dyn EventStore> {
        &self.log
    }

    /// Events that somebody could not rely on and that are not set aside by now.
    pub fn noted(&self) -> Vec<DecodeError> {
        let known = self.known();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, event| !known.holds_in(&event.stream, event.version));
        noted.values().cloned().collect()
    }

    fn known(&self) -> Arc<SetAside> {
        Arc::clone(&self.set_aside.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is set aside, read on from where it was known if that is some time ago.
    async fn set_aside(&self) -> Result<Arc<SetAside>, StoreError> {
        let after = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.0.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
                return Ok(self.known());
            }
            looked.0 = Some(Instant::now());
            looked.1
        };
        let read = self.log.read_stream(&quarantine_stream(), after, usize::MAX).await;
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = read.inspect_err(|_| looked.0 = None)?;
        if let Some(last) = newer.last() {
            let mut known = SetAside::clone(&self.known());
            for event in &newer {
                known.take(event);
            }
            *self.set_aside.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
            looked.1 = looked.1.max(last.version);
        }
        Ok(self.known())
    }

    /// A reader that acts on a set-aside event finds the other event set aside, even if it happened just now.
    fn read(&self, events: &[RecordedEvent]) {
        let quarantine = quarantine_stream();
        if events.iter().any(|event| event.stream == quarantine) {
            self.appended(&quarantine);
        }
    }

    /// What was just appended may set something aside.
    fn appended(&self, stream: &StreamName) {
        if *stream == quarantine_stream() {
            self.looked.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
        }
    }
}

#[async_trait]
impl EventStore for Guard {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> Result<Appended, StoreError> {
        let size = Size::of(&events);
        let appended = self.log.append(stream, expected, events).await;
        self.appended(stream);
        if appended.is_ok() {
            size.spend();
        }
        appended
    }

    async fn append_many(&self, requests: Vec<AppendRequest>) -> Vec<Result<Appended, StoreError>> {
        for request in &requests {
            self.appended(&request.stream);
        }
        let sizes: Vec<Size> = requests.iter().map(|request| Size::of(&request.events)).collect();
        let appended = self.log.append_many(requests).await;
        appended.iter().zip(sizes).filter(|(appended, _)| appended.is_ok()).for_each(|(_, size)| size.spend());
        appended
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let known = self.set_aside().await?;
        let mut events = self.log.read_stream(stream, after, limit).await?;
        if !known.is_empty() {
            for event in events.iter_mut().filter(|event| known.holds_in(stream, event.version)) {
                event.event_type = SET_ASIDE.into();
            }
        }
        Ok(events)
    }

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        let known = self.set_aside().await?;
        let mut found = self.log.read_streams(streams).await?;
        if !known.is_empty() {
            for (stream, start) in streams.iter().zip(&mut found) {
                for event in start.events.iter_mut().filter(|event| known.holds_in(stream, event.version)) {
                    event.event_type = SET_ASIDE.into();
                }
            }
        }
        Ok(found)
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let known = self.set_aside().await?;
        if known.is_empty() {
            let events = self.log.read_all(after, limit).await?;
            self.read(&events);
            return Ok(events);
        }
        let mut after = after;
        loop {
            let mut events = match self.log.read_all(after, limit).await {
                Err(error) => match self.numbers().map(|numbers| numbers.at(numbers.of(after) + 1)) {
                    // An event so damaged that it cannot even be fetched.
                    Some(next) if known.holds(next) => {
                        after = next;
                        continue;
                    }
                    _ => return Err(error),
                },
                Ok(events) => events,
            };
            let Some(last) = events.last().map(|event| event.position) else { return Ok(events) };
            self.read(&events);
            events.retain(|event| !known.is_set_aside(event));
            if !events.is_empty() {
                return Ok(events);
            }
            after = last;
        }
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.log.head().await
    }

    async fn wait_beyond(&self, after: Position, at_most: Duration) {
        self.log.wait_beyond(after, at_most).await;
    }

    async fn distance(&self, after: Position, to: Position) -> Distance {
        self.log.distance(after, to).await
    }

    async fn read_up_to(
        &self,
        after: Position,
        last: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        if self.set_aside().await?.is_empty() {
            return self.log.read_up_to(after, last, limit).await;
        }
        let mut events = self.read_all(after, limit).await?;
        events.retain(|event| event.position <= last);
        Ok(events)
    }

    fn look_again(&self) -> Duration {
        self.log.look_again()
    }

    fn numbers(&self) -> Option<Numbers> {
        self.log.numbers()
    }

    async fn read_back(&self, before: Option<Position>, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        if let Some(numbers) = self.numbers() {
            return super::numbers::read_back(self, numbers, before, limit).await;
        }
        let known = self.set_aside().await?;
        let mut before = before;
        loop {
            let mut events = self.log.read_back(before, limit).await?;
            let Some(oldest) = events.last().map(|event| event.position) else { return Ok(events) };
            events.retain(|event| !known.is_set_aside(event));
            if !events.is_empty() {
                return Ok(events);
            }
            before = Some(oldest);
        }
    }

    async fn event_at(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        self.log.event_at(position).await
    }

    async fn room(&self) -> Room {
        self.rooms.take().await
    }

    fn spare_room(&self) -> Option<Room> {
        self.rooms.spare()
    }

    async fn place_back(&self, events: u64) -> Result<Position, StoreError> {
        self.log.place_back(events).await
    }

    async fn newest(&self) -> Result<Option<RecordedEvent>, StoreError> {
        self.log.newest().await
    }

    fn note(&self, unsound: &DecodeError) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= NOTED_MAX || noted.contains_key(&unsound.position) {
            return;
        }
        tracing::error!(%unsound, "the log holds an event that cannot be relied on; `sluice doctor` says what to do");
        noted.insert(unsound.position, unsound.clone());
        (self.tell)(noted.values().cloned().collect());
    }

    async fn rest(&self) {
        self.log.rest().await;
    }
}
