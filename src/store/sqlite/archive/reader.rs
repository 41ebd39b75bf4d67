//! Reading what is archived, by position and by version, for whoever finds a gap in the rows of the log.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;

use super::folder_of;
use super::tables::{self, Placed};
use crate::events::envelope::{Position, RecordedEvent, StreamName, Version};
use crate::limits::Limits;
use crate::store::StoreError;
use crate::store::archive::{SegmentError, read_frame};
use crate::store::sqlite::open::{Access, options};

/// Frames that stay in memory, some hundred KiB each: whoever reads in pages comes back for the rest of a frame.
const FRAMES_KEPT: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

/// Frames looked up at a time.
const FRAMES_AHEAD: u32 = 32;

type Events = Arc<Vec<RecordedEvent>>;

/// Reads archived events.
pub(in crate::store::sqlite) struct ArchiveReader {
    readers: SqlitePool,
    folder: PathBuf,
    /// By file and first position.
    frames: Arc<Mutex<LruCache<(String, u64), Events>>>,
}

/// As a store tells it: a file that is missing or damaged is no passing trouble.
pub(in crate::store::sqlite) fn as_store_error(error: SegmentError) -> StoreError {
    match error {
        SegmentError::File { ref source, .. } if source.kind() != std::io::ErrorKind::NotFound => {
            StoreError::Unavailable(Arc::new(error))
        }
        SegmentError::File { path, .. } => {
            StoreError::Corrupt(format!("the segment {} is missing; put it back from a backup", path.display()))
        }
        damaged @ SegmentError::Damaged { .. } => StoreError::Corrupt(damaged.to_string()),
    }
}

impl ArchiveReader {
    /// The archive of the log in this file. Nothing is opened before somebody finds a gap.
    pub(in crate::store::sqlite) fn new(log: &Path, limits: &Limits) -> Self {
        let readers = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .acquire_timeout(limits.lock_wait)
            .connect_lazy_with(options(log, Access::Read, limits));
        Self { readers, folder: folder_of(log), frames: Arc::new(Mutex::new(LruCache::new(FRAMES_KEPT))) }
    }

    /// Closes the connection.
    pub(in crate::store::sqlite) async fn close(&self) {
        self.readers.close().await;
    }

    async fn events(&self, placed: Placed) -> Result<Events, StoreError> {
        let key = (placed.file.clone(), placed.frame.first);
        if let Some(events) = self.frames.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(events));
        }
        let path = self.folder.join(&placed.file);
        let read = tokio::task::spawn_blocking(move || read_frame(&path, &placed.frame)).await;
        let events = read.map_err(|gone| StoreError::Unavailable(Arc::new(gone)))?.map_err(as_store_error)?;
        let events = Arc::new(events);
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).put(key, Arc::clone(&events));
        Ok(events)
    }

    /// Archived events after a position, in order. Fewer than asked for: there are no more.
    pub(in crate::store::sqlite) async fn after(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut found: Vec<RecordedEvent> = Vec::new();
        loop {
            let from = found.last().map_or(after, |last| last.position);
            let frames = tables::frames_after(&self.readers, from.as_seq(), FRAMES_AHEAD).await?;
            if frames.is_empty() {
                return Ok(found);
            }
            for placed in frames {
                let events = self.events(placed).await?;
                found.extend(events.iter().filter(|event| event.position > after).cloned());
                if found.len() >= limit {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        }
    }

    /// Archived events of a stream after a version, in order. Fewer than asked for: there are no more.
    pub(in crate::store::sqlite) async fn of_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let places = tables::places_in_stream(&self.readers, stream.as_str(), after, limit).await?;
        let mut found = Vec::with_capacity(places.len());
        let mut frame: Option<(u64, u64, Events)> = None;
        for (version, position) in places {
            if frame.as_ref().is_none_or(|(first, last, _)| !(*first..=*last).contains(&position)) {
                let there = tables::frame_of(&self.readers, position)
                    .await?
                    .ok_or_else(|| StoreError::Corrupt(format!("position {position} is archived and in no segment")))?;
                frame = Some((there.frame.first, there.frame.last, self.events(there).await?));
            }
            let events = frame.as_ref().map_or(&[][..], |(_, _, events)| events.as_slice());
            let place = events.binary_search_by_key(&Position::seq(position), |event| event.position).ok();
            let event = place.map(|place| &events[place]).filter(|e| e.stream == *stream && e.version == version);
            found.push(event.cloned().ok_or_else(|| {
                StoreError::Corrupt(format!("version {version} of {stream} is not where its segment should have it"))
            })?);
        }
        Ok(found)
    }
}
