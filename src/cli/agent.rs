//! `sluice agent`: messages to site agents, and those that need attention.

use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;

use super::account;
use super::left_restricted;
use super::output::{Out, time};
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use crate::dispatch::{DeadLetter, DispatchError};

/// Messages in a table.
const LISTED: u32 = 100;

/// What to do about messages to agents.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List messages that are not sent again by themselves: unanswered, failed or refused
    #[command(alias = "dead_letters")]
    DeadLetters(Paging),
    /// Have such messages sent again, by the running server
    Resend(ResendOptions),
    /// Show messages to agents, newest first: the intended commands beside those that ran
    Dispatches(account::Options),
    /// List messages that lay in a queue of the built-in broker until it was too late, or that an agent refused
    #[command(alias = "dead_messages")]
    DeadMessages(Paging),
    /// How much waits for agents
    Outbox,
    /// List accounts that SLURM may still restrict though their resource ended or was renamed, with what frees each
    #[command(alias = "left_restricted")]
    LeftRestricted(left_restricted::ListOptions),
    /// Say that such an account was freed at the cluster: it is listed no more
    Freed(left_restricted::FreedOptions),
}

/// Options of `agent resend`.
#[derive(Debug, clap::Args)]
pub(super) struct ResendOptions {
    /// The dispatch of settings; the list shows it
    #[arg(long, value_name = "UUID", required_unless_present_any = ["all", "resource"])]
    dispatch: Option<String>,
    /// The resource of a message about restrictions, by id or slug
    #[arg(long, value_name = "RESOURCE", conflicts_with = "dispatch")]
    resource: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["dispatch", "resource"])]
    all: bool,
}

fn failed(error: DispatchError) -> CliError {
    CliError::because("the outbox cannot be read or written", error)
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    match command {
        Command::DeadLetters(paging) => dead_letters(session, paging, out).await,
        Command::Resend(options) => resend(session, &options, out).await,
        Command::Dispatches(options) => account::run(session, &options, out).await,
        Command::DeadMessages(paging) => dead_messages(session, paging, out).await,
        Command::Outbox => outbox(session, out).await,
        Command::LeftRestricted(options) => left_restricted::list(session, &options, out).await,
        Command::Freed(options) => left_restricted::freed(session, &options, out).await,
    }
}

async fn dead_letters(session: &Session, paging: Paging, out: &Out) -> Result<(), CliError> {
    let page = paging.page(LISTED, out);
    let offset = page.offset().max(0).unsigned_abs();
    let (letters, total) = session.app.publisher.dead_letters(page.size, offset).await.map_err(failed)?;
    let listed = Shown::new(page, letters.len(), total);
    out.json(&json!({ "count": total, "next": listed.next(), "dead_letters": letters }));
    if listed.total == 0 {
        out.text("no message waits for anybody");
        return Ok(());
    }
    let mut rows = Vec::with_capacity(letters.len());
    for letter in &letters {
        let name = match session.app.allocations.book(letter.resource).await {
            Ok(book) => book.facts.name.clone(),
            Err(_) => letter.resource.to_string(),
        };
        rows.push([
            letter.message.as_str().to_owned(),
            letter.dispatch.map(|dispatch| dispatch.to_string()).unwrap_or_default(),
            name,
            letter.reason.as_str().to_owned(),
            time(letter.queued_at),
            letter.sent_at.map(time).unwrap_or_default(),
            letter.resends.to_string(),
            letter.error.clone().unwrap_or_default(),
        ]);
    }
    out.table(["message", "dispatch", "resource", "reason", "decided", "last sent", "resends", "said"], rows);
    if !out.is_json() {
        listed.tell("more", out);
    }
    Ok(())
}

async fn dead_messages(session: &Session, paging: Paging, out: &Out) -> Result<(), CliError> {
    let Some(broker) = &session.app.builtin_broker else {
        let where_else = "the site has a RabbitMQ: look into its queue waldur.dlq.messages";
        return Err(CliError::Failed(where_else.to_owned()));
    };
    let page = paging.page(LISTED, out);
    let found = broker.dead_messages(page.size, page.offset().max(0).unsigned_abs()).await;
    let (found, total) = found.map_err(|error| failed(DispatchError::Sql(error)))?;
    let listed = Shown::new(page, found.len(), total);
    out.json(&json!({ "count": total, "next": listed.next(), "dead_messages": found }));
    if listed.total == 0 {
        out.text("every message was read in time");
        return Ok(());
    }
    let row = |dead: &crate::dispatch::builtin::DeadMessage| {
        [dead.queue.clone(), time(dead.queued_at), time(dead.dead_at), dead.reason.clone(), dead.body.clone()]
    };
    out.table(["queue", "queued", "dead", "reason", "message"], found.iter().map(row).collect());
    if !out.is_json() {
        listed.tell("more", out);
    }
    Ok(())
}

/// What identifies the dead letter to resend.
fn id_of(letter: &DeadLetter) -> Uuid {
    letter.dispatch.map_or(letter.resource.as_uuid(), |dispatch| dispatch.as_uuid())
}

async fn resend(session: &Session, options: &ResendOptions, out: &Out) -> Result<(), CliError> {
    let ids: Vec<Uuid> = if let Some(text) = &options.dispatch {
        vec![text.parse().map_err(|error| CliError::Usage(format!("--dispatch: {error}")))?]
    } else if let Some(resource) = &options.resource {
        vec![session.resource(resource).await?.as_uuid()]
    } else {
        let (letters, _) = session.app.publisher.dead_letters(u32::MAX, 0).await.map_err(failed)?;
        letters.iter().map(id_of).collect()
    };
    let mut asked = 0;
    for id in &ids {
        match session.app.publisher.resend(*id, &session.meta()).await.map_err(failed)? {
            Some(_) => asked += 1,
            None if options.all => {}
            None => {
                return Err(CliError::Failed(format!(
                    "{id} is no dead letter: `sluice agent dead-letters` lists them"
                )));
            }
        }
    }
    session.settle().await?;
    out.json(&json!({ "resent": asked }));
    let when = if session.is_served() { "by the running server" } else { "once a server runs" };
    out.text(format!("{asked} to be sent again, {when}"));
    Ok(())
}

async fn outbox(session: &Session, out: &Out) -> Result<(), CliError> {
    let depth = session.app.publisher.depth().await.map_err(failed)?;
    out.json(&json!(depth));
    let oldest = depth.oldest_queued_at.map_or_else(String::new, |at| format!(", the oldest since {}", time(at)));
    out.text(format!(
        "settings: {} queued{oldest}; {} unanswered; {} given up\nrestrictions: {} to tell of; {} told and not confirmed; {} \
         never confirmed",
        depth.queued,
        depth.unanswered,
        depth.given_up,
        depth.restrictions,
        depth.restrictions_unconfirmed,
        depth.restrictions_given_up
    ));
    Ok(())
}
