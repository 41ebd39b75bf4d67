//! `/api/pending-memberships/`: people named as owner or member by somebody who may not see them; the membership takes
//! effect only when the person or staff confirms it.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{PROJECT_COLLECTION, TAG, customers};
use crate::directory::{Role, UserRecord};
use crate::domain::ids::{CustomerId, ProjectId, UserId};
use crate::http::access::{Access, Routes};
use crate::http::context::{Body, Context, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::paging::{PageParams, paged};
use crate::operations::membership::{Belonging, Pending, pending, settle};

/// The segment of the address.
const COLLECTION: &str = "pending-memberships";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list))
        .add(Access::SignedIn, routes!(confirm))
        .add(Access::SignedIn, routes!(decline))
}

/// A membership that nobody has confirmed.
#[derive(Debug, Serialize, ToSchema)]
pub struct PendingMembership {
    uuid: String,
    url: String,
    /// `owner` of an organisation or `member` of a project.
    role: &'static str,
    customer_uuid: String,
    customer_name: String,
    project_uuid: Option<String>,
    /// Address of the project.
    project: Option<String>,
    project_name: Option<String>,
    /// Address of the organisation.
    customer: String,
    /// Who was named.
    username: String,
}

/// Why a membership is confirmed or declined.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct SettleRequest {
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// The person in question, who alone decides beside staff. A token of an agent is no person's.
fn is_about(ctx: &Context, pending: &Pending) -> bool {
    pending.user == ctx.caller.user && ctx.caller.role != Role::Agent
}

/// Those that the caller sees: staff and support all, owners those of their organisation, everybody their own.
fn seen(ctx: &Context) -> Vec<Pending> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let mut all = pending(&state);
    all.retain(|one| visibility.all || visibility.customers.contains(&one.customer) || is_about(ctx, one));
    all
}

fn show(ctx: &Context, one: &Pending, user: Option<&UserRecord>) -> PendingMembership {
    let state = ctx.app.registry.read();
    let id = one.id.as_simple().to_string();
    let project: Option<ProjectId> = match one.belonging {
        Belonging::Member(project) => Some(project),
        Belonging::Owner(_) => None,
    };
    PendingMembership {
        url: ctx.url(COLLECTION, &id),
        uuid: id,
        role: if project.is_some() { "member" } else { "owner" },
        customer_uuid: one.customer.to_string(),
        customer_name: state.customer(one.customer).map(|c| c.facts.name.clone()).unwrap_or_default(),
        project_uuid: project.map(|id| id.to_string()),
        project: project.map(|id| ctx.url(PROJECT_COLLECTION, id)),
        project_name: project.map(|_| one.name.clone()),
        customer: ctx.url(customers::COLLECTION, one.customer),
        username: user.map(|user| user.username.clone()).unwrap_or_default(),
    }
}

/// List pending memberships.
#[utoipa::path(get, path = "/api/pending-memberships/", tag = TAG,
    params(PageParams, ("customer_uuid" = Option<String>, Query, description = "Of this organisation or its projects"),
        ("project_uuid" = Option<String>, Query, description = "Of this project")),
    responses((status = 200, body = [PendingMembership])))]
async fn list(ctx: Context) -> ApiResult {
    let (customer, project): (Option<CustomerId>, Option<ProjectId>) =
        (ctx.query.uuid("customer_uuid")?, ctx.query.uuid("project_uuid")?);
    let mut found = seen(&ctx);
    found.retain(|one| {
        customer.is_none_or(|id| one.customer == id) && project.is_none_or(|id| one.belonging == Belonging::Member(id))
    });
    let ids: Vec<UserId> = found.iter().map(|one| one.user).collect();
    let users = ctx.app.directory.users(&ids).await.map_err(ApiError::internal)?;
    paged(&ctx, found, |one| show(&ctx, &one, users.get(&one.user)))
}

fn one(ctx: &Context, id: Uuid) -> Result<Pending, ApiError> {
    seen(ctx).into_iter().find(|one| one.id == id).ok_or(ApiError::NotFound)
}

/// Confirm a membership: the person, or staff. It counts from then on.
#[utoipa::path(post, path = "/api/pending-memberships/{uuid}/confirm/", tag = TAG, params(("uuid" = String, Path)),
    request_body = SettleRequest,
    responses((status = 200, body = PendingMembership), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn confirm(ctx: Context, Id(id): Id<Uuid>, Body(mut fields): Body) -> ApiResult {
    let pending = one(&ctx, id)?;
    if !ctx.is_staff() && !is_about(&ctx, &pending) {
        return Err(ApiError::Forbidden);
    }
    let meta = ctx.meta(reason(&mut fields));
    fields.check()?;
    let user = ctx.app.directory.user(pending.user).await.map_err(ApiError::internal)?;
    let position = settle(&ctx.app.registry_commands, &pending, true, &meta).await?;
    ctx.settled(position).await;
    ctx.one(StatusCode::OK, &show(&ctx, &pending, user.as_ref()))
}

/// Decline or withdraw a membership: the person, staff, or an owner of the organisation.
#[utoipa::path(post, path = "/api/pending-memberships/{uuid}/decline/", tag = TAG, params(("uuid" = String, Path)),
    request_body = SettleRequest,
    responses((status = 204), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn decline(ctx: Context, Id(id): Id<Uuid>, Body(mut fields): Body) -> ApiResult {
    let pending = one(&ctx, id)?;
    if !is_about(&ctx, &pending) {
        ctx.visibility().must_manage(pending.customer)?;
    }
    let meta = ctx.meta(reason(&mut fields));
    fields.check()?;
    let position = settle(&ctx.app.registry_commands, &pending, false, &meta).await?;
    ctx.settled(position).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
