//! `/api/marketplace-provider-offerings/`: clusters as offered to customers.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::{
    NAME_CHARS_MAX, ObjectParams, TAG, components, customers, exists, new_object, object_filter, offering_components,
    projects, same_names,
};
use crate::commands::registry::RegistryError;
use crate::domain::clusters::{CLUSTERS_MAX, clusters_complaint};
use crate::domain::ids::{CustomerId, OfferingId};
use crate::domain::qos::QosNames;
use crate::domain::text::NAME;
use crate::events::registry::OfferingFacts;
use crate::http::access::{Access, Routes};
use crate::http::context::{Body, Context, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields;
use crate::http::json::Json;
use crate::http::paging::{Page, PageParams, listed};
use crate::http::policies::{CreationAllowed, asked_customer, creation_allowed};
use crate::http::taken::{IdInput, NameInput, ReferenceInput, SlugInput};
use crate::projections::registry::{ObjectFilter, ObjectRow, offerings};

/// The segment of the address.
pub const COLLECTION: &str = "marketplace-provider-offerings";

/// The kind of offering, as Waldur names it.
pub const OFFERING_TYPE: &str = "Marketplace.Slurm";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list, create))
        .add(Access::SignedIn, routes!(retrieve, change))
        .add(Access::SignedIn, routes!(offering_components::create))
        .add(Access::SignedIn, routes!(offering_components::update))
        .add(Access::SignedIn, routes!(offering_creation_allowed))
}

/// The site's names of the classes of service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Qos {
    default: String,
    downscaled: String,
    paused: String,
}

/// A cluster as sold.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderOffering {
    uuid: String,
    url: String,
    slug: String,
    name: String,
    description: String,
    /// Address of the organisation that offers it.
    customer: String,
    customer_uuid: String,
    customer_name: String,
    #[serde(rename = "type")]
    offering_type: &'static str,
    state: &'static str,
    components: Vec<components::Shown>,
    qos: Qos,
    /// The SLURM clusters whose rows the import of sacct counts; empty: the only one that is asked.
    slurm_clusters: Vec<String>,
    partitions: Vec<Value>,
    plans: Vec<Value>,
    plugin_options: Value,
    options: Value,
    attributes: Value,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// The desired offering.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct ProviderOfferingRequest {
    /// Display name; the slug without it.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    name: Option<String>,
    /// Unique short name; made of the name without it.
    #[schema(nullable = false)]
    slug: Option<SlugInput>,
    /// Its id; derived from the slug without it.
    #[schema(nullable = false)]
    uuid: Option<IdInput>,
    /// Address, UUID or slug of the organisation that offers it; does not change.
    customer: ReferenceInput,
    /// What it counts.
    #[schema(nullable = false, max_items = 100)]
    components: Option<Vec<components::Request>>,
    /// The site's names: `{"default": …, "downscaled": …, "paused": …}`.
    #[schema(nullable = false)]
    qos: Option<components::QosRequest>,
    /// Names of the SLURM clusters whose rows the import of sacct counts.
    #[schema(nullable = false, max_items = 50)]
    slurm_clusters: Option<Vec<NameInput>>,
    /// Why.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// Options of the agent's plugin: it must not make up user names.
pub fn plugin_options() -> Value {
    json!({"username_generation_policy": "waldur_username", "service_provider_can_create_offering_user": false})
}

fn show(ctx: &Context, row: &ObjectRow<OfferingFacts>) -> ProviderOffering {
    let facts = &row.facts;
    let state = ctx.app.registry.read();
    ProviderOffering {
        uuid: facts.offering.to_string(),
        url: ctx.url(COLLECTION, facts.offering),
        slug: facts.slug.clone(),
        name: facts.name.clone(),
        description: String::new(),
        customer: ctx.url(customers::COLLECTION, facts.customer),
        customer_uuid: facts.customer.to_string(),
        customer_name: state.customer(facts.customer).map(|c| c.facts.name.clone()).unwrap_or_default(),
        offering_type: OFFERING_TYPE,
        state: if facts.retired { "Archived" } else { "Active" },
        components: facts.components.iter().map(|c| components::show(facts.offering, c)).collect(),
        qos: Qos {
            default: facts.qos.default.clone(),
            downscaled: facts.qos.downscaled.clone(),
            paused: facts.qos.paused.clone(),
        },
        slurm_clusters: facts.slurm_clusters.clone(),
        partitions: Vec::new(),
        plans: Vec::new(),
        plugin_options: plugin_options(),
        options: json!({}),
        attributes: json!({}),
        created: row.created,
        modified: row.modified,
    }
}

/// Names of clusters, each once.
fn read_clusters(value: &Json) -> Result<Vec<String>, String> {
    let names = fields::list(CLUSTERS_MAX, fields::text(NAME))(value)?;
    clusters_complaint(&names).map_or(Ok(names), Err)
}

async fn one(ctx: &Context, offering: OfferingId) -> Result<ProviderOffering, ApiError> {
    let filter = ObjectFilter { id: Some(offering.as_uuid()), ..ObjectFilter::default() };
    let (rows, _) = offerings(&ctx.app.read, &filter, crate::projections::Page::first(1)).await?;
    rows.first().map(|row| show(ctx, row)).ok_or(ApiError::NotFound)
}

/// List offerings.
#[utoipa::path(get, path = "/api/marketplace-provider-offerings/", tag = TAG,
    params(PageParams, ObjectParams,
        ("customer_uuid" = Option<String>, Query, description = "Of this organisation")),
    responses((status = 200, body = [ProviderOffering])))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let mut filter = object_filter(&ctx.query)?;
    filter.parents = ctx.query.uuid::<CustomerId>("customer_uuid")?.map(|id| vec![id.as_uuid()]);
    {
        let state = ctx.app.registry.read();
        let visibility = ctx.visibility_in(&state);
        if !visibility.all {
            let seen = state.offerings().map(|o| &o.facts.facts).filter(|o| visibility.offering(o));
            filter.visible = Some(seen.map(|o| o.offering.as_uuid()).collect());
        }
    }
    let (rows, total) = offerings(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.iter().map(|row| show(&ctx, row)).collect::<Vec<_>>())
}

/// The provider of an offering that the caller may see.
pub(super) fn visible(ctx: &Context, offering: OfferingId) -> Result<CustomerId, ApiError> {
    let state = ctx.app.registry.read();
    let facts = state.offering(offering).filter(|o| !o.facts.facts.retired).ok_or(ApiError::NotFound)?;
    if ctx.visibility_in(&state).offering(&facts.facts.facts) {
        Ok(facts.facts.facts.customer)
    } else {
        Err(ApiError::NotFound)
    }
}

/// Show an offering.
#[utoipa::path(get, path = "/api/marketplace-provider-offerings/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = ProviderOffering), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(offering): Id<OfferingId>) -> ApiResult {
    visible(&ctx, offering)?;
    ctx.one(StatusCode::OK, &one(&ctx, offering).await?)
}

/// Register an offering.
#[utoipa::path(post, path = "/api/marketplace-provider-offerings/", tag = TAG, request_body = ProviderOfferingRequest,
    responses((status = 201, body = ProviderOffering), (status = 400, body = ErrorFields)))]
async fn create(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let new = new_object("offering", &mut fields);
    let customer = fields.required("customer", |value| projects::managed_customer(&ctx, value));
    let components = fields.optional("components", components::read).unwrap_or_default();
    let qos = fields.optional("qos", |value: &Json| components::read_qos(value, &QosNames::default()));
    let slurm_clusters = fields.optional("slurm_clusters", read_clusters).unwrap_or_default();
    let why = reason(&mut fields);
    fields.check()?;
    let (Some(new), Some(customer)) = (new, customer) else { return Err(ApiError::NotFound) };
    let offering = OfferingId::from(new.id);
    let taken = |o: &OfferingFacts| o.slug == new.slug || o.offering == offering;
    if ctx.app.registry.read().offerings().any(|o| taken(&o.facts.facts)) {
        return Err(ApiError::Invalid(exists("offering", &new)));
    }
    let facts = OfferingFacts {
        offering,
        slug: new.slug.clone(),
        name: new.name.clone(),
        customer,
        components,
        qos: qos.unwrap_or_default(),
        slurm_clusters,
        retired: false,
    };
    let wanted = |current: Option<&OfferingFacts>| match current {
        Some(_) => Err(RegistryError::from(exists("offering", &new))),
        None => Ok(facts.clone()),
    };
    let put = ctx.app.registry_commands.put_offering(offering, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::CREATED, &one(&ctx, offering).await?)
}

/// Change an offering; `components` is the whole new list.
#[utoipa::path(patch, path = "/api/marketplace-provider-offerings/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    request_body = ProviderOfferingRequest,
    responses((status = 200, body = ProviderOffering), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn change(ctx: Context, Id(offering): Id<OfferingId>, Body(mut fields): Body) -> ApiResult {
    let customer = visible(&ctx, offering)?;
    ctx.visibility().must_manage(customer)?;
    let known = ctx.app.registry.read().offering(offering).map(|o| o.facts.facts.clone()).ok_or(ApiError::NotFound)?;
    same_names(&mut fields, &known.slug, offering.as_uuid());
    if let Some(other) = fields.optional("customer", |value| projects::managed_customer(&ctx, value))
        && other != customer
    {
        fields.errors.add("customer", "An offering stays with its organisation.");
    }
    let name = fields.optional("name", fields::words(NAME_CHARS_MAX));
    let components = fields.optional("components", components::read);
    let qos = fields.optional("qos", |value: &Json| components::read_qos(value, &known.qos));
    let clusters = fields.optional("slurm_clusters", read_clusters);
    let why = reason(&mut fields);
    fields.check()?;
    let wanted = |current: Option<&OfferingFacts>| {
        let mut facts = current.ok_or(RegistryError::Missing("offering"))?.clone();
        if let Some(name) = &name {
            facts.name.clone_from(name);
        }
        if let Some(components) = &components {
            facts.components.clone_from(components);
        }
        if let Some(qos) = &qos {
            facts.qos.clone_from(qos);
        }
        if let Some(clusters) = &clusters {
            facts.slurm_clusters.clone_from(clusters);
        }
        Ok(facts)
    };
    let put = ctx.app.registry_commands.put_offering(offering, &ctx.meta(why), wanted).await?;
    ctx.settled(put.position).await;
    ctx.one(StatusCode::OK, &one(&ctx, offering).await?)
}

/// Whether a customer may get a further resource of the offering.
#[utoipa::path(get, path = "/api/marketplace-provider-offerings/{uuid}/creation-allowed/", tag = TAG,
    params(("uuid" = String, Path), ("customer_uuid" = String, Query, description = "The customer")),
    responses((status = 200, body = CreationAllowed), (status = 400, body = ErrorFields), (status = 404, body = ErrorDetail)))]
async fn offering_creation_allowed(ctx: Context, Id(offering): Id<OfferingId>) -> ApiResult {
    let asked = asked_customer(&ctx, offering);
    let own = {
        let state = ctx.app.registry.read();
        let known = state.offering(offering).is_some_and(|o| !o.facts.facts.retired);
        known && asked.as_ref().is_ok_and(|customer| ctx.visibility_in(&state).customers.contains(customer))
    };
    // An owner may ask for their own organisation, whoever the provider is.
    if !own {
        visible(&ctx, offering)?;
    }
    ctx.one(StatusCode::OK, &creation_allowed(&ctx, offering, None, asked?).await?)
}
