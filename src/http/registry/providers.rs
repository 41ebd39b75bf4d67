//! `/api/marketplace-service-providers/`: organisations in their role as providers.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::{TAG, customers};
use crate::domain::ids::{CustomerId, slug_uuid};
use crate::http::access::{Access, Routes};
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail};
use crate::http::paging::{PageParams, paged};
use uuid::Uuid;

/// The segment of the address.
const COLLECTION: &str = "marketplace-service-providers";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::SignedIn, routes!(list)).add(Access::SignedIn, routes!(retrieve))
}

/// An organisation that offers something.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceProvider {
    uuid: String,
    url: String,
    /// Address of the organisation.
    customer: String,
    customer_uuid: String,
    customer_name: String,
    customer_slug: String,
    offering_count: usize,
}

/// The id of an organisation as a provider.
fn provider_id(customer: CustomerId) -> Uuid {
    slug_uuid("service_provider", &customer.to_string())
}

fn seen(ctx: &Context) -> Vec<ServiceProvider> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let mut providers: Vec<ServiceProvider> = state
        .customers()
        .filter(|c| !c.facts.retired && visibility.customer(&c.facts, &state))
        .filter_map(|c| {
            let facts = &c.facts;
            let offers = |o: &&_| {
                let o: &&crate::registry::Versioned<crate::commands::allocation::OfferingInForce> = o;
                !o.facts.facts.retired && o.facts.facts.customer == facts.customer
            };
            let offering_count = state.offerings().filter(offers).count();
            let id = provider_id(facts.customer).as_simple().to_string();
            (offering_count > 0).then(|| ServiceProvider {
                url: ctx.url(COLLECTION, &id),
                uuid: id,
                customer: ctx.url(customers::COLLECTION, facts.customer),
                customer_uuid: facts.customer.to_string(),
                customer_name: facts.name.clone(),
                customer_slug: facts.slug.clone(),
                offering_count,
            })
        })
        .collect();
    providers.sort_by(|one, other| one.customer_slug.cmp(&other.customer_slug));
    providers
}

/// List service providers.
#[utoipa::path(get, path = "/api/marketplace-service-providers/", tag = TAG,
    params(PageParams, ("customer_uuid" = Option<String>, Query, description = "Of this organisation")),
    responses((status = 200, body = [ServiceProvider])))]
async fn list(ctx: Context) -> ApiResult {
    let customer: Option<CustomerId> = ctx.query.uuid("customer_uuid")?;
    let mut providers = seen(&ctx);
    if let Some(customer) = customer.map(|c| c.to_string()) {
        providers.retain(|p| p.customer_uuid == customer);
    }
    paged(&ctx, providers, |provider| provider)
}

/// Show a service provider.
#[utoipa::path(get, path = "/api/marketplace-service-providers/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = ServiceProvider), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(id): Id<Uuid>) -> ApiResult {
    let id = id.as_simple().to_string();
    let provider = seen(&ctx).into_iter().find(|p| p.uuid == id).ok_or(ApiError::NotFound)?;
    ctx.one(StatusCode::OK, &provider)
}
