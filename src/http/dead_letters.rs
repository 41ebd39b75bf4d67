//! `/api/dead-letters/`: messages to agents that Sluice does not resend automatically, and a way to resend them;
//! `/api/dead-messages/`: messages that expired in a queue of the built-in broker.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::access::{Access, Routes};
use super::context::{Body, Context, Id, reason};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::paging::{Page, PageParams, listed};
use crate::dispatch::{DeadLetter, DispatchError, builtin};

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::Support, routes!(list))
        .add(Access::Staff, routes!(resend))
        .add(Access::Support, routes!(dead_messages))
}

/// A message that Sluice does not resend automatically.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct Shown {
    /// `resource_periodic_limits`: the settings of a dispatch; `resource`: the restrictions of a resource.
    message: &'static str,
    /// Of settings.
    dispatch_uuid: Option<String>,
    resource_uuid: String,
    resource_name: String,
    offering_uuid: String,
    /// Of settings.
    policy_uuid: Option<String>,
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
        message: letter.message.as_str(),
        dispatch_uuid: letter.dispatch.map(|dispatch| dispatch.to_string()),
        resource_uuid: letter.resource.to_string(),
        resource_name: book.facts.name.clone(),
        offering_uuid: letter.offering.to_string(),
        policy_uuid: letter.policy.map(|policy| policy.to_string()),
        reason: letter.reason,
        error: letter.error,
        queued_at: letter.queued_at,
        sent_at: letter.sent_at,
        resends: letter.resends,
    })
}

/// Messages that are not sent again by themselves: settings, oldest first, then restrictions.
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

/// Why a message is sent again.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ResendRequest {
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// Have a message sent again that was given up, failed or unanswered: settings by their dispatch, restrictions by their
/// resource.
#[utoipa::path(post, path = "/api/dead-letters/{uuid}/resend/", tag = "Agents", params(("uuid" = String, Path)),
    request_body = ResendRequest,
    responses((status = 202, body = ErrorDetail), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn resend(ctx: Context, Id(id): Id<Uuid>, Body(mut fields): Body) -> ApiResult {
    let why = reason(&mut fields);
    fields.check()?;
    let asked = ctx.app.publisher.resend(id, &ctx.meta(why)).await?;
    let Some((_, position)) = asked else { return Err(ApiError::NotFound) };
    ctx.visible(position).await;
    ctx.one(StatusCode::ACCEPTED, &json!({ "detail": "It is sent again." }))
}

/// A message that lay in a queue of the built-in broker until it was too late, or that an agent refused.
#[derive(Debug, Serialize, ToSchema)]
struct DeadMessage {
    queue: String,
    message_id: String,
    queued_at: DateTime<Utc>,
    dead_at: DateTime<Utc>,
    /// Why.
    reason: String,
    /// The message as it was to be delivered.
    body: serde_json::Value,
}

impl From<builtin::DeadMessage> for DeadMessage {
    fn from(dead: builtin::DeadMessage) -> Self {
        let body = serde_json::from_str(&dead.body).unwrap_or(serde_json::Value::String(dead.body));
        let (queued_at, dead_at) = (dead.queued_at, dead.dead_at);
        Self { queue: dead.queue, message_id: dead.id, queued_at, dead_at, reason: dead.reason, body }
    }
}

/// Messages that nobody read in time or that an agent refused, newest first, with the built-in broker: Sluice resends
/// their content automatically as long as it matters. 404 if the site has its own broker.
#[utoipa::path(get, path = "/api/dead-messages/", tag = "Agents", params(PageParams),
    responses((status = 200, body = [DeadMessage]), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn dead_messages(ctx: Context) -> ApiResult {
    let broker = ctx.app.builtin_broker.as_ref().ok_or(ApiError::NotFound)?;
    let page = Page::of(&ctx.query)?;
    let rows = page.of_rows()?;
    let found = broker.dead_messages(rows.size, rows.offset().unsigned_abs()).await;
    let (found, total) = found.map_err(|error| ApiError::internal(DispatchError::Sql(error)))?;
    let page = page.within(total)?;
    listed(&ctx, page, total, &found.into_iter().map(DeadMessage::from).collect::<Vec<_>>())
}
