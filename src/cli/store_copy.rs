//! `sluice store copy`: copies a database to another engine, to another place, or with its events to an event store.

use clap::Args;
use serde_json::json;

use super::Globals;
use super::output::{Out, count};
use super::session::{CliError, config_of};
use crate::app::App;
use crate::store::address::Database;
use crate::store::archive::hex;
use crate::store::copy::{CopyStep, Place, copy};
use crate::store::eventstoredb::EventStoreAddress;

/// Options of `store copy`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The database to copy, as in `sqlite:///var/lib/sluice/sluice.db`
    from: Database,
    /// The one to copy to, as in `postgres://user@host/name`
    to: Database,
    /// The event store that holds the events of FROM, as in `esdb://user:password@host:2113`
    #[arg(long, value_name = "URL", env = "SLUICE_FROM_EVENT_STORE", hide_env_values = true)]
    from_event_store: Option<String>,
    /// The event store that takes the events; TO takes the rest
    #[arg(long, value_name = "URL", env = "SLUICE_TO_EVENT_STORE", hide_env_values = true)]
    to_event_store: Option<String>,
}

/// An event store by its address, which may hold a password: a wrong one is not repeated.
fn event_store(option: &str, text: Option<&String>) -> Result<Option<EventStoreAddress>, CliError> {
    let read = text.map(|text| text.parse::<EventStoreAddress>()).transpose();
    read.map_err(|error| CliError::Usage(format!("{option}: {error}")))
}

/// Copies, compares, and names the next step.
pub(super) async fn run(globals: &Globals, options: Options, out: &Out) -> Result<(), CliError> {
    let limits = config_of(globals, None)?.limits();
    if options.from == options.to {
        return Err(CliError::Usage("FROM and TO are the same database".to_owned()));
    }
    let event_stores = (
        event_store("--from-event-store", options.from_event_store.as_ref())?,
        event_store("--to-event-store", options.to_event_store.as_ref())?,
    );
    if event_stores.0.is_some() && event_stores.0 == event_stores.1 {
        return Err(CliError::Usage("--from-event-store and --to-event-store are the same log".to_owned()));
    }
    let from = Place { database: options.from, event_store: event_stores.0 };
    let to = Place { database: options.to, event_store: event_stores.1 };
    for database in [&from.database, &to.database] {
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
        if let Some(all) = all.events() {
            bar.set_length(all.max(done));
        }
        bar.set_position(done);
    };
    let copied = Box::pin(copy(&from, &to, &limits, progress)).await;
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
        "positions_changed": copied.moved,
    }));
    let events = count(usize::try_from(copied.events).unwrap_or(usize::MAX), "event", "events");
    out.text(format!(
        "{to} holds the {events} of {from} ({} copied now), and {} rows beside them",
        copied.copied, copied.rows
    ));
    out.text(format!("SHA-256 over all events, the same on both sides: {}", hex(&copied.sha256)));
    if copied.moved {
        out.text("The events stand at other positions there. Who reads /api/events/ page by page begins anew.");
    }
    out.text("Start the server on it: the read models are made from the log.");
    Ok(())
}
