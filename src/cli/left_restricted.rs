//! Accounts that SLURM may still restrict although their resource ended or uses another account: listed with the
//! command that frees each, beside the status of policies and on their own.

use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, time};
use super::session::{CliError, Session};
use crate::dispatch::{DispatchError, Freed, LeftRestricted};
use crate::domain::ids::{OfferingId, ResourceId};

/// Accounts shown at most.
const SHOWN_MAX: u32 = 100;

/// Options of `agent left-restricted`.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// Only the accounts of this offering, by id or slug
    #[arg(long, value_name = "OFFERING")]
    offering: Option<String>,
}

/// Options of `agent freed`.
#[derive(Debug, Args)]
pub(super) struct FreedOptions {
    /// The SLURM account whose command was run
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// The offering, by id or slug, where two have an account of this name
    #[arg(long, value_name = "OFFERING")]
    offering: Option<String>,
}

fn failed(error: DispatchError) -> CliError {
    CliError::because("the outbox cannot be read or written", error)
}

fn offering(session: &Session, named: Option<&String>) -> Result<Option<OfferingId>, CliError> {
    named.map(|name| session.offering(name)).transpose()
}

async fn name_of(session: &Session, resource: ResourceId) -> String {
    match session.app.allocations.book(resource).await {
        Ok(book) => book.facts.name.clone(),
        Err(_) => resource.to_string(),
    }
}

/// One account in words, with what to do.
async fn in_words(session: &Session, left: &LeftRestricted) -> String {
    let whose = name_of(session, left.resource).await;
    let restricted = match (left.flags.paused, left.flags.downscaled) {
        (true, true) => "paused and slowed down",
        (true, false) => "paused",
        _ => "slowed down",
    };
    let since = time(left.since);
    let because = match left.because {
        crate::dispatch::LeftBecause::Ended => format!("{whose} ended on {since}"),
        crate::dispatch::LeftBecause::Renamed => format!("{whose} has another account since {since}"),
    };
    match left.taken_by {
        None => {
            format!("account {} may still be {restricted}: {because}; free it with\n  {}", left.account, left.command)
        }
        Some(resource) => format!(
            "account {} may still be {restricted}: {because}; {} has it now, and its agent is told how it is to be",
            left.account,
            name_of(session, resource).await
        ),
    }
}

/// The text below the status of policies; also as a document.
pub(super) async fn beneath(
    session: &Session,
    offering: Option<OfferingId>,
    out: &Out,
) -> Result<Value, DispatchError> {
    let (found, total) = session.app.publisher.left_restricted(offering, SHOWN_MAX, 0).await?;
    for left in &found {
        out.text(format!("! {}", in_words(session, left).await));
    }
    more(&found, total, out);
    Ok(json!(found))
}

fn more(found: &[LeftRestricted], total: u64, out: &Out) {
    let more = total.saturating_sub(found.len() as u64);
    if more > 0 {
        out.text(format!("… and {more} more; GET /api/accounts-left-restricted/ has them all"));
    }
}

pub(super) async fn list(session: &Session, options: &ListOptions, out: &Out) -> Result<(), CliError> {
    let offering = offering(session, options.offering.as_ref())?;
    let (found, total) = session.app.publisher.left_restricted(offering, SHOWN_MAX, 0).await.map_err(failed)?;
    out.json(&json!({ "count": total, "accounts_left_restricted": found }));
    if found.is_empty() {
        out.text("no account was left restricted");
    }
    for left in &found {
        out.text(in_words(session, left).await);
    }
    more(&found, total, out);
    Ok(())
}

pub(super) async fn freed(session: &Session, options: &FreedOptions, out: &Out) -> Result<(), CliError> {
    let account = &options.account;
    let offering = match offering(session, options.offering.as_ref())? {
        Some(offering) => offering,
        None => only_offering(session, account).await?,
    };
    match session.app.publisher.account_freed(offering, account, &session.meta()).await.map_err(failed)? {
        Freed::Recorded(_) => {}
        Freed::NotLeft => return Err(not_left(account)),
        Freed::Taken(resource) => {
            let name = name_of(session, resource).await;
            return Err(CliError::Failed(format!(
                "{name} has the account {account} now; its restrictions are its own, and its agent is told of them"
            )));
        }
    }
    session.settle().await?;
    out.json(&json!({ "account": account, "freed": true }));
    out.text(format!("{account} is listed no more"));
    Ok(())
}

fn not_left(account: &str) -> CliError {
    CliError::Failed(format!("{account} is not listed: `sluice agent left-restricted` shows the accounts"))
}

/// The one offering that has the account on its list.
async fn only_offering(session: &Session, account: &str) -> Result<OfferingId, CliError> {
    let found = session.app.publisher.left_on(account).await.map_err(failed)?;
    match found.as_slice() {
        [] => Err(not_left(account)),
        [one] => Ok(*one),
        _ => Err(CliError::Usage(format!(
            "{account} is on the list of {} offerings: say which with --offering",
            found.len()
        ))),
    }
}
