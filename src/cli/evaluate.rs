//! `sluice evaluate_slurm_policy`: asks the running server to evaluate, evaluates in place, or shows the result of a
//! dry run.

use clap::Args;
use serde_json::{Value, json};

use super::output::{Out, chain, count, flags, percent, time};
use super::session::{CliError, Session};
use crate::commands::allocation::PolicyInForce;
use crate::domain::decimal::{number, rounded};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::operations::EvaluateAnswer;

/// Options of `evaluate_slurm_policy`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The policy, by id or slug; all enabled ones without it
    #[arg(long, value_name = "U")]
    policy: Option<String>,
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
    session.settle().await?;
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let policies = match &options.policy {
        Some(name) => vec![session.policy(name)?],
        None => policies(session, resource)?,
    };
    let (mut documents, mut failed, mut first) = (Vec::new(), 0, None);
    for policy in policies {
        let done = if options.dry_run || options.sync {
            evaluate(session, policy, resource, options.dry_run, out).await
        } else {
            ask(session, policy, resource, out).await
        };
        match done {
            Ok((document, unevaluated)) => {
                documents.push(document);
                failed += unevaluated;
            }
            // What goes wrong with one policy keeps none of the others waiting.
            Err(error) if options.policy.is_none() => {
                out.remark(format!("policy {policy}: {}", chain(&error)));
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    if options.policy.is_some() {
        for document in &documents {
            out.json(document);
        }
    } else {
        out.json(&json!({ "policies": documents }));
    }
    if !options.dry_run && !options.sync && !session.is_served() {
        out.remark("no server runs on this database: the request waits for one (or use --sync)");
    }
    match (first, failed) {
        (Some(_), _) => Err(CliError::Failed("not every policy could be evaluated".to_owned())),
        (None, 0) => Ok(()),
        (None, n) => Err(CliError::Failed(format!("{} could not be evaluated", count(n, "resource", "resources")))),
    }
}

/// The enabled policies: all of them, or those that apply to a resource.
fn policies(session: &Session, resource: Option<ResourceId>) -> Result<Vec<PolicyId>, CliError> {
    let state = session.app.registry.read();
    let entry = resource.and_then(|id| state.resource(id));
    let applies = |policy: &PolicyInForce| {
        policy.facts.terms.enabled
            && entry.is_none_or(|e| e.offering == policy.facts.offering && state.in_scope(policy, e.customer))
    };
    let mut found: Vec<_> = state.policies().filter(|policy| applies(policy)).collect();
    found.sort_by_key(|policy| (policy.facts.offering, policy.facts.slug.clone(), policy.id()));
    if found.is_empty() {
        let what =
            if resource.is_some() { "no enabled policy applies to the resource" } else { "no policy is enabled" };
        return Err(CliError::Failed(what.to_owned()));
    }
    Ok(found.into_iter().map(|policy| policy.id()).collect())
}

/// Evaluates a policy immediately, or as a dry run. Returns the document and the number of failed resources.
async fn evaluate(
    session: &Session,
    policy: PolicyId,
    resource: Option<ResourceId>,
    dry_run: bool,
    out: &Out,
) -> Result<(Value, usize), CliError> {
    let operations = &session.app.operations;
    let answer = if dry_run {
        operations.dry_run(policy, resource).await
    } else {
        operations.evaluate(policy, resource, &session.meta()).await
    };
    let answer = answer.map_err(|error| CliError::because("the evaluation failed", error))?;
    if !dry_run {
        session.settle().await?;
    }
    let failed = if dry_run { 0 } else { answer.resources.iter().filter(|r| r.error.is_some()).count() };
    Ok((print(&answer, dry_run, out), failed))
}

/// Asks the running server to evaluate a policy.
async fn ask(
    session: &Session,
    policy: PolicyId,
    resource: Option<ResourceId>,
    out: &Out,
) -> Result<(Value, usize), CliError> {
    let asked = session.app.registry_commands.request_evaluation(policy, resource, &session.meta()).await;
    let (request, _) = asked.map_err(|error| CliError::because("the request could not be recorded", error))?;
    let resources = match resource {
        Some(_) => 1,
        None => {
            session.app.registry.read().policy(policy).map_or(0, |p| session.app.registry.resources_in_scope(p).len())
        }
    };
    out.text(format!("queued: request {request}, policy {policy}, {}", count(resources, "resource", "resources")));
    let document = json!({
        "request": request,
        "policy_uuid": policy,
        "resource_uuid": resource,
        "resources": resources,
        "queued_at": time(session.now()),
        "server_running": session.is_served(),
    });
    Ok((document, 0))
}

/// Prints what became of a policy's resources, and gives the same as a document.
fn print(answer: &EvaluateAnswer, dry_run: bool, out: &Out) -> Value {
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
    let document = json!({
        "policy_uuid": answer.policy,
        "billing_period": answer.period,
        "grace_limit_percentage": number(answer.grace_limit_percentage),
        "dry_run": dry_run,
        "resources": resources,
    });
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
    out.prose(format!(
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
    document
}
