//! The archive of a log in an `SQLite` file: segments are files in a folder beside it.

mod session;
mod tables;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;

use self::session::SqliteSession;
use self::tables::unavailable;
use super::connection::Readers;
use super::open::{Access, migrate, options, read_pool};
use super::rows;
use crate::events::envelope::{RecordedEvent, Version};
use crate::limits::Limits;
use crate::store::StoreError;
use crate::store::archive::{
    ArchiveEngine, ArchiveError, Catalogue, Frame, Place, Placed, Segment, SegmentError, Session,
};
use crate::store::kinds::Kinds;
use crate::store::numbers::NUMBERS;

/// The folder of a log's segments, beside its file: `sluice.db` has `sluice-archive`.
pub(super) fn folder_of(log: &Path) -> PathBuf {
    let mut name = log.file_stem().map_or_else(|| "sluice".into(), std::ffi::OsString::from);
    name.push("-archive");
    log.with_file_name(name)
}

/// Where the archived events of a log are.
pub(in crate::store) struct SqliteCatalogue {
    readers: SqlitePool,
    folder: PathBuf,
}

impl SqliteCatalogue {
    /// That of the log in this file. Nothing is opened before somebody asks.
    pub(super) fn new(log: &Path, limits: &Limits) -> Self {
        let readers = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .acquire_timeout(limits.lock_wait)
            .connect_lazy_with(options(log, Access::Read, limits));
        Self { readers, folder: folder_of(log) }
    }

    /// Closes the connection.
    pub(super) async fn close(&self) {
        self.readers.close().await;
    }
}

/// What an error of the file system means for a segment.
fn file_error(file: &str) -> impl Fn(io::Error) -> SegmentError + '_ {
    |error| match error.kind() {
        io::ErrorKind::NotFound => SegmentError::Missing { segment: file.to_owned() },
        io::ErrorKind::UnexpectedEof => SegmentError::damaged(file, "it ends too early"),
        _ => SegmentError::unusable(file, error),
    }
}

fn read(folder: &Path, placed: &Placed) -> Result<Vec<u8>, SegmentError> {
    let mut bytes = vec![0; placed.frame.size(&placed.file)?];
    let read = |mut file: File| {
        file.seek(SeekFrom::Start(placed.frame.offset))?;
        file.read_exact(&mut bytes)
    };
    File::open(folder.join(&placed.file)).and_then(read).map_err(file_error(&placed.file))?;
    Ok(bytes)
}

#[async_trait]
impl Catalogue for SqliteCatalogue {
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
        let (folder, of) = (self.folder.clone(), placed.clone());
        let read = tokio::task::spawn_blocking(move || read(&folder, &of)).await;
        read.map_err(|gone| SegmentError::unusable(&placed.file, gone))?
    }
}

/// The archive of a log in a file, for archiving.
pub(in crate::store) struct SqliteArchive {
    path: PathBuf,
    catalogue: SqliteCatalogue,
    log: Readers,
    kinds: Kinds,
    limits: Limits,
}

impl SqliteArchive {
    /// Opens the archive of the log in this file.
    pub(in crate::store) async fn open(log: &Path, limits: Limits) -> Result<Self, StoreError> {
        migrate(log, &limits).await?;
        let readers = read_pool(log, 1, &limits).await.map_err(unavailable)?;
        Ok(Self {
            path: log.to_owned(),
            catalogue: SqliteCatalogue { readers, folder: folder_of(log) },
            log: Readers::new(log, &limits),
            kinds: Kinds::default(),
            limits,
        })
    }

    fn readers(&self) -> &SqlitePool {
        &self.catalogue.readers
    }
}

#[async_trait]
impl ArchiveEngine for SqliteArchive {
    fn place(&self) -> Place {
        Place::Folder(self.catalogue.folder.clone())
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
        let metadata = std::fs::metadata(self.catalogue.folder.join(file)).map_err(file_error(file))?;
        Ok(metadata.len())
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
        let (kinds, bounds) = (self.kinds.clone(), (limit, self.limits.read_bytes_max));
        self.log.read(move |connection| rows::read_all(connection, &kinds, NUMBERS.at(after), bounds)).await
    }

    async fn begin(&self) -> Result<Box<dyn Session>, ArchiveError> {
        let session = SqliteSession::begin(&self.path, &self.catalogue.folder, &self.limits).await?;
        Ok(Box::new(session))
    }

    async fn close(&self) {
        self.log.close();
        self.catalogue.close().await;
    }
}
