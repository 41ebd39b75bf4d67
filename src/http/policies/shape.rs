//! A policy as the API shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::commands::allocation::PolicyInForce;
use crate::commands::registry::policy_stream;
use crate::domain::policy::Action;
use crate::events::dispatch::AgentMessage;
use crate::events::registry::{PolicyFacts, Scope};
use crate::http::context::Context;
use crate::http::error::ApiError;
use crate::http::number::Num;
use crate::projections::status_summary;

/// The allocation of a component.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComponentLimit {
    /// Component type.
    #[serde(rename = "type")]
    pub component_type: String,
    /// Its limit per period.
    pub limit: Num,
}

/// A rung of a progressive policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressiveThreshold {
    /// Percent at which it takes effect.
    pub percent: Num,
    /// `notify`, `downscale` or `pause`.
    pub effect: &'static str,
    /// Name of the class of service for the commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
}

/// What a policy decides by, in one version of it.
#[expect(clippy::struct_excessive_bools, reason = "the wire has them one by one")]
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyRules)]
pub struct Rules {
    /// Action names with commas between them.
    pub actions: String,
    /// Options by action.
    pub options: BTreeMap<String, Value>,
    /// Whether it applies to every organisation.
    pub apply_to_all: bool,
    /// Addresses of the organization groups that it applies to otherwise.
    pub organization_groups: Vec<String>,
    /// Allocations where a resource sets none.
    pub component_limits_set: Vec<ComponentLimit>,
    /// 1 total, 2 month, 3 quarter, 4 year.
    pub period: u8,
    /// `GrpTRESMins`, `MaxTRESMins` or `GrpTRES`.
    pub limit_type: &'static str,
    /// Whether usage counts in billing units.
    pub tres_billing_enabled: bool,
    /// Weights by component; empty for the customary ones.
    pub tres_billing_weights: BTreeMap<String, Num>,
    /// Days in which past usage loses half its weight.
    pub fairshare_decay_half_life: Num,
    /// Whether anything is carried over.
    pub carryover_enabled: bool,
    /// Cap of the carryover in percent; null for the decaying formula.
    pub carryover_factor: Option<Num>,
    /// Which allocation past usage is compared with: `previous`, that of the previous period at its end, or `current`.
    pub carryover_base: &'static str,
    /// How far above 100 % the pause limit lies.
    pub grace_ratio: Num,
    /// Percent at which people are told; a list if there are several.
    #[schema(value_type = crate::http::taken::NoticeThresholds)]
    pub notification_threshold: Value,
    /// Whether raw usage is reset at a period boundary.
    pub raw_usage_reset: bool,
    /// `threshold` or `progressive`.
    pub qos_strategy: &'static str,
    /// Rungs of a progressive policy.
    pub progressive_thresholds: Vec<ProgressiveThreshold>,
    /// Whether it is in force.
    pub enabled: bool,
}

impl Rules {
    /// The rules that facts stand for; `options` are shown as they are given.
    pub fn of(ctx: &Context, facts: &PolicyFacts, options: BTreeMap<String, Value>) -> Self {
        let terms = &facts.terms;
        let (apply_to_all, organization_groups) = scope_of(ctx, &facts.scope);
        let notification: Vec<Value> =
            terms.notification_thresholds.iter().map(|t| crate::domain::decimal::number(*t)).collect();
        Self {
            actions: Action::list_to_string(&terms.actions),
            options,
            apply_to_all,
            organization_groups,
            component_limits_set: terms
                .component_limits
                .iter()
                .map(|(c, limit)| ComponentLimit { component_type: c.clone(), limit: Num(*limit) })
                .collect(),
            period: terms.period.code(),
            limit_type: terms.limit_type.wire_name(),
            tres_billing_enabled: terms.tres_billing_enabled,
            tres_billing_weights: terms.tres_billing_weights.iter().map(|(c, w)| (c.clone(), Num(*w))).collect(),
            fairshare_decay_half_life: Num(terms.fairshare_decay_half_life),
            carryover_enabled: terms.carryover_enabled,
            carryover_factor: terms.carryover_factor.map(Num),
            carryover_base: terms.base_of_carryover().wire_name(),
            grace_ratio: Num(terms.grace_ratio),
            notification_threshold: match notification.as_slice() {
                [one] => one.clone(),
                several => several.into(),
            },
            raw_usage_reset: terms.raw_usage_reset,
            qos_strategy: terms.qos_strategy.wire_name(),
            progressive_thresholds: terms
                .progressive_thresholds
                .iter()
                .map(|r| ProgressiveThreshold { percent: Num(r.percent), effect: r.effect.verb(), qos: r.qos.clone() })
                .collect(),
            enabled: terms.enabled,
        }
    }
}

/// A SLURM periodic usage policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct Policy {
    /// 32 hex digits.
    pub uuid: String,
    /// Address of the policy.
    pub url: String,
    /// Short name; empty for policies made without one.
    pub slug: String,
    /// Address of the offering.
    pub scope: String,
    /// Name of the offering.
    pub scope_name: String,
    /// Id of the offering.
    pub scope_uuid: String,
    /// What it decides by. The period is the one in force, which the offering's components may set.
    #[serde(flatten)]
    pub rules: Rules,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Who created it.
    pub created_by_full_name: Option<String>,
    /// Who created it.
    pub created_by_username: Option<String>,
    /// Whether a resource in scope is at or above a threshold of one of the actions.
    pub has_fired: bool,
    /// Since when; the time of creation while it has not.
    pub fired_datetime: DateTime<Utc>,
    /// Resources that the policy restricts now.
    pub affected_resources_count: i64,
    /// The period in words.
    pub period_name: &'static str,
    /// Counts the changes.
    pub version: u64,
    /// Settings that are allowed but probably unintended.
    pub warnings: Vec<String>,
}

/// Who made a policy, as far as the directory still knows.
async fn creator(ctx: &Context, policy: &PolicyInForce) -> Result<(Option<String>, Option<String>), ApiError> {
    let first = ctx.app.store.read_stream(&policy_stream(policy.id()), 0, 1).await?;
    let Some(id) = first.first().and_then(|event| event.metadata.actor.id) else { return Ok((None, None)) };
    let user = ctx.app.directory.user(id.into()).await.map_err(ApiError::internal)?;
    Ok(user.map_or((None, None), |user| (Some(user.full_name), Some(user.username))))
}

/// The options as they were sent; addresses for staff and for those who may change them.
pub async fn options(ctx: &Context, facts: &PolicyFacts, addresses: bool) -> Result<BTreeMap<String, Value>, ApiError> {
    let mut options = facts.options.clone();
    let ids: Vec<_> = facts.external_recipients.iter().copied().collect();
    if addresses && !ids.is_empty() {
        let known = ctx.app.directory.addresses(&ids).await.map_err(ApiError::internal)?;
        options.insert(Action::NotifyExternalUser.wire_name().to_owned(), known.join(",").into());
    }
    Ok(options)
}

fn scope_of(ctx: &Context, scope: &Scope) -> (bool, Vec<String>) {
    match scope {
        Scope::All => (true, Vec::new()),
        Scope::Groups(groups) => (false, groups.iter().map(|g| ctx.url("organization-groups", g)).collect()),
    }
}

/// Shows a policy.
pub async fn show(ctx: &Context, policy: &Arc<PolicyInForce>) -> Result<Policy, ApiError> {
    let facts = &policy.facts;
    let (offering, addresses) = {
        let state = ctx.app.registry.read();
        let offering = state.offering(facts.offering).map(|o| Arc::clone(&o.facts)).ok_or(ApiError::NotFound)?;
        let visibility = ctx.visibility_in(&state);
        let addresses = visibility.manages(offering.facts.customer);
        (offering, addresses)
    };
    let (created_by_full_name, created_by_username) = creator(ctx, policy).await?;
    let status = status_summary::policy_status(&ctx.app.read, policy.id()).await?.unwrap_or_default();
    let rules = Rules::of(ctx, facts, options(ctx, facts, addresses).await?);
    Ok(Policy {
        uuid: policy.id().to_string(),
        url: ctx.url(super::COLLECTION, policy.id()),
        slug: facts.slug.clone(),
        scope: ctx.url("marketplace-provider-offerings", facts.offering),
        scope_name: offering.facts.name.clone(),
        scope_uuid: facts.offering.to_string(),
        rules: Rules { period: policy.period.code(), ..rules },
        created: policy.created,
        created_by_full_name,
        created_by_username,
        has_fired: status.has_fired,
        fired_datetime: status.fired_at.filter(|_| status.has_fired).unwrap_or(policy.created),
        affected_resources_count: status.affected_resources_count,
        period_name: policy.period.name(),
        version: policy.version,
        warnings: [warnings(policy, &offering.mapping, &offering.facts.qos), unheard(ctx, policy)].concat(),
    })
}

/// What no agent will hear of.
fn unheard(ctx: &Context, policy: &PolicyInForce) -> Vec<String> {
    let offering = policy.facts.offering;
    let nobody_takes = |message| ctx.app.publisher.queues_for(offering, message).is_empty();
    let restricts =
        policy.facts.terms.actions.iter().any(|a| matches!(a, Action::RequestDownscaling | Action::RequestPausing));
    if nobody_takes(AgentMessage::Settings) {
        vec![
            "No agent has registered a queue for the settings of this offering: what is decided is kept, and goes out \
             when one does."
                .to_owned(),
        ]
    } else if restricts && nobody_takes(AgentMessage::Resource) {
        vec![
            "The agent of this offering does not listen to changes of resources (its membership synchronisation is off): \
             limits and fairshare reach SLURM, QoS does not."
                .to_owned(),
        ]
    } else {
        Vec::new()
    }
}

fn warnings(
    policy: &PolicyInForce,
    mapping: &BTreeMap<String, crate::domain::tres::TresMapping>,
    qos: &crate::domain::qos::QosNames,
) -> Vec<String> {
    let terms = &policy.facts.terms;
    let mut warnings = terms.warnings(mapping, qos);
    warnings.extend(terms.base_warning(policy.period));
    if terms.period != policy.period {
        warnings.push(format!(
            "The offering's components count by {}, which wins over the policy's own period ({}).",
            policy.period.name(),
            terms.period.name()
        ));
    }
    let distinct: BTreeSet<String> = warnings.iter().cloned().collect();
    warnings.retain({
        let mut left = distinct;
        move |warning| left.remove(warning)
    });
    warnings
}
