//! Messages that are not sent again by themselves, with a way to have them sent again; and accounts that were left restricted.

use axum::extract::Path;
use axum::http::{Method, StatusCode};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::DispatchRead;
use crate::ui::allocation::encoded;
use crate::ui::confirm::Confirm;
use crate::ui::frame::Section;
use crate::ui::problem::Problem;
use crate::ui::read::Named;
use crate::ui::sheet::{ROWS, Sheet};
use crate::ui::standing::{self, Tone};
use crate::ui::visit::{Shown, Visit, done};
use crate::ui::words::Moment;

#[derive(Deserialize)]
struct LetterRead {
    message: String,
    dispatch_uuid: Option<String>,
    resource_uuid: String,
    resource_name: String,
    reason: String,
    error: Option<String>,
    queued_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    resends: u64,
}

/// A message that is not sent again by itself.
pub struct LetterRow {
    /// Its page, where it has one.
    pub href: Option<String>,
    /// Where it is sent again.
    pub resend: String,
    /// The allocation.
    pub name: String,
    /// The allocation's page.
    pub allocation: String,
    /// What it is about.
    pub about: &'static str,
    /// Why it is not sent again.
    pub status: Tone,
    /// What was said last.
    pub error: String,
    /// When it was decided.
    pub at: Moment,
    /// When a queue took it.
    pub sent: Option<Moment>,
    /// How often it was sent again.
    pub resends: u64,
}

/// Messages that are not sent again by themselves.
pub async fn dead(visit: &Visit) -> Result<(Sheet, Vec<LetterRow>), Problem> {
    let path = format!("/api/dead-letters/?page={}&page_size={ROWS}", visit.page()?);
    let found = visit.api.list::<LetterRead>(&path).await.map_err(hidden)?;
    let row = |letter: &LetterRead| LetterRow {
        href: letter.dispatch_uuid.as_ref().map(|id| format!("/commands/{id}")),
        resend: format!("/commands/{}/resend", letter.dispatch_uuid.as_ref().unwrap_or(&letter.resource_uuid)),
        name: letter.resource_name.clone(),
        allocation: format!("/allocations/{}", encoded(&letter.resource_uuid)),
        about: if letter.message == "resource" { "restrictions" } else { "settings" },
        status: standing::agent(if letter.reason == "refused" { "failed" } else { &letter.reason }),
        error: letter.error.clone().unwrap_or_default(),
        at: Moment::of(letter.queued_at),
        sent: letter.sent_at.map(Moment::of),
        resends: letter.resends,
    };
    Ok((Sheet::plain(visit, found.rows.len(), found.total)?, found.rows.iter().map(row).collect()))
}

/// What one may not see is not found.
pub fn hidden(problem: Problem) -> Problem {
    if problem.status == StatusCode::FORBIDDEN { Problem::not_found() } else { problem }
}

/// Whose message is sent again, and where that is seen.
async fn resent(visit: &Visit, id: &str) -> Result<(String, String), Problem> {
    if !visit.is_staff() {
        return Err(Problem::not_found());
    }
    let path = format!("/api/dispatches/{}/", encoded(id));
    if let Some(found) = visit.api.find::<DispatchRead>(&path).await? {
        return Ok((found.resource_name, format!("/commands/{}", found.uuid)));
    }
    let path = format!("/api/marketplace-provider-resources/{}/", encoded(id));
    let found = visit.api.find::<Named>(&path).await?.ok_or_else(Problem::not_found)?;
    Ok((found.name, "/commands?tab=dead".to_owned()))
}

fn confirmation(visit: &Visit, name: &str, back: &str) -> Confirm {
    Confirm::of(visit, format!("Send again to {name}"), format!("Send again to {name}"), back)
        .with_reason(visit)
        .saying(format!("The site agent is told once more what is meant for {name} now."))
        .saying("Agents do not recognise a message that comes twice; a reset of raw usage goes along only while it is recent.")
}

/// Asks whether a message is to be sent again.
pub async fn ask(visit: Visit, Path(id): Path<String>) -> Shown {
    let (name, back) = resent(&visit, &id).await?;
    confirmation(&visit, &name, &back).shown(&visit, Section::Commands, ("/commands", "Commands")).await
}

/// Has a message sent again.
pub async fn resend(visit: Visit, Path(id): Path<String>) -> Shown {
    let (name, back) = resent(&visit, &id).await?;
    let body = json!({ "reason": visit.form.get("reason").unwrap_or_default() });
    let path = format!("/api/dead-letters/{}/resend/", encoded(&id));
    let mut part = confirmation(&visit, &name, &back);
    match visit.api.send::<Value>(Method::POST, &path, &body).await {
        Ok(_) => return Ok(done(&visit, &back)),
        Err(problem) if problem.status == StatusCode::NOT_FOUND => {
            let sentence = "Nothing needs you here: Sluice resends what is not answered yet.";
            part.problem = Some(Problem::new(StatusCode::CONFLICT, sentence));
        }
        Err(problem) => part.problem = Some(problem),
    }
    part.shown(&visit, Section::Commands, ("/commands", "Commands")).await
}

#[derive(Deserialize)]
struct AccountRead {
    account: String,
    offering_uuid: String,
    resource_uuid: String,
    resource_name: String,
    because: String,
    since: DateTime<Utc>,
    paused: bool,
    taken_by: Option<String>,
    command: String,
}

/// An account that was left restricted.
pub struct AccountRow {
    /// The SLURM account.
    pub account: String,
    /// The resource that left it.
    pub name: String,
    /// Its page.
    pub allocation: String,
    /// Why it was left.
    pub because: &'static str,
    /// Since when.
    pub since: Moment,
    /// How it was left.
    pub state: Tone,
    /// A live resource that has it now.
    pub taken_by: Option<String>,
    /// What frees it.
    pub command: String,
    /// Where somebody says that it was run.
    pub freed: String,
}

/// Accounts that were left restricted.
pub async fn accounts(visit: &Visit) -> Result<(Sheet, Vec<AccountRow>), Problem> {
    let path = format!("/api/accounts-left-restricted/?page={}&page_size={ROWS}", visit.page()?);
    let found = visit.api.list::<AccountRead>(&path).await.map_err(hidden)?;
    let row = |left: &AccountRead| AccountRow {
        account: left.account.clone(),
        name: left.resource_name.clone(),
        allocation: format!("/allocations/{}", encoded(&left.resource_uuid)),
        because: if left.because == "renamed" { "it has another account now" } else { "it has ended" },
        since: Moment::of(left.since),
        state: standing::state(if left.paused { "paused" } else { "slowed_down" }),
        taken_by: left.taken_by.as_ref().map(|id| format!("/allocations/{}", encoded(id))),
        command: left.command.clone(),
        freed: format!("/commands/freed?offering={}&account={}", left.offering_uuid, encoded(&left.account)),
    };
    Ok((Sheet::plain(visit, found.rows.len(), found.total)?, found.rows.iter().map(row).collect()))
}

fn freed_account(visit: &Visit) -> Result<(Confirm, Value), Problem> {
    let of = |name| visit.form.get(name).or(visit.query.get(name)).unwrap_or_default().to_owned();
    let (offering, account) = (of("offering"), of("account"));
    if !visit.is_staff() || account.is_empty() {
        return Err(Problem::not_found());
    }
    let body = json!({
        "offering_uuid": offering, "account": account, "reason": visit.form.get("reason").unwrap_or_default(),
    });
    let mut part = Confirm::of(visit, format!("{account} was freed"), "It was freed", "/commands?tab=accounts")
        .with_reason(visit)
        .saying(format!("Somebody has run the command for account {account} at the cluster. It is listed no more."));
    part.hidden = vec![("offering", offering), ("account", account)];
    Ok((part, body))
}

/// Asks whether an account was freed.
pub async fn ask_freed(visit: Visit) -> Shown {
    let (part, _) = freed_account(&visit)?;
    part.shown(&visit, Section::Commands, ("/commands?tab=accounts", "Commands")).await
}

/// Takes an account off the list.
pub async fn freed(visit: Visit) -> Shown {
    let (mut part, body) = freed_account(&visit)?;
    match visit.api.send::<Value>(Method::POST, "/api/accounts-left-restricted/freed/", &body).await {
        Ok(_) => return Ok(done(&visit, "/commands?tab=accounts")),
        Err(problem) => part.problem = Some(problem),
    }
    part.shown(&visit, Section::Commands, ("/commands?tab=accounts", "Commands")).await
}
