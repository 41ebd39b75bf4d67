//! Reads a partly archived log: rows first, and the archive if there is a gap.
//!
//! Positions and versions have no gaps, so a gap means archived events, and the usual read needs no extra query. The
//! archive is consulted after the rows, and a row is deleted only once the archive has it: a concurrent reader finds
//! each event in one place or the other.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::{Catalogue, Placed, read_frame};
use crate::events::envelope::{Position, RecordedEvent, StreamName, StreamStart, Version};
use crate::store::StoreError;
use crate::store::numbers::NUMBERS;
use crate::store::room::{Measure, cut};

/// Frames kept in memory, some hundred KiB each: a reader of pages comes back for the rest of a frame.
const FRAMES_KEPT: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

/// Frames looked up at a time.
const FRAMES_AHEAD: u32 = 32;

/// How often a stream is read again because rows moved into the archive in the meantime.
const STREAM_READS_MAX: usize = 3;

type Events = Arc<Vec<RecordedEvent>>;

/// Whether numbers are consecutive.
pub(in crate::store) fn is_unbroken(after: u64, numbers: impl Iterator<Item = u64>) -> bool {
    (after + 1..).zip(numbers).all(|(expected, found)| expected == found)
}

/// The rows of a stream after a version.
pub(in crate::store) struct StreamRows {
    /// The rows, in order.
    pub(in crate::store) events: Vec<RecordedEvent>,
    /// The version of the stream at that moment; none where its newest event always is among the rows.
    pub(in crate::store) version: Option<Version>,
}

/// Whether events of a stream are all that was asked for: no gap, and no end before the limit or the end of the stream.
fn is_whole(events: &[RecordedEvent], after: Version, limit: usize, version: Option<Version>) -> bool {
    let last = events.last().map_or(after, |last| last.version);
    is_unbroken(after, events.iter().map(|event| event.version))
        && (events.len() >= limit || version.is_none_or(|version| last >= version))
}

/// Reads archived events.
pub(in crate::store) struct ArchiveReader<C> {
    catalogue: C,
    /// Bytes with which a read ends.
    bytes_max: usize,
    /// By segment and first position.
    frames: Mutex<LruCache<(String, u64), Events>>,
}

impl<C: Catalogue> ArchiveReader<C> {
    /// Nothing is opened before somebody finds a gap.
    pub(in crate::store) fn new(catalogue: C, bytes_max: usize) -> Self {
        Self { catalogue, bytes_max, frames: Mutex::new(LruCache::new(FRAMES_KEPT)) }
    }

    /// Where it looks.
    pub(in crate::store) fn catalogue(&self) -> &C {
        &self.catalogue
    }

    async fn events(&self, placed: Placed) -> Result<Events, StoreError> {
        let key = (placed.file.clone(), placed.frame.first);
        if let Some(events) = self.frames.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(events));
        }
        let bytes = self.catalogue.content(&placed).await?;
        let read = tokio::task::spawn_blocking(move || read_frame(&placed.file, &placed.frame, &bytes)).await;
        let events = Arc::new(read.map_err(|gone| StoreError::Unavailable(Arc::new(gone)))??);
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).put(key, Arc::clone(&events));
        Ok(events)
    }

    /// Archived events after a position, in order. Fewer than asked for, and than the bound in bytes: there are no more.
    async fn after(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut found: Vec<RecordedEvent> = Vec::new();
        let mut measure = Measure::new(self.bytes_max);
        loop {
            let from = found.last().map_or(after, |last| last.position);
            let frames = self.catalogue.frames_after(NUMBERS.of(from), FRAMES_AHEAD).await?;
            if frames.is_empty() {
                return Ok(found);
            }
            for placed in frames {
                let events = self.events(placed).await?;
                for event in events.iter().filter(|event| event.position > after) {
                    found.push(event.clone());
                    if measure.is_full_with(event.payload.len()) || found.len() >= limit {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Archived events of a stream after a version, in order. Fewer than asked for, and than the bound in bytes: there are no
    /// more.
    async fn of_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let places = self.catalogue.places_in_stream(stream.as_str(), after, limit).await?;
        let mut found = Vec::with_capacity(places.len());
        let mut measure = Measure::new(self.bytes_max);
        let mut frame: Option<(u64, u64, Events)> = None;
        for (version, position) in places {
            if frame.as_ref().is_none_or(|(first, last, _)| !(*first..=*last).contains(&position)) {
                let there =
                    self.catalogue.frame_of(position).await?.ok_or_else(|| {
                        StoreError::Corrupt(format!("position {position} is archived and in no segment"))
                    })?;
                frame = Some((there.frame.first, there.frame.last, self.events(there).await?));
            }
            let events = frame.as_ref().map_or(&[][..], |(_, _, events)| events.as_slice());
            let place = events.binary_search_by_key(&NUMBERS.at(position), |event| event.position).ok();
            let event = place.map(|place| &events[place]).filter(|e| e.stream == *stream && e.version == version);
            let event = event.cloned().ok_or_else(|| {
                StoreError::Corrupt(format!("version {version} of {stream} is not where its segment should have it"))
            })?;
            let full = measure.is_full_with(event.payload.len());
            found.push(event);
            if full {
                break;
            }
        }
        Ok(found)
    }

    /// Events of the log after a position; `rows` reads those that are rows. The newest event of the log always is one.
    pub(in crate::store) async fn log_after<F>(
        &self,
        after: Position,
        limit: usize,
        rows: impl Fn(Position, usize) -> F + Send + Sync,
    ) -> Result<Vec<RecordedEvent>, StoreError>
    where
        F: Future<Output = Result<Vec<RecordedEvent>, StoreError>> + Send,
    {
        let mut found: Vec<RecordedEvent> = Vec::new();
        loop {
            let from = found.last().map_or(after, |last| last.position);
            let room = limit - found.len();
            let mut read = rows(from, room).await?;
            if !is_unbroken(NUMBERS.of(from), read.iter().map(|row| NUMBERS.of(row.position))) {
                let archived = self.after(from, room).await?;
                if !archived.is_empty() {
                    found.extend(archived);
                    if cut(&mut found, self.bytes_max) || found.len() >= limit {
                        return Ok(found);
                    }
                    continue;
                }
            }
            found.append(&mut read);
            cut(&mut found, self.bytes_max);
            return Ok(found);
        }
    }

    /// Events of a stream after a version; `rows` reads those that are rows.
    pub(in crate::store) async fn stream_after<F>(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
        rows: impl Fn() -> F + Send + Sync,
    ) -> Result<Vec<RecordedEvent>, StoreError>
    where
        F: Future<Output = Result<StreamRows, StoreError>> + Send,
    {
        for _ in 0..STREAM_READS_MAX {
            let StreamRows { mut events, version } = rows().await?;
            let full = cut(&mut events, self.bytes_max) && is_unbroken(after, events.iter().map(|event| event.version));
            if full || is_whole(&events, after, limit, version) {
                return Ok(events);
            }
            let mut found = self.of_stream(stream, after, limit).await?;
            if cut(&mut found, self.bytes_max) && is_unbroken(after, found.iter().map(|event| event.version)) {
                return Ok(found);
            }
            let up_to = found.last().map_or(after, |last| last.version);
            found.extend(events.into_iter().filter(|row| row.version > up_to));
            found.truncate(limit);
            let full = cut(&mut found, self.bytes_max) && is_unbroken(after, found.iter().map(|event| event.version));
            // Rows may have gone into a further segment between the two reads; then they are found there.
            if full || is_whole(&found, after, limit, version) {
                return Ok(found);
            }
        }
        Err(StoreError::Corrupt(format!("versions of the stream {stream} after {after} are missing")))
    }
}

/// What rows have of the beginning of a stream; nothing where a part of it is archived, which is read page by page.
pub(in crate::store) fn unarchived(start: StreamStart) -> StreamStart {
    if is_unbroken(0, start.events.iter().map(|event| event.version)) { start } else { StreamStart::default() }
}
