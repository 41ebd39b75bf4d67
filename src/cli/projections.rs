//! `sluice projections status|rebuild`: how far the read models are, and making one again from the log.

use clap::Subcommand;
use serde_json::json;

use super::output::{Out, count};
use super::session::{CliError, Session};
use crate::events::envelope::Position;
use crate::projections::{NAMES, rebuild};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show how far each consumer of the log is
    Status,
    /// Make tables again beside the old ones, and put them in their place
    Rebuild {
        /// One read model; all without it
        name: Option<String>,
    },
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::Status => status(session, out).await,
        Command::Rebuild { name } => rebuild_them(session, name, out).await,
    }
}

async fn status(session: &Session, out: &Out) -> Result<(), CliError> {
    let cannot = |error| CliError::because("the checkpoints cannot be read", error);
    let head = session.app.store.head().await.map_err(|error| CliError::because("the log cannot be read", error))?;
    let places = session.app.consumers.checkpoints().await.map_err(cannot)?;
    let lag = |at: Position| session.app.store.events_between(at, head);
    let document: Vec<_> = places
        .iter()
        .map(|(name, position)| json!({"name": name, "position": position, "lag": lag(*position)}))
        .collect();
    out.json(&json!({"head": head, "consumers": document}));
    let events = usize::try_from(session.app.store.events_between(Position::START, head)).unwrap_or(usize::MAX);
    let about = if session.app.options.event_store.is_some() { "about " } else { "" };
    out.text(format!("the log holds {about}{}", count(events, "event", "events")));
    let rows = places.iter().map(|(name, at)| [name.clone(), shown(session, *at), lag(*at).to_string()]).collect();
    out.table(["consumer", "position", "events behind"], rows);
    Ok(())
}

/// A position for people: a number where the log counts, else as the API writes it.
fn shown(session: &Session, position: Position) -> String {
    if session.app.options.event_store.is_some() { position.to_string() } else { position.as_seq().to_string() }
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
            bar.set_length(step.head.as_seq());
            bar.set_position(step.position.as_seq());
        };
        let rebuilt = rebuild::one(&session.app.consumers, &session.app.read, name, progress).await;
        let position = rebuilt.map_err(|error| CliError::because(format!("{name} could not be rebuilt"), error))?;
        bar.finish_and_clear();
        out.text(format!("{name}: rebuilt up to event {}", shown(session, position)));
        document.push(json!({"name": name, "position": position}));
    }
    out.json(&json!({"rebuilt": document}));
    Ok(())
}
