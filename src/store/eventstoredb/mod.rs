//! The log in `EventStoreDB` or `KurrentDB`: expected revisions, `$all` in order of positions, idempotent retries.
//!
//! Stream names carry a prefix, by which the server filters `$all`, so that Sluice never sees the server's own streams
//! (`$…`) or those of other programs. Version n of a stream is revision n-1; a position is the pair of commit and
//! prepare position. Calls go to the leader, since a decision depends on what was just written. The client's bulk
//! append is not used (one failure ends its session), nor are its subscriptions (one that the server ends without an
//! error spins): appends run concurrently, and short reads follow the log, which never scan foreign events twice.

mod address;
mod asking;
mod counting;
mod election;
mod event;
mod follow;
mod gaps;
mod hindrance;
mod link;
mod moving;
mod no_delay;
mod recent;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventstore::{
    AppendToStreamOptions, CurrentRevision, Error, EventData, ReadAllOptions, ReadStream, ReadStreamOptions,
    ResolvedEvent, StreamPosition, StreamState, WriteResult,
};
use futures::StreamExt;
use tokio::sync::watch;
use uuid::Uuid;

pub use address::{EventStoreAddress, EventStoreAddressError};

use self::event::{Kinds, decode, encode, position, their_position};
use self::follow::Horizon;
use self::hindrance::Hindrance;
use self::link::{APPEND, Current, Link, READ_ALL, READ_STREAM, Trouble};
use self::recent::Recent;
use super::meta::Meta;
use super::prepare::Prepared;
use super::room::Measure;
use super::{
    AppendRequest, Appended, Distance, EventStore, ExpectedVersion, LOOK_AGAIN, Now, StoreError, repeated_streams,
    settle_conflict,
};
use crate::events::envelope::{NewEvent, Position, RecordedEvent, StreamEvent, StreamName, StreamStart, Version};
use crate::limits::Limits;

/// A log in `EventStoreDB` or `KurrentDB`.
pub struct EventStoreDb {
    link: Link,
    prefix: String,
    kinds: Kinds,
    /// The newest position that this process has seen.
    head: watch::Sender<Position>,
    horizon: Horizon,
    recent: Recent,
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
            horizon: Horizon::new(limits.foreign_poll),
            recent: Recent::new(&limits),
            limits,
            now,
        })
    }

    /// Keeps how far the server's log was looked through beside the database that goes with this log, for the next start.
    pub async fn remember_in(mut self, meta: Meta) -> Result<Self, StoreError> {
        self.horizon.keep_in(meta).await?;
        Ok(self)
    }

    /// What tells this log from every other, kept in a stream beside it; `fresh` becomes it in a log that has none. To be
    /// called before anything is appended: it is where the log begins.
    pub async fn identity(&self, fresh: Uuid) -> Result<Uuid, StoreError> {
        let name = self.identity_stream();
        let marker = EventData::json("log_identity", &"the id of this event is the identity of the log");
        let marker = marker.map_err(|error| StoreError::Rejected(error.to_string()))?.id(fresh);
        match self.write(&name, ExpectedVersion::NoStream, vec![marker]).await {
            Ok(_) | Err(Written::Conflict(_)) => {}
            Err(Written::Failed(error)) => return Err(error),
        }
        let known = self.known_identity().await?;
        known.ok_or_else(|| StoreError::Corrupt(format!("the stream {name} is empty")))
    }

    /// The same where there is a log; none at an address that holds none yet.
    pub async fn known_identity(&self) -> Result<Option<Uuid>, StoreError> {
        let there = self.fetch_stream(&self.identity_stream(), 0, 1).await?;
        let Some(first) = there.first().and_then(|there| there.event.as_ref()) else { return Ok(None) };
        // It is written before any event of the log.
        self.horizon.learn(Position::START, position(first.position));
        Ok(Some(first.id))
    }

    /// No prefix can begin like this, so the log never shows it.
    fn identity_stream(&self) -> String {
        format!("#{}identity", self.prefix)
    }

    /// Whether small packets go out at once (`TCP_NODELAY`), for each connection to the store.
    ///
    /// Errors: the descriptors of the process cannot be listed.
    pub fn no_delay(&self) -> std::io::Result<Vec<bool>> {
        self.link.no_delay()
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
            let answer = match self.link.current().await {
                Ok(used) => {
                    let call = used.client.append_to_stream(name, &options, data.clone());
                    self.link.answer(&used, call).await
                }
                Err(trouble) => Err(trouble),
            };
            let error = match answer {
                Ok(Ok(written)) => return Ok(written),
                Ok(Err(Error::WrongExpectedVersion { current, .. })) => {
                    return Err(Written::Conflict(match current {
                        CurrentRevision::Current(revision) => revision + 1,
                        CurrentRevision::NoStream => 0,
                    }));
                }
                Ok(Err(error)) => return Err(Written::Failed(StoreError::Unknown(Arc::new(error)))),
                Err(Trouble::Final(error)) if !unclear => {
                    return Err(Written::Failed(self.link.explained(APPEND, error).await));
                }
                Err(Trouble::NotDone(error) | Trouble::Final(error)) => error,
                Err(Trouble::Unclear(error)) => {
                    unclear = true;
                    error
                }
            };
            if attempt >= self.link.attempts_max() || (unclear && expected == ExpectedVersion::Any) {
                let error = self.link.explained(APPEND, error).await;
                return Err(Written::Failed(if unclear { as_unknown(error) } else { error }));
            }
            self.link.pause(APPEND, attempt, &error).await;
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

    /// All that a read brings, or up to the event at a position, or up to the one that reaches the bound in bytes; nothing if
    /// the server says that there is no such stream. The first events may be some that do not count.
    async fn collect(
        &self,
        used: &Current,
        mut read: ReadStream,
        last: Option<Position>,
        uncounted: usize,
    ) -> Result<Vec<ResolvedEvent>, Trouble> {
        let mut events = Vec::new();
        let mut measure = Measure::new(self.limits.read_bytes_max);
        loop {
            // There is a stream that does not exist only in the answer itself; as a status of the call it means something else.
            let next = async {
                match read.next().await {
                    Err(Error::ResourceNotFound) => Ok(None),
                    other => other,
                }
            };
            match self.link.answer(used, next).await? {
                Ok(Some(event)) => {
                    let at = event.event.as_ref().map(|event| position(event.position));
                    let bytes = event.event.as_ref().map_or(0, |event| event.data.len());
                    events.push(event);
                    let full = events.len() > uncounted && measure.is_full_with(bytes);
                    if full || (at.is_some() && at >= last && last.is_some()) {
                        return Ok(events);
                    }
                }
                Ok(None) => return Ok(events),
                Err(error) => return Err(unexpected(error)),
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
            self.collect(&used, read.map_err(unexpected)?, None, 0).await
        };
        self.link.read(READ_STREAM, attempt).await
    }

    /// A piece of `$all`. What comes behind an event that is known to be the last is not waited for.
    async fn fetch_all(
        &self,
        options: &ReadAllOptions,
        last: Option<Position>,
        uncounted: usize,
    ) -> Result<Vec<ResolvedEvent>, StoreError> {
        let options = match &self.link.credentials {
            Some(credentials) => options.clone().authenticated(credentials.clone()),
            None => options.clone(),
        };
        let options = &options;
        let attempt = move |used: Arc<Current>| async move {
            let read = self.link.answer(&used, used.client.read_all(options)).await?;
            self.collect(&used, read.map_err(unexpected)?, last, uncounted).await
        };
        self.link.read(READ_ALL, attempt).await
    }
}

/// Whether an error of this store may pass without anybody's doing, as one of a server that is about to start does.
pub(super) fn may_pass(cause: &super::Cause) -> bool {
    // A file that the address names cannot be read.
    let unreadable = matches!(cause.downcast_ref::<Error>(), Some(Error::InitializationError(_)));
    !unreadable && cause.downcast_ref::<Hindrance>().is_none_or(Hindrance::may_pass)
}

/// The server found no event at the position that a read was to begin with.
fn is_no_event_there(error: &Error) -> bool {
    matches!(error, Error::ServerError(said) if said.contains(NO_EVENT_THERE))
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

/// What the server says when it is to read from a position at which no event begins.
const NO_EVENT_THERE: &str = "ReadAllResult: Error";

/// An answer that a read can have only when it was asked for something that is not there.
fn unexpected(error: Error) -> Trouble {
    if is_no_event_there(&error) {
        return Trouble::Final(StoreError::NoEventThere);
    }
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

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        let brought = &AtomicUsize::new(0);
        let whole = |stream: StreamName| async move {
            let mut start = StreamStart::default();
            while brought.load(Ordering::Relaxed) < self.limits.read_bytes_max {
                let after = start.events.len() as Version;
                let page = self.read_stream(&stream, after, self.limits.read_events_max).await?;
                if page.is_empty() {
                    start.whole = true;
                    break;
                }
                brought.fetch_add(page.iter().map(|event| event.payload.len()).sum(), Ordering::Relaxed);
                start.events.extend(page.iter().map(StreamEvent::from));
            }
            Ok(start)
        };
        let reads = futures::stream::iter(streams.to_vec()).map(whole);
        let reads: Vec<_> = reads.buffered(self.limits.event_store_calls_max.max(1)).collect().await;
        reads.into_iter().collect()
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let limit = limit.min(self.limits.read_events_max);
        if limit == 0 { Ok(Vec::new()) } else { self.after(after, limit).await }
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.end().await
    }

    async fn wait_beyond(&self, after: Position, at_most: Duration) {
        let mut head = self.head.subscribe();
        tokio::select! {
            Ok(_) = head.wait_for(|head| *head > after) => {}
            () = self.notice(after) => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    fn look_again(&self) -> Duration {
        LOOK_AGAIN.max(self.limits.event_store_poll_max)
    }

    async fn distance(&self, after: Position, to: Position) -> Distance {
        self.counted(after, to).await
    }

    async fn read_up_to(
        &self,
        after: Position,
        last: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.up_to(after, last, limit).await
    }

    async fn read_back(&self, before: Option<Position>, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        self.before(before, limit).await
    }

    async fn event_at(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        // The server takes a position beyond its end for a mistake.
        if position == Position::START || position > self.head().await? {
            return Ok(None);
        }
        let start = StreamPosition::Position(their_position(position));
        let options = ReadAllOptions::default().forwards().position(start).max_count(1);
        let there = match self.fetch_all(&options, None, 0).await {
            Err(StoreError::NoEventThere) => return Ok(None),
            there => there?,
        };
        let first = there.first().and_then(|there| there.event.as_ref());
        let first = first.filter(|event| event.stream_id().starts_with(&self.prefix));
        let event = first.map(|event| decode(event, &self.prefix, &self.kinds)).transpose()?;
        Ok(event.filter(|event| event.position == position))
    }

    async fn place_back(&self, events: u64) -> Result<Position, StoreError> {
        self.back(events).await
    }
}
