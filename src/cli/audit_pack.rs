//! `sluice audit export|import`, and `audit verify --pack`: events that leave, and come back, with what proves them.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use super::Globals;
use super::audit::{events_of, failed, judged};
use super::output::Out;
use super::session::{CliError, Session, config_of};
use crate::app::App;
use crate::domain::period::Period;
use crate::notary::checkpoint::SignedCheckpoint;
use crate::notary::examination::Claim;
use crate::notary::export::{ExportError, Selection};
use crate::notary::tables::{KeptCheckpoint, Tables};
use crate::notary::trust::Trust;
use crate::notary::unpack::{Pack, PackError};
use crate::store::copy::{CopyError, Intake, Place};

/// Events written at a time.
const BATCH: usize = 2_000;

/// Options of `audit export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// What happened in a month, quarter or year, as in 2026-03, 2026-Q1 or 2026; and the policies
    #[arg(long, value_name = "PERIOD", value_parser = period)]
    period: Option<Period>,
    /// A policy and the evaluations under it, by id or slug
    #[arg(long, value_name = "POLICY", conflicts_with = "period")]
    policy: Option<String>,
    /// An allocation, by id or slug; and the policies
    #[arg(long, value_name = "RESOURCE", conflicts_with_all = ["period", "policy"])]
    allocation: Option<String>,
    /// The folder of the pack, which must be new or empty
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

fn period(text: &str) -> Result<Period, String> {
    text.parse().map_err(|_| "a month, quarter or year is allowed, as in 2026-03, 2026-Q1 or 2026".to_owned())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

pub(super) async fn export(session: &Session, options: &Export, out: &Out) -> Result<(), CliError> {
    if !is_empty(&options.out) {
        return Err(CliError::Usage(format!("--out {}: a new or an empty folder is allowed", options.out.display())));
    }
    let selection = match (&options.period, &options.policy, &options.allocation) {
        (Some(period), ..) => {
            let zone = session.app.options.schedule.zone();
            let (Some(from), Some(to)) = (period.starts_at(zone), period.ends_before(zone)) else {
                return Err(CliError::Usage(format!(
                    "--period {period} has no beginning: leave it out for the whole log"
                )));
            };
            Selection::Span { name: period.to_string(), from, to }
        }
        (_, Some(policy), _) => Selection::Policy(session.policy(policy)?),
        (.., Some(resource)) => Selection::Resource(session.resource(resource).await?),
        _ => Selection::Whole,
    };
    let notary = &session.app.notary;
    let bar = out.progress(0, "exporting");
    let made = notary.export(&selection, &options.out, &session.meta(), |events| bar.inc(events)).await;
    bar.finish_and_clear();
    let manifest = made.map_err(|error| match error {
        ExportError::Notary(error) => failed(error),
        error @ ExportError::File { .. } => CliError::because("there is no pack", error),
    })?;
    out.json(&manifest);
    out.text(format!(
        "{}: {}, proved against the checkpoint of {}",
        options.out.display(),
        events_of(manifest.events),
        events_of(manifest.size)
    ));
    Ok(())
}

fn unread(error: PackError) -> CliError {
    match error {
        PackError::Format(_) => CliError::Usage(error.to_string()),
        error => CliError::because("the pack cannot be read", error),
    }
}

/// Verifies a pack.
pub(super) fn verify(folder: &Path, trust: Trust, shown: Vec<Claim>, out: &Out) -> Result<(), CliError> {
    let begun = std::time::Instant::now();
    let verdict = Pack::open(folder).and_then(|pack| pack.verify(trust, shown)).map_err(unread)?;
    judged(&verdict, begun.elapsed().as_secs_f64(), out)
}

/// Takes a whole pack into a new database.
pub(super) async fn import(globals: &Globals, folder: &Path, trust: Trust, out: &Out) -> Result<(), CliError> {
    let pack = Pack::open(folder).map_err(unread)?;
    if !pack.manifest.whole {
        return Err(CliError::Usage(format!("{} holds a part of a log; a whole one is allowed", folder.display())));
    }
    let verdict = pack.verify(trust, Vec::new()).map_err(unread)?;
    if !verdict.is_sound() {
        return judged(&verdict, 0.0, out);
    }
    let config = config_of(globals, None)?;
    let place = Place { database: config.database()?, event_store: config.event_store.clone() };
    if place.database.file().is_none_or(Path::exists) && App::is_served(&place.database).await {
        return Err(CliError::Failed(format!("a server runs on {}: stop it first", place.database)));
    }
    let unwritten = |error: CopyError| CliError::because("the pack was not taken in", error);
    let mut intake = Box::pin(Intake::open(&place, &config.limits())).await.map_err(unwritten)?;
    let bar = out.progress(pack.manifest.events, "taking in");
    let (send, mut receive) = tokio::sync::mpsc::channel(2);
    let reader = pack.clone();
    let reading = tokio::task::spawn_blocking(move || {
        reader.events(|page| {
            // Whoever writes has given up if nobody takes it.
            let _ = send.blocking_send(page);
        })
    });
    while let Some(page) = receive.recv().await {
        bar.inc(page.len() as u64);
        let mut events: Vec<_> = page.into_iter().map(|(_, _, event)| event).collect();
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(BATCH));
            intake.put(events).await.map_err(unwritten)?;
            events = rest;
        }
    }
    bar.finish_and_clear();
    reading.await.map_err(|gone| CliError::because("the pack cannot be read", gone))?.map_err(unread)?;
    checkpoints(&pack, &Tables::new(intake.beside().clone()), pack.manifest.made_at).await?;
    out.json(&json!({"events": pack.manifest.events, "size": pack.manifest.size, "root": pack.manifest.root}));
    out.text(format!(
        "{} are in {place}; the read models are made from them at the next start",
        events_of(pack.manifest.events)
    ));
    Ok(())
}

/// Keeps the checkpoints of a pack beside the log that it became.
async fn checkpoints(pack: &Pack, tables: &Tables, made_at: DateTime<Utc>) -> Result<(), CliError> {
    for note in pack.checkpoints().map_err(unread)? {
        let Ok(checkpoint) = SignedCheckpoint::read(&note) else { continue };
        let id = crate::domain::ids::slug_uuid("checkpoint", &note);
        let kept = KeptCheckpoint { id, size: checkpoint.size, made_at, reason: "imported".to_owned(), note };
        tables.keep(&kept).await.map_err(|error| failed(error.into()))?;
    }
    Ok(())
}
