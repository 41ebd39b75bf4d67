//! Manual holds: an operator pauses, slows down or exempts a resource, with a reason; no policy releases a manual hold.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{TAG, managed, visible};
use crate::clock::IdSource;
use crate::commands::allocation::AllocationCommand;
use crate::domain::ids::{HoldId, ResourceId};
use crate::events::allocation::{HoldKind, HoldPlaced};
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields;
use crate::http::paging::{Page, PageParams, listed, paged};
use crate::http::reference::parse_uuid;
use crate::http::taken::{HoldKindInput, InstantInput};
use crate::reactions::manual_holds;

/// A manual hold in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hold {
    uuid: String,
    resource_uuid: String,
    /// `pause`, `downscale` or `exemption`.
    kind: &'static str,
    /// Why; for those who offer the resource, and for its people where it is public.
    reason: Option<String>,
    ticket: Option<String>,
    public: bool,
    placed_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

/// A hold to place.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct HoldRequest {
    /// `pause`, `downscale` (or `slowdown`) or `exemption` (lifts every restriction).
    kind: HoldKindInput,
    /// Why.
    #[schema(min_length = 1, max_length = 2_000)]
    reason: String,
    /// Ticket that it refers to.
    #[schema(min_length = 1, max_length = 255)]
    ticket: Option<String>,
    /// When it ends by itself.
    expires_at: Option<InstantInput>,
    /// Whether the people of the resource may read reason and ticket; `false` without it.
    #[schema(nullable = false)]
    public: Option<bool>,
}

/// A hold as those see it who offer the resource, or, from the outside, its people.
fn show(resource: ResourceId, hold: &HoldPlaced, inside: bool) -> Hold {
    let told = inside || hold.public;
    Hold {
        uuid: hold.hold.to_string(),
        resource_uuid: resource.to_string(),
        kind: hold.kind.as_str(),
        reason: told.then(|| hold.reason.clone()),
        ticket: hold.ticket.clone().filter(|_| told),
        public: hold.public,
        placed_at: hold.placed_at,
        expires_at: hold.expires_at,
    }
}

/// Manual holds in force on a resource.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/{uuid}/holds/", tag = TAG,
    params(("uuid" = String, Path), PageParams),
    responses((status = 200, body = [Hold]), (status = 404, body = ErrorDetail)))]
pub async fn list(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    let entry = visible(&ctx, resource)?;
    let inside = ctx.visibility().offering_id(entry.offering, &ctx.app.registry.read());
    let book = ctx.app.allocations.book(resource).await?;
    paged(&ctx, book.holds.clone(), |hold| show(resource, &hold, inside))
}

/// Manual holds in force on all resources, oldest first.
#[utoipa::path(get, path = "/api/manual-holds/", tag = TAG,
    params(PageParams, ("resource_uuid" = Option<String>, Query, description = "Only on this resource"),
        ("kind" = Option<String>, Query, description = "`pause`, `downscale` or `exemption`")),
    responses((status = 200, body = [Hold], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 403, body = ErrorDetail)))]
pub async fn list_all(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let kind = ctx.query.read("kind", "pause, downscale, exemption", HoldKind::parse)?;
    let resource = ctx.query.uuid("resource_uuid")?;
    let (rows, total) = manual_holds(&ctx.app.read, resource, kind, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.iter().map(|(on, hold)| show(*on, hold, true)).collect::<Vec<_>>())
}

/// Place a manual hold.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/holds/", tag = TAG,
    params(("uuid" = String, Path)), request_body = HoldRequest,
    responses((status = 201, body = Hold), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn place(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    managed(&ctx, resource)?;
    let kind = fields.required("kind", fields::choice(HoldKind::parse, "pause, downscale, exemption"));
    let reason = fields.required("reason", fields::words(2_000));
    let ticket = fields.nullable("ticket", fields::words(255)).flatten();
    let expires_at = fields.nullable("expires_at", fields::instant).flatten();
    let public = fields.optional("public", fields::boolean).unwrap_or_default();
    fields.check()?;
    let (Some(kind), Some(reason)) = (kind, reason) else { return Err(ApiError::NotFound) };
    let hold = HoldId::from(IdSource.fresh());
    // What follows from the hold is recorded with the same reason, and people read that.
    let meta = ctx.meta(Some(reason.clone()).filter(|_| public));
    let command = AllocationCommand::PlaceHold { hold, kind, reason, ticket, expires_at, public };
    let executed = ctx.app.allocations.execute(resource, &command, &meta).await?;
    ctx.visible(executed.position).await;
    let placed = executed.book.holds.iter().find(|placed| placed.hold == hold).ok_or(ApiError::NotFound)?;
    ctx.one(StatusCode::CREATED, &show(resource, placed, true))
}

/// The hold in the path.
pub struct HoldInPath(HoldId);

impl axum::extract::FromRequestParts<crate::http::ApiState> for HoldInPath {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &crate::http::ApiState,
    ) -> Result<Self, Self::Rejection> {
        let params = axum::extract::RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::NotFound)?;
        let text = params.iter().find(|(name, _)| *name == "hold_uuid").map(|(_, value)| value);
        text.and_then(parse_uuid).map(|id: Uuid| Self(id.into())).ok_or(ApiError::NotFound)
    }
}

/// End a manual hold.
#[utoipa::path(delete, path = "/api/marketplace-provider-resources/{uuid}/holds/{hold_uuid}/", tag = TAG,
    params(("uuid" = String, Path), ("hold_uuid" = String, Path),
        ("reason" = Option<String>, Query, description = "Reason, recorded with the event")),
    responses((status = 204), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn release(ctx: Context, Id(resource): Id<ResourceId>, HoldInPath(hold): HoldInPath) -> ApiResult {
    managed(&ctx, resource)?;
    let meta = ctx.meta(ctx.query.get("reason").map(str::to_owned));
    let command = AllocationCommand::ReleaseHold { hold, expired: false };
    let executed = ctx.app.allocations.execute(resource, &command, &meta).await?;
    ctx.visible(executed.position).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
