//! The rules of a policy in words.

use rust_decimal::Decimal;
use serde::Deserialize;

use super::Policy;
use crate::ui::problem::Problem;
use crate::ui::standing;
use crate::ui::visit::Visit;
use crate::ui::words;

#[derive(Deserialize)]
struct Group {
    uuid: String,
    name: String,
}

/// The last segment of an address of the API.
pub fn id_in(url: &str) -> &str {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn carryover(policy: &Policy) -> String {
    match (policy.carryover_enabled, policy.carryover_factor) {
        (false, _) => "nothing is carried over".to_owned(),
        (true, Some(factor)) => format!("unused amounts, at most {} of the base", words::rung(factor)),
        (true, None) => {
            let days = policy.fairshare_decay_half_life.normalize();
            format!("by decay: past usage loses half its weight in {days}{}days", words::NBSP)
        }
    }
}

fn counted(policy: &Policy) -> String {
    if !policy.tres_billing_enabled {
        return "components as they are, unweighted".to_owned();
    }
    let weights: Vec<String> = policy
        .tres_billing_weights
        .iter()
        .map(|(component, weight)| format!("{} {}", words::unit(component), weight.normalize()))
        .collect();
    if weights.is_empty() {
        "billing units, by the usual weights".to_owned()
    } else {
        format!("billing units: {}", weights.join(", "))
    }
}

/// Actions in words; `actions` has commas between them.
pub fn acts(actions: &str) -> String {
    let word = |action: &str| match action {
        "notify_organization_owners" => "tell owners",
        "notify_external_user" => "tell others by mail",
        "block_creation_of_new_resources" => "block new allocations",
        "request_slurm_resource_downscaling" => "slow down",
        "request_slurm_resource_pausing" => "pause",
        _ => "something else",
    };
    actions.split(',').map(word).collect::<Vec<_>>().join(", ")
}

fn rungs(policy: &Policy) -> String {
    let qos = |percent: Decimal| policy.progressive_thresholds.iter().find(|r| r.percent == percent)?.qos.clone();
    let rung = |(percent, effect): (Decimal, &str)| {
        let qos = qos(percent).map(|qos| format!(" ({qos})")).unwrap_or_default();
        format!("{} at {}{qos}", standing::effect(effect).word.to_lowercase(), words::rung(percent))
    };
    let all: Vec<String> = policy.rungs().into_iter().map(rung).collect();
    if all.is_empty() { "none: usage is counted and nothing follows".to_owned() } else { all.join(", ") }
}

/// The rules, each with its name.
pub async fn of(visit: &Visit, policy: &Policy) -> Result<Vec<(&'static str, String)>, Problem> {
    let limits: Vec<String> = policy
        .component_limits_set
        .iter()
        .map(|limit| format!("{} {}", words::amount(limit.limit, 2), words::unit(&limit.component)))
        .collect();
    let scope = if policy.apply_to_all {
        "every organisation".to_owned()
    } else {
        let groups = visit.api.list_if_allowed::<Group>("/api/organization-groups/?page_size=100").await?.rows;
        let name =
            |url: &String| groups.iter().find(|group| group.uuid == id_in(url)).map_or("a group", |g| g.name.as_str());
        format!("organisations in {}", policy.organization_groups.iter().map(name).collect::<Vec<_>>().join(", "))
    };
    let reset = if policy.raw_usage_reset { ", raw usage starts at 0 each period" } else { "" };
    Ok(vec![
        (
            "Period",
            if policy.period_name == "total" {
                "total, without an end".to_owned()
            } else {
                format!("{}, calendar", policy.period())
            },
        ),
        ("Rungs", rungs(policy)),
        ("Carryover", carryover(policy)),
        ("Limit", if limits.is_empty() { "each allocation's own".to_owned() } else { limits.join(", ") }),
        ("Counted in", counted(policy)),
        ("SLURM limit", format!("{}{reset}", policy.limit_type)),
        ("Applies to", scope),
        ("Acts", acts(&policy.actions)),
    ])
}
