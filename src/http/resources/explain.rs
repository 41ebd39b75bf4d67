//! `…/explain/` of a resource: every term of its current standing, computed by the same decision as enforcement.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, visible};
use crate::domain::carryover::{CarryoverDetails, ComponentCarryover};
use crate::domain::evaluate::BaseSource;
use crate::domain::ids::ResourceId;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiResult, ErrorDetail};
use crate::http::number::Num;
use crate::operations::{ExplainedComponent, ExplainedPolicy, ExplainedThreshold, Explanation, PassedBy};

/// The usage of a month, and its report.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageTermShown {
    month: String,
    #[serde(rename = "type")]
    component_type: String,
    usage: Num,
    /// The event that recorded it.
    event_uuid: String,
}

/// One component of an explanation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComponentTermsShown {
    #[serde(rename = "type")]
    component_type: String,
    used: Num,
    /// Base allocation of one period; null without a limit.
    base: Option<Num>,
    /// `resource` or `policy`: whose limit it is.
    base_source: Option<&'static str>,
    /// Base and carryover together.
    may_use: Option<Num>,
    /// Weight in the sums.
    weight: Num,
}

/// How one component's carryover came about.
#[derive(Debug, Serialize, ToSchema)]
pub struct CarriedTermShown {
    #[serde(rename = "type")]
    component_type: String,
    base: Num,
    previous_base: Option<Num>,
    previous_usage: Num,
    decay_factor: Option<Num>,
    effective_previous_usage: Option<Num>,
    unused: Option<Num>,
    carryover_cap: Option<Num>,
    carryover: Num,
    total: Num,
}

/// Whether and how something was carried over.
#[derive(Debug, Serialize, ToSchema)]
pub struct CarryoverTermsShown {
    applied: bool,
    /// `disabled`, `total_period`, `not_in_previous_period` or `no_allocation`; null if it was applied.
    reason: Option<&'static str>,
    /// The formula and its version, such as `capped_unused/1`.
    formula: String,
    previous_period: Option<String>,
    components: Vec<CarriedTermShown>,
    /// A note for people, if the numbers alone would surprise them.
    note: Option<String>,
}

/// A rung of the policy's ladder.
#[derive(Debug, Serialize, ToSchema)]
pub struct RungTermShown {
    percent: Num,
    amount: Num,
    /// `notify`, `downscale` or `pause`.
    effect: &'static str,
    reached: bool,
}

/// A resource under one policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyTermsShown {
    policy_uuid: String,
    policy_version: u64,
    billing_period: String,
    usage_percentage: Num,
    /// Weighted usage.
    used: Num,
    /// Weighted effective allocation.
    may_use: Num,
    components: Vec<ComponentTermsShown>,
    carryover: Option<CarryoverTermsShown>,
    thresholds: Vec<RungTermShown>,
    /// It in one sentence.
    explanation: String,
}

/// A policy on the offering that leaves the resource alone.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotAppliedShown {
    policy_uuid: String,
    name: String,
    reason: &'static str,
}

/// Every term of a resource's current standing.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedResource {
    resource_uuid: String,
    /// By month and component, oldest first.
    usage: Vec<UsageTermShown>,
    /// Policies that apply, oldest first.
    policies: Vec<PolicyTermsShown>,
    /// Policies of the offering that do not; for those who see them.
    not_applied: Vec<NotAppliedShown>,
}

fn component((name, terms): (String, ExplainedComponent)) -> ComponentTermsShown {
    ComponentTermsShown {
        component_type: name,
        used: Num(terms.used),
        base: terms.base.map(Num),
        base_source: terms.base_source.map(|source| match source {
            BaseSource::Resource => "resource",
            BaseSource::Policy => "policy",
        }),
        may_use: terms.effective.map(Num),
        weight: Num(terms.weight),
    }
}

fn carried((name, terms): (&String, &ComponentCarryover)) -> CarriedTermShown {
    CarriedTermShown {
        component_type: name.clone(),
        base: Num(terms.base),
        previous_base: terms.previous_base.map(Num),
        previous_usage: Num(terms.previous_usage),
        decay_factor: terms.decay_factor.map(Num),
        effective_previous_usage: terms.effective_previous_usage.map(Num),
        unused: terms.unused.map(Num),
        carryover_cap: terms.carryover_cap.map(Num),
        carryover: Num(terms.carryover),
        total: Num(terms.total),
    }
}

fn carryover(details: &CarryoverDetails) -> CarryoverTermsShown {
    CarryoverTermsShown {
        applied: details.carryover_applied,
        reason: details.reason.map(crate::domain::carryover::CarryoverReason::word),
        formula: details.formula.clone(),
        previous_period: details.previous_period.map(|period| period.to_string()),
        components: details.per_component.iter().map(carried).collect(),
        note: details.note.clone(),
    }
}

fn rung(threshold: &ExplainedThreshold) -> RungTermShown {
    let ExplainedThreshold { percent, amount, effect, reached } = threshold;
    RungTermShown { percent: Num(*percent), amount: Num(*amount), effect: effect.verb(), reached: *reached }
}

fn policy(policy: ExplainedPolicy) -> PolicyTermsShown {
    PolicyTermsShown {
        policy_uuid: policy.policy.to_string(),
        policy_version: policy.version,
        billing_period: policy.period.to_string(),
        usage_percentage: Num(policy.percentage),
        used: Num(policy.weighted_usage),
        may_use: Num(policy.weighted_allocation),
        components: policy.components.into_iter().map(component).collect(),
        carryover: policy.carryover.as_ref().map(carryover),
        thresholds: policy.thresholds.iter().map(rung).collect(),
        explanation: policy.sentence,
    }
}

fn shown(explained: Explanation, inside: bool) -> ExplainedResource {
    let usage = explained.usage.iter().flat_map(|(month, components)| {
        components.iter().map(|(name, term)| UsageTermShown {
            month: month.to_string(),
            component_type: name.clone(),
            usage: Num(term.amount),
            event_uuid: term.report.to_string(),
        })
    });
    let not_applied =
        |p: PassedBy| NotAppliedShown { policy_uuid: p.policy.to_string(), name: p.name, reason: p.reason };
    ExplainedResource {
        resource_uuid: explained.resource.resource.to_string(),
        usage: usage.collect(),
        policies: explained.policies.into_iter().map(policy).collect(),
        not_applied: explained.passed_by.into_iter().filter(|_| inside).map(not_applied).collect(),
    }
}

/// Every term of a resource's current standing under each of its policies: usage by month, limits, carryover, rungs.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/{uuid}/explain/", tag = TAG,
    params(("uuid" = String, Path)),
    responses((status = 200, body = ExplainedResource), (status = 404, body = ErrorDetail)))]
pub async fn show(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    let entry = visible(&ctx, resource)?;
    let explained = ctx.app.operations.explain(resource).await?;
    let inside = ctx.visibility().offering_id(entry.offering, &ctx.app.registry.read());
    ctx.one(StatusCode::OK, &shown(explained, inside))
}
