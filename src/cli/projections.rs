//! `sluice projections status|rebuild`: the progress of the read models, and rebuilding one from the log.

use clap::Subcommand;
use serde_json::json;

use super::Globals;
use super::output::{Out, count};
use super::session::{CliError, Session, config_of};
use crate::app::App;
use crate::events::envelope::Position;
use crate::projections::{NAMES, rebuild};
use crate::store::Distance;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show how far each consumer of the log is
    Status,
    /// Move the read models aside, so that the next start makes them again from the log; no server may run
    Discard,
    /// Make tables again beside the old ones, and put them in their place
    Rebuild {
        /// One read model; all without it
        name: Option<String>,
    },
}

pub(super) async fn start(globals: &Globals, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::Discard => discard(globals, out).await,
        command => run(&Session::open(globals).await?, command, out).await,
    }
}

/// Opens nothing: read models may be discarded because they cannot be opened.
async fn discard(globals: &Globals, out: &Out) -> Result<(), CliError> {
    let options = config_of(globals, None)?.app_options()?;
    if App::is_served(&options.database).await {
        return Err(CliError::Failed(format!("a server runs on {}: stop it first", options.database)));
    }
    let moved = App::discard_read_models(&options).await;
    let place = moved.map_err(|error| CliError::because("the read models cannot be moved aside", error))?;
    out.json(&json!({"moved_to": place}));
    out.text(format!("the read models are in {place} now; the next start makes others from the log"));
    Ok(())
}

async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::Discard => Err(CliError::Usage("this needs no session".to_owned())),
        Command::Status => status(session, out).await,
        Command::Rebuild { name } => rebuild_them(session, name, out).await,
    }
}

async fn status(session: &Session, out: &Out) -> Result<(), CliError> {
    let cannot = |error| CliError::because("the checkpoints cannot be read", error);
    let head = session.app.store.head().await.map_err(|error| CliError::because("the log cannot be read", error))?;
    let places = session.app.consumers.checkpoints().await.map_err(cannot)?;
    let store = &session.app.store;
    let (mut document, mut rows) = (Vec::new(), Vec::new());
    for (name, at) in places {
        let lag = store.distance(at, head).await;
        document.push(json!({"name": name, "position": at, "lag": lag.events(), "lag_is": lag.known()}));
        rows.push([name, at.plain(), lag.to_string()]);
    }
    let events = store.distance(Position::START, head).await;
    out.json(&json!({"head": head, "events": events.events(), "events_is": events.known(), "consumers": document}));
    let total = match events {
        Distance::Exact(events) => count(usize::try_from(events).unwrap_or(usize::MAX), "event", "events"),
        Distance::Estimated(events) => format!("an estimated {events} events"),
        Distance::Unknown => "an unknown number of events".to_owned(),
    };
    out.text(format!("the log holds {total}; the newest stands at position {}", head.plain()));
    out.table(["consumer", "position", "events behind"], rows);
    Ok(())
}

async fn rebuild_them(session: &Session, name: Option<String>, out: &Out) -> Result<(), CliError> {
    let names: Vec<&'static str> = match &name {
        None => NAMES.to_vec(),
        Some(name) => match NAMES.iter().find(|known| *known == name) {
            Some(known) => vec![known],
            None => {
                return Err(CliError::Usage(format!(
                    "there is no read model {name:?}; there are {}",
                    NAMES.join(", ")
                )));
            }
        },
    };
    let mut document = Vec::new();
    for name in names {
        let bar = out.progress(0, name);
        let progress = |step: crate::store::consumer::RebuildProgress| {
            if let Some(total) = step.total.events() {
                bar.set_length(total.max(step.events));
            }
            bar.set_position(step.events);
        };
        let rebuilt = rebuild::one(&session.app.consumers, &session.app.read, name, progress).await;
        let position = rebuilt.map_err(|error| CliError::because(format!("{name} could not be rebuilt"), error))?;
        bar.finish_and_clear();
        out.text(format!("{name}: rebuilt up to position {}", position.plain()));
        document.push(json!({"name": name, "position": position}));
    }
    out.json(&json!({"rebuilt": document}));
    Ok(())
}
