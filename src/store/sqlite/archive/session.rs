//! Archiving beside an `SQLite` file: a folder with one writing process at a time, and the connection that deletes
//! rows.

use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::tables::{self, unavailable};
use crate::limits::Limits;
use crate::store::archive::{ArchiveError, Frame, Place, Segment, SegmentError, Session};
use crate::store::sqlite::open::{Access, options};
use crate::store::{StoreError, private};

/// Rows removed in one transaction.
const REMOVED_AT_ONCE: u32 = 2_000;

/// A run of archiving.
pub(super) struct SqliteSession {
    connection: SqliteConnection,
    folder: PathBuf,
    /// The segment that is being written, and its bytes.
    file: String,
    writer: Option<BufWriter<File>>,
    /// One process at a time; the lock goes with the file.
    _lock: File,
}

impl SqliteSession {
    pub(super) async fn begin(log: &Path, folder: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        let lock = lock(folder)?;
        let connection = options(log, Access::WriteDurably, limits).connect().await.map_err(unavailable)?;
        Ok(Self { connection, folder: folder.to_owned(), file: String::new(), writer: None, _lock: lock })
    }

    /// What is not finished goes by another name.
    fn partial(&self) -> PathBuf {
        self.folder.join(format!("{}.partial", self.file))
    }

    fn unusable(&self) -> impl Fn(io::Error) -> SegmentError + '_ {
        |error| SegmentError::unusable(&self.file, error)
    }
}

fn lock(folder: &Path) -> Result<File, ArchiveError> {
    let failed = |source| ArchiveError::Folder { path: folder.to_owned(), source };
    private::folder(folder).map_err(failed)?;
    let file = private::file(&folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ArchiveError::Busy(Place::Folder(folder.to_owned()))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn create(&mut self, file: &str) -> Result<(), ArchiveError> {
        file.clone_into(&mut self.file);
        let created = private::new_file(&self.partial()).map_err(self.unusable())?;
        self.writer = Some(BufWriter::new(created));
        Ok(())
    }

    async fn put(&mut self, frame: &[u8]) -> Result<(), ArchiveError> {
        let written = self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(frame));
        Ok(written.map_err(self.unusable())?)
    }

    async fn finish(&mut self) -> Result<(), ArchiveError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error);
        Ok(file.and_then(|file| file.sync_all()).map_err(self.unusable())?)
    }

    async fn name(&mut self) -> Result<(), ArchiveError> {
        let failed = |source| ArchiveError::Folder { path: self.folder.clone(), source };
        std::fs::rename(self.partial(), self.folder.join(&self.file)).map_err(failed)?;
        // The name is on the disk when the folder is.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    async fn record(&mut self, segment: &Segment, frames: &[Frame]) -> Result<(), StoreError> {
        tables::record(&mut self.connection, segment, frames).await
    }

    async fn remove(&mut self, after: u64, up_to: u64) -> Result<Option<(u64, u64)>, StoreError> {
        let Some(next) = tables::step(&mut self.connection, after, up_to, REMOVED_AT_ONCE).await? else {
            return Ok(None);
        };
        Ok(Some((next, tables::remove(&mut self.connection, after, next).await?)))
    }

    async fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.connection.close().await.map_err(unavailable)
    }
}
