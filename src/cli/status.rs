//! `sluice slurm_policy_status`: the standing of policies and resources, optionally with the newest evaluations and
//! commands.

use clap::Args;
use serde_json::{Map, Value, json};

use super::account::{Seen, accounts};
use super::output::{Out, amount, flags, percent, time};
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use super::standings::{self, Chosen};
use crate::dispatch::DispatchError;
use crate::domain::decimal::number;
use crate::domain::ids::{CustomerId, PolicyId, ResourceId};
use crate::events::allocation::HoldPlaced;
use crate::operations::standings::AllocationStanding;
use crate::projections::status_summary::StandingLine;
use crate::projections::{Page, command_history, evaluation_log, status_summary};
use crate::reactions::holds_on;
use crate::scheduler::Upcoming;
use crate::store::sql::SqlError;

/// Resources that are listed per policy.
const RESOURCES_MAX: u32 = 100;

/// Options of `slurm_policy_status`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// One policy, by id or slug
    #[arg(long, value_name = "U")]
    policy: Option<String>,
    /// One resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    /// Show so many of the newest evaluations
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    logs: Option<u32>,
    /// Show so many of the newest commands
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    commands: Option<u32>,
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    paging: Paging,
}

struct Asked<'a> {
    policy: Option<PolicyId>,
    resource: Option<ResourceId>,
    customer: Option<CustomerId>,
    chosen: &'a Chosen,
}

pub(super) async fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    let policy = options.policy.as_deref().map(|name| session.policy(name)).transpose()?;
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let customer = standings::organisation(session, &options.chosen)?;
    let asked = Asked { policy, resource, customer, chosen: &options.chosen };
    let cannot = |error: SqlError| CliError::because("the read models cannot be read", error);
    let mut document = serde_json::Map::new();
    document.insert("policies".into(), policies(session, &asked, out).await.map_err(cannot)?);
    let page = options.paging.page(RESOURCES_MAX, out);
    let listed = resources(session, &asked, page, &mut document, out).await;
    listed.map_err(|error| CliError::because("the read models cannot be read", error))?;
    if resource.is_none() {
        let offering = policy.and_then(|id| session.app.registry.read().policy(id).map(|p| p.facts.offering));
        let left = super::left_restricted::beneath(session, offering, out).await;
        let left = left.map_err(|error| CliError::because("the outbox cannot be read", error))?;
        document.insert("accounts_left_restricted".into(), left);
    }
    if let Some(rows) = options.logs {
        let (newest, total) = logs(session, &asked, rows, out).await.map_err(cannot)?;
        document.insert("evaluation_logs".into(), newest);
        document.insert("evaluation_logs_count".into(), json!(total));
    }
    if let Some(rows) = options.commands {
        let (newest, total) = commands(session, &asked, rows, out).await.map_err(cannot)?;
        document.insert("commands".into(), newest);
        document.insert("commands_count".into(), json!(total));
    }
    document.insert("scheduled".into(), scheduled(session, out).await?);
    out.json(&document);
    Ok(())
}

/// The next due time, and the last outcome.
async fn scheduled(session: &Session, out: &Out) -> Result<Value, CliError> {
    let upcoming = session.app.scheduler.upcoming().await;
    let upcoming = upcoming.map_err(|error| CliError::because("the schedule cannot be read", error))?;
    let last = |job: &Upcoming| {
        let run = job.last_run.as_ref()?;
        let error = run.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        Some(format!("{} {}{error}", time(run.started_at), run.state.as_str()))
    };
    let rows = upcoming.iter().map(|job| {
        let next = job.next_due.map_or_else(|| "-".to_owned(), time);
        [job.job.name().to_owned(), next, last(job).unwrap_or_else(|| "never".to_owned())]
    });
    out.text("\nscheduled");
    out.table(["job", "next", "last"], rows.collect());
    if !session.is_served() {
        out.text("  no server runs on this database: nothing of it will happen");
    }
    let document = upcoming.iter().map(|job| {
        let state = job.last_run.as_ref().map(|run| run.state.as_str());
        let started = job.last_run.as_ref().map(|run| time(run.started_at));
        let error = job.last_run.as_ref().and_then(|run| run.error.clone());
        json!({
            "job": job.job.name(), "next_due": job.next_due.map(time), "last_started_at": started, "last_state": state,
            "last_error": error,
        })
    });
    Ok(Value::Array(document.collect()))
}

/// The data of a policy for a line of the table.
struct PolicyLine {
    id: PolicyId,
    name: String,
    offering: String,
    period: String,
    enabled: bool,
}

async fn policies(session: &Session, asked: &Asked<'_>, out: &Out) -> Result<Value, SqlError> {
    let mut lines: Vec<PolicyLine> = {
        let state = session.app.registry.read();
        let line = |p: &std::sync::Arc<crate::commands::allocation::PolicyInForce>| PolicyLine {
            id: p.id(),
            name: if p.facts.slug.is_empty() { p.id().to_string() } else { p.facts.slug.clone() },
            offering: state.offering(p.facts.offering).map(|o| o.facts.facts.slug.clone()).unwrap_or_default(),
            period: p.period.name().to_owned(),
            enabled: p.facts.terms.enabled,
        };
        state.policies().filter(|p| asked.policy.is_none_or(|id| id == p.id())).map(line).collect()
    };
    lines.sort_by(|one, other| (&one.offering, &one.name).cmp(&(&other.offering, &other.name)));
    let mut document = Vec::new();
    let mut rows = Vec::new();
    for line in lines {
        let status = status_summary::policy_status(&session.app.read, line.id).await?.unwrap_or_default();
        let over: Vec<String> =
            status.over_thresholds.iter().map(|(percent, n)| format!("{n} at {} %", percent.normalize())).collect();
        document.push(json!({
            "uuid": line.id, "name": line.name, "offering": line.offering, "period": line.period, "enabled": line.enabled,
            "resources_evaluated": status.resources_evaluated, "paused": status.paused, "downscaled": status.downscaled,
            "affected_resources_count": status.affected_resources_count, "has_fired": status.has_fired,
            "at_or_over_100": status.full,
            "over_thresholds": status.over_thresholds.iter().map(|(p, n)| json!({"percent": number(*p), "resources": n})).collect::<Vec<_>>(),
            "last_evaluated_at": status.last_evaluated_at.map(time),
            "site_agent_status": status.overall().as_str(),
        }));
        rows.push([
            line.name,
            line.offering,
            line.period,
            if line.enabled { "yes" } else { "no" }.to_owned(),
            status.resources_evaluated.to_string(),
            status.paused.to_string(),
            status.downscaled.to_string(),
            if over.is_empty() { "-".to_owned() } else { over.join(", ") },
            status.last_evaluated_at.map_or_else(|| "never".to_owned(), time),
            status.overall().as_str().to_owned(),
        ]);
    }
    if rows.is_empty() {
        out.text("there are no policies; `sluice apply -f site.yaml` makes them");
    } else {
        let header = [
            "policy",
            "offering",
            "period",
            "enabled",
            "resources",
            "paused",
            "slowed",
            "notified",
            "evaluated",
            "agent",
        ];
        out.table(header, rows);
    }
    Ok(Value::Array(document))
}

/// Lists the resources under policies, also in the document.
async fn resources(
    session: &Session,
    asked: &Asked<'_>,
    page: Page,
    document: &mut Map<String, Value>,
    out: &Out,
) -> Result<(), DispatchError> {
    let mut all = standings::chosen(session, (asked.policy, asked.resource), asked.chosen, asked.customer).await?;
    let total = all.len() as u64;
    let skip = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    let found: Vec<AllocationStanding> = all.drain(..).skip(skip).take(page.size as usize).collect();
    let listed = Shown::new(page, found.len(), total);
    let names = |id: PolicyId| {
        let state = session.app.registry.read();
        state.policy(id).map(|p| p.facts.slug.clone()).filter(|slug| !slug.is_empty()).unwrap_or_else(|| id.to_string())
    };
    let ids = || found.iter().map(|of| of.row.resource);
    let holds = holds_on(&session.app.read, ids()).await?;
    let reasons = evaluation_log::newest_reasons(&session.app.read, ids()).await?;
    let seen = accounts(session, &found).await?;
    let mut lines = Vec::with_capacity(found.len());
    for (of, seen) in found.iter().zip(&seen) {
        let Some(line) = &of.row.line else { continue };
        let why = reasons.get(&(line.policy, of.row.resource)).cloned();
        let why = why.unwrap_or_else(|| "its evaluations are older than the retention".to_owned());
        let by_hand = holds.get(&of.row.resource).cloned().unwrap_or_default();
        lines.push(Line { of, under: line, seen, why, by_hand });
    }
    document.insert("resources".into(), lines.iter().map(|line| line.json(session)).collect());
    listed.beside(document);
    if asked.chosen.outlook && !found.is_empty() {
        out.text("");
        standings::table(session, &found, out);
    } else if !lines.is_empty() {
        out.text("");
        let header =
            ["resource", "policy", "period", "usage", "restricted", "by hand", "evaluated", "agent", "account", "why"];
        out.table(header, lines.iter().map(|line| line.cells(names(line.under.policy))).collect());
        for line in &lines {
            for difference in &line.seen.account.differences {
                out.text(format!("! {}: {difference}", line.of.row.name));
            }
        }
    }
    if !out.is_json() {
        listed.tell("more", out);
    }
    Ok(())
}

/// An allocation under a policy, with the data to show.
struct Line<'a> {
    of: &'a AllocationStanding,
    under: &'a StandingLine,
    seen: &'a Seen,
    why: String,
    by_hand: Vec<HoldPlaced>,
}

impl Line<'_> {
    fn json(&self, session: &Session) -> Value {
        let (row, line) = (&self.of.row, self.under);
        let mut shown = standings::document(session, self.of);
        let stands = json!({
            "policy_uuid": line.policy, "resource_uuid": row.resource, "resource_name": row.name,
            "manual_holds": self.by_hand, "billing_period": line.period, "usage_percentage": line.percentage.map(number),
            "paused": row.flags.paused, "downscaled": row.flags.downscaled, "held_by_policy": line.held,
            "evaluated_at": time(line.evaluated_at), "site_agent_status": row.agent.as_str(), "why": self.why,
            "site": self.seen.json(),
        });
        if let Value::Object(stands) = stands {
            shown.extend(stands);
        }
        shown.into()
    }

    fn cells(&self, policy: String) -> [String; 10] {
        let (row, line) = (&self.of.row, self.under);
        [
            row.name.clone(),
            policy,
            line.period.map(|p| p.to_string()).unwrap_or_default(),
            line.percentage.map_or_else(|| "failed".to_owned(), percent),
            flags(row.flags).into_owned(),
            held_by_hand(&self.by_hand),
            time(line.evaluated_at),
            row.agent.as_str().to_owned(),
            self.seen.word(),
            self.why.clone(),
        ]
    }
}

async fn logs(session: &Session, asked: &Asked<'_>, rows: u32, out: &Out) -> Result<(Value, i64), SqlError> {
    let filter = evaluation_log::EvaluationFilter {
        policy: asked.policy,
        resource: asked.resource,
        ..evaluation_log::EvaluationFilter::default()
    };
    let (found, total) = evaluation_log::list(&session.app.read, &filter, Page::first(rows)).await?;
    let verbs = |row: &evaluation_log::EvaluationRow| row.verbs.iter().map(|v| v.as_str()).collect::<Vec<_>>();
    let document = found.iter().map(|row| {
        json!({
            "uuid": row.uuid, "evaluated_at": time(row.evaluated_at), "policy_uuid": row.policy,
            "resource_uuid": row.resource, "resource_name": row.resource_name, "billing_period": row.period,
            "usage_percentage": row.percentage.map(number), "actions_taken": verbs(row), "previous_state": row.before,
            "new_state": row.after, "outcome": row.outcome.as_str(), "explanation": row.explanation, "error": row.error,
        })
    });
    let document: Vec<Value> = document.collect();
    let table = found.iter().map(|row| {
        [
            time(row.evaluated_at),
            row.resource_name.clone(),
            row.period.to_string(),
            if row.verbs.is_empty() { "-".to_owned() } else { verbs(row).join(", ") },
            row.error.clone().unwrap_or_else(|| row.explanation.clone()),
        ]
    });
    out.text(format!("\nnewest evaluations, {} of {total}", found.len()));
    out.table(["evaluated", "resource", "period", "actions", "why"], table.collect());
    Ok((Value::Array(document), total))
}

async fn commands(session: &Session, asked: &Asked<'_>, rows: u32, out: &Out) -> Result<(Value, i64), SqlError> {
    let filter = command_history::CommandFilter {
        policy: asked.policy,
        resource: asked.resource,
        ..command_history::CommandFilter::default()
    };
    let (found, total) = command_history::list(&session.app.read, &filter, Page::first(rows)).await?;
    let document = found.iter().map(|row| {
        json!({
            "uuid": row.uuid, "queued_at": time(row.queued_at), "policy_uuid": row.policy, "resource_uuid": row.resource,
            "resource_name": row.resource_name, "billing_period": row.period, "shell_command": row.command.shell_command,
            "description": row.command.description, "status": row.status.as_str(), "success": row.success,
            "error_message": row.error_message, "reported": row.reported,
        })
    });
    let document: Vec<Value> = document.collect();
    let table = found.iter().map(|row| {
        [
            time(row.queued_at),
            row.resource_name.clone(),
            row.status.as_str().to_owned(),
            row.command.shell_command.clone(),
            row.error_message.clone().unwrap_or_default(),
        ]
    });
    out.text(format!("\nnewest commands, {} of {total}", found.len()));
    out.table(["queued", "resource", "status", "command", "error"], table.collect());
    Ok((Value::Array(document), total))
}

/// Manual holds in a few words.
fn held_by_hand(holds: &[HoldPlaced]) -> String {
    let shown = |hold: &HoldPlaced| match hold.expires_at {
        Some(end) => format!("{} until {}: {}", hold.kind.as_str(), time(end), hold.reason),
        None => format!("{}: {}", hold.kind.as_str(), hold.reason),
    };
    if holds.is_empty() { "-".to_owned() } else { holds.iter().map(shown).collect::<Vec<_>>().join("; ") }
}

/// An amount, or a dash.
pub(super) fn or_dash(value: Option<rust_decimal::Decimal>) -> String {
    value.map_or_else(|| "-".to_owned(), amount)
}
