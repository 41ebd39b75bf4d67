//! `/api/marketplace-slurm-periodic-usage-policies/`: SLURM periodic usage policies.

mod body;
mod changes;
mod dispatches;
mod logs;
mod options;
mod preview;
mod results;
mod run;
mod shape;
mod site;
mod status;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

pub use dispatches::Dispatch;
pub use logs::{LogParams, commands_asked, span};
pub use run::State;
pub use site::SiteStatus;
pub use status::{CreationAllowed, HeldByHand, asked_customer, creation_allowed};

use self::body::{Intent, PolicyInput};
use self::shape::Policy;
use super::access::{Access, Routes};
use super::context::{Body, Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::paging::{Page, PageParams, listed};
use crate::clock::IdSource;
use crate::commands::allocation::PolicyInForce;
use crate::commands::registry::RegistryError;
use crate::domain::ids::{OfferingId, PolicyId, UserId, slug_uuid};
use crate::domain::policy::Action;
use crate::domain::validation::FieldErrors;

/// The segment of the address under which policies stand.
pub const COLLECTION: &str = "marketplace-slurm-periodic-usage-policies";

/// The group in the API's description.
const TAG: &str = "SLURM periodic usage policies";

/// The routes of policies.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list, create))
        .add(Access::SignedIn, routes!(actions))
        .add(Access::Staff, routes!(preview::preview_impact))
        .add(Access::SignedIn, routes!(retrieve, update, partial_update, destroy))
        .add(Access::SignedIn, routes!(changes::preview_changes))
        .add(Access::SignedIn, routes!(changes::preview_new))
        .add(Access::Staff, routes!(run::dry_run))
        .add(Access::Staff, routes!(run::evaluate))
        .add(Access::Staff, routes!(run::force_period_reset))
        .add(Access::SignedIn, routes!(logs::evaluation_logs))
        .add(Access::SignedIn, routes!(logs::command_history))
        .add(Access::SignedIn, routes!(dispatches::list))
        .add(Access::Reporting, routes!(results::report_command_result))
        .add(Access::SignedIn, routes!(site::unmatched_results))
        .add(Access::SignedIn, routes!(status::status))
        .add(Access::SignedIn, routes!(status::policy_creation_allowed))
        .add(Access::SignedIn, routes!(versions::list))
}

/// A policy that the caller may see.
pub fn visible(ctx: &Context, policy: PolicyId) -> Result<Arc<PolicyInForce>, ApiError> {
    let state = ctx.app.registry.read();
    let policy = state.policy(policy).ok_or(ApiError::NotFound)?;
    let seen = ctx.visibility_in(&state).offering_id(policy.facts.offering, &state);
    if seen { Ok(Arc::clone(policy)) } else { Err(ApiError::NotFound) }
}

/// A policy that the caller may change.
fn managed(ctx: &Context, policy: PolicyId) -> Result<Arc<PolicyInForce>, ApiError> {
    let policy = visible(ctx, policy)?;
    let state = ctx.app.registry.read();
    let offering = state.offering(policy.facts.offering).ok_or(ApiError::NotFound)?;
    ctx.visibility_in(&state).must_manage(offering.facts.facts.customer)?;
    Ok(policy)
}

/// List policies, oldest first.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/", tag = TAG,
    params(PageParams,
        ("scope" = Option<String>, Query, description = "Address of the offering"),
        ("scope_uuid" = Option<String>, Query, description = "Id of the offering"),
        ("customer_uuid" = Option<String>, Query, description = "Id of the organisation that offers it")),
    responses((status = 200, body = [Policy], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 401, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let scope: Option<OfferingId> = match ctx.query.uuid("scope_uuid")? {
        Some(id) => Some(id),
        None => ctx.query.uuid("scope")?,
    };
    let customer = ctx.query.uuid("customer_uuid")?;
    let page = Page::of(&ctx.query)?;
    let mut policies: Vec<Arc<PolicyInForce>> = {
        let state = ctx.app.registry.read();
        let visibility = ctx.visibility_in(&state);
        let provider = |o: OfferingId| state.offering(o).map(|o| o.facts.facts.customer);
        let wanted = |p: &&Arc<PolicyInForce>| {
            scope.is_none_or(|scope| p.facts.offering == scope)
                && (customer.is_none() || provider(p.facts.offering) == customer)
                && visibility.offering_id(p.facts.offering, &state)
        };
        state.policies().filter(wanted).cloned().collect()
    };
    policies.sort_by_key(|p| (p.created, p.id()));
    let total = policies.len() as u64;
    let page = page.within(total)?;
    let mut rows = Vec::new();
    for policy in page.cut(policies) {
        rows.push(shape::show(&ctx, &policy).await?);
    }
    listed(&ctx, page, total, &rows)
}

/// Show a policy.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/", tag = TAG,
    params(("uuid" = String, Path)),
    responses((status = 200, body = Policy), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let policy = visible(&ctx, policy)?;
    ctx.one(StatusCode::OK, &shape::show(&ctx, &policy).await?)
}

/// Create a policy.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/", tag = TAG,
    request_body = body::PolicyRequest,
    responses((status = 201, body = Policy), (status = 400, body = ErrorFields)))]
async fn create(ctx: Context, Body(fields): Body) -> ApiResult {
    let input = PolicyInput::read(fields, &ctx, Intent::Create)?;
    let id = new_id(&ctx, &input)?;
    // Everything else is checked before addresses enter the directory.
    let draft = {
        let state = ctx.app.registry.read();
        let draft = input.create(id, &state)?;
        crate::commands::registry::check_against_offering(&draft, None, &state)?;
        draft
    };
    let recipients = recipients(&ctx, &input).await?;
    let wanted = |current: Option<&_>| {
        if current.is_some() {
            return Err(taken(&input));
        }
        let mut facts = draft.clone();
        input.apply_options(&mut facts, recipients.as_ref());
        Ok(facts)
    };
    let put = ctx.app.registry_commands.put_policy(id, &ctx.meta(input.reason.clone()), &wanted).await;
    let put = match put {
        Err(RegistryError::Missing(_)) => return Err(taken(&input).into()),
        other => other?,
    };
    ctx.settled(put.position).await;
    let policy = visible(&ctx, id)?;
    let shown = shape::show(&ctx, &policy).await?;
    let mut response = ctx.one(StatusCode::CREATED, &shown)?;
    if let Ok(address) = HeaderValue::from_str(&shown.url) {
        response.headers_mut().insert(header::LOCATION, address);
    }
    Ok(response)
}

/// The id of a new policy: the one asked for, else the slug's, else a fresh one.
fn new_id(ctx: &Context, input: &PolicyInput) -> Result<PolicyId, ApiError> {
    let state = ctx.app.registry.read();
    if let Some(slug) = &input.slug
        && state.policies().any(|p| p.facts.slug == *slug)
    {
        return Err(RegistryError::from(taken_slug(slug)).into());
    }
    let of_slug = || input.slug.as_ref().map(|slug| PolicyId::from(slug_uuid("policy", slug)));
    Ok(input.uuid.or_else(of_slug).unwrap_or_else(|| IdSource.fresh().into()))
}

fn taken_slug(slug: &str) -> FieldErrors {
    FieldErrors::one("slug", format!("A policy with the slug {slug:?} exists already, or did; choose another."))
}

fn taken(input: &PolicyInput) -> RegistryError {
    match (&input.uuid, &input.slug) {
        (Some(uuid), _) => FieldErrors::one("uuid", format!("A policy {uuid} exists already, or did.")).into(),
        (None, slug) => taken_slug(slug.as_deref().unwrap_or_default()).into(),
    }
}

/// The directory's ids of the addresses in the options.
async fn recipients(ctx: &Context, input: &PolicyInput) -> Result<Option<BTreeSet<UserId>>, ApiError> {
    let Some(options) = &input.options else { return Ok(None) };
    let ids = ctx.app.directory.address_ids(&options.addresses, ctx.app.clock.now()).await;
    Ok(Some(ids.map_err(ApiError::internal)?.into_iter().collect()))
}

/// Change a policy; required parameters must be given, others keep their values.
#[utoipa::path(put, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/", tag = TAG,
    params(("uuid" = String, Path)), request_body = body::PolicyRequest,
    responses((status = 200, body = Policy), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn update(ctx: Context, id: Id<PolicyId>, body: Body) -> ApiResult {
    change(&ctx, id, body, Intent::Replace).await
}

/// Change some parameters of a policy.
#[utoipa::path(patch, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/", tag = TAG,
    params(("uuid" = String, Path)), request_body = body::PatchedPolicyRequest,
    responses((status = 200, body = Policy), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn partial_update(ctx: Context, id: Id<PolicyId>, body: Body) -> ApiResult {
    change(&ctx, id, body, Intent::Patch).await
}

async fn change(ctx: &Context, Id(id): Id<PolicyId>, Body(fields): Body, intent: Intent) -> ApiResult {
    let policy = managed(ctx, id)?;
    let input = PolicyInput::read(fields, ctx, intent)?;
    let wanted = input.apply(&policy.facts)?;
    crate::commands::registry::check_against_offering(&wanted, Some(&policy.facts), &ctx.app.registry.read())?;
    let recipients = recipients(ctx, &input).await?;
    let wanted = |current: Option<&crate::events::registry::PolicyFacts>| {
        let mut facts = input.apply(current.ok_or(RegistryError::Missing("policy"))?)?;
        input.apply_options(&mut facts, recipients.as_ref());
        Ok(facts)
    };
    let put = ctx.app.registry_commands.put_policy(id, &ctx.meta(input.reason.clone()), &wanted).await?;
    ctx.settled(put.position).await;
    let policy = visible(ctx, id)?;
    ctx.one(StatusCode::OK, &shape::show(ctx, &policy).await?)
}

/// Delete a policy; its restrictions are released, its history stays.
#[utoipa::path(delete, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/", tag = TAG,
    params(("uuid" = String, Path), ("reason" = Option<String>, Query, description = "Reason, recorded with the event")),
    responses((status = 204), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn destroy(ctx: Context, Id(id): Id<PolicyId>) -> ApiResult {
    managed(&ctx, id)?;
    let reason = ctx.query.get("reason").map(str::to_owned);
    let position = ctx.app.registry_commands.delete_policy(id, &ctx.meta(reason)).await?;
    ctx.settled(Some(position)).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The names of all actions.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/actions/", tag = TAG,
    responses((status = 200, body = [String])))]
async fn actions(_ctx: Context) -> Response {
    let names = Action::ALL.map(Action::wire_name);
    let mut response = Json(names).into_response();
    response.headers_mut().insert(super::paging::RESULT_COUNT, HeaderValue::from(names.len()));
    response
}
