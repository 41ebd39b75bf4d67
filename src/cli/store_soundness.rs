//! `sluice store verify|quarantine`: checks that every event of the log is sound, and continues without one that is
//! not.
//!
//! Both open only the log: an unreadable event may prevent everything else from being opened.

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, count};
use super::session::{CliError, config_of};
use super::{Globals, database};
use crate::app::{App, AppOptions};
use crate::clock::{IdSource, real_now};
use crate::commands::execute::CommandMeta;
use crate::events::envelope::{Actor, DecodeError, Metadata, NewEvent, Position};
use crate::events::site::{EventSetAside, SiteEvent};
use crate::store::archive::Archive;
use crate::store::sound::{Findings, SetAside, examine, judge, quarantine_stream};
use crate::store::{EventStore, ExpectedVersion, StoreError};

/// Options of `store quarantine`.
#[derive(Debug, Args)]
pub(super) struct Quarantine {
    /// Where the event stands in the log, as `sluice doctor` and `sluice store verify` name it
    #[arg(long, value_name = "POSITION", value_parser = Position::read_plain)]
    position: Position,
    /// Why; it is recorded with the act
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    let plain = !text.is_empty() && text.chars().count() <= 2_000 && !text.chars().any(char::is_control);
    if plain {
        Ok(text.to_owned())
    } else {
        Err("1 to 2000 characters, none of them control characters, are allowed".to_owned())
    }
}

pub(super) fn options_of(globals: &Globals) -> Result<AppOptions, CliError> {
    let config = config_of(globals, None)?;
    let options = config.app_options()?;
    match options.database.file() {
        Some(log) if !log.exists() => Err(database::missing(&config, &options.database)),
        _ => Ok(options),
    }
}

pub(super) async fn open(options: &AppOptions) -> Result<std::sync::Arc<dyn EventStore>, CliError> {
    App::open_log(options).await.map_err(|error| CliError::because("the log cannot be opened", error))
}

pub(super) fn unread(error: StoreError) -> CliError {
    CliError::because("the log cannot be read", error)
}

/// An event that cannot be relied on, as a document.
pub(super) fn document(unsound: &DecodeError) -> Value {
    json!({
        "position": unsound.position.plain(),
        "stream": unsound.stream.as_str(),
        "version": unsound.version,
        "type": &*unsound.event_type,
        "problem": unsound.problem,
    })
}

/// Reads every event, and every segment of the archive.
pub(super) async fn verify(globals: &Globals, out: &Out) -> Result<(), CliError> {
    let options = options_of(globals)?;
    let log = open(&options).await?;
    let head = log.head().await.map_err(unread)?;
    let bar = out.progress_over(log.distance(Position::START, head).await, "reading the log");
    let found = examine(&*log, Position::START, head, |read| bar.inc(read)).await;
    bar.finish_and_clear();
    let found = found.map_err(unread)?;
    let (segments, archived, archive) = match options.event_store {
        Some(_) => (0, 0, None),
        None => segments(&options, out).await?,
    };
    let sound = found.is_sound() && archive.is_none();
    out.json(&json!({
        "sound": sound,
        "events": found.events,
        "set_aside": found.set_aside,
        "unsound": found.unsound.iter().map(document).collect::<Vec<_>>(),
        "unsound_count": found.unsound_count,
        "lost": found.lost.iter().map(|lost| json!({"from": lost.from, "to": lost.to, "problem": lost.problem})).collect::<Vec<_>>(),
        "missing": found.missing.iter().map(|(from, to)| json!({"from": from, "to": to})).collect::<Vec<_>>(),
        "segments": segments,
        "archived_events": archived,
        "archive": archive,
    }));
    say(&found, out);
    out.text(format!(
        "{} with {}{}",
        count(segments, "segment", "segments"),
        events_of(archived),
        archive.as_ref().map_or_else(|| ": sound".to_owned(), |problem| format!(": NOT SOUND: {problem}"))
    ));
    let first = found.problems().into_iter().next().or(archive);
    first.map_or(Ok(()), |problem| Err(CliError::Failed(format!("the log is not sound: {problem}"))))
}

fn say(found: &Findings, out: &Out) {
    let events = events_of(found.events);
    let aside = match found.set_aside {
        0 => String::new(),
        some => format!(", {some} of them set aside"),
    };
    if found.is_sound() {
        let which = if found.set_aside == 0 { "each" } else { "each of the others" };
        out.text(format!("{events}{aside}: {which} can be read, and is what was committed to"));
        return;
    }
    out.text(format!("{events}{aside}: NOT SOUND"));
    for problem in found.problems() {
        out.text(format!("  {problem}"));
    }
    out.text("restore the newest sound backup, or go on without an event: sluice store quarantine --position P --reason TEXT");
}

fn events_of(events: u64) -> String {
    count(usize::try_from(events).unwrap_or(usize::MAX), "event", "events")
}

/// The number of segments and their events, and the defects found.
async fn segments(options: &AppOptions, out: &Out) -> Result<(usize, u64, Option<String>), CliError> {
    let failed = |error| CliError::because("the archive cannot be opened", error);
    let archive = Archive::open(&options.database, options.limits.clone()).await.map_err(failed)?;
    let there = archive.segments().await.map_err(|error| CliError::because("segments cannot be read", error))?;
    let events = there.iter().map(|segment| segment.facts.events).sum();
    let bar = out.progress(events, "verifying segments");
    let verified = archive.verify(|segment| bar.inc(segment.facts.events)).await;
    bar.finish_and_clear();
    archive.close().await;
    Ok((there.len(), events, verified.err().map(|error| crate::events::envelope::chain(&error))))
}

/// Sets an event aside that cannot be relied on.
pub(super) async fn quarantine(globals: &Globals, asked: &Quarantine, out: &Out) -> Result<(), CliError> {
    let log = open(&options_of(globals)?).await?;
    let place = asked.position.plain();
    let event = match log.event_at(asked.position).await {
        Ok(Some(event)) => event,
        Ok(None) => return Err(CliError::Usage(format!("no event stands at position {place}"))),
        Err(error) => return Err(unread(error)),
    };
    if SetAside::of(&*log).await.map_err(unread)?.is_set_aside(&event) {
        return Err(CliError::Usage(format!("the event at position {place} is set aside already")));
    }
    let Err(unsound) = judge(&event) else {
        return Err(CliError::Usage(format!(
            "event {} of the stream {} ({}, position {place}) can be read, and is what was committed to: only an event that \
             cannot be relied on is set aside",
            event.version, event.stream, event.event_type
        )));
    };
    record(&*log, &unsound, &asked.reason, real_now()).await?;
    out.json(&json!({"set_aside": document(&unsound), "reason": asked.reason}));
    out.text(format!("set aside: {unsound}"));
    out.text("whoever folds the log goes on without it. Read models that took it in while it was whole still show it:");
    out.text(if is_of_messages(&unsound.event_type) {
        "  sluice projections discard    (with the server stopped: what agents are owed is made from such events too)"
    } else {
        "  sluice projections rebuild"
    });
    if !unsound.stream.as_str().starts_with("allocation-") {
        out.text(format!(
            "and what it said of {} is not in force any more: say it again (sluice apply, or the API)",
            unsound.stream
        ));
    }
    Ok(())
}

/// Whether an event is the outcome of a message to an agent: the outbox, which no rebuild recreates, depends on it.
fn is_of_messages(event_type: &str) -> bool {
    let name = event_type.split('.').next().unwrap_or(event_type);
    [
        "stomp_message_sent",
        "stomp_message_failed",
        "dispatch_unanswered",
        "dispatch_resend_requested",
        "restriction_resend_requested",
        "command_result_reported",
        "command_result_unmatched",
        "qos_confirmed",
        "account_freed",
    ]
    .contains(&name)
}

/// Records that an event was set aside. Somebody else may do the same with another one meanwhile.
async fn record(log: &dyn EventStore, unsound: &DecodeError, reason: &str, now: DateTime<Utc>) -> Result<(), CliError> {
    let failed = |error| CliError::because("nothing was set aside", error);
    let said = SiteEvent::EventSetAside(EventSetAside {
        position: unsound.position,
        stream: unsound.stream.clone(),
        version: unsound.version,
        event_type: unsound.event_type.to_string(),
        problem: unsound.problem.clone(),
    });
    let id = IdSource.fresh();
    let metadata = Metadata { actor: Actor::CLI, reason: Some(reason.into()), ..CommandMeta::system(id).metadata() };
    let event = NewEvent {
        event_id: id,
        event_type: said.event_type(),
        occurred_at: now,
        metadata,
        payload: said.to_append().map_err(StoreError::from).map_err(failed)?,
    };
    log.append(&quarantine_stream(), ExpectedVersion::Any, vec![event]).await.map_err(failed)?;
    Ok(())
}
