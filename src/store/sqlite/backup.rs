//! Backs up a database in files while it is in use, and restores it.
//!
//! A backup is a folder: the database as `SQLite` itself copies it in one transaction, the segments of the archive, and
//! a list of both with their hashes. It is written under a temporary name and renamed once it is complete and has been
//! read back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::archive::folder_of;
use super::connection::ReadError;
use super::open::DatabaseFiles;
use super::rows;
use crate::events::envelope::{DecodeError, Position};
use crate::store::StoreError;
use crate::store::archive::hex;
use crate::store::elsewhere::LogElsewhere;
use crate::store::kinds::Kinds;
use crate::store::private;
use crate::store::sound::{Findings, SetAside, quarantine_stream};

/// The files of a backup.
const DATABASE: &str = "sluice.db";
const SEGMENTS: &str = "sluice-archive";
const LIST: &str = "backup.json";

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error("the database cannot be copied")]
    Database(#[from] rusqlite::Error),
    /// Something is there already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is nothing to back up.
    #[error("there is no database at {}", .0.display())]
    Nothing(PathBuf),
    /// No backup, or not a whole one.
    #[error("{} is no whole backup: {problem}", folder.display())]
    Unsound {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The event store that holds the events.
    #[error("the event store cannot be asked how far its log reaches")]
    EventStore(#[from] StoreError),
    /// The work was interrupted.
    #[error("the work was cut off")]
    CutOff,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its path within the backup.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, in hex digits.
    pub sha256: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// When it was made, by the machine's clock.
    pub made_at: DateTime<Utc>,
    /// The version that made it.
    pub version: String,
    /// The number of its newest event; none where the events are in an event store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The log in an event store that the database goes with. It is not in the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_store: Option<LogElsewhere>,
    /// Its files.
    pub files: Vec<BackupFile>,
    /// Events in it that cannot be relied on and were not set aside, as they were found when it was made; the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsound: Vec<DecodeError>,
}

/// Makes a backup of the database whose log is in this file, in a folder that is not there yet. The database may be in use.
/// Where its events are in an event store, `elsewhere` says how that log stands: it is asked once the database is copied, so
/// that the log reaches at least as far as anything in the copy.
///
/// # Errors
/// The folder is there, a file cannot be read or written, the copy is not whole, or the event store does not answer.
pub async fn backup(
    log: &Path,
    folder: &Path,
    now: DateTime<Utc>,
    elsewhere: impl Future<Output = Result<Option<LogElsewhere>, StoreError>>,
) -> Result<Backup, BackupError> {
    let (from, into) = (log.to_owned(), folder.to_owned());
    let copied = off_thread(move || copy(&from, &into)).await?;
    let event_store = elsewhere.await?;
    let (log, folder) = (log.to_owned(), folder.to_owned());
    off_thread(move || finish(&log, &folder, copied, now, event_store)).await
}

/// The list of a backup: what it holds, before anything is put back.
///
/// # Errors
/// There is none, or it cannot be read.
pub async fn listed_in(folder: &Path) -> Result<Backup, BackupError> {
    let folder = folder.to_owned();
    off_thread(move || list(&folder)).await
}

/// Restores a backup where there is no database. Remaining read models are deleted: they are rebuilt.
///
/// # Errors
/// There is a database, the backup is not whole, or a file cannot be read or written.
pub async fn restore(folder: &Path, log: &Path) -> Result<Backup, BackupError> {
    let (log, folder) = (log.to_owned(), folder.to_owned());
    off_thread(move || put_back(&folder, &log)).await
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BackupError::CutOff)?
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    |source| BackupError::File { path: path.to_owned(), source }
}

/// The database in a folder that has yet to get its name.
struct Copied {
    unfinished: PathBuf,
    position: u64,
    segments: Vec<String>,
    unsound: Vec<DecodeError>,
}

fn copy(log: &Path, folder: &Path) -> Result<Copied, BackupError> {
    if !log.exists() {
        return Err(BackupError::Nothing(log.to_owned()));
    }
    if folder.exists() {
        return Err(BackupError::Exists(folder.to_owned()));
    }
    let mut name = folder.as_os_str().to_owned();
    name.push(".unfinished");
    let unfinished = PathBuf::from(name);
    // What an earlier attempt left.
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(file(&unfinished))?;
    }
    private_folder(&unfinished)?;
    let database = unfinished.join(DATABASE);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(log, flags)?;
    connection.busy_timeout(Duration::from_mins(1))?;
    connection.execute("VACUUM INTO ?1", [database.to_string_lossy()])?;
    drop(connection);
    private_file(&database)?;
    let (position, segments) = inspect(&database, &unfinished)?;
    let unsound = examine(&database)?.unsound;
    Ok(Copied { unfinished, position, segments, unsound })
}

fn finish(
    log: &Path,
    folder: &Path,
    copied: Copied,
    now: DateTime<Utc>,
    event_store: Option<LogElsewhere>,
) -> Result<Backup, BackupError> {
    let Copied { unfinished, position, segments, unsound } = copied;
    let mut files = vec![listed(&unfinished, DATABASE)?];
    for segment in segments {
        let name = format!("{SEGMENTS}/{segment}");
        let (from, to) = (folder_of(log).join(&segment), unfinished.join(&name));
        if let Some(parent) = to.parent() {
            private::folder(parent).map_err(file(parent))?;
        }
        std::fs::copy(&from, &to).map_err(file(&from))?;
        files.push(listed(&unfinished, &name)?);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let position = event_store.is_none().then_some(position);
    let backup = Backup { made_at: now, version, position, event_store, files, unsound };
    let list = unfinished.join(LIST);
    let text = serde_json::to_vec_pretty(&backup).map_err(io::Error::from).map_err(file(&list))?;
    private::new_file(&list).and_then(|mut made| made.write_all(&text)).map_err(file(&list))?;
    sync(&list)?;
    std::fs::rename(&unfinished, folder).map_err(file(folder))?;
    Ok(backup)
}

fn list(folder: &Path) -> Result<Backup, BackupError> {
    let unsound = |problem: String| BackupError::Unsound { folder: folder.to_owned(), problem };
    let text = std::fs::read(folder.join(LIST)).map_err(|error| unsound(format!("{LIST}: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| unsound(format!("{LIST}: {error}")))
}

fn put_back(folder: &Path, log: &Path) -> Result<Backup, BackupError> {
    let files = DatabaseFiles::of(log);
    let archive = folder_of(log);
    if let Some(there) = [log, &archive].into_iter().find(|path| path.exists()) {
        return Err(BackupError::Exists(there.to_owned()));
    }
    let backup = list(folder)?;
    let unsound = |problem: String| BackupError::Unsound { folder: folder.to_owned(), problem };
    for listed_file in &backup.files {
        let found = listed(folder, &listed_file.name)?;
        if found != *listed_file {
            return Err(unsound(format!("{} is not the file that was backed up", listed_file.name)));
        }
    }
    if let Some(parent) = log.parent() {
        private::folder(parent).map_err(file(parent))?;
    }
    // Read models, and journals, of what was there before.
    for stale in [&files.log, &files.read] {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = stale.as_os_str().to_owned();
            name.push(suffix);
            let path = PathBuf::from(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(&path)(error)),
                _ => {}
            }
        }
    }
    for listed_file in backup.files.iter().filter(|listed_file| listed_file.name != DATABASE) {
        let to = archive.join(listed_file.name.trim_start_matches(SEGMENTS).trim_start_matches('/'));
        private::folder(&archive).map_err(file(&archive))?;
        std::fs::copy(folder.join(&listed_file.name), &to).map_err(file(&to))?;
        sync(&to)?;
    }
    // The database comes last, and under its name only when it is whole: until then there is none.
    let unfinished = log.with_extension("restoring");
    std::fs::copy(folder.join(DATABASE), &unfinished).map_err(file(&unfinished))?;
    private_file(&unfinished)?;
    std::fs::rename(&unfinished, log).map_err(file(log))?;
    Ok(backup)
}

/// Reads a copy from beginning to end; says where its log ends, and which segments it knows.
fn inspect(database: &Path, folder: &Path) -> Result<(u64, Vec<String>), BackupError> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    if verdict != "ok" {
        return Err(BackupError::Unsound { folder: folder.to_owned(), problem: verdict });
    }
    let end = "SELECT coalesce(max(position), 0) FROM events";
    let position: i64 = connection.query_row(end, (), |row| row.get(0))?;
    let mut segments = connection.prepare("SELECT file FROM segments ORDER BY segment")?;
    let segments = segments.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok((position.unsigned_abs(), segments))
}

/// Reads every event that is a row of a copy: a damaged one is copied as it is, and named.
fn examine(database: &Path) -> Result<Findings, BackupError> {
    const PAGE: usize = 1_000;
    const PAGE_BYTES: usize = 4 << 20;
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let kinds = Kinds::default();
    let failed = |error: ReadError| BackupError::Unsound { folder: database.to_owned(), problem: error.to_string() };
    let mut set_aside = SetAside::default();
    let aside =
        rows::read_stream(&connection, &kinds, &quarantine_stream(), 0, (usize::MAX, usize::MAX)).map_err(failed)?;
    for event in &aside {
        set_aside.take(event);
    }
    let (mut found, mut after) = (Findings::default(), Position::START);
    loop {
        let page = rows::read_all(&connection, &kinds, after, (PAGE, PAGE_BYTES)).map_err(failed)?;
        for event in &page {
            found.see(event, &set_aside);
        }
        match page.last() {
            Some(last) => after = last.position,
            None => return Ok(found),
        }
    }
}

fn listed(folder: &Path, name: &str) -> Result<BackupFile, BackupError> {
    let path = folder.join(name);
    let mut opened = File::open(&path).map_err(file(&path))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = opened.read(&mut piece).map_err(file(&path))?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
    }
    Ok(BackupFile { name: name.to_owned(), bytes, sha256: hex(&hash.finalize()) })
}

fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|opened| opened.sync_all()).map_err(file(path))
}

fn private_folder(folder: &Path) -> Result<(), BackupError> {
    private::folder(folder).map_err(file(folder))?;
    restrict(folder, 0o700)
}

/// Addresses and hashes of tokens are in it: its owner alone reads it.
fn private_file(path: &Path) -> Result<(), BackupError> {
    restrict(path, 0o600)?;
    sync(path)
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> Result<(), BackupError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(file(path))
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> Result<(), BackupError> {
    Ok(())
}
