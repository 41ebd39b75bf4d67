//! The queue of an agent: where it is, what it logs in with, which kinds of messages it gets.
//!
//! The agent logs in with the token that it registered the queue with; a rotated token works after the next registration.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, object_types, own};
use crate::dispatch::AgentQueue;
use crate::domain::ids::AgentId;
use crate::events::agent::QueueFacts;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};

/// Where an agent's messages wait.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentQueueRegistration {
    /// What the agent logs in with.
    rmq_username: String,
    queue_name: String,
    vhost: String,
    /// Kinds of messages; empty: all.
    observable_object_types: BTreeSet<String>,
}

impl From<QueueFacts> for AgentQueueRegistration {
    fn from(facts: QueueFacts) -> Self {
        Self {
            rmq_username: facts.login,
            queue_name: facts.queue,
            vhost: facts.vhost,
            observable_object_types: facts.object_types.unwrap_or_default(),
        }
    }
}

/// What the queue is to get.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct AgentQueueRequest {
    /// Kinds of messages; an empty list is all of them, none given leaves it as it is.
    object_types: Option<Vec<String>>,
}

/// Register an agent's queue: 201 if it is new, else 200.
#[utoipa::path(post, path = "/api/marketplace-site-agent-identities/{uuid}/register_queue/", tag = TAG,
    params(("uuid" = String, Path)), request_body = AgentQueueRequest,
    responses((status = 200, body = AgentQueueRegistration), (status = 201, body = AgentQueueRegistration),
        (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn register_queue(ctx: Context, Id(agent): Id<AgentId>, Body(mut fields): Body) -> ApiResult {
    own(&ctx, agent)?;
    let types = fields.nullable("object_types", object_types).flatten();
    fields.check()?;
    let owner = ctx.caller.user;
    let done = ctx.app.registry_commands.register_queue(agent, owner, types.as_ref(), &ctx.meta(None)).await?;
    // The registration stands; a broker that does not answer sets the queue up at the next one, or is set up when a message
    // is to go there.
    if let Err(error) = ctx.app.broker.provision(&AgentQueue::from(&done.part), &ctx.key).await {
        tracing::warn!(%error, queue = done.part.queue, "an agent's queue could not be set up at the broker");
        return Err(ApiError::Unavailable(Box::new(error)));
    }
    ctx.visible(done.position).await;
    ctx.app.publisher.wake();
    let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
    ctx.one(status, &AgentQueueRegistration::from(done.part))
}
