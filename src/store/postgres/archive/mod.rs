//! The archive of a log in a `PostgreSQL` database, which also holds the bytes of segments, so that every process on
//! every host finds them, and a dump contains them.

mod session;
mod tables;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use self::session::PostgresSession;
use super::{Schema, migrate, read_pool, rows};
use crate::events::envelope::{RecordedEvent, Version};
use crate::limits::Limits;
use crate::store::StoreError;
use crate::store::archive::{
    ArchiveEngine, ArchiveError, Catalogue, Frame, Place, Placed, Segment, SegmentError, Session,
};
use crate::store::kinds::Kinds;
use crate::store::numbers::NUMBERS;

/// Where the archived events of a log are.
pub(in crate::store) struct PostgresCatalogue {
    readers: PgPool,
}

impl PostgresCatalogue {
    /// By way of connections that read.
    pub(super) fn new(readers: PgPool) -> Self {
        Self { readers }
    }
}

#[async_trait]
impl Catalogue for PostgresCatalogue {
    async fn frames_after(&self, after: u64, limit: u32) -> Result<Vec<Placed>, StoreError> {
        tables::frames_after(&self.readers, after, limit).await
    }

    async fn frame_of(&self, position: u64) -> Result<Option<Placed>, StoreError> {
        tables::frame_of(&self.readers, position).await
    }

    async fn places_in_stream(
        &self,
        stream: &str,
        after: Version,
        limit: usize,
    ) -> Result<Vec<(Version, u64)>, StoreError> {
        tables::places_in_stream(&self.readers, stream, after, limit).await
    }

    async fn content(&self, placed: &Placed) -> Result<Vec<u8>, SegmentError> {
        let content = tables::content(&self.readers, placed).await;
        let content = content.map_err(|error| SegmentError::unusable(&placed.file, error))?;
        content.ok_or_else(|| SegmentError::Missing { segment: placed.file.clone() })
    }
}

/// The archive of a log on a server, for archiving.
pub(in crate::store) struct PostgresArchive {
    url: String,
    catalogue: PostgresCatalogue,
    kinds: Kinds,
    limits: Limits,
}

impl PostgresArchive {
    /// Opens the archive of the log in this database.
    pub(in crate::store) async fn open(url: &str, limits: Limits) -> Result<Self, StoreError> {
        migrate(url, Schema::Log, &limits).await.map_err(rows::unavailable)?;
        let readers = read_pool(url, Schema::Log, 1, &limits).map_err(rows::unavailable)?;
        let catalogue = PostgresCatalogue::new(readers);
        Ok(Self { url: url.to_owned(), catalogue, kinds: Kinds::default(), limits })
    }

    fn readers(&self) -> &PgPool {
        &self.catalogue.readers
    }
}

#[async_trait]
impl ArchiveEngine for PostgresArchive {
    fn place(&self) -> Place {
        Place::Database
    }

    fn catalogue(&self) -> &dyn Catalogue {
        &self.catalogue
    }

    async fn segments(&self) -> Result<Vec<Segment>, StoreError> {
        tables::segments(self.readers()).await
    }

    async fn frames_of(&self, segment: i64) -> Result<Vec<Frame>, StoreError> {
        tables::frames_of(self.readers(), segment).await
    }

    async fn length(&self, file: &str) -> Result<u64, SegmentError> {
        tables::length(self.readers(), file).await.map_err(|error| SegmentError::unusable(file, error))
    }

    async fn known_by_version(&self) -> Result<u64, StoreError> {
        tables::known_by_version(self.readers()).await
    }

    async fn first_after(&self, after: u64) -> Result<Option<DateTime<Utc>>, StoreError> {
        tables::first_after(self.readers(), after).await
    }

    async fn piece(
        &self,
        after: u64,
        before: DateTime<Utc>,
        events_max: u32,
    ) -> Result<Option<(u64, u64, u64)>, StoreError> {
        tables::piece(self.readers(), after, before, events_max).await
    }

    async fn rows(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        rows::read_all(self.readers(), &self.kinds, NUMBERS.at(after), (limit, self.limits.read_bytes_max)).await
    }

    async fn begin(&self) -> Result<Box<dyn Session>, ArchiveError> {
        Ok(Box::new(PostgresSession::begin(&self.url, &self.limits).await?))
    }

    async fn close(&self) {
        self.readers().close().await;
    }
}
