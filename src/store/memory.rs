//! The log in memory: for tests, and as the simplest specification of a store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::numbers::{NUMBERS, Numbers};
use super::prepare::Prepared;
use super::room::{Measure, cut};
use super::{AppendRequest, Appended, EventStore, ExpectedVersion, Now, StoreError, repeated_streams, settle_conflict};
use crate::events::envelope::{NewEvent, Position, RecordedEvent, StreamEvent, StreamName, StreamStart, Version};
use crate::limits::Limits;

/// A log that lives as long as the process.
pub struct MemoryStore {
    inner: Mutex<Inner>,
    head: watch::Sender<Position>,
    limits: Limits,
    now: Now,
}

#[derive(Default)]
struct Inner {
    events: Vec<RecordedEvent>,
    /// Where the events of a stream stand in `events`.
    streams: HashMap<StreamName, Vec<usize>>,
    event_types: HashMap<&'static str, Arc<str>>,
}

impl Inner {
    fn append(&mut self, request: Prepared, now: &Now) -> Result<Appended, StoreError> {
        let Prepared { stream, expected, events } = request;
        let mut version = self.streams.get(&stream).map_or(0, Vec::len) as Version;
        if expected.version().is_some_and(|expected| expected != version) {
            return Err(StoreError::Conflict { stream, expected, actual: version });
        }
        let places = self.streams.entry(stream.clone()).or_default();
        let recorded_at = now();
        for event in events {
            version += 1;
            places.push(self.events.len());
            let event_type =
                self.event_types.entry(event.event_type).or_insert_with(|| event.event_type.into()).clone();
            let position = NUMBERS.at(self.events.len() as u64 + 1);
            self.events.push(event.record(stream.clone(), version, position, event_type, recorded_at));
        }
        Ok(Appended { version, position: NUMBERS.at(self.events.len() as u64), duplicate: false })
    }
}

impl MemoryStore {
    /// An empty log with the default limits.
    pub fn new(now: Now) -> Self {
        Self::with_limits(now, Limits::default())
    }

    /// An empty log.
    pub fn with_limits(now: Now, limits: Limits) -> Self {
        Self { inner: Mutex::default(), head: watch::Sender::new(Position::START), limits, now }
    }

    /// A panic elsewhere leaves complete events only, so a poisoned lock is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn append_one(&self, request: AppendRequest) -> Result<Appended, StoreError> {
        let prepared = Prepared::new(request, &self.limits)?;
        let ids = prepared.ids();
        let outcome = self.lock().append(prepared, &self.now);
        match outcome {
            Ok(appended) => {
                self.head.send_if_modified(|head| {
                    let moved = *head < appended.position;
                    *head = appended.position.max(*head);
                    moved
                });
                Ok(appended)
            }
            Err(error) => settle_conflict(self, error, &ids).await,
        }
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> Result<Appended, StoreError> {
        self.append_one(AppendRequest { stream: stream.clone(), expected, events }).await
    }

    async fn append_many(&self, requests: Vec<AppendRequest>) -> Vec<Result<Appended, StoreError>> {
        let repeated = repeated_streams(&requests);
        let mut outcomes = Vec::with_capacity(requests.len());
        for (request, repeated) in requests.into_iter().zip(repeated) {
            outcomes.push(if repeated {
                Err(StoreError::Rejected(format!("stream {} stands twice in one bulk", request.stream)))
            } else {
                self.append_one(request).await
            });
        }
        outcomes
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let inner = self.lock();
        let places = inner.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let limit = limit.min(self.limits.read_events_max);
        let mut events: Vec<RecordedEvent> =
            places.iter().skip(skip).take(limit).map(|place| inner.events[*place].clone()).collect();
        cut(&mut events, self.limits.read_bytes_max);
        Ok(events)
    }

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        let inner = self.lock();
        let mut measure = Measure::new(self.limits.read_bytes_max);
        let start = |stream| {
            let places = inner.streams.get(stream).map_or(&[][..], Vec::as_slice);
            let there = places.iter().map(|place| StreamEvent::from(&inner.events[*place]));
            let events: Vec<_> = there.take_while(|event| measure.takes(event.payload.len())).collect();
            StreamStart { whole: events.len() == places.len(), events }
        };
        Ok(streams.iter().map(start).collect())
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let inner = self.lock();
        let skip = usize::try_from(NUMBERS.of(after)).unwrap_or(usize::MAX);
        let limit = limit.min(self.limits.read_events_max);
        let mut events: Vec<RecordedEvent> = inner.events.iter().skip(skip).take(limit).cloned().collect();
        cut(&mut events, self.limits.read_bytes_max);
        Ok(events)
    }

    async fn head(&self) -> Result<Position, StoreError> {
        Ok(NUMBERS.at(self.lock().events.len() as u64))
    }

    fn numbers(&self) -> Option<Numbers> {
        Some(NUMBERS)
    }

    async fn wait_beyond(&self, after: Position, at_most: Duration) {
        let mut head = self.head.subscribe();
        // Either outcome means the same to the caller: look again.
        let _ = tokio::time::timeout(at_most, head.wait_for(|head| *head > after)).await;
    }
}
