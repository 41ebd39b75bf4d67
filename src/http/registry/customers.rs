//! `/api/customers/`: organisations, with their owners and groups.

use std::collections::{BTreeSet, HashMap};

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::people::{self, People, Person};
use super::{NAME_CHARS_MAX, ObjectParams, TAG, exists, groups, new_object, object_filter, same_names};
use crate::commands::registry::RegistryError;
use crate::directory::UserRecord;
use crate::domain::ids::{CustomerId, GroupId, UserId};
use crate::events::registry::CustomerFacts;
use crate::http::access::{Access, Routes};
use crate::http::context::{Body, Context, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::paging::{Page, PageParams, listed};
use crate::http::resolve;
use crate::http::taken::{IdInput, PersonInput, ReferenceInput, SlugInput};
use crate::projections::registry::{ObjectFilter, ObjectRow, customers};

/// The segment of the address.
pub const COLLECTION: &str = "customers";

/// Groups of one organisation.
const GROUPS_MAX: usize = 1_000;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list))
        .add(Access::Staff, routes!(create))
        .add(Access::SignedIn, routes!(retrieve, change))
}

/// A group that an organisation is in.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupReference {
    uuid: String,
    url: String,
    name: String,
}

/// An organisation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Customer {
    uuid: String,
    url: String,
    slug: String,
    name: String,
    organization_groups: Vec<GroupReference>,
    owners: Vec<Person>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// The desired organisation.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct CustomerRequest {
    /// Display name; the slug without it.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    name: Option<String>,
    /// Unique short name; made of the name without it.
    #[schema(nullable = false)]
    slug: Option<SlugInput>,
    /// Its id; derived from the slug without it.
    #[schema(nullable = false)]
    uuid: Option<IdInput>,
    /// Addresses, UUIDs or slugs of the groups it is in; for staff.
    #[schema(nullable = false, max_items = 1_000)]
    organization_groups: Option<Vec<ReferenceInput>>,
    /// Its owners.
    #[schema(nullable = false, max_items = 1_000)]
    owners: Option<Vec<PersonInput>>,
    /// Why.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

fn show(ctx: &Context, row: &ObjectRow<CustomerFacts>, users: &HashMap<UserId, UserRecord>) -> Customer {
    let facts = &row.facts;
    let state = ctx.app.registry.read();
    let group = |id: &GroupId| {
        let group = state.group(*id)?;
        Some(GroupReference {
            uuid: id.to_string(),
            url: ctx.url(groups::COLLECTION, id),
            name: group.facts.name.clone(),
        })
    };
    Customer {
        uuid: facts.customer.to_string(),
        url: ctx.url(COLLECTION, facts.customer),
        slug: facts.slug.clone(),
        name: facts.name.clone(),
        organization_groups: facts.groups.iter().filter_map(group).collect(),
        owners: people::show(ctx, Some(&facts.owners), &facts.owners, &facts.pending, users),
        created: row.created,
        modified: row.modified,
    }
}

async fn one(ctx: &Context, customer: CustomerId) -> Result<Customer, ApiError> {
    let filter = ObjectFilter { id: Some(customer.as_uuid()), ..ObjectFilter::default() };
    let (rows, _) = customers(&ctx.app.read, &filter, crate::projections::Page::first(1)).await?;
    let row = rows.first().ok_or(ApiError::NotFound)?;
    let users = people::known(ctx, [&row.facts.owners, &row.facts.pending].into_iter()).await?;
    Ok(show(ctx, row, &users))
}

/// List organisations.
#[utoipa::path(get, path = "/api/customers/", tag = TAG,
    params(PageParams, ObjectParams,
        ("organization_group_uuid" = Option<String>, Query)),
    responses((status = 200, body = [Customer])))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let group: Option<GroupId> = ctx.query.uuid("organization_group_uuid")?;
    let mut filter = object_filter(&ctx.query)?;
    {
        let state = ctx.app.registry.read();
        let visibility = ctx.visibility_in(&state);
        if !visibility.all || group.is_some() {
            let seen = state.customers().filter(|c| {
                visibility.customer(&c.facts, &state) && group.is_none_or(|group| c.facts.groups.contains(&group))
            });
            filter.visible = Some(seen.map(|c| c.facts.customer.as_uuid()).collect());
        }
    }
    let (rows, total) = customers(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    let users = people::known(&ctx, rows.iter().flat_map(|row| [&row.facts.owners, &row.facts.pending])).await?;
    listed(&ctx, page, total.unsigned_abs(), &rows.iter().map(|row| show(&ctx, row, &users)).collect::<Vec<_>>())
}

fn visible(ctx: &Context, customer: CustomerId) -> Result<(), ApiError> {
    let state = ctx.app.registry.read();
    let facts = state.customer(customer).filter(|c| !c.facts.retired).ok_or(ApiError::NotFound)?;
    if ctx.visibility_in(&state).customer(&facts.facts, &state) { Ok(()) } else { Err(ApiError::NotFound) }
}

/// Show an organisation.
#[utoipa::path(get, path = "/api/customers/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = Customer), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(customer): Id<CustomerId>) -> ApiResult {
    visible(&ctx, customer)?;
    ctx.one(StatusCode::OK, &one(&ctx, customer).await?)
}

/// The groups in a body, under either of their names.
fn read_groups(ctx: &Context, fields: &mut Fields) -> Option<BTreeSet<GroupId>> {
    let state = ctx.app.registry.read();
    let read = fields::list(GROUPS_MAX, |value| resolve::group(value, &state));
    let name = if fields.has("groups") { "groups" } else { "organization_groups" };
    fields.optional(name, read).map(|groups| groups.into_iter().collect())
}

/// Register an organisation.
#[utoipa::path(post, path = "/api/customers/", tag = TAG, request_body = CustomerRequest,
    responses((status = 201, body = Customer), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn create(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let new = new_object("customer", &mut fields);
    let groups = read_groups(&ctx, &mut fields).unwrap_or_default();
    let owners = people::read(&mut fields, "owners").unwrap_or_default();
    let why = reason(&mut fields);
    fields.check()?;
    let new = new.ok_or(ApiError::NotFound)?;
    let customer = CustomerId::from(new.id);
    if ctx.app.registry.read().customers().any(|c| c.facts.slug == new.slug || c.facts.customer == customer) {
        return Err(ApiError::Invalid(exists("customer", &new)));
    }
    let People { confirmed: owners, pending } = people::resolve(&ctx, "owners", &owners, &People::default()).await?;
    let facts = CustomerFacts {
        customer,
        slug: new.slug.clone(),
        name: new.name.clone(),
        groups,
        owners,
        pending,
        retired: false,
    };
    let wanted = |current: Option<&CustomerFacts>| match current {
        Some(_) => Err(RegistryError::from(exists("customer", &new))),
        None => Ok(facts.clone()),
    };
    let put = ctx.app.registry_commands.put_customer(customer, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::CREATED, &one(&ctx, customer).await?)
}

/// Change an organisation; the groups it is in only staff may change, since policies go by them.
#[utoipa::path(patch, path = "/api/customers/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    request_body = CustomerRequest,
    responses((status = 200, body = Customer), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn change(ctx: Context, Id(customer): Id<CustomerId>, Body(mut fields): Body) -> ApiResult {
    visible(&ctx, customer)?;
    ctx.visibility().must_manage(customer)?;
    let slug = ctx.app.registry.read().customer(customer).map(|c| c.facts.slug.clone()).unwrap_or_default();
    same_names(&mut fields, &slug, customer.as_uuid());
    let name = fields.optional("name", fields::words(NAME_CHARS_MAX));
    let groups = read_groups(&ctx, &mut fields);
    let owners = people::read(&mut fields, "owners");
    let why = reason(&mut fields);
    fields.check()?;
    let keeps_groups = |groups: &BTreeSet<GroupId>| {
        ctx.app.registry.read().customer(customer).is_some_and(|c| c.facts.groups == *groups)
    };
    if groups.as_ref().is_some_and(|groups| !keeps_groups(groups)) && !ctx.is_staff() {
        return Err(ApiError::Forbidden);
    }
    let current = |facts: &CustomerFacts| People { confirmed: facts.owners.clone(), pending: facts.pending.clone() };
    let current = ctx.app.registry.read().customer(customer).map(|c| current(&c.facts)).unwrap_or_default();
    let owners = match owners {
        Some(owners) => Some(people::resolve(&ctx, "owners", &owners, &current).await?),
        None => None,
    };
    let wanted = |current: Option<&CustomerFacts>| {
        let mut facts = current.ok_or(RegistryError::Missing("customer"))?.clone();
        if let Some(name) = &name {
            facts.name.clone_from(name);
        }
        if let Some(groups) = &groups {
            facts.groups.clone_from(groups);
        }
        if let Some(owners) = &owners {
            facts.owners.clone_from(&owners.confirmed);
            facts.pending.clone_from(&owners.pending);
        }
        Ok(facts)
    };
    let put = ctx.app.registry_commands.put_customer(customer, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::OK, &one(&ctx, customer).await?)
}
