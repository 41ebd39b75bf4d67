//! `sluice notices list|resend`: what was sent to whom, what could not be delivered, and resending it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Out, count, time};
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use crate::domain::ids::NoticeId;
use crate::notify::{NoticeFilter, NoticeRow, NoticeState};

/// Notices in a table.
const LISTED: u32 = 50;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List notices of the last 90 days, newest first
    List(List),
    /// Resend given-up notices; the running server delivers them, or the next one
    Resend(Resend),
}

/// Options of `notices list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those that are: owed, sent, failed
    #[arg(long, value_parser = state)]
    state: Option<NoticeState>,
    /// Only those about this resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Options of `notices resend`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Resend {
    /// The message, as listed
    notice: Option<NoticeId>,
    /// Everything that was given up
    #[arg(long)]
    all: bool,
}

fn state(word: &str) -> Result<NoticeState, String> {
    NoticeState::parse(word).ok_or_else(|| "one of owed, sent, failed is allowed".to_owned())
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::List(options) => list(session, options, out).await,
        Command::Resend(options) => resend(session, &options, out).await,
    }
}

async fn list(session: &Session, options: List, out: &Out) -> Result<(), CliError> {
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let page = options.paging.page(LISTED, out);
    let offset = page.offset().max(0).unsigned_abs();
    let filter = NoticeFilter { state: options.state, resource, limit: page.size, offset };
    let unreadable = |error| CliError::because("the list of notices cannot be read", error);
    let rows = session.app.notifier.list(&filter).await.map_err(unreadable)?;
    let total = session.app.notifier.count(&filter).await.map_err(unreadable)?;
    let listed = Shown::new(page, rows.len(), total);
    out.json(&json!({"count": total, "next": listed.next(), "notices": rows}));
    if listed.total == 0 {
        out.text("there are no such notices");
        return Ok(());
    }
    let mut table = Vec::with_capacity(rows.len());
    for row in &rows {
        table.push(line(session, row).await?);
    }
    out.table(["notice", "state", "what", "about", "to", "by", "when", "tries", "problem"], table);
    if !out.is_json() {
        listed.tell("older", out);
    }
    Ok(())
}

async fn line(session: &Session, row: &NoticeRow) -> Result<[String; 9], CliError> {
    let user = session.app.directory.user(row.recipient).await;
    let user = user.map_err(|error| CliError::because("the directory cannot be read", error))?;
    let about = session.app.allocations.book(row.resource).await.map(|book| book.facts.slug.clone());
    let to = match (user, row.via.as_str()) {
        (Some(user), _) => user.username,
        (None, "external") => "an address of the policy".to_owned(),
        (None, "endpoint") => {
            session.app.notifier.endpoint(row.recipient).unwrap_or("an endpoint that is gone").to_owned()
        }
        (None, _) => "somebody erased".to_owned(),
    };
    Ok([
        row.notice.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        row.state.as_str().to_owned(),
        row.template.as_str().to_owned(),
        about.unwrap_or_else(|_| row.resource.to_string()),
        to,
        row.channel.as_str().to_owned(),
        time(row.occurred_at),
        row.attempts.to_string(),
        row.error.clone().unwrap_or_default(),
    ])
}

async fn resend(session: &Session, options: &Resend, out: &Out) -> Result<(), CliError> {
    // What a server gave up a moment ago, or left unread when it went down.
    session.settle().await?;
    let resent = session.app.notifier.resend(options.notice, &session.meta()).await;
    let (resent, _) = resent.map_err(|error| CliError::because("the notices are not resent", error))?;
    session.settle().await?;
    if let Some(notice) = options.notice.filter(|_| resent == 0) {
        return Err(CliError::Failed(format!("there is no notice {notice} that was given up")));
    }
    out.json(&json!({"resent": resent, "server_running": session.is_served()}));
    let notices = count(usize::try_from(resent).unwrap_or(usize::MAX), "notice", "notices");
    let when = if session.is_served() { "the server sends them now" } else { "the server sends them when it runs" };
    out.text(if resent == 0 { "nothing was given up".to_owned() } else { format!("{notices} owed again; {when}") });
    Ok(())
}
