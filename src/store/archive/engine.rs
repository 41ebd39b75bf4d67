//! An engine's part of the archive: it stores the bytes of segments and their records, and deletes archived rows.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{ArchiveError, Frame, Place, Placed, Segment, SegmentError};
use crate::events::envelope::{RecordedEvent, Version};
use crate::store::StoreError;

/// The places of archived events, for readers of the log.
#[async_trait]
pub(in crate::store) trait Catalogue: Send + Sync + 'static {
    /// The frames with events after a position, the next ones only.
    async fn frames_after(&self, after: u64, limit: u32) -> Result<Vec<Placed>, StoreError>;

    /// The frame that holds a position, if one does.
    async fn frame_of(&self, position: u64) -> Result<Option<Placed>, StoreError>;

    /// Archived versions of a stream after one, with their positions, in order.
    async fn places_in_stream(
        &self,
        stream: &str,
        after: Version,
        limit: usize,
    ) -> Result<Vec<(Version, u64)>, StoreError>;

    /// The bytes of a frame.
    async fn content(&self, placed: &Placed) -> Result<Vec<u8>, SegmentError>;
}

/// The engine of one log, for archiving: its reads, and the session in which it writes.
#[async_trait]
pub(in crate::store) trait ArchiveEngine: Send + Sync {
    /// Where segments lie.
    fn place(&self) -> Place;

    /// Where archived events are.
    fn catalogue(&self) -> &dyn Catalogue;

    /// All segments, in the order of the log.
    async fn segments(&self) -> Result<Vec<Segment>, StoreError>;

    /// The frames of a segment, in their order.
    async fn frames_of(&self, segment: i64) -> Result<Vec<Frame>, StoreError>;

    /// How many bytes there are of a segment.
    async fn length(&self, file: &str) -> Result<u64, SegmentError>;

    /// How many archived events are known by version.
    async fn known_by_version(&self) -> Result<u64, StoreError>;

    /// The first row after a position: when it was recorded.
    async fn first_after(&self, after: u64) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// The first and the last row of a piece, and how many it has: after a position, before the first event that was recorded
    /// at an instant or later, and no more than so many. None if there is nothing in it.
    async fn piece(
        &self,
        after: u64,
        before: DateTime<Utc>,
        events_max: u32,
    ) -> Result<Option<(u64, u64, u64)>, StoreError>;

    /// Rows of the log after a position, so many at most.
    async fn rows(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, StoreError>;

    /// Begins to work, as the only one.
    async fn begin(&self) -> Result<Box<dyn Session>, ArchiveError>;

    /// Closes the connections.
    async fn close(&self);
}

/// What archiving writes. Nobody else archives as long as it lasts; dropped, it ends as by a crash.
#[async_trait]
pub(in crate::store) trait Session: Send + Sync {
    /// Begins the bytes of a segment; what somebody left who did not finish is overwritten.
    async fn create(&mut self, file: &str) -> Result<(), ArchiveError>;

    /// Adds a frame to it.
    async fn put(&mut self, frame: &[u8]) -> Result<(), ArchiveError>;

    /// Ends it: its bytes are on the disk.
    async fn finish(&mut self) -> Result<(), ArchiveError>;

    /// Has its bytes found by its name.
    async fn name(&mut self) -> Result<(), ArchiveError>;

    /// Records a verified segment: itself, its frames, and where its events are. All in one transaction.
    async fn record(&mut self, segment: &Segment, frames: &[Frame]) -> Result<(), StoreError>;

    /// Takes the archived rows that lie next after a position out of the log, a few that is, or many at once where that costs
    /// others no more. Says up to which position it has looked, and how many rows went; none: there is none left.
    async fn remove(&mut self, after: u64, up_to: u64) -> Result<Option<(u64, u64)>, StoreError>;

    /// Ends in order.
    async fn close(self: Box<Self>) -> Result<(), StoreError>;
}
