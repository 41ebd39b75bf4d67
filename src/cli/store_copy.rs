//! `sluice store copy`: a database on another engine, or in another place.

use serde_json::json;

use super::Globals;
use super::output::{Out, count};
use super::session::{CliError, config_of};
use crate::app::App;
use crate::store::address::Database;
use crate::store::archive::hex;
use crate::store::copy::{CopyStep, copy};

/// Copies, compares, and says what to do next.
pub(super) async fn run(globals: &Globals, from: &Database, to: &Database, out: &Out) -> Result<(), CliError> {
    let limits = config_of(globals, None)?.limits();
    if from == to {
        return Err(CliError::Usage("FROM and TO are the same database".to_owned()));
    }
    for database in [from, to] {
        let there = database.file().is_none_or(std::path::Path::exists);
        if there && App::is_served(database).await {
            return Err(CliError::Failed(format!("a server runs on {database}: stop it first")));
        }
    }
    let (copying, comparing) = (out.progress(0, "copying"), out.progress(0, "comparing"));
    let progress = |step| {
        let (bar, done, all) = match step {
            CopyStep::Copied(done, all) => (&copying, done, all),
            CopyStep::Compared(done, all) => (&comparing, done, all),
        };
        bar.set_length(all);
        bar.set_position(done);
    };
    let copied = copy(from, to, &limits, progress).await;
    copying.finish_and_clear();
    comparing.finish_and_clear();
    let copied = copied.map_err(|error| CliError::because("the database was not copied to the end", error))?;
    out.json(&json!({
        "from": from.to_string(),
        "to": to.to_string(),
        "events": copied.events,
        "copied": copied.copied,
        "sha256": hex(&copied.sha256),
        "rows": copied.rows,
    }));
    let events = count(usize::try_from(copied.events).unwrap_or(usize::MAX), "event", "events");
    out.text(format!(
        "{to} holds the {events} of {from} ({} copied now), and {} rows beside them",
        copied.copied, copied.rows
    ));
    out.text(format!("SHA-256 over all events, the same on both sides: {}", hex(&copied.sha256)));
    out.text("Start the server on it: the read models are made from the log.");
    Ok(())
}
