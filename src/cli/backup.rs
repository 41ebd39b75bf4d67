//! `sluice backup` and `sluice restore`: copies a database in files while it is in use, and restores it.
//!
//! If the events are in an event store, the backup holds everything else, and the identity of the log.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::{Out, count};
use super::session::{CliError, config_of};
use super::store_soundness::document;
use super::{Globals, database};
use crate::app::App;
use crate::clock::real_now;
use crate::config::Config;
use crate::events::envelope::Position;
use crate::store::StoreError;
use crate::store::address::Database;
use crate::store::elsewhere::{LogElsewhere, Standing, hear_no_further};
use crate::store::meta::{EVENT_LOG, Meta};
use crate::store::sql::ReadDb;
use crate::store::sqlite::{Backup, backup, listed_in, restore};

/// Options of `backup`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The folder of the backup
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Options of `restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreOptions {
    /// The folder of the backup
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Go on with an event store whose log ends before the backup was made; what came after is gone
    #[arg(long)]
    older_log: bool,
}

/// The file of the log; a server has tools of its own.
fn file(config: &Config) -> Result<PathBuf, CliError> {
    match config.database()? {
        Database::Sqlite(log) => Ok(log),
        Database::Postgres(_) => {
            let beside =
                if config.event_store.is_some() { "; the events, with the event store's own backup" } else { "" };
            Err(CliError::Usage(format!(
                "a database in PostgreSQL is backed up with pg_dump{beside} (docs/POSTGRESQL.md has the commands)"
            )))
        }
    }
}

/// The identity of the log in an event store that a database goes with.
async fn kept_log(log: &Path, config: &Config) -> Result<Option<String>, CliError> {
    let failed = |error: StoreError| CliError::because("the database cannot be read", error);
    let database = Database::Sqlite(log.to_owned());
    let beside = ReadDb::open_beside_log(&database, &config.limits()).await;
    let beside = beside.map_err(|error| CliError::because("the database cannot be opened", error))?;
    let kept = Meta::new(beside.clone()).get(EVENT_LOG).await.map_err(failed);
    beside.close().await;
    kept
}

pub(super) async fn make(globals: &Globals, options: &Options, out: &Out) -> Result<(), CliError> {
    let config = config_of(globals, None)?;
    let log = file(&config)?;
    if !log.exists() {
        return Err(database::missing(&config, &Database::Sqlite(log)));
    }
    let kept = kept_log(&log, &config).await?;
    let limits = config.limits();
    let address = match (&kept, &config.event_store) {
        (None, _) => None,
        (Some(kept), None) => {
            return Err(CliError::Usage(format!(
                "the events of this database are in an event store (log {kept}): name it with --event-store, so that the backup \
                 says how far they reach"
            )));
        }
        (Some(_), Some(address)) => Some(address),
    };
    let elsewhere = async {
        match address {
            None => Ok(None),
            Some(address) => match LogElsewhere::at(address, &limits).await? {
                Some(found) if kept.as_ref() == Some(&found.log) => Ok(Some(found)),
                found => Err(StoreError::Rejected(format!(
                    "the database goes with the log {}, and {address} holds {}",
                    kept.as_deref().unwrap_or_default(),
                    found.map_or_else(|| "no log".to_owned(), |found| format!("the log {}", found.log))
                ))),
            },
        }
    };
    let made = Box::pin(backup(&log, &options.folder, real_now(), elsewhere)).await;
    let made = made.map_err(|error| CliError::because("there is no backup", error))?;
    say(&made, &options.folder, out);
    let (folder, files) = (options.folder.display(), count(made.files.len(), "file", "files"));
    match (&made.event_store, made.position) {
        (Some(elsewhere), _) => {
            out.text(format!(
                "{folder} holds users, tokens, webhooks and the clock, in {files}; it does not hold the events"
            ));
            out.text(format!(
                "the events are in {}: log {}, up to position {}",
                elsewhere.address,
                elsewhere.log,
                elsewhere.position.plain()
            ));
            out.text("back up the event store too, now, with its own tools: the two are restored together");
        }
        (None, position) => {
            out.text(format!("{folder} holds the database up to event {}, in {files}", position.unwrap_or_default()));
        }
    }
    if made.unsound.is_empty() {
        return Ok(());
    }
    out.text("NOT SOUND: it holds events that cannot be relied on, as the database does");
    for unsound in &made.unsound {
        out.text(format!("  {unsound}"));
    }
    out.text(
        "keep the backups from before; an event may be set aside: sluice store quarantine --position P --reason TEXT",
    );
    Err(CliError::Failed("the backup was made, and the log in it is not sound".to_owned()))
}

pub(super) async fn put_back(globals: &Globals, options: &RestoreOptions, out: &Out) -> Result<(), CliError> {
    let config = config_of(globals, None)?;
    let log = file(&config)?;
    if log.exists() && App::is_served(&Database::Sqlite(log.clone())).await {
        return Err(CliError::Failed(format!("a server runs on {}: stop it, and move the file away", log.display())));
    }
    let nothing = |error| CliError::because("nothing was restored", error);
    let listed = listed_in(&options.folder).await.map_err(nothing)?;
    let ends = log_for(&config, listed.event_store.as_ref(), options.older_log).await?;
    let restored = restore(&options.folder, &log).await.map_err(nothing)?;
    if let Some(end) = ends {
        let moved = hear_no_further(&Database::Sqlite(log.clone()), end, &config.limits()).await;
        let moved = moved.map_err(|error| {
            CliError::because("the database was restored, and its webhooks still wait for lost events", error)
        })?;
        out.text(format!(
            "the log ends at position {}: what was recorded after it is gone, and {} at its end",
            end.plain(),
            count(moved, "webhook goes on", "webhooks go on")
        ));
    }
    say(&restored, &options.folder, out);
    let made_at = restored.made_at.format("%F %T UTC");
    match (&restored.event_store, restored.position) {
        (Some(elsewhere), _) => out.text(format!(
            "{} is what it was on {made_at}, beside the log {}; the next start makes the read models from it",
            log.display(),
            elsewhere.log
        )),
        (None, position) => out.text(format!(
            "{} is what it was on {made_at}, up to event {}; the next start makes the read models from it",
            log.display(),
            position.unwrap_or_default()
        )),
    }
    Ok(())
}

/// Whether the log that a backup goes with is there. Says where it ends if that is too early, and that was agreed to.
async fn log_for(
    config: &Config,
    remembered: Option<&LogElsewhere>,
    older_log: bool,
) -> Result<Option<Position>, CliError> {
    let refused = |problem: String| Err(CliError::Failed(format!("nothing was restored: {problem}")));
    let (log, address) = match (remembered, &config.event_store) {
        (None, None) => return Ok(None),
        (None, Some(address)) => {
            return refused(format!(
                "the backup holds its events itself, and {address} is named: leave out --event-store"
            ));
        }
        (Some(log), None) => {
            return refused(format!(
                "the events of this backup are in an event store (log {}, then at {}): name it with --event-store",
                log.log, log.address
            ));
        }
        (Some(log), Some(address)) => (log, address),
    };
    let standing = log.compared_with(address, &config.limits()).await;
    let reached = log.position.plain();
    match standing.map_err(|error| CliError::because("nothing was restored: the event store cannot be read", error))? {
        Standing::Whole => Ok(None),
        Standing::NoLog => refused(format!("{address} holds no log: restore the event store first")),
        Standing::Other(found) => {
            refused(format!("the backup goes with the log {}, and {address} holds another, {found}", log.log))
        }
        Standing::Older(end) if older_log => Ok(Some(end)),
        Standing::Older(end) => refused(format!(
            "the log at {address} is older than the backup: it ends at position {}, and reached {reached} then. Restore a newer \
             backup of the event store; or give --older-log, and what was recorded after it is gone",
            end.plain()
        )),
        Standing::Changed => refused(format!(
            "the log at {address} has another event at position {reached} than when the backup was made: it was put back from an \
             older state and then gone on with. Use the backup of the database that was made with it"
        )),
    }
}

fn say(backup: &Backup, folder: &Path, out: &Out) {
    out.json(&json!({
        "folder": folder.display().to_string(),
        "made_at": backup.made_at,
        "version": backup.version,
        "position": backup.position,
        "event_store": backup.event_store,
        "files": backup.files,
        "unsound": backup.unsound.iter().map(document).collect::<Vec<_>>(),
    }));
}
