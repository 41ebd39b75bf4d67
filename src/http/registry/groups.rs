//! `/api/organization-groups/`: groups of organisations, to which policies may be limited.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::{NAME_CHARS_MAX, ObjectParams, TAG, exists, new_object, object_filter, same_names};
use crate::commands::registry::RegistryError;
use crate::domain::ids::GroupId;
use crate::events::registry::GroupFacts;
use crate::http::access::{Access, Routes};
use crate::http::context::{Body, Context, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields;
use crate::http::paging::{Page, PageParams, listed};
use crate::http::taken::{IdInput, SlugInput};
use crate::projections::registry::{ObjectFilter, ObjectRow, groups};

/// The segment of the address.
pub const COLLECTION: &str = "organization-groups";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list))
        .add(Access::Staff, routes!(create))
        .add(Access::SignedIn, routes!(retrieve))
        .add(Access::Staff, routes!(change))
}

/// A group of organisations.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrganizationGroup {
    uuid: String,
    url: String,
    slug: String,
    name: String,
    /// Organisations in it.
    customers_count: usize,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// The desired group.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct OrganizationGroupRequest {
    /// Display name; the slug without it.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    name: Option<String>,
    /// Unique short name; made of the name without it.
    #[schema(nullable = false)]
    slug: Option<SlugInput>,
    /// Its id; derived from the slug without it.
    #[schema(nullable = false)]
    uuid: Option<IdInput>,
    /// Why.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

fn show(ctx: &Context, row: &ObjectRow<GroupFacts>) -> OrganizationGroup {
    let facts = &row.facts;
    let state = ctx.app.registry.read();
    OrganizationGroup {
        uuid: facts.group.to_string(),
        url: ctx.url(COLLECTION, facts.group),
        slug: facts.slug.clone(),
        name: facts.name.clone(),
        customers_count: state.customers().filter(|c| c.facts.groups.contains(&facts.group)).count(),
        created: row.created,
        modified: row.modified,
    }
}

async fn one(ctx: &Context, group: GroupId) -> Result<OrganizationGroup, ApiError> {
    let filter = ObjectFilter { id: Some(group.as_uuid()), ..ObjectFilter::default() };
    let (rows, _) = groups(&ctx.app.read, &filter, crate::projections::Page::first(1)).await?;
    rows.first().map(|row| show(ctx, row)).ok_or(ApiError::NotFound)
}

/// List organization groups.
#[utoipa::path(get, path = "/api/organization-groups/", tag = TAG,
    params(PageParams, ObjectParams),
    responses((status = 200, body = [OrganizationGroup])))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let (rows, total) = groups(&ctx.app.read, &object_filter(&ctx.query)?, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.iter().map(|row| show(&ctx, row)).collect::<Vec<_>>())
}

/// Show an organization group.
#[utoipa::path(get, path = "/api/organization-groups/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = OrganizationGroup), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(group): Id<GroupId>) -> ApiResult {
    ctx.one(StatusCode::OK, &one(&ctx, group).await?)
}

/// Register an organization group.
#[utoipa::path(post, path = "/api/organization-groups/", tag = TAG, request_body = OrganizationGroupRequest,
    responses((status = 201, body = OrganizationGroup), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn create(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let new = new_object("organization_group", &mut fields);
    let why = reason(&mut fields);
    fields.check()?;
    let new = new.ok_or(ApiError::NotFound)?;
    let group = GroupId::from(new.id);
    if ctx.app.registry.read().groups().any(|g| g.facts.slug == new.slug || g.facts.group == group) {
        return Err(ApiError::Invalid(exists("group", &new)));
    }
    let facts = GroupFacts { group, slug: new.slug.clone(), name: new.name.clone(), retired: false };
    let wanted = |current: Option<&GroupFacts>| match current {
        Some(_) => Err(RegistryError::from(exists("group", &new))),
        None => Ok(facts.clone()),
    };
    let put = ctx.app.registry_commands.put_group(group, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::CREATED, &one(&ctx, group).await?)
}

/// Change an organization group.
#[utoipa::path(patch, path = "/api/organization-groups/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    request_body = OrganizationGroupRequest,
    responses((status = 200, body = OrganizationGroup), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn change(ctx: Context, Id(group): Id<GroupId>, Body(mut fields): Body) -> ApiResult {
    let slug = ctx.app.registry.read().group(group).map(|g| g.facts.slug.clone()).ok_or(ApiError::NotFound)?;
    same_names(&mut fields, &slug, group.as_uuid());
    let name = fields.optional("name", fields::words(NAME_CHARS_MAX));
    let why = reason(&mut fields);
    fields.check()?;
    let wanted = |current: Option<&GroupFacts>| {
        let mut facts = current.ok_or(RegistryError::Missing("group"))?.clone();
        if let Some(name) = &name {
            facts.name.clone_from(name);
        }
        Ok(facts)
    };
    let put = ctx.app.registry_commands.put_group(group, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::OK, &one(&ctx, group).await?)
}
