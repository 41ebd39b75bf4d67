//! The agent's statements about a resource's account: class of service, limits read back, and whether it could be
//! updated.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::change::limits;
use super::{TAG, visible};
use crate::commands::allocation::AllocationCommand;
use crate::domain::ids::ResourceId;
use crate::domain::text::on_one_line;
use crate::domain::validation::FieldErrors;
use crate::events::allocation::ResourceState;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::json::Json as Given;
use crate::http::taken::EchoedLimitsInput;
use crate::registry::ResourceEntry;

/// Characters of an error that are kept as the reason.
const ERROR_CHARS_MAX: usize = 2_000;
/// Characters of a class of service.
const QOS_CHARS_MAX: usize = 255;

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceResponse {
    status: &'static str,
}

fn done(status: &'static str) -> Response {
    (StatusCode::OK, Json(ResourceResponse { status })).into_response()
}

/// A resource of the caller's offering.
fn own(ctx: &Context, resource: ResourceId) -> Result<ResourceEntry, ApiError> {
    let entry = visible(ctx, resource)?;
    if ctx.visibility().reports_for(entry.offering) { Ok(entry) } else { Err(ApiError::Forbidden) }
}

async fn carry_out(ctx: &Context, resource: ResourceId, command: &AllocationCommand, why: Option<String>) -> ApiResult {
    let executed = ctx.app.allocations.execute(resource, command, &ctx.meta(why)).await?;
    ctx.visible(executed.position).await;
    Ok(done("accepted"))
}

/// What the agent saw of an account.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct BackendMetadata {
    /// Its class of service.
    #[schema(max_length = 255)]
    qos: Option<String>,
}

/// What the agent found on the account.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct BackendMetadataRequest {
    /// `{"qos": …}`; other keys are read and not kept.
    backend_metadata: BackendMetadata,
}

/// The class of service in the metadata, if they say it; empty where the account has none.
fn qos(value: &Given) -> Result<Option<String>, String> {
    match fields::object(value)?.get("qos") {
        None => Ok(None),
        Some(Given::Null) => Ok(Some(String::new())),
        Some(qos) => fields::maybe_words(QOS_CHARS_MAX)(qos).map(Some).map_err(|message| format!("qos: {message}")),
    }
}

/// Say which class of service the account has. It is evidence, and changes nothing.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/set_backend_metadata/", tag = TAG,
    params(("uuid" = String, Path)), request_body = BackendMetadataRequest,
    responses((status = 200, body = ResourceResponse), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn set_backend_metadata(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    own(&ctx, resource)?;
    let qos = fields.required("backend_metadata", qos).flatten();
    fields.check()?;
    match qos {
        Some(qos) => carry_out(&ctx, resource, &AllocationCommand::ConfirmQos { qos }, None).await,
        None => Ok(done("nothing was said of the class of service")),
    }
}

/// Limits as the agent reads them back.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct LimitsEchoRequest {
    /// By component.
    limits: EchoedLimitsInput,
}

/// Report limits read back from SLURM. They are kept as evidence; the ordered limits do not change.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/set_limits/", tag = TAG,
    params(("uuid" = String, Path)), request_body = LimitsEchoRequest,
    responses((status = 200, body = ResourceResponse), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn set_limits(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    own(&ctx, resource)?;
    let given = fields.required("limits", limits);
    fields.check()?;
    let Some(given) = given else { return Err(ApiError::NotFound) };
    carry_out(&ctx, resource, &AllocationCommand::EchoLimits(given), None).await
}

/// Say that the resource's account was looked after. When that was last is kept, to ten minutes.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/refresh_last_sync/", tag = TAG,
    params(("uuid" = String, Path)),
    responses((status = 200, body = ResourceResponse), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn refresh_last_sync(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    own(&ctx, resource)?;
    carry_out(&ctx, resource, &AllocationCommand::NoteSync, None).await
}

/// Why a resource could not be brought up to date.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ErredRequest {
    /// What went wrong; kept as the reason.
    error_message: Option<String>,
    /// Read and not kept.
    error_traceback: Option<String>,
}

/// What went wrong, on one line and not too long.
fn error_message(fields: &mut Fields) -> Option<String> {
    let text = fields.nullable("error_message", fields::raw_text).flatten()?;
    Some(on_one_line(&text, ERROR_CHARS_MAX)).filter(|text| !text.is_empty())
}

fn refuse_gone(state: ResourceState) -> Result<(), ApiError> {
    if state.is_live() {
        return Ok(());
    }
    let message = format!("The resource is {}; its state does not change any more.", state.as_str());
    Err(ApiError::Invalid(FieldErrors::one("non_field_errors", message)))
}

/// Say that the resource is as it should be again.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/set_as_ok/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = ResourceResponse), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn set_as_ok(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    refuse_gone(own(&ctx, resource)?.state)?;
    carry_out(&ctx, resource, &AllocationCommand::ChangeState(ResourceState::Ok), None).await
}

/// Say that the resource could not be brought up to date. Its settings wait until it is as it should be.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/set_as_erred/", tag = TAG,
    params(("uuid" = String, Path)), request_body = ErredRequest,
    responses((status = 200, body = ResourceResponse), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn set_as_erred(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    refuse_gone(own(&ctx, resource)?.state)?;
    let why = error_message(&mut fields);
    fields.check()?;
    carry_out(&ctx, resource, &AllocationCommand::ChangeState(ResourceState::Erred), why).await
}
