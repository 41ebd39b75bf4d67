//! Takes old months out of the database: written as segments, read back and compared, recorded, and only then removed.
//!
//! Each step leaves the log whole, so that a run that was cut off anywhere is taken up by the next: a file that is not
//! recorded is written anew, and rows that a recorded segment holds are removed.

mod reader;
mod tables;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

pub(super) use self::reader::ArchiveReader;
use self::tables::unavailable;
use super::connection::Readers;
use super::open::{Access, migrate, options, read_pool};
use super::rows;
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;
use crate::store::archive::{Frame, Segment, SegmentError, SegmentFacts, SegmentWriter, verify};
use crate::store::kinds::Kinds;
use crate::store::{Now, StoreError};

/// Events of one segment: recording it holds up appends for about a tenth of a second.
const SEGMENT_EVENTS_MAX: u32 = 50_000;

/// Rows removed in one transaction.
const REMOVED_AT_ONCE: u32 = 2_000;

/// Events read from the rows at a time.
const READ_AT_ONCE: usize = 2_000;

/// How long removals let others write between two of their transactions.
const BREATH: Duration = Duration::from_millis(2);

/// The months of a site's calendar: the name of the month that an instant lies in, and when it ends.
pub type MonthOf<'a> = &'a (dyn Fn(DateTime<Utc>) -> (String, DateTime<Utc>) + Sync);

/// A step of archiving, after which a test can stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveStep {
    /// Half of the file is written.
    Writing,
    /// The file is written under another name.
    Written,
    /// The file has its name.
    Named,
    /// The file was read back and is what the rows say.
    Verified,
    /// The segment is recorded.
    Recorded,
    /// Some of the rows are removed.
    Removing,
}

/// Stops archiving as a crash would, if it answers true.
pub type ArchiveFaults = Arc<dyn Fn(ArchiveStep) -> bool + Send + Sync>;

/// Why archiving went no further.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The database.
    #[error("the log cannot be archived")]
    Store(#[from] StoreError),
    /// A file.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The folder of the archive.
    #[error("the folder {} of the archive cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else is at it.
    #[error("another process is archiving into {}", .0.display())]
    Busy(PathBuf),
    /// Events in the files and in the database differ.
    #[error("the archive and the log do not agree: {0}")]
    Differs(String),
    /// A test stopped it.
    #[error("stopped after {0:?} by a test")]
    Injected(ArchiveStep),
}

/// A segment that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The month, as `2025-01`.
    pub month: String,
    /// Position of the first event.
    pub first: u64,
    /// Position of the last event.
    pub last: u64,
    /// How many events it will hold.
    pub events: u64,
}

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// Segments written, verified and recorded.
    pub segments: Vec<Segment>,
    /// Rows removed from the database, those of earlier runs included.
    pub removed: u64,
}

/// The folder of a log's segments, beside its file: `sluice.db` has `sluice-archive`.
pub fn folder_of(log: &Path) -> PathBuf {
    let mut name = log.file_stem().map_or_else(|| "sluice".into(), std::ffi::OsString::from);
    name.push("-archive");
    log.with_file_name(name)
}

/// The archive of a log in an `SQLite` file.
pub struct Archive {
    path: PathBuf,
    folder: PathBuf,
    readers: SqlitePool,
    log: Readers,
    kinds: Kinds,
    limits: Limits,
    segment_events_max: u32,
    faults: Option<ArchiveFaults>,
}

impl Archive {
    /// Opens the archive of the log in this file.
    pub async fn open(log: &Path, limits: Limits) -> Result<Self, StoreError> {
        migrate(log, &limits).await?;
        let readers = read_pool(log, 1, &limits).await.map_err(unavailable)?;
        Ok(Self {
            path: log.to_owned(),
            folder: folder_of(log),
            readers,
            log: Readers::new(log, &limits),
            kinds: Kinds::default(),
            limits,
            segment_events_max: SEGMENT_EVENTS_MAX,
            faults: None,
        })
    }

    /// Makes segments of at most so many events.
    #[must_use]
    pub fn with_segment_events_max(mut self, events: u32) -> Self {
        self.segment_events_max = events.max(1);
        self
    }

    /// Lets a test stop it as a crash would.
    #[must_use]
    pub fn with_faults(mut self, faults: ArchiveFaults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is recorded, in the order of the log.
    pub async fn segments(&self) -> Result<Vec<Segment>, StoreError> {
        tables::segments(&self.readers).await
    }

    /// The segments that a run would write: everything that was recorded before an instant, by month.
    pub async fn plan(&self, before: DateTime<Utc>, month_of: MonthOf<'_>) -> Result<Vec<Planned>, StoreError> {
        let mut after = tables::archived_up_to(&self.readers).await?;
        let mut planned = Vec::new();
        while let Some((_, at)) = tables::first_after(&self.readers, after).await? {
            let (month, end) = month_of(at);
            let end = end.min(before);
            let Some((first, last, events)) = tables::piece(&self.readers, after, end, self.segment_events_max).await?
            else {
                break;
            };
            planned.push(Planned { month, first, last, events });
            after = last;
        }
        Ok(planned)
    }

    /// Archives what was planned and finishes what earlier runs began. `progress` gets each segment as it is recorded.
    pub async fn run(
        &self,
        planned: &[Planned],
        now: &Now,
        progress: impl Fn(&Segment),
    ) -> Result<Archived, ArchiveError> {
        let _only_one = self.lock()?;
        let mut connection =
            options(&self.path, Access::WriteDurably, &self.limits).connect().await.map_err(unavailable)?;
        let mut done = Archived::default();
        for piece in planned {
            let (facts, frames, file) = self.write(piece).await?;
            let number = self.segments().await?.last().map_or(1, |last| last.number + 1);
            let segment = Segment { number, month: piece.month.clone(), file, facts, recorded_at: now() };
            tables::record(&mut connection, &segment, &frames).await?;
            progress(&segment);
            done.segments.push(segment);
            self.fault(ArchiveStep::Recorded)?;
        }
        done.removed = self.remove(&mut connection).await?;
        connection.close().await.map_err(unavailable)?;
        Ok(done)
    }

    fn fault(&self, step: ArchiveStep) -> Result<(), ArchiveError> {
        match &self.faults {
            Some(faults) if faults(step) => Err(ArchiveError::Injected(step)),
            _ => Ok(()),
        }
    }

    /// One process at a time; the lock goes with the file that is handed out.
    fn lock(&self) -> Result<File, ArchiveError> {
        let folder = |source| ArchiveError::Folder { path: self.folder.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(folder)?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(ArchiveError::Busy(self.folder.clone())),
            Err(TryLockError::Error(source)) => Err(folder(source)),
        }
    }

    /// Writes a segment's file, gives it its name, reads it back and compares it with the rows, which are read anew.
    async fn write(&self, piece: &Planned) -> Result<(SegmentFacts, Vec<Frame>, String), ArchiveError> {
        let file = format!("{}-{:012}-{:012}.ndjson.zst", piece.month, piece.first, piece.last);
        let (path, partial) = (self.folder.join(&file), self.folder.join(format!("{file}.partial")));
        let mut writer = SegmentWriter::create(&partial)?;
        let mut after = piece.first - 1;
        while after < piece.last {
            let events = self.rows(after, piece.last).await?;
            let Some(last) = events.last() else { break };
            after = last.position.as_seq();
            for event in &events {
                writer.push(event)?;
            }
            self.fault(ArchiveStep::Writing)?;
        }
        let (facts, frames) = writer.finish()?;
        self.fault(ArchiveStep::Written)?;
        let folder = |source| ArchiveError::Folder { path: self.folder.clone(), source };
        std::fs::rename(&partial, &path).map_err(folder)?;
        // The name is on the disk when the folder is.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(folder)?;
        self.fault(ArchiveStep::Named)?;
        if (facts.first, facts.last, facts.events) != (piece.first, piece.last, piece.events) {
            return Err(ArchiveError::Differs(format!("{file} holds other events than were planned")));
        }
        self.compare(&path, &facts, &frames).await?;
        self.fault(ArchiveStep::Verified)?;
        Ok((facts, frames, file))
    }

    /// Reads a file back from the disk and compares each of its events with the row that is still there.
    async fn compare(&self, path: &Path, facts: &SegmentFacts, frames: &[Frame]) -> Result<(), ArchiveError> {
        let mut there = Vec::new();
        verify(path, facts, frames, |event| there.push(event.clone()))?;
        let (mut after, mut compared) = (facts.first - 1, 0);
        while after < facts.last {
            let rows = self.rows(after, facts.last).await?;
            let Some(last) = rows.last() else { break };
            after = last.position.as_seq();
            let same = there.get(compared..compared + rows.len()).is_some_and(|some| some == rows);
            if !same {
                return Err(ArchiveError::Differs(format!(
                    "{} differs from the log before position {after}",
                    path.display()
                )));
            }
            compared += rows.len();
        }
        if compared == there.len() {
            return Ok(());
        }
        Err(ArchiveError::Differs(format!("{} holds more events than the log", path.display())))
    }

    async fn rows(&self, after: u64, up_to: u64) -> Result<Vec<RecordedEvent>, StoreError> {
        let kinds = self.kinds.clone();
        let read = move |connection: &_| rows::read_all(connection, &kinds, Position::seq(after), READ_AT_ONCE);
        let mut rows = self.log.read(read).await?;
        rows.retain(|event| event.position.as_seq() <= up_to);
        Ok(rows)
    }

    /// Removes the rows that segments hold, in small steps, so that appends find room between them.
    async fn remove(&self, connection: &mut SqliteConnection) -> Result<u64, ArchiveError> {
        let up_to = tables::archived_up_to(&self.readers).await?;
        let (mut after, mut removed) = (0, 0);
        while let Some(next) = tables::step(connection, after, up_to, REMOVED_AT_ONCE).await? {
            removed += tables::remove(connection, after, next).await?;
            after = next;
            self.fault(ArchiveStep::Removing)?;
            tokio::time::sleep(BREATH).await;
        }
        Ok(removed)
    }

    /// Reads every segment from the disk and compares it with what is recorded: hashes, positions, commitments, that no
    /// segment is missing between two, and that rows which the log still has say the same. Answers with what it read.
    pub async fn verify(&self, progress: impl Fn(&Segment)) -> Result<Vec<Segment>, ArchiveError> {
        let segments = self.segments().await?;
        let mut events = 0;
        for segment in &segments {
            let frames = tables::frames_of(&self.readers, segment.number).await?;
            let mut there = Vec::new();
            verify(&self.folder.join(&segment.file), &segment.facts, &frames, |event| there.push(event.clone()))?;
            self.compare_kept(segment, &there).await?;
            events += segment.facts.events;
            progress(segment);
        }
        let up_to = segments.last().map_or(0, |segment| segment.facts.last);
        let (placed, _) = tables::counts(&self.readers, up_to).await?;
        if placed != events {
            return Err(ArchiveError::Differs(format!(
                "{events} events are in segments and {placed} are known by version"
            )));
        }
        Ok(segments)
    }

    /// Rows that the log still has of a segment are the events in it.
    async fn compare_kept(&self, segment: &Segment, there: &[RecordedEvent]) -> Result<(), ArchiveError> {
        let mut after = segment.facts.first - 1;
        loop {
            let rows = self.rows(after, segment.facts.last).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.position.as_seq();
            for row in &rows {
                let place = there.binary_search_by_key(&row.position, |event| event.position);
                if place.map(|place| &there[place]) != Ok(row) {
                    let position = row.position.as_seq();
                    return Err(ArchiveError::Differs(format!("{} differs from the log at {position}", segment.file)));
                }
            }
        }
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.log.close();
        self.readers.close().await;
    }
}
