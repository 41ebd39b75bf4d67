//! `sluice explain`: every term of a resource's standing, computed by the same decision as enforcement.

use clap::Args;

use super::output::{Out, amount, flags, percent, time};
use super::session::{CliError, Session};
use super::status::or_dash;
use crate::domain::carryover::CarryoverDetails;
use crate::operations::{ExplainedPolicy, Explanation};

/// Options of `explain`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: String,
}

pub(super) async fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    let resource = session.resource(&options.resource).await?;
    let explained = session.app.operations.explain(resource).await;
    let explained = explained.map_err(|error| CliError::because("the resource cannot be explained", error))?;
    out.json(&explained);
    if !out.is_json() {
        resource_lines(&explained, out);
        usage(&explained, out);
        for policy in &explained.policies {
            policy_lines(session, policy, out);
        }
        if explained.policies.is_empty() {
            out.text("\nno policy applies to it");
        }
        for policy in &explained.passed_by {
            out.text(format!("\npolicy {} does not apply: {}", policy.name, policy.reason));
        }
    }
    Ok(())
}

fn resource_lines(explained: &Explanation, out: &Out) {
    let facts = &explained.resource;
    let limits: Vec<String> = facts.limits.iter().map(|(name, limit)| format!("{name} {}", amount(*limit))).collect();
    let limits = if limits.is_empty() { "none of its own".to_owned() } else { limits.join(", ") };
    out.text(format!("{} ({}), account {}, {}", facts.slug, facts.name, facts.account(), facts.state.as_str()));
    out.text(format!("  id {}, created {}", facts.resource, time(facts.created)));
    out.text(format!("  limits: {limits}"));
    out.text(format!("  restricted: {}", flags(explained.flags)));
    for hold in &explained.holds {
        let end = hold.expires_at.map(|at| format!(" until {}", time(at))).unwrap_or_default();
        let ticket = hold.ticket.as_ref().map(|ticket| format!(", ticket {ticket}")).unwrap_or_default();
        let since = time(hold.placed_at);
        out.text(format!("  held by hand: {} since {since}{end}{ticket}: {}", hold.kind.as_str(), hold.reason));
    }
}

fn usage(explained: &Explanation, out: &Out) {
    let rows: Vec<[String; 3]> = explained
        .usage
        .iter()
        .flat_map(|(month, components)| {
            components.iter().map(|(name, term)| [month.to_string(), name.clone(), amount(term.amount)])
        })
        .collect();
    if rows.is_empty() {
        out.text("\nno usage was reported");
    } else {
        out.text("\nusage by month");
        out.table(["month", "component", "used"], rows);
    }
}

fn policy_lines(session: &Session, policy: &ExplainedPolicy, out: &Out) {
    let name = {
        let state = session.app.registry.read();
        state.policy(policy.policy).map(|p| p.facts.slug.clone()).filter(|slug| !slug.is_empty())
    };
    let name = name.unwrap_or_else(|| policy.policy.to_string());
    out.text(format!("\npolicy {name}, version {}, period {}", policy.version, policy.period));
    out.prose(format!("  {}", policy.sentence));
    let components = policy.components.iter().map(|(name, c)| {
        let source = c.base_source.map_or("-", |source| match source {
            crate::domain::evaluate::BaseSource::Resource => "the resource's limit",
            crate::domain::evaluate::BaseSource::Policy => "the policy",
        });
        [name.clone(), amount(c.used), or_dash(c.base), source.to_owned(), or_dash(c.effective), amount(c.weight)]
    });
    out.table(["component", "used", "base", "base from", "with carryover", "weight"], components.collect());
    out.text(format!(
        "  {} = {} of {} (weighted)",
        percent(policy.percentage),
        amount(policy.weighted_usage),
        amount(policy.weighted_allocation)
    ));
    if let Some(carryover) = &policy.carryover {
        carryover_lines(carryover, out);
    }
    let thresholds = policy.thresholds.iter().map(|t| {
        [
            percent(t.percent),
            amount(t.amount),
            t.effect.verb().to_owned(),
            if t.reached { "reached" } else { "-" }.to_owned(),
        ]
    });
    out.table(["threshold", "at", "does", "now"], thresholds.collect());
    out.text(format!("  held by this policy: {}", flags(policy.holds)));
}

fn carryover_lines(carryover: &CarryoverDetails, out: &Out) {
    if !carryover.carryover_applied {
        let reason = carryover.reason.and_then(|reason| serde_json::to_value(reason).ok());
        let reason = reason.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        out.text(format!("  carryover: none ({})", reason.replace('_', " ")));
        return;
    }
    let from = carryover.previous_period.map(|period| format!(" from {period}")).unwrap_or_default();
    out.text(format!("  carryover{from} by {}", carryover.formula));
    for (name, c) in &carryover.per_component {
        let terms = serde_json::to_value(c).unwrap_or_default();
        let terms: Vec<String> = terms
            .as_object()
            .into_iter()
            .flatten()
            .map(|(term, value)| {
                format!(
                    "{} {}",
                    term.replace('_', " "),
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                )
            })
            .collect();
        out.prose(format!("    {name}: {}", terms.join(", ")));
    }
    if let Some(note) = &carryover.note {
        out.prose(format!("    note: {note}"));
    }
}
