//! `/api/tokens/`: who may call, in which role, until when. Keys are shown once, at creation.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Body, Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::paging::{PageParams, paged};
use super::taken::{InstantInput, ReferenceInput, RoleInput};
use super::{fields, resolve};
use crate::directory::{DirectoryError, NewToken, Role, TokenRecord, UserDetails};
use crate::domain::ids::{TokenId, UserId, slug_uuid};
use crate::domain::text::USERNAME;

/// The longest user name and label, in characters.
const WORDS_CHARS_MAX: usize = 255;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Staff, routes!(list, create)).add(Access::Staff, routes!(revoke))
}

/// A token, without its key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    uuid: String,
    url: String,
    user_uuid: String,
    /// Empty once the user was erased.
    username: String,
    /// `staff`, `support`, `owner`, `member` or `agent`.
    role: &'static str,
    /// The offering of an agent.
    offering_uuid: Option<String>,
    /// What it is for.
    label: Option<String>,
    created: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    is_active: bool,
    /// Shown this once, in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// A token to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct TokenRequest {
    /// Whose it is; a user that is not known yet is made.
    #[schema(min_length = 1, max_length = 150, pattern = r"^\s*\S+\s*$")]
    username: String,
    /// `staff`, `support`, `owner`, `member` or `agent`.
    role: RoleInput,
    /// The offering of an agent: address, UUID or slug.
    offering: Option<ReferenceInput>,
    /// What it is for.
    #[schema(min_length = 1, max_length = 255)]
    label: Option<String>,
    /// When it ends by itself.
    expires_at: Option<InstantInput>,
}

fn show(ctx: &Context, token: &TokenRecord, key: Option<String>) -> Token {
    Token {
        uuid: token.id.to_string(),
        url: ctx.url("tokens", token.id),
        user_uuid: token.user.to_string(),
        username: token.username.clone(),
        role: token.role.as_str(),
        offering_uuid: token.offering.map(|id| id.to_string()),
        label: token.label.clone(),
        created: token.created,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
        is_active: token.is_active(ctx.app.clock.now()),
        key,
    }
}

/// Every token ever made, the newest first.
#[utoipa::path(get, path = "/api/tokens/", tag = "Users", params(PageParams),
    responses((status = 200, body = [Token]), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let mut tokens = ctx.app.directory.tokens().await.map_err(ApiError::internal)?;
    tokens.reverse();
    paged(&ctx, tokens, |token| show(&ctx, &token, None))
}

/// Make a token.
#[utoipa::path(post, path = "/api/tokens/", tag = "Users", request_body = TokenRequest,
    responses((status = 201, body = Token), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn create(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let now = ctx.app.clock.now();
    let username = fields.required("username", fields::text(USERNAME));
    let role = fields.required("role", fields::choice(Role::parse, "staff, support, owner, member, agent"));
    let offering = fields.nullable("offering", |value| resolve::offering(value, &ctx.app.registry.read())).flatten();
    let label = fields.nullable("label", fields::words(WORDS_CHARS_MAX)).flatten();
    let expires_at = fields.nullable("expires_at", fields::instant).flatten();
    if let Some(at) = expires_at.filter(|at| *at <= now) {
        fields.errors.add("expires_at", format!("{at} is over. An instant after {now} is expected."));
    }
    match role {
        Some(Role::Agent) if offering.is_none() => {
            fields.errors.add("offering", "A token of an agent needs its offering.".to_owned());
        }
        Some(Role::Agent) | None => {}
        Some(_) if offering.is_some() => {
            fields.errors.add("offering", "Only a token of the role agent has an offering.".to_owned());
        }
        Some(_) => {}
    }
    fields.check()?;
    let (Some(username), Some(role)) = (username, role) else { return Err(ApiError::NotFound) };
    let user = user_of(&ctx, &username).await.map_err(ApiError::internal)?;
    let new = NewToken { user, role, offering, label, expires_at, key: None };
    let (id, key) = ctx.app.directory.create_token(new, now).await.map_err(ApiError::internal)?;
    let made = ctx.app.directory.token_of_key(&key).await.map_err(ApiError::internal)?.ok_or(ApiError::NotFound)?;
    tracing::info!(token = %id, role = role.as_str(), "a token was made");
    ctx.one(StatusCode::CREATED, &show(&ctx, &made, Some(key)))
}

async fn user_of(ctx: &Context, username: &str) -> Result<UserId, DirectoryError> {
    if let Some(user) = ctx.app.directory.user_by_username(username).await? {
        return Ok(user.id);
    }
    let id = UserId::from(slug_uuid("user", username));
    let user = UserDetails { id, username: username.to_owned(), email: None, full_name: String::new() };
    ctx.app.directory.put_user(&user, ctx.app.clock.now()).await?;
    Ok(id)
}

/// Revoke a token.
#[utoipa::path(delete, path = "/api/tokens/{uuid}/", tag = "Users", params(("uuid" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn revoke(ctx: Context, Id(token): Id<TokenId>) -> ApiResult {
    let revoked = ctx.app.directory.revoke_token(token, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
    if !revoked {
        return Err(ApiError::NotFound);
    }
    tracing::info!(%token, "a token was revoked");
    Ok(StatusCode::NO_CONTENT.into_response())
}
