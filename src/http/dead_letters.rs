//! `/api/dead-letters/`: dispatches that are not sent again by themselves, and a way to have them sent again.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Body, Context, Id, reason};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::paging::{Page, PageParams, listed};
use crate::dispatch::{DeadLetter, DispatchError};
use crate::domain::ids::DispatchId;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Support, routes!(list)).add(Access::Staff, routes!(resend))
}

/// A dispatch that is not sent again by itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct Shown {
    dispatch_uuid: String,
    resource_uuid: String,
    resource_name: String,
    offering_uuid: String,
    policy_uuid: String,
    /// `no_answer`, `failed` or `refused`.
    #[schema(value_type = String)]
    reason: crate::dispatch::DeadLetterReason,
    /// What was said last.
    error: Option<String>,
    queued_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    /// How often it was sent again.
    resends: u64,
}

impl From<DispatchError> for ApiError {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Command(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

async fn shown(ctx: &Context, letter: DeadLetter) -> Result<Shown, ApiError> {
    let book = ctx.app.allocations.book(letter.resource).await?;
    Ok(Shown {
        dispatch_uuid: letter.dispatch.to_string(),
        resource_uuid: letter.resource.to_string(),
        resource_name: book.facts.name.clone(),
        offering_uuid: letter.offering.to_string(),
        policy_uuid: letter.policy.to_string(),
        reason: letter.reason,
        error: letter.error,
        queued_at: letter.queued_at,
        sent_at: letter.sent_at,
        resends: letter.resends,
    })
}

/// Dispatches that are not sent again by themselves, oldest first.
#[utoipa::path(get, path = "/api/dead-letters/", tag = "Agents", params(PageParams),
    responses((status = 200, body = [Shown]), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let rows = page.of_rows()?;
    let (letters, total) = ctx.app.publisher.dead_letters(rows.size, rows.offset().unsigned_abs()).await?;
    let page = page.within(total)?;
    let mut list = Vec::with_capacity(letters.len());
    for letter in letters {
        list.push(shown(&ctx, letter).await?);
    }
    listed(&ctx, page, total, &list)
}

/// Have a dispatch sent again that was given up, failed or unanswered.
#[utoipa::path(post, path = "/api/dead-letters/{uuid}/resend/", tag = "Agents", params(("uuid" = String, Path)),
    request_body = std::collections::BTreeMap<String, String>,
    responses((status = 202, body = ErrorDetail), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn resend(ctx: Context, Id(dispatch): Id<DispatchId>, Body(mut fields): Body) -> ApiResult {
    let why = reason(&mut fields);
    fields.check()?;
    let asked = ctx.app.publisher.resend(dispatch, &ctx.meta(why)).await?;
    let Some((_, position)) = asked else { return Err(ApiError::NotFound) };
    ctx.visible(position).await;
    ctx.one(StatusCode::ACCEPTED, &json!({ "detail": "It is sent again." }))
}
