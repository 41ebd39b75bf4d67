//! A backup of a database in files, made while it is in use, and the way back.
//!
//! A backup is a folder: the database as `SQLite` itself copies it in one transaction, the segments of the archive, and a list
//! of both with their hashes. It is made under another name and renamed when it is whole and was read back.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::archive::folder_of;
use super::open::DatabaseFiles;
use crate::store::archive::hex;

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
    /// The work was cut off.
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
    /// The position of its newest event.
    pub position: u64,
    /// Its files.
    pub files: Vec<BackupFile>,
}

/// Makes a backup of the database whose log is in this file, in a folder that is not there yet. The database may be in use.
///
/// # Errors
/// The folder is there, a file cannot be read or written, or the copy is not whole.
pub async fn backup(log: &Path, folder: &Path, now: DateTime<Utc>) -> Result<Backup, BackupError> {
    let (log, folder) = (log.to_owned(), folder.to_owned());
    off_thread(move || make(&log, &folder, now)).await
}

/// Puts a backup in the place of a database that is not there. What is left of its read models goes: they are made again.
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

fn make(log: &Path, folder: &Path, now: DateTime<Utc>) -> Result<Backup, BackupError> {
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
    let mut files = vec![listed(&unfinished, DATABASE)?];
    for segment in segments {
        let name = format!("{SEGMENTS}/{segment}");
        let (from, to) = (folder_of(log).join(&segment), unfinished.join(&name));
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(file(parent))?;
        }
        std::fs::copy(&from, &to).map_err(file(&from))?;
        files.push(listed(&unfinished, &name)?);
    }
    let backup = Backup { made_at: now, version: env!("CARGO_PKG_VERSION").to_owned(), position, files };
    let list = unfinished.join(LIST);
    let text = serde_json::to_vec_pretty(&backup).map_err(io::Error::from).map_err(file(&list))?;
    std::fs::write(&list, text).map_err(file(&list))?;
    sync(&list)?;
    std::fs::rename(&unfinished, folder).map_err(file(folder))?;
    Ok(backup)
}

fn put_back(folder: &Path, log: &Path) -> Result<Backup, BackupError> {
    let files = DatabaseFiles::of(log);
    let archive = folder_of(log);
    if let Some(there) = [log, &archive].into_iter().find(|path| path.exists()) {
        return Err(BackupError::Exists(there.to_owned()));
    }
    let unsound = |problem: String| BackupError::Unsound { folder: folder.to_owned(), problem };
    let text = std::fs::read(folder.join(LIST)).map_err(|error| unsound(format!("{LIST}: {error}")))?;
    let backup: Backup = serde_json::from_slice(&text).map_err(|error| unsound(format!("{LIST}: {error}")))?;
    for listed_file in &backup.files {
        let found = listed(folder, &listed_file.name)?;
        if found != *listed_file {
            return Err(unsound(format!("{} is not the file that was backed up", listed_file.name)));
        }
    }
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).map_err(file(parent))?;
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
        std::fs::create_dir_all(&archive).map_err(file(&archive))?;
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
    std::fs::create_dir_all(folder).map_err(file(folder))?;
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
