//! Changes of a resource: limits, name, account; and its termination.

use axum::http::StatusCode;
use utoipa::ToSchema;

use super::shape::Resource;
use super::{TAG, free_account, managed, one};
use crate::commands::allocation::{AllocationCommand, Refusal};
use crate::commands::execute::CommandError;
use crate::domain::ids::ResourceId;
use crate::domain::tres::Amounts;
use crate::events::allocation::ResourceState;
use crate::http::context::{Body, Context, Id, ReasonRequest, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields, sentence};
use crate::http::fields;
use crate::http::json::Json;
use crate::http::registry::{NAME_CHARS_MAX, same_names};
use crate::http::taken::LimitsInput;
use crate::operations::AccountClaim;

/// Changes of a resource.
#[derive(Debug, ToSchema)]
#[schema(as = PatchedResourceRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// The whole new set of limits by component.
    #[schema(nullable = false)]
    limits: Option<LimitsInput>,
    /// Display name.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    name: Option<String>,
    /// The SLURM account.
    #[schema(max_length = 255, nullable = false)]
    backend_id: Option<String>,
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// Reads limits by component.
pub fn limits(value: &Json) -> Result<Amounts, String> {
    Ok(fields::numbers_by_name(value)?.into_iter().map(|(component, limit)| (component, limit.normalize())).collect())
}

fn refused(error: CommandError) -> ApiError {
    match error {
        CommandError::Refused(
            refusal @ (Refusal::UnknownComponent { .. } | Refusal::AmountOutOfRange { .. } | Refusal::NotLive(_)),
        ) => ApiError::field("limits", sentence(&refusal.to_string())),
        other => other.into(),
    }
}

/// Change limits, name or account of a resource.
#[utoipa::path(patch, path = "/api/marketplace-provider-resources/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    request_body = Request,
    responses((status = 200, body = Resource), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn change(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    managed(&ctx, resource)?;
    let book = ctx.app.allocations.book(resource).await?;
    same_names(&mut fields, &book.facts.slug, resource.as_uuid());
    let limits = fields.optional("limits", limits);
    let name = fields.optional("name", fields::words(NAME_CHARS_MAX));
    let backend_id = fields.optional("backend_id", fields::maybe_words(255));
    let meta = ctx.meta(reason(&mut fields));
    fields.check()?;
    let facts = &book.facts;
    let claim = AccountClaim {
        resource,
        offering: facts.offering,
        backend_id: backend_id.clone().unwrap_or_else(|| facts.backend_id.clone()),
        name: name.clone().unwrap_or_else(|| facts.name.clone()),
    };
    // Another account, by either of the two fields; what has ended has none.
    let _alone = if claim.account() != facts.account() && facts.state.is_live() {
        let alone = ctx.app.registering().await?;
        free_account(&ctx, claim).await?;
        Some(alone)
    } else {
        None
    };
    let mut position = None;
    // Limits first: they are what can be refused, and then nothing is half done.
    if let Some(limits) = limits {
        let executed = ctx.app.allocations.execute(resource, &AllocationCommand::ChangeLimits(limits), &meta).await;
        position = position.max(executed.map_err(refused)?.position);
    }
    if name.is_some() || backend_id.is_some() {
        let command = AllocationCommand::ChangeDetails { name, backend_id };
        let executed = ctx.app.allocations.execute(resource, &command, &meta).await?;
        position = position.max(executed.position);
    }
    ctx.visible(position).await;
    ctx.one(StatusCode::OK, &one(&ctx, resource).await?)
}

/// End a resource: policies no longer apply, its history stays.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/terminate/", tag = TAG, params(("uuid" = String, Path)),
    request_body = ReasonRequest,
    responses((status = 200, body = Resource), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn terminate(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    managed(&ctx, resource)?;
    let meta = ctx.meta(reason(&mut fields));
    fields.check()?;
    let command = AllocationCommand::ChangeState(ResourceState::Terminated);
    let executed = ctx.app.allocations.execute(resource, &command, &meta).await?;
    ctx.visible(executed.position).await;
    ctx.one(StatusCode::OK, &one(&ctx, resource).await?)
}
