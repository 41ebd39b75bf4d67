//! `sluice timeline` and `sluice reset_raw_usage`: the history of a resource, and a manual reset of its counter.

use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, time};
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::CommandMeta;
use crate::events::allocation::AllocationEvent;
use crate::operations::timeline::{Entry, EntryKind, TimelineFilter, timeline};

/// Entries in a table.
const LISTED: u32 = 50;

/// Options of `timeline`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: String,
    /// Only of this kind; may be repeated: resource, limits, hold, restriction, evaluation, usage, command, reset, result, notice
    #[arg(long, value_parser = kind)]
    kind: Vec<EntryKind>,
    #[command(flatten)]
    paging: Paging,
}

/// Options of `reset_raw_usage`.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// The resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: String,
    /// Reason, recorded with the change
    #[arg(long, value_parser = super::hold::reason)]
    reason: Option<String>,
}

fn kind(word: &str) -> Result<EntryKind, String> {
    let allowed = || format!("one of {} is allowed", EntryKind::ALL.map(EntryKind::as_str).join(", "));
    EntryKind::parse(word).ok_or_else(allowed)
}

fn document(entry: &Entry) -> Value {
    json!({
        "position": entry.position.to_string(), "at": time(entry.at), "kind": entry.kind, "summary": entry.summary,
        "actor": entry.actor.kind.as_str(), "reason": entry.reason, "details": entry.details,
    })
}

pub(super) async fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    let resource = session.resource(&options.resource).await?;
    let book = session.app.registry.read().resource(resource).map(|entry| entry.book);
    let book = book.ok_or_else(|| CliError::Failed(format!("there is no resource {resource}")))?;
    let filter = TimelineFilter { kinds: options.kind.clone(), ..TimelineFilter::default() };
    let page = options.paging.page(LISTED, out);
    let (skip, size) =
        (usize::try_from(page.offset()).unwrap_or(usize::MAX), usize::try_from(page.size).unwrap_or(usize::MAX));
    let found = timeline(&*session.app.store, resource, book, &filter, skip, size).await;
    let (entries, total) = found.map_err(|error| CliError::because("the log cannot be read", error))?;
    out.json(&entries.iter().map(document).collect::<Vec<_>>());
    let rows = entries.iter().map(|entry| {
        // Does not repeat the end of the sentence.
        let unsaid = entry.reason.as_ref().filter(|reason| !entry.summary.ends_with(reason.as_str()));
        let why = unsaid.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (at, kind) = (time(entry.at), entry.kind.as_str().to_owned());
        [at, kind, entry.actor.kind.as_str().to_owned(), format!("{}{why}", entry.summary)]
    });
    out.table(["when", "what", "who", ""], rows.collect());
    Shown::new(page, entries.len(), total).tell("older", out);
    Ok(())
}

pub(super) async fn reset(session: &Session, options: &Reset, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    let resource = session.resource(&options.resource).await?;
    let meta = CommandMeta { reason: options.reason.as_deref().map(Into::into), ..session.meta() };
    let executed = session.app.allocations.execute(resource, &AllocationCommand::ResetRawUsage, &meta).await;
    let executed = executed.map_err(|error| CliError::because("raw usage could not be reset", error))?;
    session.settle().await?;
    let told = executed.events.iter().find_map(|(_, event)| match event {
        AllocationEvent::SettingsCommanded(told) if told.reset.is_some() => Some(told),
        _ => None,
    });
    let told = told.ok_or_else(|| CliError::Failed("nothing was decided".to_owned()))?;
    let commands: Vec<&str> = told.commands.iter().map(|command| command.shell_command.as_str()).collect();
    out.json(&json!({
        "resource_uuid": resource, "dispatch_uuid": told.dispatch, "policy_uuid": told.policy,
        "billing_period": told.period, "commands": commands,
    }));
    out.text(format!("raw usage of {} is to be reset (dispatch {})", executed.book.facts.slug, told.dispatch));
    for command in commands {
        out.text(format!("  {command}"));
    }
    Ok(())
}
