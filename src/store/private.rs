//! Files and folders that only their owner can read: they contain names, addresses and hashes of keys, and anybody who
//! can open a lock file can hold the lock.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// What group and others may do, as bits of a mode.
const OF_OTHERS: u32 = 0o077;

/// Files that a remedy names one by one.
const NAMED_MAX: usize = 8;

/// From now on, whatever this process makes is its owner's alone: also files that a library makes, such as the journals of a
/// database. For the start of a program, before there is a second thread.
pub fn from_the_start() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes a folder, and those above it that are missing, with mode 0700.
///
/// Errors: those of the file system. A folder that is there already stays as it is.
pub fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Opens a file to write, and makes it with mode 0600 if it is missing. What is in it stays.
///
/// Errors: those of the file system.
pub fn file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a file with mode 0600, or empties the one that is there.
///
/// Errors: those of the file system.
pub fn new_file(path: &Path) -> io::Result<File> {
    let made = file(path)?;
    made.set_len(0)?;
    Ok(made)
}

/// The path behind symbolic links, so that a lock beside a database is the same whatever the database is called. What is not
/// there yet is named by its folder.
pub fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Which of these paths group or others may use, with their modes. Missing paths are ignored.
pub fn exposed(paths: impl IntoIterator<Item = PathBuf>) -> Vec<(PathBuf, u32)> {
    let mode = |path: PathBuf| {
        let mode = mode_of(&path)?;
        (mode & OF_OTHERS != 0).then_some((path, mode))
    };
    paths.into_iter().filter_map(mode).collect()
}

/// What to say of paths that others may use, and the remedy: one remark for each folder that they lie in.
pub fn remarks(exposed: &[(PathBuf, u32)]) -> Vec<(String, String)> {
    let mut by_folder: BTreeMap<Option<&Path>, Vec<&(PathBuf, u32)>> = BTreeMap::new();
    let mut found = Vec::new();
    for entry @ (path, mode) in exposed {
        if path.is_dir() {
            let what = format!("others may look into the folder {} (mode {mode:03o})", path.display());
            found.push((what, format!("chmod 700 {}", path.display())));
        } else {
            by_folder.entry(path.parent()).or_default().push(entry);
        }
    }
    for (folder, files) in by_folder {
        let (first, mode) = files[0];
        let others = if files.len() > 1 { format!(" and {} more beside it", files.len() - 1) } else { String::new() };
        let what = format!(
            "others may use {} (mode {mode:03o}){others}: names, mail addresses or a lock are in it",
            first.display()
        );
        let all = files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(" ");
        let every = || format!("{}/*", folder.unwrap_or(Path::new(".")).display());
        found.push((what, format!("chmod 600 {}", if files.len() <= NAMED_MAX { all } else { every() })));
    }
    found
}

/// The permissions of a file or folder; none where there is none, for a folder that everybody shares (`/tmp`), and on
/// systems without such modes.
fn mode_of(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        const STICKY: u32 = 0o1000;
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).ok()?.permissions());
        (mode & STICKY == 0).then_some(mode & 0o777)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{exposed, file, folder, real, remarks};

    #[test]
    fn a_link_leads_to_the_same_lock() {
        let there = tempfile::tempdir().unwrap();
        let (name, link) = (there.path().join("sluice.db"), there.path().join("link.db"));
        std::os::unix::fs::symlink(&name, &link).unwrap();
        let before = real(&name);
        std::fs::write(&name, "").unwrap();
        assert_eq!((real(&name), real(&link)), (before.clone(), before));
    }

    #[test]
    fn what_is_made_is_its_owners_and_what_is_open_to_others_is_found() {
        let there = tempfile::tempdir().unwrap();
        let (inner, open) = (there.path().join("a/b"), there.path().join("open"));
        folder(&inner).unwrap();
        folder(&inner).unwrap();
        let made = inner.join("x");
        drop(file(&made).unwrap());
        std::fs::write(&open, "").unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
        let all = [there.path().join("a"), inner, made, open.clone(), there.path().join("missing")];
        let found = exposed(all);
        assert_eq!(found, [(open.clone(), 0o644)]);
        let said = remarks(&found);
        assert!(said.len() == 1 && said[0].0.contains("(mode 644): names"), "{said:?}");
        assert_eq!(said[0].1, format!("chmod 600 {}", open.display()));
    }
}
