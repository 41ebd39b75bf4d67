//! The log in an `SQLite` file: one writer with group commit, a few readers, versions checked in memory.
//!
//! Another process may use the same file at the same time: the writer notices its appends inside its own transaction,
//! readers see them on their next read, and `wait_beyond` polls for them.

mod archive;
mod backup;
mod connection;
mod copy;
mod heads;
mod inspect;
mod open;
mod rows;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

pub(super) use archive::SqliteArchive;
pub use backup::{Backup, BackupError, BackupFile, backup, listed_in, restore};
pub(super) use connection::connect;
pub(super) use copy::SqliteCopy;
pub use inspect::{Inspection, inspect_log, inspect_read};
pub use open::DatabaseFiles;
pub(super) use open::{Access, options, read_pool, run_migrations};

use self::archive::SqliteCatalogue;
use self::connection::Readers;
pub(super) use self::writer::shrink;
use self::writer::{Job, Outcomes, Writer};
use super::archive::{ArchiveReader, StreamRows, unarchived};
use super::kinds::Kinds;
use super::numbers::{NUMBERS, Numbers};
use super::prepare::Prepared;
use super::room::Measure;
use super::tail::Tail;
use super::{
    AppendRequest, Appended, Cause, EventStore, ExpectedVersion, Now, StoreError, repeated_streams, settle_conflict,
};
use crate::events::envelope::{NewEvent, Position, RecordedEvent, StreamName, StreamStart, Version};
use crate::limits::Limits;

/// A log in an `SQLite` file.
pub struct SqliteStore {
    path: PathBuf,
    readers: Readers,
    jobs: mpsc::Sender<Job>,
    head: watch::Receiver<Position>,
    kinds: Kinds,
    tail: Arc<Tail>,
    archive: ArchiveReader<SqliteCatalogue>,
    limits: Limits,
}

impl SqliteStore {
    /// Opens the file, makes or upgrades its tables, and starts the writer.
    pub async fn open(path: &Path, now: Now, limits: Limits) -> Result<Self, StoreError> {
        open::migrate(path, &limits).await?;
        let readers = Readers::new(path, &limits);
        let tail = Arc::new(Tail::new(&limits));
        let kinds = Kinds::default();
        let writer = Writer::connect(path, now, limits.clone(), kinds.clone(), Arc::clone(&tail))?;
        let head = writer.head();
        let (jobs, queue) = mpsc::channel(limits.append_queue_max);
        // It ends when the store is closed, or when nobody has it any more.
        let thread = std::thread::Builder::new().name("log-writer".to_owned());
        thread.spawn(move || writer.run(queue)).map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
        let archive = ArchiveReader::new(SqliteCatalogue::new(path, &limits), limits.read_bytes_max);
        Ok(Self { path: path.to_owned(), readers, jobs, head, kinds, tail, archive, limits })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes what is queued and closes every connection; later calls fail as unavailable.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).await.is_ok() {
            // A writer that is gone already has nothing left to close.
            let _ = closed.await;
        }
        self.readers.close();
        self.archive.catalogue().close().await;
    }

    /// Hands appends to the writer in pieces of at most a group, and collects the outcomes in order.
    async fn submit(&self, requests: Vec<Prepared>) -> Outcomes {
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
                let job = Job::Append { requests: std::mem::take(&mut piece), events, reply };
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
                    // What never reached the writer is not written; what did, may be.
                    let failed = if sent { StoreError::Unknown(gone) } else { StoreError::Unavailable(gone) };
                    outcomes.extend(vec![Err(failed); count]);
                }
            }
        }
        outcomes
    }
}

#[async_trait]
impl EventStore for SqliteStore {
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
            None => Err(StoreError::Corrupt("the writer gave no outcome".to_owned())),
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
                    outcomes.push(Err(StoreError::Corrupt("the writer gave no outcome".to_owned())));
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
        let bounds = (limit, self.limits.read_bytes_max);
        let rows = || async move {
            let (kinds, name) = (self.kinds.clone(), stream.clone());
            let read = self.readers.read(move |connection| rows::read_stream(connection, &kinds, &name, after, bounds));
            // The newest event of a stream stays among the rows.
            Ok(StreamRows { events: read.await?, version: None })
        };
        self.archive.stream_after(stream, after, limit, rows).await
    }

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        let mut found = Vec::with_capacity(streams.len());
        let mut measure = Measure::new(self.limits.read_bytes_max);
        for some in streams.chunks(self.limits.read_streams_max.max(1)) {
            let (kinds, names) = (self.kinds.clone(), some.to_vec());
            let read = self.readers.read(move |connection| rows::read_streams(connection, &kinds, &names, measure));
            let (starts, left) = read.await?;
            measure = left;
            found.extend(starts.into_iter().map(unarchived));
        }
        Ok(found)
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let limit = limit.min(self.limits.read_events_max);
        if let Some(events) = self.tail.after(after, limit) {
            return Ok(events);
        }
        let rows = |from, room| {
            let (kinds, bounds) = (self.kinds.clone(), (room, self.limits.read_bytes_max));
            self.readers.read(move |connection| rows::read_all(connection, &kinds, from, bounds))
        };
        self.archive.log_after(after, limit, rows).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.readers.read(rows::head).await
    }

    async fn rest(&self) {
        self.tail.clear();
        self.readers.rest();
        // A writer that is gone holds nothing.
        let _ = self.jobs.send(Job::Rest).await;
    }

    fn numbers(&self) -> Option<Numbers> {
        Some(NUMBERS)
    }

    async fn wait_beyond(&self, after: Position, at_most: Duration) {
        let mut head = self.head.clone();
        let poll = async {
            loop {
                tokio::time::sleep(self.limits.foreign_poll).await;
                if self.head().await.is_ok_and(|head| head > after) {
                    break;
                }
            }
        };
        tokio::select! {
            // An error means that the writer has stopped: nothing will come from here, but another process may append.
            Ok(_) = head.wait_for(|head| *head > after) => {}
            () = poll => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }
}
