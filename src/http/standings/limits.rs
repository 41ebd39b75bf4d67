//! `…/preview-limits/`: the effect of new limits of an allocation before they are saved, term by term.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, entry};
use crate::app::App;
use crate::commands::allocation::Refusal;
use crate::commands::execute::CommandError;
use crate::directory::Principal;
use crate::domain::carryover::{CarryoverDetails, ComponentCarryover};
use crate::domain::ids::ResourceId;
use crate::domain::tres::Amounts;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields, sentence};
use crate::http::number::{Num, amounts};
use crate::http::policies::State;
use crate::http::resources::limits;
use crate::http::taken::LimitsInput;
use crate::http::visibility::Visibility;
use crate::operations::OperationError;
use crate::operations::what_if::{LimitsPreview, LimitsUnder, Terms};

/// New limits.
#[derive(Debug, ToSchema)]
#[schema(as = LimitsPreviewRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// The whole new set of limits by component.
    limits: LimitsInput,
}

/// Every term of one component's carryover; terms that the formula lacks are omitted.
#[derive(Debug, Serialize, ToSchema)]
pub struct CarryoverTerms {
    pub base: Num,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_base: Option<Num>,
    pub previous_usage: Num,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_factor: Option<Num>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_previous_usage: Option<Num>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused: Option<Num>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carryover_cap: Option<Num>,
    pub carryover: Num,
    pub total: Num,
}

impl From<&ComponentCarryover> for CarryoverTerms {
    fn from(terms: &ComponentCarryover) -> Self {
        Self {
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
}

/// How the carryover comes about.
#[derive(Debug, Serialize, ToSchema)]
pub struct CarryoverShown {
    /// The id of the formula in force, applied or not.
    pub formula: String,
    pub previous_period: Option<String>,
    /// Why nothing is carried over: `disabled`, `total_period`, `not_in_previous_period` or `no_allocation`.
    pub reason: Option<&'static str>,
    pub components: BTreeMap<String, CarryoverTerms>,
    /// A note, if the numbers alone would surprise.
    pub note: Option<String>,
}

impl From<&CarryoverDetails> for CarryoverShown {
    fn from(details: &CarryoverDetails) -> Self {
        Self {
            formula: details.formula.clone(),
            previous_period: details.previous_period.map(|period| period.to_string()),
            reason: details.reason.map(crate::domain::carryover::CarryoverReason::word),
            components: details
                .per_component
                .iter()
                .map(|(component, terms)| (component.clone(), terms.into()))
                .collect(),
            note: details.note.clone(),
        }
    }
}

/// An allocation under a policy at one of two times.
#[derive(Debug, Serialize, ToSchema)]
pub struct TermsShown {
    pub base: Num,
    pub carried_over: Num,
    pub may_use: Num,
    pub used: Num,
    pub usage_percentage: Num,
    /// Base by component.
    pub components: BTreeMap<String, Num>,
    pub carryover: Option<CarryoverShown>,
    /// What the policy holds.
    pub held: State,
    pub explanation: String,
}

impl From<&Terms> for TermsShown {
    fn from(terms: &Terms) -> Self {
        Self {
            base: Num(terms.base),
            carried_over: Num(terms.may_use - terms.base),
            may_use: Num(terms.may_use),
            used: Num(terms.used),
            usage_percentage: Num(terms.percentage),
            components: amounts(&terms.components),
            carryover: terms.carryover.as_ref().map(Into::into),
            held: terms.holds.into(),
            explanation: terms.explanation.clone(),
        }
    }
}

/// What new limits come to under one policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsUnderShown {
    pub policy_uuid: String,
    pub policy_slug: String,
    pub billing_period: String,
    pub now: TermsShown,
    pub then: TermsShown,
    /// What may be used then, less what may be used now.
    pub may_use_difference: Num,
    /// Percentages for which people would be told.
    #[schema(value_type = Vec<f64>)]
    pub notified: Vec<Num>,
}

/// A command that the agent would be told.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsCommand {
    /// `fairshare`, `limits`, `qos` or `reset_usage`.
    #[serde(rename = "type")]
    pub command_type: &'static str,
    pub description: String,
    pub shell_command: String,
}

/// What new limits of an allocation come to; nothing is recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsPreviewShown {
    pub resource_uuid: String,
    pub limits_now: BTreeMap<String, Num>,
    pub limits: BTreeMap<String, Num>,
    /// Restrictions now.
    pub now: State,
    /// Restrictions with the new limits.
    pub then: State,
    /// Under each policy that applies, oldest first.
    pub policies: Vec<LimitsUnderShown>,
    /// The commands that the agent would get.
    pub commands: Vec<LimitsCommand>,
}

fn shown(app: &App, resource: ResourceId, preview: LimitsPreview) -> LimitsPreviewShown {
    let state = app.registry.read();
    let under = |under: &LimitsUnder| LimitsUnderShown {
        policy_uuid: under.policy.to_string(),
        policy_slug: state.policy(under.policy).map(|p| p.facts.slug.clone()).unwrap_or_default(),
        billing_period: under.period.to_string(),
        now: (&under.now).into(),
        then: (&under.then).into(),
        may_use_difference: Num(under.then.may_use - under.now.may_use),
        notified: under.notified.iter().copied().map(Num).collect(),
    };
    let commands = preview.commands.into_iter().map(|command| LimitsCommand {
        command_type: command.command_type.wire_name(),
        description: command.description,
        shell_command: command.shell_command,
    });
    LimitsPreviewShown {
        resource_uuid: resource.to_string(),
        limits_now: amounts(&preview.limits_now),
        limits: amounts(&preview.limits),
        now: preview.now.into(),
        then: preview.then.into(),
        policies: preview.policies.iter().map(under).collect(),
        commands: commands.collect(),
    }
}

/// Refuses what is not seen, and what is seen and managed by others.
fn managed(app: &App, caller: &Principal, resource: ResourceId) -> Result<(), ApiError> {
    let entry = entry(app, caller, resource)?;
    let state = app.registry.read();
    let offering = state.offering(entry.offering).ok_or(ApiError::NotFound)?;
    Visibility::of(caller, &state).must_manage(offering.facts.facts.customer)
}

/// What new limits of an allocation come to, for those who may change them.
///
/// # Errors
/// There is no such allocation, somebody else manages it, or the limits are refused.
pub async fn preview(
    app: &App,
    caller: &Principal,
    resource: ResourceId,
    wanted: &Amounts,
) -> Result<LimitsPreviewShown, ApiError> {
    managed(app, caller, resource)?;
    match app.operations.preview_limits(resource, wanted).await {
        Ok(preview) => Ok(shown(app, resource, preview)),
        Err(OperationError::NotInScope(_)) => Err(ApiError::NotFound),
        Err(OperationError::Command(CommandError::Refused(
            refusal @ (Refusal::UnknownComponent { .. } | Refusal::AmountOutOfRange { .. } | Refusal::NotLive(_)),
        ))) => Err(ApiError::field("limits", sentence(&refusal.to_string()))),
        Err(other) => Err(other.into()),
    }
}

/// What new limits come to before they are saved: base, carryover and allocation term by term, restrictions, notices and
/// commands. Nothing is recorded.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/preview-limits/", tag = TAG,
    params(("uuid" = String, Path)), request_body = Request,
    responses((status = 200, body = LimitsPreviewShown), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn show(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    // Who may not know of it, or not change it, is told so before the body is looked at.
    managed(&ctx.app, &ctx.caller, resource)?;
    let wanted = fields.required("limits", limits);
    fields.check()?;
    let wanted = wanted.unwrap_or_default();
    ctx.one(StatusCode::OK, &preview(&ctx.app, &ctx.caller, resource, &wanted).await?)
}
