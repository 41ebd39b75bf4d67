//! An agent's queue: its address, its credentials, and the kinds of messages it receives.
//!
//! The agent logs in with the token that registered the queue; a rotated token works after the next registration. If
//! the broker is unreachable, the registration fails, so that the agent retries.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, object_types, own};
use crate::dispatch::AgentQueue;
use crate::domain::ids::AgentId;
use crate::events::agent::QueueFacts;
use crate::http::access::Token;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::taken::WordInput;

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

/// The kinds of messages for the queue.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct AgentQueueRequest {
    /// Kinds of messages; an empty list is all of them, none given leaves it as it is.
    #[schema(max_items = 100)]
    object_types: Option<Vec<WordInput>>,
}

/// Makes sure that the broker has the queue, and that the agent can log in with its token.
pub(super) async fn provision(ctx: &Context, facts: &QueueFacts, token: &Token) -> Result<(), ApiError> {
    let queue = AgentQueue::from(facts);
    ctx.app.broker.provision(&queue, &token.0).await.map_err(|error| ApiError::Unavailable(Box::new(error)))
}

/// An agent for which the caller registers a queue. One that was forgotten comes back: it runs, and learnt from the broker
/// that its queue is gone.
async fn known_again(ctx: &Context, agent: AgentId) -> Result<(), ApiError> {
    let unknown = match own(ctx, agent) {
        Err(error @ ApiError::NotFound) => error,
        other => return other.map(|_| ()),
    };
    let Some(facts) = ctx.app.registry_commands.forgotten_agent(agent).await? else { return Err(unknown) };
    let offered = {
        let state = ctx.app.registry.read();
        let lives = state.offering(facts.offering).is_some_and(|o| !o.facts.facts.retired);
        lives && ctx.visibility_in(&state).reports_for(facts.offering)
    };
    if !offered {
        return Err(unknown);
    }
    let put = ctx.app.registry_commands.put_agent(facts, &ctx.meta(None)).await?;
    ctx.visible(put.position).await;
    own(ctx, agent).map(|_| ())
}

/// Register an agent's queue: 201 if it is new, else 200. An agent that was forgotten is registered again with it.
#[utoipa::path(post, path = "/api/marketplace-site-agent-identities/{uuid}/register_queue/", tag = TAG,
    params(("uuid" = String, Path)), request_body = AgentQueueRequest,
    responses((status = 200, body = AgentQueueRegistration), (status = 201, body = AgentQueueRegistration),
        (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn register_queue(ctx: Context, token: Token, Id(agent): Id<AgentId>, Body(mut fields): Body) -> ApiResult {
    known_again(&ctx, agent).await?;
    let types = fields.nullable("object_types", object_types).flatten();
    fields.check()?;
    let owner = ctx.caller.user;
    let done = ctx.app.registry_commands.register_queue(agent, owner, types.as_ref(), &ctx.meta(None)).await?;
    ctx.visible(done.position).await;
    provision(&ctx, &done.part, &token).await?;
    ctx.app.publisher.wake();
    let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
    ctx.one(status, &AgentQueueRegistration::from(done.part))
}
