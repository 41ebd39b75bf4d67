//! `/api/marketplace-site-agent-services/`: the services of agents.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::processors::ProcessorInBrief;
use super::{NAME_CHARS_MAX, TAG, own, seen, visible};
use crate::domain::ids::{AgentId, AgentServiceId};
use crate::events::agent::ServiceFacts;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields;
use crate::http::paging::{PageParams, paged};
use crate::registry::Registered;

/// The segment of the address.
pub const COLLECTION: &str = "marketplace-site-agent-services";

/// A service, as its agent shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceInBrief {
    uuid: String,
    url: String,
    name: String,
    /// `event_process`, `report`, `membership_sync` or `order_process`.
    mode: String,
    state: &'static str,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

impl ServiceInBrief {
    pub(super) fn of(ctx: &Context, known: &Registered<ServiceFacts>) -> Self {
        let facts = &known.facts;
        Self {
            uuid: facts.service.to_string(),
            url: ctx.url(COLLECTION, facts.service),
            name: facts.name.clone(),
            mode: facts.mode.clone(),
            state: "Active",
            created: known.created,
            modified: known.modified,
        }
    }
}

/// Something that an agent runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentService {
    #[serde(flatten)]
    brief: ServiceInBrief,
    /// UUID of the agent.
    identity: String,
    identity_name: String,
    /// Always empty.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    statistics: BTreeMap<String, Value>,
    processors: Vec<ProcessorInBrief>,
}

/// What is registered.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct AgentServiceRequest {
    /// Its name: one service per agent and name.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// `event_process`, `report`, `membership_sync` or `order_process`.
    #[schema(max_length = 255, nullable = false)]
    mode: Option<String>,
}

fn show(ctx: &Context, known: &Registered<ServiceFacts>) -> AgentService {
    let state = ctx.app.registry.read();
    let agents = state.agents();
    AgentService {
        brief: ServiceInBrief::of(ctx, known),
        identity: known.facts.agent.to_string(),
        identity_name: agents.identity(known.facts.agent).map(|i| i.facts.name.clone()).unwrap_or_default(),
        statistics: BTreeMap::new(),
        processors: agents
            .processors()
            .filter(|p| p.facts.service == known.facts.service)
            .map(|p| ProcessorInBrief::of(ctx, p))
            .collect(),
    }
}

/// A service that the caller sees.
pub(super) fn seen_service(ctx: &Context, service: AgentServiceId) -> Result<Registered<ServiceFacts>, ApiError> {
    let known = ctx.app.registry.read().agents().service(service).cloned().ok_or(ApiError::NotFound)?;
    visible(ctx, known.facts.agent)?;
    Ok(known)
}

/// Register what an agent runs: 201 if it is new, else 200.
#[utoipa::path(post, path = "/api/marketplace-site-agent-identities/{uuid}/register_service/", tag = TAG,
    params(("uuid" = String, Path)), request_body = AgentServiceRequest,
    responses((status = 200, body = AgentService), (status = 201, body = AgentService), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn register_service(ctx: Context, Id(agent): Id<AgentId>, Body(mut fields): Body) -> ApiResult {
    own(&ctx, agent)?;
    let name = fields.required("name", fields::words(NAME_CHARS_MAX)).unwrap_or_default();
    let mode = fields.optional("mode", fields::maybe_words(NAME_CHARS_MAX)).unwrap_or_default();
    fields.check()?;
    let done = ctx.app.registry_commands.register_service(agent, &name, &mode, &ctx.meta(None)).await?;
    ctx.visible(done.position).await;
    let known = seen_service(&ctx, done.part.service)?;
    ctx.one(if done.created { StatusCode::CREATED } else { StatusCode::OK }, &show(&ctx, &known))
}

/// List what agents run.
#[utoipa::path(get, path = "/api/marketplace-site-agent-services/", tag = TAG,
    params(PageParams, ("identity_uuid" = Option<String>, Query, description = "Of this agent")),
    responses((status = 200, body = [AgentService])))]
pub async fn list(ctx: Context) -> ApiResult {
    let agent: Option<AgentId> = ctx.query.uuid("identity_uuid")?;
    let seen = seen(&ctx);
    let found: Vec<Registered<ServiceFacts>> = {
        let state = ctx.app.registry.read();
        let agents = state.agents();
        let wanted = |f: &ServiceFacts| {
            agent.is_none_or(|a| f.agent == a) && agents.identity(f.agent).is_some_and(|i| seen(i.facts.offering))
        };
        agents.services().filter(|known| wanted(&known.facts)).cloned().collect()
    };
    paged(&ctx, found, |known| show(&ctx, &known))
}

/// Show what an agent runs.
#[utoipa::path(get, path = "/api/marketplace-site-agent-services/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = AgentService), (status = 404, body = ErrorDetail)))]
pub async fn retrieve(ctx: Context, Id(service): Id<AgentServiceId>) -> ApiResult {
    let known = seen_service(&ctx, service)?;
    ctx.one(StatusCode::OK, &show(&ctx, &known))
}
