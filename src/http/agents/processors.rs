//! `/api/marketplace-site-agent-processors/`: the processors of agents' services, with their backends.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::services::seen_service;
use super::{NAME_CHARS_MAX, TAG, own, seen, visible};
use crate::domain::ids::{AgentProcessorId, AgentServiceId};
use crate::events::agent::ProcessorFacts;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields;
use crate::http::paging::{PageParams, paged};
use crate::registry::Registered;

/// The segment of the address.
const COLLECTION: &str = "marketplace-site-agent-processors";

/// A processor, as its service shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProcessorInBrief {
    uuid: String,
    url: String,
    name: String,
    /// The class of the backend.
    backend_type: String,
    backend_version: String,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

impl ProcessorInBrief {
    pub(super) fn of(ctx: &Context, known: &Registered<ProcessorFacts>) -> Self {
        let facts = &known.facts;
        Self {
            uuid: facts.processor.to_string(),
            url: ctx.url(COLLECTION, facts.processor),
            name: facts.name.clone(),
            backend_type: facts.backend_type.clone(),
            backend_version: facts.backend_version.clone(),
            created: known.created,
            modified: known.modified,
        }
    }
}

/// A part of a service.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentProcessor {
    #[serde(flatten)]
    brief: ProcessorInBrief,
    /// UUID of the service.
    service: String,
    service_name: String,
}

/// What is registered.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct AgentProcessorRequest {
    /// Its name: one processor per service and name.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// The class of the backend.
    #[schema(min_length = 1, max_length = 255)]
    backend_type: String,
    /// The backend's version.
    #[schema(max_length = 50)]
    backend_version: Option<String>,
}

fn show(ctx: &Context, known: &Registered<ProcessorFacts>) -> AgentProcessor {
    let state = ctx.app.registry.read();
    let service = state.agents().service(known.facts.service);
    AgentProcessor {
        brief: ProcessorInBrief::of(ctx, known),
        service: known.facts.service.to_string(),
        service_name: service.map(|s| s.facts.name.clone()).unwrap_or_default(),
    }
}

fn seen_processor(ctx: &Context, processor: AgentProcessorId) -> Result<Registered<ProcessorFacts>, ApiError> {
    let known = ctx.app.registry.read().agents().processor(processor).cloned().ok_or(ApiError::NotFound)?;
    visible(ctx, known.facts.agent)?;
    Ok(known)
}

/// Register a part of a service: 201 if it is new, else 200.
#[utoipa::path(post, path = "/api/marketplace-site-agent-services/{uuid}/register_processor/", tag = TAG,
    params(("uuid" = String, Path)), request_body = AgentProcessorRequest,
    responses((status = 200, body = AgentProcessor), (status = 201, body = AgentProcessor), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn register_processor(ctx: Context, Id(service): Id<AgentServiceId>, Body(mut fields): Body) -> ApiResult {
    let service = seen_service(&ctx, service)?.facts;
    own(&ctx, service.agent)?;
    let name = fields.required("name", fields::words(NAME_CHARS_MAX)).unwrap_or_default();
    let backend_type = fields.required("backend_type", fields::words(NAME_CHARS_MAX)).unwrap_or_default();
    let version = fields.nullable("backend_version", fields::maybe_words(50)).flatten().unwrap_or_default();
    fields.check()?;
    let backend = (backend_type.as_str(), version.as_str());
    let done = ctx.app.registry_commands.register_processor(&service, &name, backend, &ctx.meta(None)).await?;
    ctx.visible(done.position).await;
    let known = seen_processor(&ctx, done.part.processor)?;
    ctx.one(if done.created { StatusCode::CREATED } else { StatusCode::OK }, &show(&ctx, &known))
}

/// List parts of services.
#[utoipa::path(get, path = "/api/marketplace-site-agent-processors/", tag = TAG,
    params(PageParams, ("service_uuid" = Option<String>, Query, description = "Of this service")),
    responses((status = 200, body = [AgentProcessor])))]
pub async fn list(ctx: Context) -> ApiResult {
    let service: Option<AgentServiceId> = ctx.query.uuid("service_uuid")?;
    let seen = seen(&ctx);
    let found: Vec<Registered<ProcessorFacts>> = {
        let state = ctx.app.registry.read();
        let agents = state.agents();
        let wanted = |f: &ProcessorFacts| {
            service.is_none_or(|s| f.service == s) && agents.identity(f.agent).is_some_and(|i| seen(i.facts.offering))
        };
        agents.processors().filter(|known| wanted(&known.facts)).cloned().collect()
    };
    paged(&ctx, found, |known| show(&ctx, &known))
}

/// Show a part of a service.
#[utoipa::path(get, path = "/api/marketplace-site-agent-processors/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = AgentProcessor), (status = 404, body = ErrorDetail)))]
pub async fn retrieve(ctx: Context, Id(processor): Id<AgentProcessorId>) -> ApiResult {
    let known = seen_processor(&ctx, processor)?;
    ctx.one(StatusCode::OK, &show(&ctx, &known))
}
