//! `/api/notices/`: notices to people and other programs: pending, sent and undeliverable.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::number::Num;
use super::paging::{Page, PageParams, listed};
use crate::domain::ids::{NoticeId, UserId};
use crate::notify::{NoticeFilter, NoticeRow, NoticeState};

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::Support, routes!(list))
        .add(Access::Staff, routes!(resend_all))
        .add(Access::Staff, routes!(resend))
}

/// One notice to one recipient.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoticeEntry {
    /// The id of its message, once assembled; use it to resend.
    uuid: Option<String>,
    /// `owed`, `sent` or `failed`.
    state: &'static str,
    /// `mail` or `webhook`.
    channel: &'static str,
    /// `threshold_reached`, `slowed_down`, `paused`, `restored` or `command_failed`.
    template: &'static str,
    /// Thresholds (percent) that it tells of.
    #[schema(value_type = Vec<f64>)]
    thresholds: Vec<Num>,
    /// A user or an address of the directory, or a webhook endpoint.
    recipient_uuid: String,
    /// The user's or the endpoint's name; empty for addresses and users that were erased.
    recipient_name: String,
    /// Why they: `owner`, `external` (an address in a policy's options) or `endpoint`.
    via: String,
    resource_uuid: String,
    customer_uuid: String,
    policy_uuid: Option<String>,
    /// The event that calls for it.
    event_uuid: String,
    occurred_at: DateTime<Utc>,
    attempts: u32,
    /// On the machine's clock.
    next_attempt_at: Option<DateTime<Utc>>,
    /// What went wrong last, free of addresses.
    error: Option<String>,
}

/// How many notices are owed again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Resent {
    resent: u64,
}

fn entry(row: &NoticeRow, name: String) -> NoticeEntry {
    NoticeEntry {
        uuid: row.notice.map(|id| id.to_string()),
        state: row.state.as_str(),
        channel: row.channel.as_str(),
        template: row.template.as_str(),
        thresholds: row.thresholds.iter().map(|percent: &Decimal| Num(*percent)).collect(),
        recipient_uuid: row.recipient.to_string(),
        recipient_name: name,
        via: row.via.clone(),
        resource_uuid: row.resource.to_string(),
        customer_uuid: row.customer.to_string(),
        policy_uuid: row.policy.map(|id| id.to_string()),
        event_uuid: row.cause.to_string(),
        occurred_at: row.occurred_at,
        attempts: row.attempts,
        next_attempt_at: row.next_attempt_at,
        error: row.error.clone(),
    }
}

/// Notices of the last 90 days, newest first.
#[utoipa::path(get, path = "/api/notices/", tag = "Notices",
    params(PageParams, ("state" = Option<String>, Query, description = "`owed`, `sent` or `failed`"),
        ("resource_uuid" = Option<String>, Query)),
    responses((status = 200, body = [NoticeEntry], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let filter = NoticeFilter {
        state: ctx.query.read("state", "owed, sent, failed", NoticeState::parse)?,
        resource: ctx.query.uuid("resource_uuid")?,
        limit: u32::try_from(page.size).unwrap_or(u32::MAX),
        offset: page.offset(),
    };
    let total = ctx.app.notifier.count(&filter).await.map_err(ApiError::internal)?;
    let page = page.within(total)?;
    let rows = ctx.app.notifier.list(&filter).await.map_err(ApiError::internal)?;
    let ids: Vec<UserId> = rows.iter().map(|row| row.recipient).collect();
    let users = ctx.app.directory.users(&ids).await.map_err(ApiError::internal)?;
    let endpoint = |id| ctx.app.notifier.endpoint(id).map(str::to_owned);
    let name = |id| users.get(id).map(|user| user.username.clone()).or_else(|| endpoint(*id)).unwrap_or_default();
    listed(&ctx, page, total, &rows.iter().map(|row| entry(row, name(&row.recipient))).collect::<Vec<_>>())
}

/// Send again everything that was given up.
#[utoipa::path(post, path = "/api/notices/resend/", tag = "Notices",
    responses((status = 200, body = Resent), (status = 403, body = ErrorDetail)))]
async fn resend_all(ctx: Context) -> ApiResult {
    let (resent, position) = ctx.app.notifier.resend(None, &ctx.meta(None)).await.map_err(ApiError::internal)?;
    ctx.visible(position).await;
    ctx.one(StatusCode::OK, &Resent { resent })
}

/// Send a message again that was given up.
#[utoipa::path(post, path = "/api/notices/{uuid}/resend/", tag = "Notices", params(("uuid" = String, Path)),
    responses((status = 200, body = Resent), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn resend(ctx: Context, Id(notice): Id<NoticeId>) -> ApiResult {
    let again = ctx.app.notifier.resend(Some(notice), &ctx.meta(None)).await;
    match again.map_err(ApiError::internal)? {
        (0, _) => Err(ApiError::NotFound),
        (resent, position) => {
            ctx.visible(position).await;
            ctx.one(StatusCode::OK, &Resent { resent })
        }
    }
}
