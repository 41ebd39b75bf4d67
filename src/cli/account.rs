//! Accounts as the site reports them beside the intended state, for `slurm_policy_status` and `agent`.

use std::collections::HashMap;

use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, time};
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use crate::dispatch::DispatchError;
use crate::domain::ids::OfferingId;
use crate::domain::qos::QosNames;
use crate::operations::standings::AllocationStanding;
use crate::projections::account::Account;
use crate::projections::command_history::{CommandFilter, DispatchRow, dispatches};
use crate::projections::site_answers::{SiteAnswer, of_resources};

/// Dispatches that are shown.
const LISTED: u32 = 5;

/// An account, and the site's statements about it.
pub(super) struct Seen {
    pub account: Account,
    answer: SiteAnswer,
}

impl Seen {
    /// In a word: as intended, or its state.
    pub(super) fn word(&self) -> String {
        match self.account.differences.len() {
            0 if self.account.qos_status == "confirmed" => "as meant".to_owned(),
            0 => format!("qos {}", self.account.qos_status),
            _ => "differs, see below".to_owned(),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "qos_expected": self.account.qos_expected, "qos_status": self.account.qos_status,
            "qos_confirmed": self.answer.qos.as_ref().map(|(qos, _)| qos),
            "qos_confirmed_at": self.answer.qos.as_ref().map(|(_, at)| time(*at)),
            "last_sync_at": self.answer.synced_at.map(time), "differences": self.account.differences,
        })
    }
}

/// The accounts of these resources, in the same order.
pub(super) async fn accounts(session: &Session, rows: &[AllocationStanding]) -> Result<Vec<Seen>, DispatchError> {
    let listed = || rows.iter().map(|of| of.row.resource);
    let answers = of_resources(&session.app.read, listed()).await?;
    let told = session.app.publisher.told(listed()).await?;
    let mut names: HashMap<OfferingId, QosNames> = HashMap::new();
    let mut seen = Vec::with_capacity(rows.len());
    let state = session.app.registry.read();
    for AllocationStanding { row, .. } in rows {
        let told = told.get(&row.resource).copied();
        let name = |id| state.offering(id).map(|o| o.facts.facts.qos.clone()).unwrap_or_default();
        let names = names.entry(row.offering).or_insert_with(|| name(row.offering));
        // A resource is listed once for each of its policies.
        let answer = answers.get(&row.resource);
        let account = Account::of(row.flags, row.agent, answer, told, names);
        seen.push(Seen { account, answer: answer.cloned().unwrap_or_default() });
    }
    Ok(seen)
}

/// Options of `agent dispatches`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// One policy, by id or slug
    #[arg(long, value_name = "U")]
    policy: Option<String>,
    /// One resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Dispatches, newest first, with the intended commands beside those that ran.
pub(super) async fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let policy = options.policy.as_deref().map(|name| session.policy(name)).transpose()?;
    let filter = CommandFilter { policy, resource, ..CommandFilter::default() };
    let cannot = |error| CliError::because("the read models cannot be read", error);
    let page = options.paging.page(LISTED, out);
    let (found, total) = dispatches(&session.app.read, &filter, page).await.map_err(cannot)?;
    let listed = Shown::new(page, found.len(), total.max(0).unsigned_abs());
    let documents: Vec<Value> = found.iter().map(document).collect();
    out.json(&json!({ "count": total, "next": listed.next(), "dispatches": documents }));
    if listed.total == 0 {
        out.text("no agent was told anything yet");
    }
    for row in &found {
        show(row, out);
    }
    if !out.is_json() {
        listed.tell("older", out);
    }
    Ok(())
}

fn document(row: &DispatchRow) -> Value {
    json!({
        "uuid": row.dispatch, "policy_uuid": row.policy, "resource_uuid": row.resource, "resource_name": row.resource_name,
        "billing_period": row.period, "status": row.status.as_str(), "queued_at": time(row.queued_at),
        "sent_at": row.sent_at.map(time), "confirmed_at": row.answered_at.map(time), "success": row.success,
        "error_message": row.error_message,
        "intended_commands": row.intended.iter().map(|command| &command.shell_command).collect::<Vec<_>>(),
        "reported_commands": row.reported, "differences": row.differences,
    })
}

/// A command without the program and its flags, so that intended and run ones can be compared at a glance.
fn bare(command: &str) -> String {
    let at = ["modify ", "list "].iter().filter_map(|verb| command.find(verb)).min().unwrap_or(0);
    command[at..].to_owned()
}

fn show(row: &DispatchRow, out: &Out) {
    let when = |what: &str, at: Option<chrono::DateTime<chrono::Utc>>| {
        at.map(|at| format!(", {what} {}", time(at))).unwrap_or_default()
    };
    out.text(format!(
        "{}  {}  {}: decided {}{}{}",
        row.dispatch,
        row.resource_name,
        row.status.as_str(),
        time(row.queued_at),
        when("sent", row.sent_at),
        when("answered", row.answered_at)
    ));
    let meant: Vec<String> =
        row.intended.iter().flat_map(|command| command.shell_command.split("; ").map(bare)).collect();
    let run: Vec<String> = row.reported.iter().flatten().map(|command| bare(command)).collect();
    let line = |n: usize| [meant.get(n).cloned().unwrap_or_default(), run.get(n).cloned().unwrap_or_default()];
    out.table(["meant", "run, as the agent says"], (0..meant.len().max(run.len())).map(line).collect());
    for difference in &row.differences {
        out.text(format!("  ! {difference}"));
    }
    if let Some(error) = row.error_message.as_ref().filter(|error| !error.is_empty()) {
        out.text(format!("  error: {error}"));
    }
    out.text("");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_from_its_verb_on() {
        assert_eq!(bare("sacctmgr --immediate modify account a set fairshare=1"), "modify account a set fairshare=1");
        assert_eq!(bare("/usr/bin/sacctmgr --parsable2 list account where account=a"), "list account where account=a");
        assert_eq!(bare("something else"), "something else");
    }
}
