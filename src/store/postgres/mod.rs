//! The log in a `PostgreSQL` database, which several processes may share.
//!
//! Every append goes through one server function, under a lock that orders positions like commits; here one task
//! collects the waiting appends and sends them in one call. LISTEN wakes readers, and a slow poll makes up for missed
//! notifications.

mod archive;
mod claim;
mod copy;
mod inspect;
mod listen;
mod open;
mod rows;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(super) use archive::PostgresArchive;
pub use claim::{Claim, Share, claim};
pub(super) use copy::PostgresCopy;
pub use inspect::{ServerInspection, answers, inspect};
pub use listen::NotifyListener;
pub(super) use open::{Schema, migrate, options, read_pool, set_aside, write_pool};

use self::archive::PostgresCatalogue;
use self::writer::{Job, Outcomes, Writer};
use super::address::Database;
use super::archive::ArchiveReader;
use super::kinds::Kinds;
use super::lease::Fence;
use super::newer::told;
use super::numbers::{NUMBERS, Numbers};
use super::prepare::Prepared;
use super::tail::Tail;
use super::{
    AppendRequest, Appended, Cause, EventStore, ExpectedVersion, Now, StoreError, repeated_streams, settle_conflict,
};
use crate::events::envelope::{NewEvent, Position, RecordedEvent, StreamName, StreamStart, Version};
use crate::limits::Limits;

/// A log in a `PostgreSQL` database.
pub struct PostgresStore {
    readers: PgPool,
    jobs: mpsc::Sender<Job>,
    head: watch::Sender<Position>,
    kinds: Kinds,
    tail: Arc<Tail>,
    archive: ArchiveReader<PostgresCatalogue>,
    limits: Limits,
    stop: CancellationToken,
}

impl PostgresStore {
    /// Opens the database, makes or upgrades its tables, and starts the appender and the listener.
    pub async fn open(url: &str, now: Now, limits: Limits) -> Result<Self, StoreError> {
        let database = Database::Postgres(url.to_owned());
        let migrated = migrate(url, Schema::Log, &limits).await;
        migrated.map_err(|error| StoreError::Unavailable(told(error, &database)))?;
        let readers = read_pool(url, Schema::Log, limits.log_readers_max, &limits).map_err(rows::unavailable)?;
        let (tail, kinds) = (Arc::new(Tail::new(&limits)), Kinds::default());
        let options = options(url, Schema::Log, &limits).map_err(rows::unavailable)?;
        let head = watch::Sender::new(rows::head(&readers).await?);
        let writer = Writer::new(options, now, limits.clone(), Arc::clone(&tail), head.clone());
        let (jobs, queue) = mpsc::channel(limits.append_queue_max);
        tokio::spawn(writer.run(queue));
        let stop = CancellationToken::new();
        tokio::spawn(listen::follow(readers.clone(), head.clone(), limits.shared_poll, stop.clone()));
        let archive = ArchiveReader::new(PostgresCatalogue::new(readers.clone()), limits.read_bytes_max);
        Ok(Self { readers, jobs, head, kinds, tail, archive, limits, stop })
    }

    /// Finishes what is queued and closes every connection; later calls fail as unavailable.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).await.is_ok() {
            // An appender that is gone already has nothing left to close.
            let _ = closed.await;
        }
        self.stop.cancel();
        self.readers.close().await;
    }

    /// Hands appends to the appender in pieces of at most a group, and collects the outcomes in order.
    async fn submit(&self, requests: Vec<Prepared>) -> Outcomes {
        let fence = Fence::current();
        let mut waiting = Vec::new();
        let mut piece = Vec::new();
        let mut events = 0;
        let mut rest = requests.into_iter().peekable();
        while let Some(request) = rest.next() {
            events += request.events.len();
            piece.push(request);
            let full = rest.peek().is_none_or(|next| events + next.events.len() > self.limits.group_events_max);
            if full {
                let (reply, outcome) = oneshot::channel();
                let count = piece.len();
                let requests = std::mem::take(&mut piece);
                let job = Job::Append { requests, events, fence: fence.clone(), reply };
                let sent = self.jobs.send(job).await.is_ok();
                waiting.push((count, sent, outcome));
                events = 0;
            }
        }
        let mut outcomes = Vec::new();
        for (count, sent, outcome) in waiting {
            match outcome.await {
                Ok(some) => outcomes.extend(some),
                Err(gone) => {
                    let gone: Cause = Arc::new(gone);
                    // What never reached the appender is not written; what did, may be.
                    let failed = if sent { StoreError::Unknown(gone) } else { StoreError::Unavailable(gone) };
                    outcomes.extend(vec![Err(failed); count]);
                }
            }
        }
        outcomes
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> Result<Appended, StoreError> {
        let prepared = Prepared::new(AppendRequest { stream: stream.clone(), expected, events }, &self.limits)?;
        let ids = prepared.ids();
        match self.submit(vec![prepared]).await.pop() {
            Some(Err(error)) => settle_conflict(self, error, &ids).await,
            Some(appended) => appended,
            None => Err(StoreError::Corrupt("the appender gave no outcome".to_owned())),
        }
    }

    async fn append_many(&self, requests: Vec<AppendRequest>) -> Vec<Result<Appended, StoreError>> {
        let repeated = repeated_streams(&requests);
        let mut outcomes = Vec::with_capacity(requests.len());
        let (mut good, mut places) = (Vec::new(), Vec::new());
        for (request, repeated) in requests.into_iter().zip(repeated) {
            if repeated {
                let message = format!("stream {} stands twice in one bulk", request.stream);
                outcomes.push(Err(StoreError::Rejected(message)));
                continue;
            }
            match Prepared::new(request, &self.limits) {
                Ok(prepared) => {
                    places.push((outcomes.len(), prepared.ids()));
                    good.push(prepared);
                    outcomes.push(Err(StoreError::Corrupt("the appender gave no outcome".to_owned())));
                }
                Err(error) => outcomes.push(Err(error)),
            }
        }
        for ((place, ids), outcome) in places.into_iter().zip(self.submit(good).await) {
            outcomes[place] = match outcome {
                Err(error) => settle_conflict(self, error, &ids).await,
                appended => appended,
            };
        }
        outcomes
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let limit = limit.min(self.limits.read_events_max);
        let rows = || rows::read_stream(&self.readers, &self.kinds, stream, after, (limit, self.limits.read_bytes_max));
        self.archive.stream_after(stream, after, limit, rows).await
    }

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        let (mut found, mut brought) = (Vec::with_capacity(streams.len()), 0_usize);
        for some in streams.chunks(self.limits.read_streams_max.max(1)) {
            let room = self.limits.read_bytes_max.saturating_sub(brought);
            if room == 0 {
                found.extend(some.iter().map(|_| StreamStart::default()));
                continue;
            }
            let starts = rows::read_streams(&self.readers, &self.kinds, some, room).await?;
            brought += starts.iter().flat_map(|start| &start.events).map(|event| event.payload.len()).sum::<usize>();
            found.extend(starts);
        }
        Ok(found)
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let limit = limit.min(self.limits.read_events_max);
        if let Some(events) = self.tail.after(after, limit) {
            return Ok(events);
        }
        let bytes_max = self.limits.read_bytes_max;
        let rows = |from, room| rows::read_all(&self.readers, &self.kinds, from, (room, bytes_max));
        self.archive.log_after(after, limit, rows).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        rows::head(&self.readers).await
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
