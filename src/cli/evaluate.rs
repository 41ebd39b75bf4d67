//! `sluice evaluate_slurm_policy`: asks the running server to evaluate, does it in place, or says what it would do.

use clap::Args;
use serde_json::json;

use super::output::{Out, count, flags, percent, time};
use super::session::{CliError, Session};
use crate::domain::decimal::{number, rounded};
use crate::operations::EvaluateAnswer;

/// Options of `evaluate_slurm_policy`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The policy, by id or slug
    #[arg(long, value_name = "U")]
    policy: String,
    /// One resource, by id or slug; all in scope without it
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    /// Say what an evaluation would do; record nothing
    #[arg(long, alias = "dry_run", conflicts_with = "sync")]
    dry_run: bool,
    /// Evaluate here and now, and print the results
    #[arg(long)]
    sync: bool,
}

pub(super) async fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    let policy = session.policy(&options.policy)?;
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let operations = &session.app.operations;
    let failed = |error| CliError::because("the evaluation failed", error);
    if options.dry_run {
        let answer = operations.dry_run(policy, resource).await.map_err(failed)?;
        print(&answer, true, out);
        return Ok(());
    }
    if options.sync {
        let answer = operations.evaluate(policy, resource, &session.meta()).await.map_err(failed)?;
        session.settle().await?;
        print(&answer, false, out);
        return match answer.resources.iter().filter(|r| r.error.is_some()).count() {
            0 => Ok(()),
            n => Err(CliError::Failed(format!("{} could not be evaluated", count(n, "resource", "resources")))),
        };
    }
    let asked = session.app.registry_commands.request_evaluation(policy, resource, &session.meta()).await;
    let (request, _) = asked.map_err(|error| CliError::because("the request could not be recorded", error))?;
    let resources = match resource {
        Some(_) => 1,
        None => {
            session.app.registry.read().policy(policy).map_or(0, |p| session.app.registry.resources_in_scope(p).len())
        }
    };
    let served = session.is_served();
    out.json(&json!({
        "request": request,
        "policy_uuid": policy,
        "resource_uuid": resource,
        "resources": resources,
        "queued_at": time(session.now()),
        "server_running": served,
    }));
    out.text(format!("queued: request {request}, policy {policy}, {}", count(resources, "resource", "resources")));
    if !served {
        out.remark("no server runs on this database: the request waits for one (or use --sync)");
    }
    Ok(())
}

fn print(answer: &EvaluateAnswer, dry_run: bool, out: &Out) {
    let verbs =
        |r: &crate::operations::EvaluatedResource| r.actions_taken.iter().map(|v| v.as_str()).collect::<Vec<_>>();
    let resources: Vec<_> = answer
        .resources
        .iter()
        .map(|r| {
            json!({
                "resource_uuid": r.resource,
                "resource_name": r.name,
                "usage_percentage": number(rounded(r.percentage, 2)),
                if dry_run { "would_trigger" } else { "actions_taken" }: verbs(r),
                "previous_state": r.previous,
                "new_state": r.new,
                "explanation": r.explanation,
                "carryover_note": r.carryover_note,
                "error": r.error,
            })
        })
        .collect();
    out.json(&json!({
        "policy_uuid": answer.policy,
        "billing_period": answer.period,
        "grace_limit_percentage": number(answer.grace_limit_percentage),
        "dry_run": dry_run,
        "resources": resources,
    }));
    let rows = answer
        .resources
        .iter()
        .map(|r| {
            let verbs = verbs(r).join(", ");
            [
                r.name.clone(),
                percent(r.percentage),
                if verbs.is_empty() { "-".to_owned() } else { verbs },
                flags(r.previous).into_owned(),
                flags(r.new).into_owned(),
                r.error.as_ref().map_or_else(|| r.explanation.clone(), |error| format!("FAILED: {error}")),
            ]
        })
        .collect();
    let what = if dry_run { "would be" } else { "was" };
    out.text(format!(
        "policy {} {what} evaluated for {} on {}; pause limit {}",
        answer.policy,
        answer.period,
        count(answer.resources.len(), "resource", "resources"),
        percent(answer.grace_limit_percentage)
    ));
    if !answer.resources.is_empty() {
        out.table(
            ["resource", "usage", if dry_run { "would trigger" } else { "actions" }, "before", "after", "why"],
            rows,
        );
    }
    for resource in &answer.resources {
        if let Some(note) = &resource.carryover_note {
            out.text(format!("{}: {note}", resource.name));
        }
    }
}
