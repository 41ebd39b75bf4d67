//! `sluice projections status|rebuild`: how far the read models are, and making one again from the log.

use clap::Subcommand;
use serde_json::json;

use super::output::{Out, count};
use super::session::{CliError, Session};
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
    let places: Vec<(String, u64)> = places.into_iter().map(|(name, at)| (name, at.as_seq())).collect();
    let lag = |position: u64| head.as_seq().saturating_sub(position);
    let document: Vec<_> = places
        .iter()
        .map(|(name, position)| json!({"name": name, "position": position, "lag": lag(*position)}))
        .collect();
    out.json(&json!({"head": head.as_seq(), "consumers": document}));
    out.text(format!(
        "the log holds {}",
        count(usize::try_from(head.as_seq()).unwrap_or(usize::MAX), "event", "events")
    ));
    let rows = places.iter().map(|(name, at)| [name.clone(), at.to_string(), lag(*at).to_string()]).collect();
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
            bar.set_length(step.head.as_seq());
            bar.set_position(step.position.as_seq());
        };
        let rebuilt = rebuild::one(&session.app.consumers, &session.app.read, name, progress).await;
        let position = rebuilt.map_err(|error| CliError::because(format!("{name} could not be rebuilt"), error))?;
        bar.finish_and_clear();
        out.text(format!("{name}: rebuilt up to event {}", position.as_seq()));
        document.push(json!({"name": name, "position": position.as_seq()}));
    }
    out.json(&json!({"rebuilt": document}));
    Ok(())
}
