//! The status of a policy over its resources, and whether another resource may be created.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::TAG;
use super::run::State;
use super::site::SiteStatus;
use crate::domain::decimal::rounded;
use crate::domain::ids::{CustomerId, OfferingId, PolicyId};
use crate::domain::period::{Period, site_date};
use crate::domain::policy::Action;
use crate::events::allocation::HoldPlaced;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::REQUIRED;
use crate::http::left_restricted::Shown as LeftRestricted;
use crate::http::number::Num;
use crate::http::paging::{Page, PageParams, RESULT_COUNT};
use crate::projections::site_answers::{self, Disagreements};
use crate::projections::status_summary::{self, OwnerStatus, StatusFilter, StatusRow};
use crate::reactions::holds_on;
use crate::site_settings::BlockCreationScope;

/// Accounts left restricted that a status names.
const LEFT_MAX: u32 = 100;

/// Numbers over the resources of a policy, each counted once.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counts {
    resources_evaluated: i64,
    paused: i64,
    downscaled: i64,
    affected_resources_count: i64,
    has_fired: bool,
    fired_resources: i64,
    at_or_above_100: i64,
    /// Resources at or above each notification threshold, by percent.
    over_thresholds: BTreeMap<String, i64>,
    /// All resources in one word: the status that needs somebody first.
    agent_status: &'static str,
    /// Resources by the agent's result for their newest commands.
    agent: BTreeMap<&'static str, i64>,
    last_evaluated_at: Option<DateTime<Utc>>,
    /// Resources of the offering on which other commands ran than intended.
    commands_differ: i64,
    /// Resources of the offering whose account has, according to the site, another class of service than intended.
    qos_differs: i64,
    /// Resources of the offering whose limits in SLURM are not those that were sent.
    limits_differ: i64,
    /// Resources of the offering whose settings are confirmed, while the site never reported the account's class of
    /// service: SLURM may not know the account at all.
    qos_unknown: i64,
}

impl From<OwnerStatus> for Counts {
    fn from(status: OwnerStatus) -> Self {
        Self {
            agent_status: status.overall().as_str(),
            resources_evaluated: status.resources_evaluated,
            paused: status.paused,
            downscaled: status.downscaled,
            affected_resources_count: status.affected_resources_count,
            has_fired: status.has_fired,
            fired_resources: status.fired_resources,
            at_or_above_100: status.full,
            over_thresholds: status.over_thresholds.iter().map(|(p, n)| (p.normalize().to_string(), *n)).collect(),
            agent: status.agent.iter().map(|(status, n)| (status.as_str(), *n)).collect(),
            last_evaluated_at: status.last_evaluated_at,
            commands_differ: 0,
            qos_differs: 0,
            limits_differ: 0,
            qos_unknown: 0,
        }
    }
}

impl Counts {
    fn with(self, found: Disagreements) -> Self {
        Self {
            commands_differ: found.commands,
            qos_differs: found.qos,
            limits_differ: found.limits,
            qos_unknown: found.unknown,
            ..self
        }
    }
}

/// One resource under a policy.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own in the answer")]
#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceStatus {
    resource_uuid: String,
    resource_name: String,
    customer_uuid: String,
    billing_period: Option<String>,
    usage_percentage: Option<Num>,
    paused: bool,
    downscaled: bool,
    /// What of it is this policy's doing.
    held: State,
    has_fired: bool,
    evaluated_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<DateTime<Utc>>,
    /// `not_needed`, `queued`, `sent`, `confirmed`, `failed` or `no_answer`.
    agent_status: &'static str,
    /// Nobody knows whether the last reset of raw usage was carried out.
    reset_unconfirmed: bool,
    /// Manual holds in force on it, which no policy releases.
    manual_holds: Vec<HeldByHand>,
    /// The site's view of the account compared with the intended one.
    site: SiteStatus,
}

/// A manual hold, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeldByHand {
    uuid: String,
    /// `pause`, `downscale` or `exemption`.
    kind: &'static str,
    /// Why; for those who see the policy, and for the people of the resource where it is public.
    reason: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl HeldByHand {
    /// With its reason for those inside, and where it is public.
    pub fn of(hold: &HoldPlaced, inside: bool) -> Self {
        let reason = (inside || hold.public).then(|| hold.reason.clone());
        Self { uuid: hold.hold.to_string(), kind: hold.kind.as_str(), reason, expires_at: hold.expires_at }
    }
}

impl ResourceStatus {
    fn of(row: &StatusRow, holds: &[HoldPlaced], inside: bool, site: SiteStatus) -> Self {
        Self {
            site,
            resource_uuid: row.resource.to_string(),
            resource_name: row.resource_name.clone(),
            customer_uuid: row.customer.to_string(),
            billing_period: row.period.map(|p| p.to_string()),
            usage_percentage: row.percentage.map(|p| Num(rounded(p, 2))),
            paused: row.flags.paused,
            downscaled: row.flags.downscaled,
            held: row.held.into(),
            has_fired: row.fired,
            evaluated_at: row.evaluated_at,
            failed_at: row.failed_at,
            agent_status: row.agent.as_str(),
            reset_unconfirmed: false,
            manual_holds: holds.iter().map(|hold| HeldByHand::of(hold, inside)).collect(),
        }
    }
}

/// The status of a policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    policy_uuid: String,
    billing_period: String,
    /// Over all resources; for those who see the policy.
    #[serde(flatten)]
    counts: Option<Counts>,
    /// Accounts of the offering that SLURM may still restrict though their resource ended or has another account, the newest
    /// hundred, with the command that frees each; for those who see the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts_left_restricted: Option<Vec<LeftRestricted>>,
    /// A page of the resources that the caller may see.
    resources: Vec<ResourceStatus>,
}

/// The status of a policy, with a page of its resources.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/status/", tag = TAG,
    params(("uuid" = String, Path), PageParams,
        ("resource_uuid" = Option<String>, Query, description = "Only this resource"),
        ("restricted" = Option<bool>, Query, description = "Only resources that the policy restricts, or only others")),
    responses((status = 200, body = Status), (status = 404, body = ErrorDetail)))]
pub async fn status(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let customers = super::logs::rows_for(&ctx, policy).await?;
    let known = ctx.app.registry.read().policy(policy).cloned().ok_or(ApiError::NotFound)?;
    let offering = known.facts.offering;
    let names = ctx.app.registry.read().offering(offering).map(|o| o.facts.facts.qos.clone()).unwrap_or_default();
    let counts = match &customers {
        None => {
            let status = status_summary::policy_status(&ctx.app.read, policy).await?.unwrap_or_default();
            let found = site_answers::disagreements(&ctx.app.read, offering, &names).await?;
            Some(Counts::from(status).with(found))
        }
        Some(_) => None,
    };
    let inside = customers.is_none();
    let left = match &customers {
        None => Some(LeftRestricted::of(&ctx.app, Some(offering), (LEFT_MAX, 0)).await?.0),
        Some(_) => None,
    };
    let filter = StatusFilter {
        policy: Some(policy),
        resource: ctx.query.uuid("resource_uuid")?,
        customers,
        restricted: ctx.query.boolean("restricted")?,
    };
    let page = Page::of(&ctx.query)?;
    let (rows, total) = status_summary::list(&ctx.app.read, &filter, page.of_rows()?).await?;
    page.within(total.unsigned_abs())?;
    let on_page = || rows.iter().map(|row| row.resource);
    let answers = site_answers::of_resources(&ctx.app.read, on_page()).await?;
    let holds = holds_on(&ctx.app.read, on_page()).await?;
    let told = ctx.app.publisher.told(on_page()).await?;
    let unconfirmed = ctx.app.publisher.resets_unconfirmed(on_page()).await?;
    let today = site_date(ctx.app.clock.now(), ctx.app.allocations.rules().zone);
    let mut resources = Vec::with_capacity(rows.len());
    for row in &rows {
        let told = told.get(&row.resource).copied();
        let site = SiteStatus::of((row.flags, row.agent), answers.get(&row.resource), told, &names);
        let reset_unconfirmed = unconfirmed.contains(&row.resource);
        let holds = holds.get(&row.resource).map(Vec::as_slice).unwrap_or_default();
        resources.push(ResourceStatus { reset_unconfirmed, ..ResourceStatus::of(row, holds, inside, site) });
    }
    let shown = Status {
        policy_uuid: policy.to_string(),
        billing_period: Period::containing(known.period, today).to_string(),
        counts,
        accounts_left_restricted: left,
        resources,
    };
    let mut response = ctx.one(StatusCode::OK, &shown)?;
    response.headers_mut().insert(RESULT_COUNT, HeaderValue::from(total));
    Ok(response)
}

/// Whether a further resource may be created.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CreationAllowed {
    /// Whether it may.
    pub allowed: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The policy that forbids it.
    pub policy_uuid: Option<String>,
}

/// Whether `customer` may get a further resource of `offering`, by the policies on it or by one of them.
pub async fn creation_allowed(
    ctx: &Context,
    offering: OfferingId,
    policy: Option<PolicyId>,
    customer: CustomerId,
) -> Result<CreationAllowed, ApiError> {
    let (blocking, names) = {
        let state = ctx.app.registry.read();
        let mut blocking = state.applying(offering, customer);
        blocking
            .retain(|p| p.facts.terms.actions.contains(&Action::BlockCreation) && policy.is_none_or(|id| id == p.id()));
        let offering = state.offering(offering).map(|o| o.facts.facts.name.clone());
        let customer = state.customer(customer).map(|c| c.facts.name.clone());
        (blocking, (offering.unwrap_or_default(), customer.unwrap_or_default()))
    };
    let anybody = ctx.app.settings.current().block_creation_scope == BlockCreationScope::Offering;
    for policy in blocking {
        let whose = (!anybody).then_some(customer);
        let used_up = status_summary::at_limit(&ctx.app.read, policy.id().as_uuid(), whose).await?;
        if used_up > 0 {
            let (offering, customer) = &names;
            let whose = if anybody { "The offering".to_owned() } else { customer.clone() };
            let resources = if used_up == 1 { "1 resource".to_owned() } else { format!("{used_up} resources") };
            let reason = format!(
                "{whose} has {resources} of {offering} at or above 100 % of the allocation; no further one is created until that changes."
            );
            return Ok(CreationAllowed {
                allowed: false,
                reason: Some(reason),
                policy_uuid: Some(policy.id().to_string()),
            });
        }
    }
    Ok(CreationAllowed { allowed: true, reason: None, policy_uuid: None })
}

/// The organisation that a question about an offering is about: one that the caller sees, or that uses the offering.
pub fn asked_customer(ctx: &Context, offering: OfferingId) -> Result<CustomerId, ApiError> {
    let customer = ctx.query.uuid("customer_uuid")?.ok_or_else(|| ApiError::field("customer_uuid", REQUIRED))?;
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let uses = || state.resources().any(|(_, entry)| entry.offering == offering && entry.customer == customer);
    let known =
        state.customer(customer).is_some_and(|c| !c.facts.retired && (visibility.customer(&c.facts, &state) || uses()));
    if known { Ok(customer) } else { Err(ApiError::field("customer_uuid", "There is no such customer.")) }
}

/// Whether a customer may get a further resource, as far as this policy is concerned.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/creation-allowed/", tag = TAG,
    params(("uuid" = String, Path), ("customer_uuid" = String, Query, description = "The customer")),
    responses((status = 200, body = CreationAllowed), (status = 400, body = ErrorFields), (status = 404, body = ErrorDetail)))]
pub async fn policy_creation_allowed(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let known = super::visible(&ctx, policy)?;
    let customer = asked_customer(&ctx, known.facts.offering)?;
    ctx.one(StatusCode::OK, &creation_allowed(&ctx, known.facts.offering, Some(policy), customer).await?)
}
