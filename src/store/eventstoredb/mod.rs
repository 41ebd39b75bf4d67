//! The log in `EventStoreDB` or `KurrentDB`: expected revisions, `$all` in order of positions, idempotent retries.
//!
//! Stream names carry a prefix, by which the server filters `$all`: its own streams (`$…`) and those of other programs are
//! never seen. Version n of a stream is revision n-1; a position is the pair of commit and prepare position. Calls go to
//! the leader, since a decision rests on what was just written. The client's bulk append is not used (one failure ends its
//! session), nor are its subscriptions (one that the server ends without an error spins): appends run side by side, and
//! the log is followed by short reads.

mod address;
mod event;
mod link;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventstore::{
    AppendToStreamOptions, CurrentRevision, Error, EventData, ReadAllOptions, ReadStream, ReadStreamOptions,
    ResolvedEvent, StreamPosition, StreamState, SubscriptionFilter, WriteResult,
};
use futures::StreamExt;
use tokio::sync::watch;
use uuid::Uuid;

pub use address::{EventStoreAddress, EventStoreAddressError};

use self::event::{Kinds, decode, encode, position, their_position};
use self::link::{Current, Link, Trouble};
use super::prepare::Prepared;
use super::{AppendRequest, Appended, EventStore, ExpectedVersion, Now, StoreError, repeated_streams, settle_conflict};
use crate::events::envelope::{NewEvent, Position, RecordedEvent, StreamEvent, StreamName, Version};
use crate::limits::Limits;

/// Bytes of the server's log that an event is taken to need, metadata included, for an estimate of how many lie between
/// two positions.
const EVENT_BYTES_ABOUT: u64 = 1_024;

/// A log in `EventStoreDB` or `KurrentDB`.
pub struct EventStoreDb {
    link: Link,
    prefix: String,
    kinds: Kinds,
    /// The newest position that this process has seen.
    head: watch::Sender<Position>,
    limits: Limits,
    now: Now,
}

impl EventStoreDb {
    /// Makes a client; the first call connects.
    pub fn open(address: &EventStoreAddress, now: Now, limits: Limits) -> Result<Self, StoreError> {
        Ok(Self {
            link: Link::new(address, &limits)?,
            prefix: address.prefix().to_owned(),
            kinds: Kinds::default(),
            head: watch::Sender::new(Position::START),
            limits,
            now,
        })
    }

    /// What tells this log from every other, kept in a stream beside it; `fresh` becomes it in a log that has none.
    pub async fn identity(&self, fresh: Uuid) -> Result<Uuid, StoreError> {
        // No prefix can begin like this, so the log never shows it.
        let name = format!("#{}identity", self.prefix);
        let marker = EventData::json("log_identity", &"the id of this event is the identity of the log");
        let marker = marker.map_err(|error| StoreError::Rejected(error.to_string()))?.id(fresh);
        match self.write(&name, ExpectedVersion::NoStream, vec![marker]).await {
            Ok(_) | Err(Written::Conflict(_)) => {}
            Err(Written::Failed(error)) => return Err(error),
        }
        let there = self.fetch_stream(&name, 0, 1).await?;
        let first = there.first().and_then(|there| there.event.as_ref());
        first.map(|event| event.id).ok_or_else(|| StoreError::Corrupt(format!("the stream {name} is empty")))
    }

    fn name(&self, stream: &StreamName) -> String {
        format!("{}{stream}", self.prefix)
    }

    /// Remembers how far the log is known to reach, and wakes who waits for more.
    fn seen(&self, position: Position) {
        self.head.send_if_modified(|head| {
            let moved = *head < position;
            *head = position.max(*head);
            moved
        });
    }

    async fn append_one(&self, request: AppendRequest) -> Result<Appended, StoreError> {
        let prepared = Prepared::new(request, &self.limits)?;
        let ids = prepared.ids();
        let Prepared { stream, expected, events } = prepared;
        let (recorded_at, count) = ((self.now)(), events.len() as u64);
        let name = self.name(&stream);
        let data = events.into_iter().map(|event| {
            let event_type = event.event_type.into();
            encode(&event.record(stream.clone(), 0, Position::START, event_type, recorded_at))
        });
        let data = data.collect::<Result<Vec<_>, _>>()?;
        let known = *self.head.borrow();
        match self.write(&name, expected, data).await {
            Ok(written) => self.appended(&stream, expected, count, known, &written).await,
            Err(Written::Conflict(actual)) => {
                let conflict = StoreError::Conflict { stream, expected, actual };
                settle_conflict(self, conflict, &ids).await
            }
            Err(Written::Failed(error)) => Err(error),
        }
    }

    /// Appends until the server has said yes or no. The server takes the same ids at the same exact revision for one write,
    /// so an attempt whose end is unclear can be repeated; one without an expectation cannot.
    async fn write(&self, name: &str, expected: ExpectedVersion, data: Vec<EventData>) -> Result<WriteResult, Written> {
        let state = match expected.version() {
            None => StreamState::Any,
            Some(0) => StreamState::NoStream,
            Some(version) => StreamState::StreamRevision(version - 1),
        };
        let options = AppendToStreamOptions::default().stream_state(state).deadline(self.limits.event_store_call);
        let options = match &self.link.credentials {
            Some(credentials) => options.authenticated(credentials.clone()),
            None => options,
        };
        let (mut attempt, mut unclear) = (0, false);
        loop {
            attempt += 1;
            let used = self.link.current();
            let call = used.client.append_to_stream(name, &options, data.clone());
            let error = match self.link.answer(&used, call).await {
                Ok(Ok(written)) => return Ok(written),
                Ok(Err(Error::WrongExpectedVersion { current, .. })) => {
                    return Err(Written::Conflict(match current {
                        CurrentRevision::Current(revision) => revision + 1,
                        CurrentRevision::NoStream => 0,
                    }));
                }
                Ok(Err(error)) => return Err(Written::Failed(StoreError::Unknown(Arc::new(error)))),
                Err(Trouble::Final(error)) if !unclear => return Err(Written::Failed(error)),
                Err(Trouble::NotDone(error) | Trouble::Final(error)) => error,
                Err(Trouble::Unclear(error)) => {
                    unclear = true;
                    error
                }
            };
            if attempt >= self.link.attempts_max() || (unclear && expected == ExpectedVersion::Any) {
                return Err(Written::Failed(if unclear { as_unknown(error) } else { error }));
            }
            self.link.pause("append", attempt, &error).await;
        }
    }

    /// What the server's yes means here. It answers a retry as it answered the first time; what lies before a position known
    /// beforehand was one.
    async fn appended(
        &self,
        stream: &StreamName,
        expected: ExpectedVersion,
        count: u64,
        known: Position,
        written: &WriteResult,
    ) -> Result<Appended, StoreError> {
        let version = written.next_expected_version + 1;
        if let Some(before) = expected.version()
            && version != before + count
        {
            return Err(StoreError::Corrupt(format!(
                "{count} events after version {before} of the stream {stream} made it version {version}: was it truncated?"
            )));
        }
        let mut position = position(written.position);
        if position == Position::START {
            // The server had the events, and did not look up where.
            let there = self.read_stream(stream, version - 1, 1).await?;
            position = there.first().map(|event| event.position).ok_or_else(|| {
                StoreError::Corrupt(format!("version {version} of the stream {stream} was written and is not there"))
            })?;
        }
        self.seen(position);
        let duplicate = expected != ExpectedVersion::Any && position <= known;
        Ok(Appended { version, position, duplicate })
    }

    /// All that a read brings, and `absent` if the server says that there is no such stream.
    async fn collect(&self, used: &Current, mut read: ReadStream) -> Result<Vec<ResolvedEvent>, Trouble> {
        let mut events = Vec::new();
        loop {
            // There is a stream that does not exist only in the answer itself; as a status of the call it means something else.
            let next = async {
                match read.next().await {
                    Err(Error::ResourceNotFound) => Ok(None),
                    other => other,
                }
            };
            match self.link.answer(used, next).await? {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return Ok(events),
                Err(error) => return Err(Trouble::Unclear(StoreError::Unavailable(Arc::new(error)))),
            }
        }
    }

    async fn fetch_stream(&self, name: &str, after: Version, limit: usize) -> Result<Vec<ResolvedEvent>, StoreError> {
        let start = if after == 0 { StreamPosition::Start } else { StreamPosition::Position(after) };
        let options = ReadStreamOptions::default().position(start).max_count(limit);
        let options = match &self.link.credentials {
            Some(credentials) => options.authenticated(credentials.clone()),
            None => options,
        };
        let options = &options;
        let attempt = move |used: Arc<Current>| async move {
            let read = self.link.answer(&used, used.client.read_stream(name, options)).await?;
            self.collect(&used, read.map_err(unexpected)?).await
        };
        self.link.read("read of a stream", attempt).await
    }

    /// A piece of `$all` as far as it is this log's.
    async fn fetch_all(&self, options: ReadAllOptions) -> Result<Vec<ResolvedEvent>, StoreError> {
        let options = options.filter(SubscriptionFilter::on_stream_name().add_prefix(&self.prefix));
        let options = match &self.link.credentials {
            Some(credentials) => options.authenticated(credentials.clone()),
            None => options,
        };
        let options = &options;
        let attempt = move |used: Arc<Current>| async move {
            let read = self.link.answer(&used, used.client.read_all(options)).await?;
            self.collect(&used, read.map_err(unexpected)?).await
        };
        self.link.read("read of the log", attempt).await
    }

    /// Events after a position. The server begins with the one at the position itself.
    async fn after(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let start = if after == Position::START {
            StreamPosition::Start
        } else {
            StreamPosition::Position(their_position(after))
        };
        let options = ReadAllOptions::default().forwards().position(start).max_count(limit.saturating_add(1));
        let there = self.fetch_all(options).await?;
        let mut events = Vec::with_capacity(there.len());
        for event in there.iter().filter_map(|there| there.event.as_ref()) {
            if position(event.position) > after {
                events.push(decode(event, &self.prefix, &self.kinds)?);
            }
        }
        events.truncate(limit);
        if let Some(last) = events.last() {
            self.seen(last.position);
        }
        Ok(events)
    }
}

/// Why a write did not come about.
enum Written {
    /// The stream is at this version.
    Conflict(Version),
    Failed(StoreError),
}

fn as_unknown(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(cause) => StoreError::Unknown(cause),
        other => other,
    }
}

/// An answer that no read can have.
fn unexpected(error: Error) -> Trouble {
    Trouble::Unclear(StoreError::Unavailable(Arc::new(error)))
}

#[async_trait]
impl EventStore for EventStoreDb {
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
        let appends = requests.into_iter().zip(repeated).map(|(request, repeated)| async move {
            if repeated {
                return Err(StoreError::Rejected(format!("stream {} stands twice in one bulk", request.stream)));
            }
            self.append_one(request).await
        });
        futures::stream::iter(appends).buffered(self.limits.event_store_calls_max.max(1)).collect().await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let limit = limit.min(self.limits.read_events_max);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let there = self.fetch_stream(&self.name(stream), after, limit).await?;
        let mut events = Vec::with_capacity(there.len());
        for (there, version) in there.iter().filter_map(|there| there.event.as_ref()).zip(after + 1..) {
            let event = decode(there, &self.prefix, &self.kinds)?;
            if event.version != version {
                return Err(StoreError::Corrupt(format!(
                    "version {version} of the stream {stream} is missing in the event store: was it truncated?"
                )));
            }
            events.push(event);
        }
        Ok(events)
    }

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<Vec<StreamEvent>>, StoreError> {
        let whole = |stream: StreamName| async move {
            let mut events = Vec::new();
            loop {
                let page = self.read_stream(&stream, events.len() as Version, self.limits.read_events_max).await?;
                events.extend(page.iter().map(StreamEvent::from));
                if page.len() < self.limits.read_events_max {
                    return Ok(events);
                }
            }
        };
        let reads = futures::stream::iter(streams.to_vec()).map(whole);
        let reads: Vec<_> = reads.buffered(self.limits.event_store_calls_max.max(1)).collect().await;
        reads.into_iter().collect()
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let limit = limit.min(self.limits.read_events_max);
        // The server takes a position beyond its end for a mistake.
        if limit == 0 || (after > *self.head.borrow() && after >= self.head().await?) {
            return Ok(Vec::new());
        }
        self.after(after, limit).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        let options = ReadAllOptions::default().position(StreamPosition::End).backwards().max_count(1);
        let there = self.fetch_all(options).await?;
        let newest = there.first().and_then(|there| there.event.as_ref());
        let head = newest.map_or(Position::START, |event| position(event.position));
        self.seen(head);
        Ok(head)
    }

    async fn wait_beyond(&self, after: Position, at_most: Duration) {
        let mut head = self.head.subscribe();
        let poll = async {
            loop {
                tokio::time::sleep(self.limits.foreign_poll).await;
                if self.head().await.is_ok_and(|head| head > after) {
                    break;
                }
            }
        };
        tokio::select! {
            Ok(_) = head.wait_for(|head| *head > after) => {}
            () = poll => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    fn events_between(&self, after: Position, to: Position) -> u64 {
        let ((from, _), (until, _)) = (after.parts(), to.parts());
        if to <= after { 0 } else { until.saturating_sub(from).div_ceil(EVENT_BYTES_ABOUT).max(1) }
    }
}
