//! Database files: existing, readable, writable, private, undamaged, of this version, with disk space.

use std::fs::OpenOptions;
use std::path::Path;

use super::{Finding, State, chain};
use crate::limits::Limits;
use crate::store::sqlite::{DatabaseFiles, Inspection, inspect_log, inspect_read};
use crate::store::{StoreError, private};

/// Less room than this is trouble, bytes.
const FREE_MIN: u64 = 100 << 20;

/// Less room than this is worth a look, bytes; so is less than the database is large, since a backup is a copy.
const FREE_COMFORTABLE: u64 = 1 << 30;

/// A journal larger than this is not being emptied, bytes: it should stay at some 32 MiB, and is cut at 64 MiB.
const JOURNAL_MAX: u64 = 256 << 20;

const LOST: &str =
    "stop the server and keep the files; restore the newest backup (Backup and restore in docs/OPERATIONS.md)";

const REMAKE: &str = "restart the server: it moves sluice-read.db aside and makes the read models again from the log";

/// Looks at the files of a database, without changing them. Says also whether they may be opened: they are whole, and of this
/// version, so that opening changes nothing.
pub(super) async fn examine(log: &Path, limits: &Limits, integrity: bool) -> (Vec<Finding>, bool) {
    let files = DatabaseFiles::of(log);
    if !log.exists() {
        let fix = "`sluice serve` makes it; if there should be one, check --database, --data-dir and --config";
        return (vec![Finding::warning("database", format!("there is none yet at {}", log.display()), fix)], false);
    }
    let mut found = permissions(&files);
    found.extend(disk(&files));
    if found.iter().any(|finding| finding.state == State::Trouble) {
        return (found, false);
    }
    let mut usable = true;
    let log = inspect_log(&files.log, integrity, limits).await;
    let broken = "is it a database of Sluice? If it is damaged: stop the server and restore the newest backup";
    judge(&files.log, log, broken, LOST, &mut found, &mut usable);
    if files.read.exists() {
        let read = inspect_read(&files.read, integrity, limits).await;
        judge(&files.read, read, REMAKE, REMAKE, &mut found, &mut usable);
    } else {
        found.push(Finding::warning(
            "database",
            "there are no read models yet",
            "the next start of the server makes them",
        ));
        usable = false;
    }
    (found, usable)
}

fn permissions(files: &DatabaseFiles) -> Vec<Finding> {
    let mut found = Vec::new();
    for path in [&files.log, &files.read].into_iter().filter(|path| path.exists()) {
        if let Err(error) = OpenOptions::new().read(true).append(true).open(path) {
            found.push(Finding::trouble(
                "database",
                format!("{} cannot be written by this user: {error}", path.display()),
                "run this command, and the server, as the user that owns the files; or give them to that user (chown)",
            ));
        }
    }
    let folder = files.log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err() {
        found.push(Finding::trouble(
            "database",
            format!("no files can be made in {}: SQLite needs to, beside the database", folder.display()),
            "let the server's user write in the folder",
        ));
    }
    let exposed = private::exposed(files.owned());
    found.extend(private::remarks(&exposed).into_iter().map(|(what, fix)| Finding::warning("database", what, fix)));
    found
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map(|file| file.len()).unwrap_or_default()
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn amount(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

fn disk(files: &DatabaseFiles) -> Vec<Finding> {
    let mut found = Vec::new();
    let folder = files.log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let taken: u64 = [&files.log, &files.read].into_iter().map(|path| size(path) + size(&beside(path, "-wal"))).sum();
    match rustix::fs::statvfs(folder) {
        Err(error) => found.push(Finding::warning("disk", format!("its room is unknown: {error}"), "look with df")),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let what = format!("{} free in {}; the database takes {}", amount(free), folder.display(), amount(taken));
            let fix = "make room, or move the database; a full disk stops every report and loses none";
            found.push(match free {
                _ if free < FREE_MIN => Finding::trouble("disk", what, fix),
                _ if free < FREE_COMFORTABLE.max(taken) => Finding::warning("disk", what, fix),
                _ => Finding::ok("disk", what),
            });
        }
    }
    for path in [&files.log, &files.read] {
        let journal = size(&beside(path, "-wal"));
        if journal > JOURNAL_MAX {
            found.push(Finding::warning(
                "disk",
                format!(
                    "the journal of {} has grown to {}: something has been reading for very long",
                    path.display(),
                    amount(journal)
                ),
                "end programs that keep the file open (a sqlite3 shell, a backup), or restart the server",
            ));
        }
    }
    if let Some(kind) = network_file_system(folder) {
        found.push(Finding::trouble(
            "disk",
            format!("{} lies on {kind}, whose locks SQLite cannot rely on", folder.display()),
            "move the database to a local disk",
        ));
    }
    found
}

#[cfg(target_os = "linux")]
fn network_file_system(folder: &Path) -> Option<&'static str> {
    // Numbers of linux/magic.h.
    match rustix::fs::statfs(folder).ok()?.f_type {
        0x6969 => Some("NFS"),
        0x517B | 0xFE53_4D42 | 0xFF53_4D42 => Some("SMB"),
        0x0BD0_0BD0 => Some("Lustre"),
        0x4750_4653 => Some("GPFS"),
        0x1983_0326 => Some("BeeGFS"),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}

/// A number of migrations, in words.
pub(super) fn migrations(count: usize) -> String {
    if count == 1 { "1 migration".to_owned() } else { format!("{count} migrations") }
}

/// What an inspection of a file comes to. `unreadable` and `damaged` are the remedies.
fn judge(
    path: &Path,
    seen: Result<Inspection, StoreError>,
    unreadable: &str,
    damaged: &str,
    found: &mut Vec<Finding>,
    usable: &mut bool,
) {
    const AREA: &str = "database";
    let name = path.display();
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            *usable = false;
            found.push(Finding::trouble(AREA, format!("{name} cannot be read: {}", chain(&error)), unreadable));
            return;
        }
    };
    *usable &= seen.damage.is_empty() && seen.ahead.is_empty() && seen.behind.is_empty();
    if !seen.damage.is_empty() {
        found.push(Finding::trouble(AREA, format!("{name} is damaged: {}", seen.damage.join("; ")), damaged));
        return;
    }
    found.push(match (seen.ahead.len(), seen.behind.len()) {
        (0, 0) => {
            let checked = if seen.checked { ", every page checked" } else { "" };
            Finding::ok(AREA, format!("of this version: {name}{checked}"))
        }
        (0, behind) => Finding::warning(
            AREA,
            format!("{name} is of an older version ({} behind)", migrations(behind)),
            "back it up; the next start of `sluice serve` upgrades it",
        ),
        (ahead, _) => Finding::trouble(
            AREA,
            format!("{name} was made by a newer version ({} ahead)", migrations(ahead)),
            "use the version of Sluice that the server has",
        ),
    });
}
