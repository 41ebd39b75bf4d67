//! `sluice hold list|place|release`: manual holds, by which an operator pauses, slows down or exempts a resource.

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Out, flags, time};
use super::session::{CliError, Session};
use crate::clock::IdSource;
use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::CommandMeta;
use crate::domain::ids::{HoldId, ResourceId};
use crate::events::allocation::{HoldKind, HoldPlaced};
use crate::projections::Page;
use crate::reactions::manual_holds;

/// Characters of a reason at most, as over HTTP.
const REASON_CHARS_MAX: usize = 2_000;
/// Characters of a ticket at most, as over HTTP.
const TICKET_CHARS_MAX: usize = 255;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the holds in force
    List(List),
    /// Pause, slow down or exempt a resource; no policy releases that
    Place(Place),
    /// End a hold
    Release(Release),
}

/// Options of `hold list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Of one resource, by id or slug; of all without it
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    /// Of one kind: pause, downscale, exemption
    #[arg(long, value_parser = kind)]
    kind: Option<HoldKind>,
    /// List so many, oldest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Options of `hold place`.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: String,
    /// pause, downscale (or slowdown), exemption (lifts every restriction)
    #[arg(long, value_parser = kind)]
    kind: HoldKind,
    /// Why
    #[arg(long, value_parser = reason)]
    reason: String,
    /// Ticket that it refers to
    #[arg(long, value_parser = ticket)]
    ticket: Option<String>,
    /// When it ends by itself: an instant, or a number of days or hours such as 14d or 6h
    #[arg(long, value_name = "WHEN", value_parser = end, alias = "expires_at", alias = "expires-at")]
    expires: Option<End>,
}

/// Options of `hold release`.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// The hold's id, as listed
    hold: HoldId,
    /// The resource it is on, by id or slug; looked up without it
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    /// Why
    #[arg(long, value_parser = reason)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    At(DateTime<Utc>),
    In(TimeDelta),
}

fn kind(word: &str) -> Result<HoldKind, String> {
    HoldKind::parse(word).ok_or_else(|| "one of pause, downscale, exemption is allowed".to_owned())
}

fn text(max: usize, given: &str) -> Result<String, String> {
    let given = given.trim();
    match given.chars().count() {
        0 => Err("it is empty".to_owned()),
        n if n > max => Err(format!("{n} characters were given; {max} are allowed")),
        _ if given.chars().any(char::is_control) => Err("control characters are not allowed".to_owned()),
        _ => Ok(given.to_owned()),
    }
}

fn reason(given: &str) -> Result<String, String> {
    text(REASON_CHARS_MAX, given)
}

fn ticket(given: &str) -> Result<String, String> {
    text(TICKET_CHARS_MAX, given)
}

fn end(text: &str) -> Result<End, String> {
    let number = |suffix| text.strip_suffix(suffix).and_then(|n: &str| n.parse::<i64>().ok()).filter(|n| *n > 0);
    let days = number('d').and_then(TimeDelta::try_days);
    let hours = number('h').and_then(TimeDelta::try_hours);
    if let Some(delta) = days.or(hours) {
        return Ok(End::In(delta));
    }
    text.parse()
        .map(End::At)
        .map_err(|_| "an instant (2026-12-31T00:00:00Z), days (14d) or hours (6h) are expected".to_owned())
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    match command {
        Command::List(options) => list(session, &options, out).await,
        Command::Place(options) => place(session, options, out).await,
        Command::Release(options) => release(session, options, out).await,
    }
}

fn shown(session: &Session, resource: ResourceId, hold: &HoldPlaced) -> Value {
    json!({
        "uuid": hold.hold, "resource_uuid": resource, "kind": hold.kind.as_str(), "reason": hold.reason,
        "ticket": hold.ticket, "placed_at": time(hold.placed_at), "expires_at": hold.expires_at.map(time),
        "over": hold.expires_at.is_some_and(|at| at <= session.now()),
    })
}

/// Holds of one resource or all, from the list.
async fn listed(
    session: &Session,
    resource: Option<ResourceId>,
    kind: Option<HoldKind>,
    limit: u32,
) -> Result<(Vec<(ResourceId, HoldPlaced)>, i64), CliError> {
    let found = manual_holds(&session.app.read, resource, kind, Page::first(limit)).await;
    found.map_err(|error| CliError::because("the list of holds cannot be read", error))
}

async fn list(session: &Session, options: &List, out: &Out) -> Result<(), CliError> {
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let (holds, total) = listed(session, resource, options.kind, options.limit).await?;
    out.json(&holds.iter().map(|(resource, hold)| shown(session, *resource, hold)).collect::<Vec<_>>());
    if holds.is_empty() {
        out.text("no manual hold is in force");
        return Ok(());
    }
    let mut rows = Vec::with_capacity(holds.len());
    for (resource, hold) in &holds {
        let name = session.resource_name(*resource).await?;
        rows.push([
            hold.hold.to_string(),
            name,
            hold.kind.as_str().to_owned(),
            hold.expires_at.map_or_else(|| "-".to_owned(), time),
            hold.ticket.clone().unwrap_or_else(|| "-".to_owned()),
            hold.reason.clone(),
        ]);
    }
    out.table(["hold", "resource", "kind", "until", "ticket", "why"], rows);
    let more = total - i64::try_from(holds.len()).unwrap_or_default();
    if more > 0 {
        out.text(format!("… and {more} more; --limit shows more"));
    }
    Ok(())
}

fn because(session: &Session, reason: Option<String>) -> CommandMeta {
    CommandMeta { reason: reason.map(Into::into), ..session.meta() }
}

async fn place(session: &Session, options: Place, out: &Out) -> Result<(), CliError> {
    let resource = session.resource(&options.resource).await?;
    let expires_at = match options.expires {
        None => None,
        Some(End::At(at)) => Some(at),
        Some(End::In(span)) => session.now().checked_add_signed(span),
    };
    let hold = HoldId::from(IdSource.fresh());
    let meta = because(session, Some(options.reason.clone()));
    let command = AllocationCommand::PlaceHold {
        hold,
        kind: options.kind,
        reason: options.reason,
        ticket: options.ticket,
        expires_at,
    };
    let placed = session.app.allocations.execute(resource, &command, &meta).await;
    let placed = placed.map_err(|error| CliError::because("the hold could not be placed", error))?;
    session.settle().await?;
    let in_force = placed.book.holds.iter().find(|known| known.hold == hold);
    let in_force = in_force.ok_or_else(|| CliError::Failed(format!("hold {hold} ended at once")))?;
    out.json(&shown(session, resource, in_force));
    out.text(format!(
        "hold {hold} ({}) is on {}; restricted now: {}",
        in_force.kind.as_str(),
        placed.book.facts.slug,
        flags(placed.book.flags)
    ));
    Ok(())
}

async fn release(session: &Session, options: Release, out: &Out) -> Result<(), CliError> {
    let resource = if let Some(name) = &options.resource {
        session.resource(name).await?
    } else {
        let on = crate::reactions::held_resource(&session.app.read, options.hold).await;
        let on = on.map_err(|error| CliError::because("the list of holds cannot be read", error))?;
        on.ok_or_else(|| CliError::Failed(format!("there is no hold {} in force", options.hold)))?
    };
    let meta = because(session, options.reason);
    let command = AllocationCommand::ReleaseHold { hold: options.hold, expired: false };
    let released = session.app.allocations.execute(resource, &command, &meta).await;
    let released = released.map_err(|error| CliError::because("the hold could not be released", error))?;
    session.settle().await?;
    let now = released.book.flags;
    out.json(&json!({
        "uuid": options.hold, "resource_uuid": resource, "released": true, "paused": now.paused, "downscaled": now.downscaled,
    }));
    out.text(format!(
        "hold {} on {} is released; restricted now: {}",
        options.hold,
        released.book.facts.slug,
        flags(now)
    ));
    Ok(())
}
