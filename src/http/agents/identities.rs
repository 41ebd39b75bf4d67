//! `/api/marketplace-site-agent-identities/`: the agents of offerings.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::compatibility::{AgentCompatibility, compatibility};
use super::services::ServiceInBrief;
use super::{NAME_CHARS_MAX, TAG, own, seen, visible};
use crate::commands::registry::agent_id;
use crate::domain::ids::{AgentId, OfferingId};
use crate::events::agent::IdentityFacts;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::paging::{PageParams, paged};
use crate::http::resolve;
use crate::http::taken::{InstantInput, ReferenceInput};
use crate::registry::Registered;

/// The segment of the address.
pub const COLLECTION: &str = "marketplace-site-agent-identities";

/// Packages of an agent that are kept at most.
const DEPENDENCIES_MAX: usize = 500;

/// A package of an agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dependency {
    package: String,
    version: String,
}

/// A site agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentIdentity {
    uuid: String,
    url: String,
    /// UUID of the offering that it works for.
    offering: String,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_restarted: Option<DateTime<Utc>>,
    dependencies: Vec<Dependency>,
    /// Always empty: the agent's configuration is not kept.
    config_file_path: &'static str,
    /// Always empty: the agent's configuration is not kept.
    config_file_content: &'static str,
    /// Always null: the agent is known by its offering and name.
    created_by: Option<String>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
    services: Vec<ServiceInBrief>,
    compatibility: AgentCompatibility,
}

/// What an agent says of itself.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct AgentIdentityRequest {
    /// UUID, address or slug of the offering.
    offering: ReferenceInput,
    /// The agent's name.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Its version.
    #[schema(max_length = 50)]
    version: Option<String>,
    /// When it was started.
    last_restarted: Option<InstantInput>,
    /// Its packages: `[{"package", "version"}]`.
    #[schema(max_items = 500)]
    dependencies: Option<Vec<DependencyRequest>>,
    /// Read and not kept.
    config_file_path: Option<String>,
    /// Read and not kept: it may hold keys.
    config_file_content: Option<String>,
}

pub(super) fn show(ctx: &Context, known: &Registered<IdentityFacts>) -> AgentIdentity {
    let facts = &known.facts;
    let state = ctx.app.registry.read();
    let services = state.agents().services().filter(|s| s.facts.agent == facts.agent);
    let dependency =
        |(package, version): (&String, &String)| Dependency { package: package.clone(), version: version.clone() };
    AgentIdentity {
        uuid: facts.agent.to_string(),
        url: ctx.url(COLLECTION, facts.agent),
        offering: facts.offering.to_string(),
        name: facts.name.clone(),
        version: facts.version.clone(),
        last_restarted: facts.last_restarted,
        dependencies: facts.dependencies.iter().map(dependency).collect(),
        config_file_path: "",
        config_file_content: "",
        created_by: None,
        created: known.created,
        modified: known.modified,
        services: services.map(|service| ServiceInBrief::of(ctx, service)).collect(),
        compatibility: compatibility(&facts.version),
    }
}

/// List agents.
#[utoipa::path(get, path = "/api/marketplace-site-agent-identities/", tag = TAG,
    params(PageParams, ("name" = Option<String>, Query, description = "With this name"),
        ("offering_uuid" = Option<String>, Query, description = "Of this offering")),
    responses((status = 200, body = [AgentIdentity])))]
pub async fn list(ctx: Context) -> ApiResult {
    let (name, offering) = (ctx.query.get("name"), ctx.query.uuid::<OfferingId>("offering_uuid")?);
    let seen = seen(&ctx);
    let found: Vec<Registered<IdentityFacts>> = {
        let state = ctx.app.registry.read();
        let wanted = |f: &IdentityFacts| {
            seen(f.offering) && name.is_none_or(|n| f.name == n) && offering.is_none_or(|o| f.offering == o)
        };
        state.agents().identities().filter(|known| wanted(&known.facts)).cloned().collect()
    };
    paged(&ctx, found, |known| show(&ctx, &known))
}

fn dependencies(value: &Json) -> Result<BTreeMap<String, String>, String> {
    let item = |value: &Json| {
        let object = fields::object(value)?;
        let word = |name: &str| object.get(name).map_or(Ok(String::new()), fields::maybe_words(200));
        Ok((word("package")?, word("version")?))
    };
    let packages = fields::list(DEPENDENCIES_MAX, item)(value)?;
    Ok(packages.into_iter().filter(|(package, _)| !package.is_empty()).collect())
}

/// An offering for which the caller may register agents.
fn offering(ctx: &Context, value: &Json) -> Result<OfferingId, String> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let id = resolve::offering(value, &state)?;
    if visibility.reports_for(id) { Ok(id) } else { Err(resolve::NO_SUCH_OBJECT.to_owned()) }
}

/// A package of an agent; what else is said of it is read and not kept.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct DependencyRequest {
    /// Without a name it is passed over.
    #[schema(max_length = 200, nullable = false)]
    package: Option<String>,
    #[schema(max_length = 200, nullable = false)]
    version: Option<String>,
}

/// Reads what an agent says of itself; what is left out stays as it is known.
fn read(fields: &mut Fields, known: IdentityFacts) -> Result<IdentityFacts, ApiError> {
    let version = fields.nullable("version", fields::maybe_words(50)).flatten();
    let last_restarted = fields.nullable("last_restarted", fields::instant).flatten();
    let packages = fields.nullable("dependencies", dependencies).flatten();
    for unkept in ["config_file_path", "config_file_content"] {
        fields.nullable(unkept, fields::raw_text);
    }
    fields.check()?;
    Ok(IdentityFacts {
        version: version.unwrap_or(known.version),
        last_restarted: last_restarted.or(known.last_restarted),
        dependencies: packages.unwrap_or(known.dependencies),
        ..known
    })
}

async fn put(ctx: &Context, status: StatusCode, facts: IdentityFacts) -> ApiResult {
    let agent = facts.agent;
    let put = ctx.app.registry_commands.put_agent(facts, &ctx.meta(None)).await?;
    ctx.visible(put.position).await;
    let known = visible(ctx, agent)?;
    ctx.one(status, &show(ctx, &known))
}

/// Register an agent. The same name again on an offering is the same agent.
#[utoipa::path(post, path = "/api/marketplace-site-agent-identities/", tag = TAG, request_body = AgentIdentityRequest,
    responses((status = 201, body = AgentIdentity), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
pub async fn create(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let offering = fields.required("offering", |value| offering(&ctx, value));
    let name = fields.required("name", fields::words(NAME_CHARS_MAX));
    let (Some(offering), Some(name)) = (offering, name) else {
        fields.check()?;
        return Err(ApiError::NotFound);
    };
    let agent = agent_id(offering, &name);
    let known = ctx.app.registry.read().agents().identity(agent).map(|known| known.facts.clone());
    let new = IdentityFacts {
        agent,
        offering,
        name,
        version: String::new(),
        last_restarted: None,
        dependencies: BTreeMap::new(),
    };
    let facts = read(&mut fields, known.unwrap_or(new))?;
    put(&ctx, StatusCode::CREATED, facts).await
}

/// Show an agent.
#[utoipa::path(get, path = "/api/marketplace-site-agent-identities/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = AgentIdentity), (status = 404, body = ErrorDetail)))]
pub async fn retrieve(ctx: Context, Id(agent): Id<AgentId>) -> ApiResult {
    let known = visible(&ctx, agent)?;
    ctx.one(StatusCode::OK, &show(&ctx, &known))
}

async fn changed(ctx: &Context, agent: AgentId, fields: &mut Fields) -> ApiResult {
    let known = own(ctx, agent)?.facts;
    if fields.optional("offering", |value| offering(ctx, value)).is_some_and(|other| other != known.offering) {
        fields.errors.add("offering", "An agent stays with its offering; register another one there.");
    }
    if fields.optional("name", fields::words(NAME_CHARS_MAX)).is_some_and(|other| other != known.name) {
        fields.errors.add("name", format!("The name does not change; it is {:?}.", known.name));
    }
    let facts = read(fields, known)?;
    put(ctx, StatusCode::OK, facts).await
}

/// Take over what an agent says of itself.
#[utoipa::path(put, path = "/api/marketplace-site-agent-identities/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    request_body = AgentIdentityRequest,
    responses((status = 200, body = AgentIdentity), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn update(ctx: Context, Id(agent): Id<AgentId>, Body(mut fields): Body) -> ApiResult {
    changed(&ctx, agent, &mut fields).await
}

/// Take over some of what an agent says of itself.
#[utoipa::path(patch, path = "/api/marketplace-site-agent-identities/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    request_body = AgentIdentityRequest,
    responses((status = 200, body = AgentIdentity), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn patch(ctx: Context, Id(agent): Id<AgentId>, Body(mut fields): Body) -> ApiResult {
    changed(&ctx, agent, &mut fields).await
}

/// Forget an agent: nothing is sent to its queues any more. It may register again.
#[utoipa::path(delete, path = "/api/marketplace-site-agent-identities/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn destroy(ctx: Context, Id(agent): Id<AgentId>) -> ApiResult {
    own(&ctx, agent)?;
    let removed = ctx.app.registry_commands.remove_agent(agent, &ctx.meta(None)).await?;
    ctx.visible(removed.position).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
