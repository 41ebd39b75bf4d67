//! Registration of a resource, unless a policy blocks it.

use axum::http::StatusCode;
use utoipa::ToSchema;

use super::change::limits;
use super::shape::Resource;
use super::{TAG, free_account, one};
use crate::commands::allocation::{AllocationCommand, Refusal};
use crate::commands::execute::CommandError;
use crate::commands::registry::taken;
use crate::domain::ids::{OfferingId, ProjectId, ResourceId};
use crate::events::allocation::{ResourceFacts, ResourceState};
use crate::http::context::{Body, Context, reason};
use crate::http::error::{ApiError, ApiResult, ErrorFields, sentence};
use crate::http::fields;
use crate::http::json::Json;
use crate::http::policies::creation_allowed;
use crate::http::registry::{exists, new_object};
use crate::http::resolve;
use crate::http::taken::{IdInput, InstantInput, LimitsInput, LiveStateInput, ReferenceInput, SlugInput};
use crate::operations::AccountClaim;
use crate::projections::registry::{ResourceFilter, count_resources};
use crate::registry::RESOURCE;

/// The new resource.
#[derive(Debug, ToSchema)]
#[schema(as = ResourceRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// Display name; the slug without it.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    name: Option<String>,
    /// Unique short name; made of the name without it.
    #[schema(nullable = false)]
    slug: Option<SlugInput>,
    /// Its id; derived from the slug without it.
    #[schema(nullable = false)]
    uuid: Option<IdInput>,
    /// Address, UUID or slug of the offering.
    offering: ReferenceInput,
    /// Address, UUID or slug of the project.
    project: ReferenceInput,
    /// The SLURM account.
    #[schema(max_length = 255)]
    backend_id: Option<String>,
    /// Limits by component.
    #[schema(nullable = false)]
    limits: Option<LimitsInput>,
    /// `OK` without it.
    #[schema(nullable = false)]
    state: Option<LiveStateInput>,
    /// When it came into being; now without it.
    #[schema(nullable = false)]
    created: Option<InstantInput>,
    /// Why.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// An offering on which the caller may register resources.
fn offering(ctx: &Context, value: &Json) -> Result<OfferingId, String> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let id = resolve::offering(value, &state)?;
    let known = state.offering(id).filter(|o| visibility.offering(&o.facts.facts)).ok_or(resolve::NO_SUCH_OBJECT)?;
    if visibility.manages(known.facts.facts.customer) {
        Ok(id)
    } else {
        Err("Only staff and owners of the organisation that offers it may do this.".to_owned())
    }
}

/// A project of an organisation for which the caller may register resources: what is registered there has its team, and
/// its owners are told.
fn project(ctx: &Context, value: &Json) -> Result<ProjectId, String> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let id = resolve::project(value, &state)?;
    let known = state.project(id).filter(|p| visibility.project(&p.facts)).ok_or(resolve::NO_SUCH_OBJECT)?;
    if visibility.manages(known.facts.customer) {
        Ok(id)
    } else {
        Err("Only staff and owners of the organisation whose project it is may do this.".to_owned())
    }
}

/// Register a resource.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/", tag = TAG, request_body = Request,
    responses((status = 201, body = Resource), (status = 400, body = ErrorFields)))]
pub async fn create(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let f = &mut fields;
    let new = new_object("resource", f);
    let offering = f.required("offering", |value| offering(&ctx, value));
    let project = f.required("project", |value| project(&ctx, value));
    let backend_id = f.nullable("backend_id", fields::maybe_words(255)).flatten().unwrap_or_default();
    let limits = f.optional("limits", limits).unwrap_or_default();
    let allowed = "Creating, OK, Erred, Updating";
    let live = |word: &str| ResourceState::parse(word).filter(|state| state.is_live());
    let state = f.optional("state", fields::choice(live, allowed)).unwrap_or_default();
    let created = f.optional("created", fields::instant);
    let why = reason(f);
    f.check()?;
    let (Some(new), Some(offering), Some(project)) = (new, offering, project) else { return Err(ApiError::NotFound) };
    // One registration after the other: what is looked up here stands until it is recorded and shown.
    let _alone = ctx.app.registering().await?;
    if ctx.app.registry.read().kind_of(new.id).is_some_and(|kind| kind != RESOURCE) {
        return Err(ApiError::field("uuid", taken(new.id)));
    }
    let customer = ctx.app.registry.read().project(project).map(|p| p.facts.customer).ok_or(ApiError::NotFound)?;
    let same_slug = ResourceFilter { slug: Some(new.slug.clone()), ..ResourceFilter::default() };
    if count_resources(&ctx.app.read, &same_slug).await? > 0 {
        return Err(ApiError::Invalid(exists("resource", &new)));
    }
    let claim =
        AccountClaim { resource: new.id.into(), offering, backend_id: backend_id.clone(), name: new.name.clone() };
    free_account(&ctx, claim).await?;
    let answer = creation_allowed(&ctx, offering, None, customer).await?;
    if let Some(why_not) = answer.reason.filter(|_| !answer.allowed) {
        return Err(ApiError::field("non_field_errors", why_not));
    }
    let resource = ResourceId::from(new.id);
    let facts = ResourceFacts {
        resource,
        slug: new.slug.clone(),
        name: new.name.clone(),
        offering,
        project,
        customer,
        backend_id,
        limits,
        state,
        created: created.unwrap_or_else(|| ctx.app.clock.now()),
    };
    let executed =
        ctx.app.allocations.execute(resource, &AllocationCommand::Register(Box::new(facts)), &ctx.meta(why)).await;
    let executed = executed.map_err(|error| match error {
        CommandError::Refused(Refusal::Exists) => ApiError::Invalid(exists("resource", &new)),
        CommandError::Refused(refusal @ (Refusal::UnknownComponent { .. } | Refusal::AmountOutOfRange { .. })) => {
            ApiError::field("limits", sentence(&refusal.to_string()))
        }
        other => other.into(),
    })?;
    ctx.visible(executed.position).await;
    ctx.one(StatusCode::CREATED, &one(&ctx, resource).await?)
}
