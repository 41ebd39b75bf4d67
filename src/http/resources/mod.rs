//! `/api/marketplace-provider-resources/`: allocations, with their limits, restrictions, holds and people.

mod agent;
mod change;
mod create;
mod explain;
mod holds;
mod shape;
mod team;
mod timeline;

use std::sync::Arc;

use axum::http::StatusCode;
use utoipa::IntoParams;
use utoipa_axum::routes;

pub use self::change::limits;
use self::shape::Resource;
use super::access::{Access, Routes};
use super::context::{Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, sentence};
use super::paging::{Page, PageParams, listed};
use crate::commands::allocation::Book;
use crate::domain::ids::ResourceId;
use crate::events::allocation::ResourceState;
use crate::operations::{AccountClaim, account_holders};
use crate::projections::registry::{Order, ResourceFilter, resources};
use crate::projections::site_answers::of_resources;
use crate::registry::ResourceEntry;

/// The segment of the address.
pub const COLLECTION: &str = "marketplace-provider-resources";

/// The group in the API's description.
const TAG: &str = "Resources";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list, create::create))
        .add(Access::SignedIn, routes!(retrieve, change::change))
        .add(Access::SignedIn, routes!(list_as_resources))
        .add(Access::SignedIn, routes!(retrieve_as_resource))
        .add(Access::SignedIn, routes!(change::terminate))
        .add(Access::SignedIn, routes!(team::team))
        .add(Access::SignedIn, routes!(holds::list, holds::place))
        .add(Access::SignedIn, routes!(holds::release))
        .add(Access::Support, routes!(holds::list_all))
        .add(Access::SignedIn, routes!(timeline::show))
        .add(Access::SignedIn, routes!(explain::show))
        .add(Access::Staff, routes!(timeline::reset_raw_usage))
        .add(Access::Reporting, routes!(agent::set_backend_metadata))
        .add(Access::Reporting, routes!(agent::set_limits))
        .add(Access::Reporting, routes!(agent::refresh_last_sync))
        .add(Access::Reporting, routes!(agent::set_as_ok))
        .add(Access::Reporting, routes!(agent::set_as_erred))
}

/// A resource that the caller may see.
fn visible(ctx: &Context, resource: ResourceId) -> Result<ResourceEntry, ApiError> {
    let state = ctx.app.registry.read();
    let entry = state.resource(resource).ok_or(ApiError::NotFound)?;
    if ctx.visibility_in(&state).resource(entry, &state) { Ok(*entry) } else { Err(ApiError::NotFound) }
}

/// A resource that the caller may change: staff and owners of the organisation that offers it.
fn managed(ctx: &Context, resource: ResourceId) -> Result<ResourceEntry, ApiError> {
    let entry = visible(ctx, resource)?;
    let state = ctx.app.registry.read();
    let offering = state.offering(entry.offering).ok_or(ApiError::NotFound)?;
    ctx.visibility_in(&state).must_manage(offering.facts.facts.customer)?;
    Ok(entry)
}

/// The resource as it is now, from its book.
async fn one(ctx: &Context, resource: ResourceId) -> Result<Resource, ApiError> {
    let book: Arc<Book> = ctx.app.allocations.book(resource).await?;
    let row = crate::projections::registry::resource(&ctx.app.read, resource).await?;
    Ok(shape::of_book(ctx, &book, row.map(|row| row.modified)))
}

/// Refuses a SLURM account that is none, or that another live resource of the offering has: the two would fight over its
/// limits.
async fn free_account(ctx: &Context, claim: AccountClaim) -> Result<(), ApiError> {
    let refused = |message: String| Err(ApiError::field(claim.field(), sentence(&message)));
    if let Some(message) = claim.complaint() {
        return refused(message);
    }
    let taken = account_holders(&ctx.app.read, std::slice::from_ref(&claim), |_| false).await?;
    match taken.first() {
        Some((_, holder)) => refused(claim.taken(holder)),
        None => Ok(()),
    }
}

fn filter(ctx: &Context) -> Result<ResourceFilter, ApiError> {
    let query = &ctx.query;
    let allowed = "Creating, OK, Erred, Updating, Terminating, Terminated";
    let states: Vec<ResourceState> = query.every("state", allowed, ResourceState::parse)?;
    Ok(ResourceFilter {
        id: query.uuid("uuid")?,
        slug: query.get("slug").map(str::to_owned),
        name: query.get("name").map(str::to_owned),
        name_exact: query.get("name_exact").map(str::to_owned),
        backend_id: query.get("backend_id").map(str::to_owned),
        offering: query.uuid("offering_uuid")?.or(query.uuid("offering")?),
        customer: query.uuid("customer_uuid")?.or(query.uuid("customer")?),
        project: query.uuid("project_uuid")?.or(query.uuid("project")?),
        states,
        paused: query.boolean("paused")?,
        downscaled: query.boolean("downscaled")?,
        visible: ctx.visibility_filter(),
        order: query.read("o", "created, -created, name", order)?.unwrap_or_default(),
    })
}

fn order(word: &str) -> Option<Order> {
    match word {
        "created" => Some(Order::Registered),
        "-created" => Some(Order::NewestFirst),
        "name" => Some(Order::Name),
        _ => None,
    }
}

/// How resources are chosen and sorted.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that `filter` reads")]
struct ResourceParams {
    /// With this id.
    uuid: Option<String>,
    /// On this offering.
    offering_uuid: Option<String>,
    /// The same, by address.
    offering: Option<String>,
    /// Of this organisation.
    customer_uuid: Option<String>,
    /// The same, by address.
    customer: Option<String>,
    /// Of this project.
    project_uuid: Option<String>,
    /// The same, by address.
    project: Option<String>,
    /// In this state; may be repeated.
    state: Option<Vec<String>>,
    /// Whose name contains this.
    name: Option<String>,
    /// With this name.
    name_exact: Option<String>,
    /// With this slug.
    slug: Option<String>,
    /// With this SLURM account.
    backend_id: Option<String>,
    /// Paused, or not.
    paused: Option<bool>,
    /// Slowed down, or not.
    downscaled: Option<bool>,
    /// `created` (the order without it), `-created` or `name`.
    o: Option<String>,
}

/// List resources.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/", tag = TAG,
    params(PageParams, ResourceParams),
    responses((status = 200, body = [Resource], headers(("X-Result-Count" = u64, description = "Number of rows")))))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let (rows, total) = resources(&ctx.app.read, &filter(&ctx)?, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    let answers = of_resources(&ctx.app.read, rows.iter().map(|row| row.resource)).await?;
    let rows: Vec<Resource> = rows.iter().map(|row| shape::of_row(&ctx, row, answers.get(&row.resource))).collect();
    listed(&ctx, page, total.unsigned_abs(), &rows)
}

/// Show a resource.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = Resource), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    visible(&ctx, resource)?;
    ctx.one(StatusCode::OK, &one(&ctx, resource).await?)
}

/// List resources under the address that people's own have in Waldur: the same rows.
#[utoipa::path(get, path = "/api/marketplace-resources/", tag = TAG,
    params(PageParams, ResourceParams),
    responses((status = 200, body = [Resource], headers(("X-Result-Count" = u64, description = "Number of rows")))))]
async fn list_as_resources(ctx: Context) -> ApiResult {
    list(ctx).await
}

/// Show a resource under the address that people's own have in Waldur.
#[utoipa::path(get, path = "/api/marketplace-resources/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = Resource), (status = 404, body = ErrorDetail)))]
async fn retrieve_as_resource(ctx: Context, id: Id<ResourceId>) -> ApiResult {
    retrieve(ctx, id).await
}
