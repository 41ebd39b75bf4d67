//! `sluice timeline` and `sluice reset_raw_usage`: what happened to a resource, and its counter started again by hand.

use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, time};
use super::session::{CliError, Session};
use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::CommandMeta;
use crate::events::allocation::AllocationEvent;
use crate::operations::timeline::{Entry, EntryKind, TimelineFilter, timeline};

/// Options of `timeline`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: String,
    /// Only of this kind; may be repeated: resource, limits, hold, restriction, evaluation, usage, command, reset, result, notice
    #[arg(long, value_parser = kind)]
    kind: Vec<EntryKind>,
    /// Show so many, newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Options of `reset_raw_usage`.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// The resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: String,
    /// Why; kept with what is recorded
    #[arg(long)]
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
    let size = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let found = timeline(&*session.app.store, resource, book, &filter, 0, size).await;
    let (entries, total) = found.map_err(|error| CliError::because("the log cannot be read", error))?;
    out.json(&entries.iter().map(document).collect::<Vec<_>>());
    let rows = entries.iter().map(|entry| {
        // What the sentence ends with already is not said twice.
        let unsaid = entry.reason.as_ref().filter(|reason| !entry.summary.ends_with(reason.as_str()));
        let why = unsaid.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (at, kind) = (time(entry.at), entry.kind.as_str().to_owned());
        [at, kind, entry.actor.kind.as_str().to_owned(), format!("{}{why}", entry.summary)]
    });
    out.table(["when", "what", "who", ""], rows.collect());
    let more = total.saturating_sub(entries.len() as u64);
    if more > 0 {
        out.text(format!("… and {more} older; --limit shows more"));
    }
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
