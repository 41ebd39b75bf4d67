//! `/api/users/`: the caller; for staff and support everybody in the directory; and erasing a person from it.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::{Body, Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::fields;
use super::paging::{PageParams, paged};
use super::registry::people::address_for;
use super::taken::IdInput;
use crate::directory::{Role, Subject, UserDetails, UserRecord};
use crate::domain::ids::UserId;
use crate::domain::text::NAME;

/// The longest user name and address, in characters.
const WORDS_CHARS_MAX: usize = 255;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::Support, routes!(list))
        .add(Access::SignedIn, routes!(me, change_me))
        .add(Access::Support, routes!(retrieve))
        .add(Access::Staff, routes!(erase))
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    uuid: String,
    url: String,
    username: String,
    full_name: String,
    /// For staff and the person; else empty.
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    date_joined: Option<DateTime<Utc>>,
    is_active: bool,
    /// Only of the caller: by the token that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_staff: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_support: Option<bool>,
    /// `staff`, `support`, `owner`, `member` or `agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// The offering of an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    offering_uuid: Option<String>,
}

fn user(ctx: &Context, record: UserRecord) -> User {
    User {
        uuid: record.id.to_string(),
        url: ctx.url("users", record.id),
        email: address_for(ctx, &record).unwrap_or_default(),
        username: record.username,
        full_name: record.full_name,
        date_joined: Some(record.created),
        is_active: true,
        is_staff: None,
        is_support: None,
        role: None,
        offering_uuid: None,
    }
}

/// Who calls.
#[utoipa::path(get, path = "/api/users/me/", tag = "Users",
    responses((status = 200, body = User), (status = 401, body = ErrorDetail)))]
async fn me(ctx: Context) -> ApiResult {
    let caller = &ctx.caller;
    let record = ctx.app.directory.user(caller.user).await.map_err(ApiError::internal)?;
    let nobody = || User {
        uuid: caller.user.to_string(),
        url: ctx.url("users", caller.user),
        username: caller.username.clone(),
        full_name: String::new(),
        email: String::new(),
        date_joined: None,
        is_active: true,
        is_staff: None,
        is_support: None,
        role: None,
        offering_uuid: None,
    };
    let shown = User {
        is_staff: Some(caller.role == Role::Staff),
        is_support: Some(caller.role == Role::Support),
        role: Some(caller.role.as_str()),
        offering_uuid: caller.offering.map(|o| o.to_string()),
        ..record.map_or_else(nobody, |record| user(&ctx, record))
    };
    ctx.one(StatusCode::OK, &shown)
}

/// What somebody says of themselves.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct MeRequest {
    /// Where mail goes; null for nowhere.
    #[schema(max_length = 320)]
    email: Option<String>,
    /// Name for humans; may be empty.
    #[schema(max_length = 255, nullable = false)]
    full_name: Option<String>,
}

/// Change one's own mail address and full name.
#[utoipa::path(patch, path = "/api/users/me/", tag = "Users", request_body = MeRequest,
    responses((status = 200, body = User), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn change_me(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let email = fields.nullable("email", fields::address);
    let full_name = fields.optional("full_name", fields::maybe_words(NAME.max));
    fields.check()?;
    // A remaining token must not bring an erased person back.
    let known =
        ctx.app.directory.user(ctx.caller.user).await.map_err(ApiError::internal)?.ok_or(ApiError::Forbidden)?;
    let details = UserDetails {
        id: known.id,
        username: known.username,
        email: email.unwrap_or(known.email),
        full_name: full_name.unwrap_or(known.full_name),
    };
    ctx.app.directory.put_user(&details, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
    me(ctx).await
}

/// Everybody in the directory, by user name.
#[utoipa::path(get, path = "/api/users/", tag = "Users",
    params(PageParams, ("username" = Option<String>, Query, description = "With this user name"),
        ("full_name" = Option<String>, Query, description = "Whose full name contains this")),
    responses((status = 200, body = [User]), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let mut users = ctx.app.directory.all_users().await.map_err(ApiError::internal)?;
    if let Some(username) = ctx.query.get("username") {
        users.retain(|u| u.username == username);
    }
    if let Some(part) = ctx.query.get("full_name").map(str::to_lowercase) {
        users.retain(|u| u.full_name.to_lowercase().contains(&part));
    }
    users.sort_by(|one, other| one.username.cmp(&other.username));
    paged(&ctx, users, |record| user(&ctx, record))
}

/// One user.
#[utoipa::path(get, path = "/api/users/{uuid}/", tag = "Users", params(("uuid" = String, Path)),
    responses((status = 200, body = User), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(id): Id<UserId>) -> ApiResult {
    let record = ctx.app.directory.user(id).await.map_err(ApiError::internal)?.ok_or(ApiError::NotFound)?;
    ctx.one(StatusCode::OK, &user(&ctx, record))
}

/// Whom to erase: one of the three.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EraseRequest {
    /// A user, or an address of a policy's options.
    uuid: Option<IdInput>,
    #[schema(min_length = 1, max_length = 255)]
    username: Option<String>,
    /// Every user and address with it.
    #[schema(min_length = 1, max_length = 255)]
    email: Option<String>,
}

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasedUsers {
    /// Erased entries of the directory; events keep these ids.
    erased: Vec<String>,
    /// Tokens that were in force until now.
    tokens_revoked: u64,
}

/// Erase a person: name, mail address (also in the options of policies) and tokens. Events keep the opaque id, which no
/// longer identifies anybody.
#[utoipa::path(post, path = "/api/users/erase/", tag = "Users", request_body = EraseRequest,
    responses((status = 200, body = ErasedUsers), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn erase(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let uuid = fields.nullable("uuid", fields::uuid).flatten().map(|id| Subject::Id(id.into()));
    let username = fields.nullable("username", fields::words(WORDS_CHARS_MAX)).flatten().map(Subject::Username);
    let email = fields.nullable("email", fields::words(WORDS_CHARS_MAX)).flatten().map(Subject::Email);
    fields.check()?;
    let subjects: Vec<Subject> = [uuid, username, email].into_iter().flatten().collect();
    let [subject] = &subjects[..] else {
        return Err(ApiError::field("non_field_errors", "Exactly one of uuid, username and email is expected."));
    };
    let erased = ctx.app.directory.erase(subject, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
    if erased.entries.is_empty() {
        return Err(ApiError::NotFound);
    }
    tracing::info!(entries = erased.entries.len(), by = %ctx.caller.user, "somebody was erased from the directory");
    let ids = erased.entries.iter().map(ToString::to_string).collect();
    ctx.one(StatusCode::OK, &ErasedUsers { erased: ids, tokens_revoked: erased.tokens_revoked })
}
