//! `sluice agent`: messages to site agents that need somebody.

use clap::Subcommand;
use serde_json::json;

use super::output::{Out, time};
use super::session::{CliError, Session};
use crate::dispatch::DispatchError;
use crate::domain::ids::DispatchId;

/// Dispatches shown at most.
const SHOWN_MAX: u32 = 1_000;

/// What to do about messages to agents.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List dispatches that are not sent again by themselves: unanswered, failed or refused
    #[command(alias = "dead_letters")]
    DeadLetters,
    /// Have such dispatches sent again, by the running server
    Resend(ResendOptions),
    /// How much waits for agents
    Outbox,
}

/// Options of `agent resend`.
#[derive(Debug, clap::Args)]
pub(super) struct ResendOptions {
    /// The dispatch; the list shows it
    #[arg(long, value_name = "UUID", required_unless_present = "all")]
    dispatch: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "dispatch")]
    all: bool,
}

fn failed(error: DispatchError) -> CliError {
    CliError::because("the outbox cannot be read or written", error)
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    match command {
        Command::DeadLetters => dead_letters(session, out).await,
        Command::Resend(options) => resend(session, &options, out).await,
        Command::Outbox => outbox(session, out).await,
    }
}

async fn dead_letters(session: &Session, out: &Out) -> Result<(), CliError> {
    let (letters, total) = session.app.publisher.dead_letters(SHOWN_MAX, 0).await.map_err(failed)?;
    out.json(&json!({ "count": total, "dead_letters": letters }));
    if letters.is_empty() {
        out.text("no dispatch waits for anybody");
        return Ok(());
    }
    let mut rows = Vec::with_capacity(letters.len());
    for letter in &letters {
        let name = match session.app.allocations.book(letter.resource).await {
            Ok(book) => book.facts.name.clone(),
            Err(_) => letter.resource.to_string(),
        };
        rows.push([
            letter.dispatch.to_string(),
            name,
            letter.reason.as_str().to_owned(),
            time(letter.queued_at),
            letter.sent_at.map(time).unwrap_or_default(),
            letter.resends.to_string(),
            letter.error.clone().unwrap_or_default(),
        ]);
    }
    out.table(["dispatch", "resource", "reason", "decided", "last sent", "resends", "said"], rows);
    Ok(())
}

async fn resend(session: &Session, options: &ResendOptions, out: &Out) -> Result<(), CliError> {
    let dispatches: Vec<DispatchId> = if let Some(text) = &options.dispatch {
        vec![text.parse().map_err(|error| CliError::Usage(format!("--dispatch: {error}")))?]
    } else {
        let (letters, _) = session.app.publisher.dead_letters(SHOWN_MAX, 0).await.map_err(failed)?;
        letters.into_iter().map(|letter| letter.dispatch).collect()
    };
    let mut asked = 0;
    for dispatch in &dispatches {
        match session.app.publisher.resend(*dispatch, &session.meta()).await.map_err(failed)? {
            Some(_) => asked += 1,
            None if options.all => {}
            None => {
                return Err(CliError::Failed(format!(
                    "dispatch {dispatch} is no dead letter: `sluice agent dead-letters` lists them"
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
        "{} queued{oldest}; {} unanswered; {} given up; {} restrictions to tell of",
        depth.queued, depth.unanswered, depth.given_up, depth.restrictions
    ));
    Ok(())
}
