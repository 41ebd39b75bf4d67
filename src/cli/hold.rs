//! `sluice hold list|place|release`: manual holds, by which an operator pauses, slows down or exempts a resource.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::end::End;
use super::output::{Out, flags, time};
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use crate::clock::IdSource;
use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::CommandMeta;
use crate::domain::ids::{HoldId, ResourceId};
use crate::domain::text::{NAME, REASON, TextProblem};
use crate::events::allocation::{HoldKind, HoldPlaced};
use crate::projections::Page;
use crate::reactions::manual_holds;

/// Holds in a table.
const LISTED: u32 = 100;

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
    #[command(flatten)]
    paging: Paging,
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
    /// When it ends by itself: a day (its beginning at the site), an instant, or a time from now such as 14d or 6h
    #[arg(long, value_name = "WHEN", value_parser = End::parse, alias = "expires_at", alias = "expires-at")]
    expires: Option<End>,
    /// Let the people of the resource read reason and ticket
    #[arg(long)]
    public: bool,
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

fn kind(word: &str) -> Result<HoldKind, String> {
    HoldKind::parse(word).ok_or_else(|| "one of pause, downscale, exemption is allowed".to_owned())
}

/// A reason, as over HTTP.
pub(super) fn reason(given: &str) -> Result<String, TextProblem> {
    REASON.read(given)
}

fn ticket(given: &str) -> Result<String, TextProblem> {
    NAME.read(given)
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
        "ticket": hold.ticket, "public": hold.public, "placed_at": time(hold.placed_at), "expires_at": hold.expires_at.map(time),
        "over": hold.expires_at.is_some_and(|at| at <= session.now()),
    })
}

/// Holds of one resource or all, from the list.
async fn listed(
    session: &Session,
    resource: Option<ResourceId>,
    kind: Option<HoldKind>,
    page: Page,
) -> Result<(Vec<(ResourceId, HoldPlaced)>, i64), CliError> {
    let found = manual_holds(&session.app.read, resource, kind, page).await;
    found.map_err(|error| CliError::because("the list of holds cannot be read", error))
}

async fn list(session: &Session, options: &List, out: &Out) -> Result<(), CliError> {
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let page = options.paging.page(LISTED, out);
    let (holds, total) = listed(session, resource, options.kind, page).await?;
    let listed = Shown::new(page, holds.len(), total.max(0).unsigned_abs());
    out.json(&holds.iter().map(|(resource, hold)| shown(session, *resource, hold)).collect::<Vec<_>>());
    if listed.total == 0 {
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
    listed.tell("more", out);
    Ok(())
}

fn because(session: &Session, reason: Option<String>) -> CommandMeta {
    CommandMeta { reason: reason.map(Into::into), ..session.meta() }
}

async fn place(session: &Session, options: Place, out: &Out) -> Result<(), CliError> {
    let resource = session.resource(&options.resource).await?;
    let end = |end: End| end.instant(session.now(), session.config.time_zone).map_err(CliError::Usage);
    let expires_at = options.expires.map(end).transpose()?;
    let hold = HoldId::from(IdSource.fresh());
    let meta = because(session, Some(options.reason.clone()).filter(|_| options.public));
    let command = AllocationCommand::PlaceHold {
        hold,
        kind: options.kind,
        reason: options.reason,
        ticket: options.ticket,
        expires_at,
        public: options.public,
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
