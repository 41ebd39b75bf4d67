//! `sluice backup` and `sluice restore`: the database in files, copied while it is in use, and put back.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Globals;
use super::output::{Out, count};
use super::session::{CliError, config_of};
use crate::app::App;
use crate::clock::real_now;
use crate::store::address::Database;
use crate::store::sqlite::{Backup, backup, restore};

/// Options of both.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The folder of the backup
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// The file of the log; a server has tools of its own.
fn file(globals: &Globals) -> Result<PathBuf, CliError> {
    match config_of(globals, None)?.database()? {
        Database::Sqlite(log) => Ok(log),
        Database::Postgres(_) => Err(CliError::Usage(
            "a database in PostgreSQL is backed up with pg_dump (docs/POSTGRESQL.md has the commands)".to_owned(),
        )),
    }
}

pub(super) async fn make(globals: &Globals, options: &Options, out: &Out) -> Result<(), CliError> {
    let log = file(globals)?;
    let made = backup(&log, &options.folder, real_now()).await;
    let made = made.map_err(|error| CliError::because("there is no backup", error))?;
    say(&made, &options.folder, out);
    let files = count(made.files.len(), "file", "files");
    out.text(format!("{} holds the database up to event {}, in {files}", options.folder.display(), made.position));
    Ok(())
}

pub(super) async fn put_back(globals: &Globals, options: &Options, out: &Out) -> Result<(), CliError> {
    let log = file(globals)?;
    if log.exists() && App::is_served(&Database::Sqlite(log.clone())).await {
        return Err(CliError::Failed(format!("a server runs on {}: stop it, and move the file away", log.display())));
    }
    let restored = restore(&options.folder, &log).await;
    let restored = restored.map_err(|error| CliError::because("nothing was restored", error))?;
    say(&restored, &options.folder, out);
    out.text(format!(
        "{} is what it was on {}, up to event {}; the next start makes the read models from it",
        log.display(),
        restored.made_at.format("%F %T UTC"),
        restored.position
    ));
    Ok(())
}

fn say(backup: &Backup, folder: &Path, out: &Out) {
    out.json(&json!({
        "folder": folder.display().to_string(),
        "made_at": backup.made_at,
        "version": backup.version,
        "position": backup.position,
        "files": backup.files,
    }));
}
