//! Evaluates a policy, previews that, or forces a period reset: for staff, on all resources or one.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::TAG;
use crate::domain::decimal::rounded;
use crate::domain::evaluate::{Flags, Verb};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::http::context::{Body, Context, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::number::Num;
use crate::http::taken::IdInput;
use crate::operations::{EvaluateAnswer, EvaluatedResource, OperationError};

/// Digits of percentages that are shown.
const PERCENT_DECIMALS: u32 = 2;

/// What an evaluation is asked for.
#[derive(Debug, ToSchema)]
#[schema(as = EvaluateRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EvaluateRequest {
    /// One resource; all in scope without it.
    resource_uuid: Option<IdInput>,
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// Two flags of a resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct State {
    /// New jobs are stopped.
    pub paused: bool,
    /// Slowed down.
    pub downscaled: bool,
}

impl From<Flags> for State {
    fn from(flags: Flags) -> Self {
        Self { paused: flags.paused, downscaled: flags.downscaled }
    }
}

/// One resource of a dry run.
#[derive(Debug, Serialize, ToSchema)]
pub struct DryRunResource {
    resource_uuid: String,
    resource_name: String,
    usage_percentage: Num,
    /// As it is now.
    paused: bool,
    /// As it is now.
    downscaled: bool,
    /// `pause`, `downscale`, `notify`.
    would_trigger: Vec<&'static str>,
    /// As it would be.
    new_state: State,
    explanation: String,
    /// In words: carryover after a period in which more was used than allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    carryover_note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What an evaluation would do now.
#[derive(Debug, Serialize, ToSchema)]
pub struct DryRun {
    policy_uuid: String,
    billing_period: String,
    grace_limit_percentage: Num,
    resources: Vec<DryRunResource>,
}

/// One resource of an evaluation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceResult {
    resource_uuid: String,
    resource_name: String,
    usage_percentage: Num,
    /// `pause`, `downscale`, `notify`.
    actions_taken: Vec<&'static str>,
    previous_state: State,
    new_state: State,
    explanation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What an evaluation did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Evaluation {
    policy_uuid: String,
    billing_period: String,
    grace_limit_percentage: Num,
    resources: Vec<ResourceResult>,
}

fn words(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

fn dry(result: EvaluatedResource) -> DryRunResource {
    DryRunResource {
        resource_uuid: result.resource.to_string(),
        resource_name: result.name,
        usage_percentage: Num(rounded(result.percentage, PERCENT_DECIMALS)),
        paused: result.previous.paused,
        downscaled: result.previous.downscaled,
        would_trigger: words(&result.actions_taken),
        new_state: result.new.into(),
        explanation: result.explanation,
        carryover_note: result.carryover_note,
        error: result.error,
    }
}

fn done(result: EvaluatedResource) -> ResourceResult {
    ResourceResult {
        resource_uuid: result.resource.to_string(),
        resource_name: result.name,
        usage_percentage: Num(result.percentage),
        actions_taken: words(&result.actions_taken),
        previous_state: result.previous.into(),
        new_state: result.new.into(),
        explanation: result.explanation,
        error: result.error,
    }
}

fn evaluation(answer: EvaluateAnswer) -> Evaluation {
    Evaluation {
        policy_uuid: answer.policy.to_string(),
        billing_period: answer.period.to_string(),
        grace_limit_percentage: Num(answer.grace_limit_percentage),
        resources: answer.resources.into_iter().map(done).collect(),
    }
}

/// The resource asked for, if one is, and the reason.
fn read(fields: &mut Fields) -> Result<(Option<ResourceId>, Option<String>), ApiError> {
    let resource = fields.nullable("resource_uuid", fields::uuid).flatten().map(ResourceId::from);
    let reason = reason(fields);
    fields.check()?;
    Ok((resource, reason))
}

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::NoSuchPolicy(_) => Self::NotFound,
            OperationError::NotInScope(_) => {
                Self::field("resource_uuid", "Resource not found, or the policy does not apply to it.")
            }
            OperationError::Command(error) => error.into(),
            OperationError::Follow(_) => Self::internal(error),
        }
    }
}

/// What an evaluation would do now; nothing is recorded.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/dry-run/", tag = TAG,
    params(("uuid" = String, Path)), request_body = EvaluateRequest,
    responses((status = 200, body = DryRun), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
pub async fn dry_run(ctx: Context, Id(policy): Id<PolicyId>, Body(mut fields): Body) -> ApiResult {
    super::visible(&ctx, policy)?;
    let (resource, _) = read(&mut fields)?;
    let answer = ctx.app.operations.dry_run(policy, resource).await?;
    let shown = DryRun {
        policy_uuid: answer.policy.to_string(),
        billing_period: answer.period.to_string(),
        grace_limit_percentage: Num(answer.grace_limit_percentage),
        resources: answer.resources.into_iter().map(dry).collect(),
    };
    ctx.one(StatusCode::OK, &shown)
}

/// Evaluate now, and record it.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/evaluate/", tag = TAG,
    params(("uuid" = String, Path)), request_body = EvaluateRequest,
    responses((status = 200, body = Evaluation), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
pub async fn evaluate(ctx: Context, Id(policy): Id<PolicyId>, Body(mut fields): Body) -> ApiResult {
    super::visible(&ctx, policy)?;
    let (resource, reason) = read(&mut fields)?;
    let answer = ctx.app.operations.evaluate(policy, resource, &ctx.meta(reason)).await?;
    ctx.visible(answer.position).await;
    ctx.one(StatusCode::OK, &evaluation(answer))
}

/// Re-evaluate restricted resources that are below 100 %.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/force-period-reset/", tag = TAG,
    params(("uuid" = String, Path)), request_body = EvaluateRequest,
    responses((status = 200, body = Evaluation), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
pub async fn force_period_reset(ctx: Context, Id(policy): Id<PolicyId>, Body(mut fields): Body) -> ApiResult {
    super::visible(&ctx, policy)?;
    let (resource, reason) = read(&mut fields)?;
    let answer = ctx.app.operations.force_period_reset(policy, resource, &ctx.meta(reason)).await?;
    ctx.visible(answer.position).await;
    ctx.one(StatusCode::OK, &evaluation(answer))
}
