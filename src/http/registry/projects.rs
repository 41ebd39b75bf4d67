//! `/api/projects/`: projects of organisations, with their members.

use std::collections::HashMap;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::people::{self, People, Person};
use super::{NAME_CHARS_MAX, ObjectParams, TAG, customers, exists, new_object, object_filter, same_names};
use crate::commands::registry::RegistryError;
use crate::directory::UserRecord;
use crate::domain::ids::{CustomerId, ProjectId, UserId};
use crate::events::registry::ProjectFacts;
use crate::http::access::{Access, Routes};
use crate::http::context::{Body, Context, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields;
use crate::http::json::Json;
use crate::http::paging::{Page, PageParams, listed};
use crate::http::resolve;
use crate::http::taken::{IdInput, PersonInput, ReferenceInput, SlugInput};
use crate::projections::registry::{ObjectFilter, ObjectRow, projects};

/// The segment of the address.
pub const COLLECTION: &str = "projects";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::SignedIn, routes!(list, create)).add(Access::SignedIn, routes!(retrieve, change))
}

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub struct Project {
    uuid: String,
    url: String,
    slug: String,
    name: String,
    description: String,
    /// Address of its organisation.
    customer: String,
    customer_uuid: String,
    customer_name: String,
    customer_slug: String,
    members: Vec<Person>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// The desired project.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ProjectRequest {
    /// Display name; the slug without it.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    name: Option<String>,
    /// Unique short name; made of the name without it.
    #[schema(nullable = false)]
    slug: Option<SlugInput>,
    /// Its id; derived from the slug without it.
    #[schema(nullable = false)]
    uuid: Option<IdInput>,
    /// Address, UUID or slug of its organisation; does not change.
    customer: ReferenceInput,
    /// Its members.
    #[schema(nullable = false, max_items = 1_000)]
    members: Option<Vec<PersonInput>>,
    /// Why.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

fn show(ctx: &Context, row: &ObjectRow<ProjectFacts>, users: &HashMap<UserId, UserRecord>) -> Project {
    let facts = &row.facts;
    let state = ctx.app.registry.read();
    let customer = state.customer(facts.customer);
    Project {
        uuid: facts.project.to_string(),
        url: ctx.url(COLLECTION, facts.project),
        slug: facts.slug.clone(),
        name: facts.name.clone(),
        description: String::new(),
        customer: ctx.url(customers::COLLECTION, facts.customer),
        customer_uuid: facts.customer.to_string(),
        customer_name: customer.map(|c| c.facts.name.clone()).unwrap_or_default(),
        customer_slug: customer.map(|c| c.facts.slug.clone()).unwrap_or_default(),
        members: people::show(ctx, customer.map(|c| &c.facts.owners), &facts.members, &facts.pending, users),
        created: row.created,
        modified: row.modified,
    }
}

async fn one(ctx: &Context, project: ProjectId) -> Result<Project, ApiError> {
    let filter = ObjectFilter { id: Some(project.as_uuid()), ..ObjectFilter::default() };
    let (rows, _) = projects(&ctx.app.read, &filter, crate::projections::Page::first(1)).await?;
    let row = rows.first().ok_or(ApiError::NotFound)?;
    let users = people::known(ctx, [&row.facts.members, &row.facts.pending].into_iter()).await?;
    Ok(show(ctx, row, &users))
}

/// List projects.
#[utoipa::path(get, path = "/api/projects/", tag = TAG,
    params(PageParams, ObjectParams,
        ("customer" = Option<String>, Query, description = "Id of the organisation"),
        ("customer_uuid" = Option<String>, Query, description = "Id of the organisation")),
    responses((status = 200, body = [Project])))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let mut filter = object_filter(&ctx.query)?;
    let customer: Option<CustomerId> = match ctx.query.uuid("customer_uuid")? {
        Some(id) => Some(id),
        None => ctx.query.uuid("customer")?,
    };
    filter.parents = customer.map(|id| vec![id.as_uuid()]);
    {
        let state = ctx.app.registry.read();
        let visibility = ctx.visibility_in(&state);
        if !visibility.all {
            let seen = state.projects().filter(|p| visibility.project(&p.facts));
            filter.visible = Some(seen.map(|p| p.facts.project.as_uuid()).collect());
        }
    }
    let (rows, total) = projects(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    let users = people::known(&ctx, rows.iter().flat_map(|row| [&row.facts.members, &row.facts.pending])).await?;
    listed(&ctx, page, total.unsigned_abs(), &rows.iter().map(|row| show(&ctx, row, &users)).collect::<Vec<_>>())
}

/// The organisation of a project that the caller may see.
fn visible(ctx: &Context, project: ProjectId) -> Result<CustomerId, ApiError> {
    let state = ctx.app.registry.read();
    let facts = state.project(project).filter(|p| !p.facts.retired).ok_or(ApiError::NotFound)?;
    if ctx.visibility_in(&state).project(&facts.facts) { Ok(facts.facts.customer) } else { Err(ApiError::NotFound) }
}

/// Show a project.
#[utoipa::path(get, path = "/api/projects/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = Project), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(project): Id<ProjectId>) -> ApiResult {
    visible(&ctx, project)?;
    ctx.one(StatusCode::OK, &one(&ctx, project).await?)
}

/// Reads the organisation that something new is to belong to: one that the caller may change.
pub fn managed_customer(ctx: &Context, value: &Json) -> Result<CustomerId, String> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let id = resolve::customer(value, &state)?;
    let customer =
        state.customer(id).filter(|c| visibility.customer(&c.facts, &state)).ok_or(resolve::NO_SUCH_OBJECT)?;
    if visibility.manages(customer.facts.customer) {
        Ok(id)
    } else {
        Err("Only staff and owners of the organisation may do this.".to_owned())
    }
}

/// Register a project.
#[utoipa::path(post, path = "/api/projects/", tag = TAG, request_body = ProjectRequest,
    responses((status = 201, body = Project), (status = 400, body = ErrorFields)))]
async fn create(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let new = new_object("project", &mut fields);
    let customer = fields.required("customer", |value| managed_customer(&ctx, value));
    let members = people::read(&mut fields, "members").unwrap_or_default();
    let why = reason(&mut fields);
    fields.check()?;
    let (Some(new), Some(customer)) = (new, customer) else { return Err(ApiError::NotFound) };
    let project = ProjectId::from(new.id);
    if ctx.app.registry.read().projects().any(|p| p.facts.slug == new.slug || p.facts.project == project) {
        return Err(ApiError::Invalid(exists("project", &new)));
    }
    let People { confirmed: members, pending } = people::resolve(&ctx, "members", &members, &People::default()).await?;
    let facts = ProjectFacts {
        project,
        slug: new.slug.clone(),
        name: new.name.clone(),
        customer,
        members,
        pending,
        retired: false,
    };
    let wanted = |current: Option<&ProjectFacts>| match current {
        Some(_) => Err(RegistryError::from(exists("project", &new))),
        None => Ok(facts.clone()),
    };
    let put = ctx.app.registry_commands.put_project(project, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::CREATED, &one(&ctx, project).await?)
}

/// Change a project.
#[utoipa::path(patch, path = "/api/projects/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    request_body = ProjectRequest,
    responses((status = 200, body = Project), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn change(ctx: Context, Id(project): Id<ProjectId>, Body(mut fields): Body) -> ApiResult {
    let customer = visible(&ctx, project)?;
    ctx.visibility().must_manage(customer)?;
    let slug = ctx.app.registry.read().project(project).map(|p| p.facts.slug.clone()).unwrap_or_default();
    same_names(&mut fields, &slug, project.as_uuid());
    if let Some(other) = fields.optional("customer", |value| managed_customer(&ctx, value))
        && other != customer
    {
        fields.errors.add("customer", "A project stays with its organisation.");
    }
    let name = fields.optional("name", fields::words(NAME_CHARS_MAX));
    let members = people::read(&mut fields, "members");
    let why = reason(&mut fields);
    fields.check()?;
    let current = |facts: &ProjectFacts| People { confirmed: facts.members.clone(), pending: facts.pending.clone() };
    let current = ctx.app.registry.read().project(project).map(|p| current(&p.facts)).unwrap_or_default();
    let members = match members {
        Some(members) => Some(people::resolve(&ctx, "members", &members, &current).await?),
        None => None,
    };
    let wanted = |current: Option<&ProjectFacts>| {
        let mut facts = current.ok_or(RegistryError::Missing("project"))?.clone();
        if let Some(name) = &name {
            facts.name.clone_from(name);
        }
        if let Some(members) = &members {
            facts.members.clone_from(&members.confirmed);
            facts.pending.clone_from(&members.pending);
        }
        Ok(facts)
    };
    let put = ctx.app.registry_commands.put_project(project, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::OK, &one(&ctx, project).await?)
}
