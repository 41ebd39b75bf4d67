//! Archives old months: writes segments, reads them back and compares, records them, and only then deletes the rows.
//!
//! Each step leaves the log complete, so that the next run continues an interrupted one: it rewrites an unrecorded
//! segment, and deletes rows that a recorded segment holds.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    ArchiveEngine, ArchiveError, ArchiveFaults, ArchiveStep, Archived, Frame, MonthOf, Place, Placed, Planned, Segment,
    SegmentCheck, SegmentFacts, SegmentMaker, Session,
};
use crate::events::envelope::RecordedEvent;
use crate::limits::Limits;
use crate::store::address::Database;
use crate::store::numbers::NUMBERS;
use crate::store::postgres::PostgresArchive;
use crate::store::sqlite::SqliteArchive;
use crate::store::{Now, StoreError};

/// Events of one segment: recording it holds up appends for about a tenth of a second, where it does.
const SEGMENT_EVENTS_MAX: u32 = 50_000;

/// Events read from the rows at a time.
const READ_AT_ONCE: usize = 2_000;

/// How long removals let others write between two of their transactions.
const BREATH: Duration = Duration::from_millis(2);

/// The archive of a log.
pub struct Archive {
    engine: Box<dyn ArchiveEngine>,
    segment_events_max: u32,
    faults: Option<ArchiveFaults>,
}

impl Archive {
    /// Opens the archive of the log in this database, and makes or upgrades the tables.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub async fn open(database: &Database, limits: Limits) -> Result<Self, StoreError> {
        let engine: Box<dyn ArchiveEngine> = match database {
            Database::Sqlite(log) => Box::new(SqliteArchive::open(log, limits).await?),
            Database::Postgres(url) => Box::new(PostgresArchive::open(url, limits).await?),
        };
        Ok(Self { engine, segment_events_max: SEGMENT_EVENTS_MAX, faults: None })
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

    /// Where segments lie.
    pub fn place(&self) -> Place {
        self.engine.place()
    }

    /// What is recorded, in the order of the log.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn segments(&self) -> Result<Vec<Segment>, StoreError> {
        self.engine.segments().await
    }

    /// The segments that a run would write: everything that was recorded before an instant, by month.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn plan(&self, before: DateTime<Utc>, month_of: MonthOf<'_>) -> Result<Vec<Planned>, StoreError> {
        let mut after = self.segments().await?.last().map_or(0, |last| last.facts.last);
        let mut planned = Vec::new();
        while let Some(at) = self.engine.first_after(after).await? {
            let (month, end) = month_of(at);
            let piece = self.engine.piece(after, end.min(before), self.segment_events_max).await?;
            let Some((first, last, events)) = piece else { break };
            planned.push(Planned { month, first, last, events });
            after = last;
        }
        Ok(planned)
    }

    /// Archives what was planned and finishes what earlier runs began. `progress` gets each segment as it is recorded.
    ///
    /// # Errors
    /// Another process archives, something cannot be read or written, or what was written is not what the rows say.
    pub async fn run(
        &self,
        planned: &[Planned],
        now: &Now,
        progress: impl Fn(&Segment),
    ) -> Result<Archived, ArchiveError> {
        let mut session = self.engine.begin().await?;
        let mut done = Archived::default();
        for piece in planned {
            let (facts, frames, file) = self.write(&mut *session, piece).await?;
            let number = self.segments().await?.last().map_or(1, |last| last.number + 1);
            let segment = Segment { number, month: piece.month.clone(), file, facts, recorded_at: now() };
            session.record(&segment, &frames).await?;
            progress(&segment);
            done.segments.push(segment);
            self.fault(ArchiveStep::Recorded)?;
        }
        done.removed = self.remove(&mut *session).await?;
        session.close().await?;
        Ok(done)
    }

    fn fault(&self, step: ArchiveStep) -> Result<(), ArchiveError> {
        match &self.faults {
            Some(faults) if faults(step) => Err(ArchiveError::Injected(step)),
            _ => Ok(()),
        }
    }

    /// Writes a segment, renames it, reads it back and compares it with the rows, which it reads again.
    async fn write(
        &self,
        session: &mut dyn Session,
        piece: &Planned,
    ) -> Result<(SegmentFacts, Vec<Frame>, String), ArchiveError> {
        let file = format!("{}-{:012}-{:012}.ndjson.zst", piece.month, piece.first, piece.last);
        session.create(&file).await?;
        let mut maker = SegmentMaker::new(&file);
        let mut after = piece.first - 1;
        while after < piece.last {
            let events = self.rows(after, piece.last).await?;
            let Some(last) = events.last() else { break };
            after = NUMBERS.of(last.position);
            for event in &events {
                if let Some(frame) = maker.push(event)? {
                    session.put(&frame).await?;
                }
            }
            self.fault(ArchiveStep::Writing)?;
        }
        if let Some(frame) = maker.end_frame()? {
            session.put(&frame).await?;
        }
        let (facts, frames) = maker.finish();
        session.finish().await?;
        self.fault(ArchiveStep::Written)?;
        session.name().await?;
        self.fault(ArchiveStep::Named)?;
        if (facts.first, facts.last, facts.events) != (piece.first, piece.last, piece.events) {
            return Err(ArchiveError::Differs(format!("{file} holds other events than were planned")));
        }
        self.compare(&file, &facts, &frames).await?;
        self.fault(ArchiveStep::Verified)?;
        Ok((facts, frames, file))
    }

    /// The events of a segment, read back and compared with what it is said to hold.
    async fn read_back(
        &self,
        file: &str,
        facts: &SegmentFacts,
        frames: &[Frame],
    ) -> Result<Vec<RecordedEvent>, ArchiveError> {
        let mut check = SegmentCheck::new(file, facts, self.engine.length(file).await?)?;
        let mut there = Vec::new();
        for frame in frames {
            let placed = Placed { file: file.to_owned(), frame: *frame };
            let bytes = self.engine.catalogue().content(&placed).await?;
            there.append(&mut check.frame(frame, &bytes)?);
        }
        check.finish()?;
        Ok(there)
    }

    /// Reads a segment back and compares each of its events with the row that is still there.
    async fn compare(&self, file: &str, facts: &SegmentFacts, frames: &[Frame]) -> Result<(), ArchiveError> {
        let there = self.read_back(file, facts, frames).await?;
        let (mut after, mut compared) = (facts.first - 1, 0);
        while after < facts.last {
            let rows = self.rows(after, facts.last).await?;
            let Some(last) = rows.last() else { break };
            after = NUMBERS.of(last.position);
            let same = there.get(compared..compared + rows.len()).is_some_and(|some| some == rows);
            if !same {
                return Err(ArchiveError::Differs(format!("{file} differs from the log before position {after}")));
            }
            compared += rows.len();
        }
        if compared == there.len() {
            return Ok(());
        }
        Err(ArchiveError::Differs(format!("{file} holds more events than the log")))
    }

    async fn rows(&self, after: u64, up_to: u64) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut rows = self.engine.rows(after, READ_AT_ONCE).await?;
        rows.retain(|event| NUMBERS.of(event.position) <= up_to);
        Ok(rows)
    }

    /// Removes the rows that segments hold, in small steps, so that appends find room between them.
    async fn remove(&self, session: &mut dyn Session) -> Result<u64, ArchiveError> {
        let up_to = self.segments().await?.last().map_or(0, |last| last.facts.last);
        let (mut after, mut removed) = (0, 0);
        while let Some((next, gone)) = session.remove(after, up_to).await? {
            removed += gone;
            after = next;
            self.fault(ArchiveStep::Removing)?;
            tokio::time::sleep(BREATH).await;
        }
        Ok(removed)
    }

    /// Reads every segment again and compares it with what is recorded: hashes, positions, commitments, that no
    /// segment is missing between two, and that rows which the log still has say the same. Answers with what it read.
    ///
    /// # Errors
    /// Something cannot be read, or is not what is recorded.
    pub async fn verify(&self, progress: impl Fn(&Segment)) -> Result<Vec<Segment>, ArchiveError> {
        let segments = self.segments().await?;
        let (mut events, mut after) = (0, 0);
        for segment in &segments {
            if segment.facts.first != after + 1 {
                return Err(ArchiveError::Differs(format!("no segment holds the events after position {after}")));
            }
            let frames = self.engine.frames_of(segment.number).await?;
            let there = self.read_back(&segment.file, &segment.facts, &frames).await?;
            self.compare_kept(segment, &there).await?;
            (events, after) = (events + segment.facts.events, segment.facts.last);
            progress(segment);
        }
        let placed = self.engine.known_by_version().await?;
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
            after = NUMBERS.of(last.position);
            for row in &rows {
                let place = there.binary_search_by_key(&row.position, |event| event.position);
                if place.map(|place| &there[place]) != Ok(row) {
                    let position = NUMBERS.of(row.position);
                    return Err(ArchiveError::Differs(format!("{} differs from the log at {position}", segment.file)));
                }
            }
        }
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.engine.close().await;
    }
}
