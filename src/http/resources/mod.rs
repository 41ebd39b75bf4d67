//! `/api/marketplace-provider-resources/`: allocations, with their limits, restrictions, holds and people.

mod agent;
mod change;
mod create;
mod holds;
mod shape;
mod team;
mod timeline;

use std::sync::Arc;

use axum::http::StatusCode;
use utoipa_axum::routes;

use self::shape::Resource;
use super::access::{Access, Routes};
use super::context::{Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail};
use super::paging::{Page, PageParams, listed};
use super::query::complaint;
use crate::commands::allocation::Book;
use crate::domain::ids::{OfferingId, ResourceId};
use crate::events::allocation::ResourceState;
use crate::projections::registry::{Order, ResourceFilter, Visibility, resources};
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
        .add(Access::SignedIn, routes!(change::terminate))
        .add(Access::SignedIn, routes!(team::team))
        .add(Access::SignedIn, routes!(holds::list, holds::place))
        .add(Access::SignedIn, routes!(holds::release))
        .add(Access::Support, routes!(holds::list_all))
        .add(Access::SignedIn, routes!(timeline::show))
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
    if ctx.sight_in(&state).resource(entry, &state) { Ok(*entry) } else { Err(ApiError::NotFound) }
}

/// A resource that the caller may change: staff and owners of the organisation that offers it.
fn managed(ctx: &Context, resource: ResourceId) -> Result<ResourceEntry, ApiError> {
    let entry = visible(ctx, resource)?;
    let state = ctx.app.registry.read();
    let offering = state.offering(entry.offering).ok_or(ApiError::NotFound)?;
    ctx.sight_in(&state).must_manage(offering.facts.facts.customer)?;
    Ok(entry)
}

/// The resource as it is now, from its book.
async fn one(ctx: &Context, resource: ResourceId) -> Result<Resource, ApiError> {
    let book: Arc<Book> = ctx.app.allocations.book(resource).await?;
    let row = crate::projections::registry::resource(&ctx.app.read, resource).await?;
    Ok(shape::of_book(ctx, &book, row.map(|row| row.modified)))
}

/// Refuses a SLURM account that another live resource of the offering has: the two would fight over its limits.
async fn free_account(
    ctx: &Context,
    offering: OfferingId,
    account: &str,
    but: Option<ResourceId>,
) -> Result<(), ApiError> {
    if account.is_empty() {
        return Ok(());
    }
    let live = ResourceState::ALL.iter().copied().filter(|state| state.is_live());
    let filter = ResourceFilter {
        offering: Some(offering),
        backend_id: Some(account.to_owned()),
        states: live.collect(),
        ..ResourceFilter::default()
    };
    let (rows, _) = resources(&ctx.app.read, &filter, crate::projections::Page::first(2)).await?;
    match rows.iter().find(|row| Some(row.resource) != but) {
        Some(other) => {
            let message = format!(
                "{account:?} is the account of the resource {:?} ({}) of this offering already; choose another.",
                other.name, other.resource
            );
            Err(ApiError::field("backend_id", message))
        }
        None => Ok(()),
    }
}

fn filter(ctx: &Context) -> Result<ResourceFilter, ApiError> {
    let query = &ctx.query;
    let states: Vec<ResourceState> = query
        .all("state")
        .map(|word| {
            let allowed = "Creating, OK, Erred, Updating, Terminating, Terminated";
            ResourceState::parse(word).ok_or_else(|| complaint("state", word, allowed))
        })
        .collect::<Result<_, _>>()?;
    let state = ctx.app.registry.read();
    let sight = ctx.sight_in(&state);
    let visible = (!sight.all).then(|| {
        let offered = state.offerings().map(|o| &o.facts.facts).filter(|o| sight.offering(o)).map(|o| o.offering);
        Visibility {
            offerings: offered.collect::<Vec<OfferingId>>(),
            customers: sight.customers.iter().copied().collect(),
            projects: sight.projects.iter().copied().collect(),
        }
    });
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
        visible,
        order: match query.get("o") {
            Some("name") => Order::Name,
            Some("-created") => Order::NewestFirst,
            _ => Order::Registered,
        },
    })
}

/// List resources.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/", tag = TAG,
    params(PageParams,
        ("offering_uuid" = Option<String>, Query), ("customer_uuid" = Option<String>, Query), ("project_uuid" = Option<String>, Query),
        ("state" = Option<Vec<String>>, Query, description = "In this state; may be repeated"),
        ("name" = Option<String>, Query, description = "Whose name contains this"),
        ("name_exact" = Option<String>, Query), ("slug" = Option<String>, Query),
        ("backend_id" = Option<String>, Query, description = "With this SLURM account"),
        ("paused" = Option<bool>, Query), ("downscaled" = Option<bool>, Query),
        ("o" = Option<String>, Query, description = "`name` or `-created`")),
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
