//! Agents up to 1.0.6: one subscription, with its own queue, for each kind of message.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::queues::provision;
use super::{NAME_CHARS_MAX, TAG, own, seen, visible};
use crate::directory::UserRecord;
use crate::domain::ids::{AgentId, OfferingId, SubscriptionId};
use crate::events::agent::SubscriptionFacts;
use crate::http::access::Token;
use crate::http::context::{Body, Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields;
use crate::http::paging::{PageParams, paged};
use crate::http::resolve;
use crate::http::taken::IdInput;
use crate::registry::Registered;

/// The segment of the address.
const COLLECTION: &str = "event-subscriptions";

/// A kind of message.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObservableObject {
    object_type: String,
}

/// A subscription to messages of a kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventSubscription {
    uuid: String,
    url: String,
    /// Address of the user whose token subscribed.
    user: String,
    user_uuid: String,
    user_username: String,
    user_full_name: String,
    description: String,
    source_ip: Option<String>,
    observable_objects: Vec<ObservableObject>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// A queue of a subscription.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventSubscriptionQueue {
    uuid: String,
    url: String,
    event_subscription: String,
    event_subscription_uuid: String,
    offering_uuid: String,
    object_type: String,
    queue_name: String,
    vhost: String,
    created: DateTime<Utc>,
}

/// What is subscribed to.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EventSubscriptionRequest {
    /// Kind of message, such as `resource_periodic_limits`.
    #[schema(min_length = 1, max_length = 100)]
    observable_object_type: String,
    /// What it is for.
    #[schema(max_length = 255)]
    description: Option<String>,
}

/// For which queue.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EventSubscriptionQueueRequest {
    /// The agent's offering.
    offering_uuid: IdInput,
    /// The kind of message that was subscribed to.
    #[schema(min_length = 1, max_length = 100)]
    object_type: String,
}

fn show(ctx: &Context, known: &Registered<SubscriptionFacts>, user: Option<&UserRecord>) -> EventSubscription {
    let facts = &known.facts;
    EventSubscription {
        uuid: facts.subscription.to_string(),
        url: ctx.url(COLLECTION, facts.subscription),
        user: ctx.url("users", facts.owner),
        user_uuid: facts.owner.to_string(),
        user_username: user.map(|u| u.username.clone()).unwrap_or_default(),
        user_full_name: user.map(|u| u.full_name.clone()).unwrap_or_default(),
        description: facts.description.clone(),
        source_ip: None,
        observable_objects: vec![ObservableObject { object_type: facts.object_type.clone() }],
        created: known.created,
        modified: known.modified,
    }
}

fn seen_subscription(ctx: &Context, id: SubscriptionId) -> Result<Registered<SubscriptionFacts>, ApiError> {
    let known = ctx.app.registry.read().agents().subscription(id).cloned().ok_or(ApiError::NotFound)?;
    visible(ctx, known.facts.agent)?;
    Ok(known)
}

async fn shown(ctx: &Context, status: StatusCode, id: SubscriptionId) -> ApiResult {
    let known = seen_subscription(ctx, id)?;
    let user = ctx.app.directory.user(known.facts.owner).await.map_err(ApiError::internal)?;
    ctx.one(status, &show(ctx, &known, user.as_ref()))
}

/// Subscribe an older agent to a kind of message: 201 if that is new, else 200.
#[utoipa::path(post, path = "/api/marketplace-site-agent-identities/{uuid}/register_event_subscription/", tag = TAG,
    params(("uuid" = String, Path)), request_body = EventSubscriptionRequest,
    responses((status = 200, body = EventSubscription), (status = 201, body = EventSubscription),
        (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn register_event_subscription(ctx: Context, Id(agent): Id<AgentId>, Body(mut fields): Body) -> ApiResult {
    own(&ctx, agent)?;
    let object_type = fields.required("observable_object_type", fields::words(100)).unwrap_or_default();
    let description = fields.nullable("description", fields::maybe_words(NAME_CHARS_MAX)).flatten().unwrap_or_default();
    fields.check()?;
    let (owner, meta) = (ctx.caller.user, ctx.meta(None));
    let done = ctx.app.registry_commands.subscribe(agent, owner, &object_type, &description, &meta).await?;
    ctx.visible(done.position).await;
    shown(&ctx, if done.created { StatusCode::CREATED } else { StatusCode::OK }, done.part.subscription).await
}

/// List subscriptions.
#[utoipa::path(get, path = "/api/event-subscriptions/", tag = TAG, params(PageParams),
    responses((status = 200, body = [EventSubscription])))]
pub async fn list(ctx: Context) -> ApiResult {
    let seen = seen(&ctx);
    let found: Vec<Registered<SubscriptionFacts>> = {
        let state = ctx.app.registry.read();
        let agents = state.agents();
        let wanted = |f: &SubscriptionFacts| agents.identity(f.agent).is_some_and(|i| seen(i.facts.offering));
        agents.subscriptions().filter(|known| wanted(&known.facts)).cloned().collect()
    };
    let owners: Vec<_> = found.iter().map(|known| known.facts.owner).collect();
    let users = ctx.app.directory.users(&owners).await.map_err(ApiError::internal)?;
    paged(&ctx, found, |known| show(&ctx, &known, users.get(&known.facts.owner)))
}

/// Show a subscription.
#[utoipa::path(get, path = "/api/event-subscriptions/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = EventSubscription), (status = 404, body = ErrorDetail)))]
pub async fn retrieve(ctx: Context, Id(id): Id<SubscriptionId>) -> ApiResult {
    shown(&ctx, StatusCode::OK, id).await
}

/// Register the queue of a subscription: 201 if it is new, else 200.
#[utoipa::path(post, path = "/api/event-subscriptions/{uuid}/create_queue/", tag = TAG,
    params(("uuid" = String, Path)), request_body = EventSubscriptionQueueRequest,
    responses((status = 200, body = EventSubscriptionQueue), (status = 201, body = EventSubscriptionQueue),
        (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
pub async fn create_queue(ctx: Context, token: Token, Id(id): Id<SubscriptionId>, Body(mut fields): Body) -> ApiResult {
    let subscription = seen_subscription(&ctx, id)?.facts;
    let agent = own(&ctx, subscription.agent)?;
    let offering = fields.required("offering_uuid", |value| {
        let id = resolve::offering(value, &ctx.app.registry.read())?;
        if id == agent.facts.offering { Ok(id) } else { Err(resolve::NO_SUCH_OBJECT.to_owned()) }
    });
    let object_type = fields.required("object_type", fields::words(100)).unwrap_or_default();
    if !object_type.is_empty() && object_type != subscription.object_type {
        let known = &subscription.object_type;
        fields.errors.add("object_type", format!("{object_type:?} was not subscribed to: {known:?} was."));
    }
    fields.check()?;
    if subscription.owner != ctx.caller.user {
        // The login is the subscription, and the password the subscriber's token.
        return Err(ApiError::field("non_field_errors", "Only who subscribed makes the queue of a subscription."));
    }
    let offering: OfferingId = offering.unwrap_or(agent.facts.offering);
    let done = ctx.app.registry_commands.create_queue(&subscription, offering, &ctx.meta(None)).await?;
    ctx.visible(done.position).await;
    provision(&ctx, &done.part, &token).await?;
    let created = ctx.app.registry.read().agents().queue(done.part.consumer).map(|known| known.created);
    let queue = EventSubscriptionQueue {
        uuid: done.part.consumer.to_string(),
        url: ctx.url("event-subscription-queues", done.part.consumer),
        event_subscription: ctx.url(COLLECTION, id),
        event_subscription_uuid: id.to_string(),
        offering_uuid: offering.to_string(),
        object_type: subscription.object_type,
        queue_name: done.part.queue,
        vhost: done.part.vhost,
        created: created.unwrap_or_else(|| ctx.app.clock.now()),
    };
    ctx.one(if done.created { StatusCode::CREATED } else { StatusCode::OK }, &queue)
}
