//! `/api/event-consumers/`: consumers of resource changes: queues of site agents, and webhooks of other systems.
//!
//! Only staff registers webhooks, since the server then calls the given address. The address may contain a key and is
//! never shown. A queue belongs to a site agent, and is created and deleted with its registration.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::access::{Access, Routes};
use super::context::{Body, Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::fields::{self, Fields};
use super::json::Json;
use super::paging::{PageParams, paged};
use super::resolve;
use super::taken::{FiltersInput, IdInput, ScopeKindInput, WordInput};
use crate::clock::IdSource;
use crate::directory::UserRecord;
use crate::dispatch::webhooks::{MESSAGES, Webhook, WebhookScope, WebhookWishes};
use crate::domain::ids::UserId;
use crate::egress::Egress;
use crate::events::agent::QueueFacts;
use crate::registry::Registered;

/// The group in the API's description.
const TAG: &str = "Events";

/// Characters of an address at most.
const URL_CHARS_MAX: usize = 2_000;
/// Scopes, kinds, filters, and values of a filter at most.
const ITEMS_MAX: usize = 100;
/// Characters of a filter's field, and of a value.
const VALUE_CHARS_MAX: usize = 255;
/// Webhooks at most.
const WEBHOOKS_MAX: usize = 100;

/// Kinds of messages that Waldur's clients know; those of which Sluice has none are taken and never come.
const KINDS: &str = "call, course_account, importable_resources, offering_resources_sync, offering_user, order, proposal, \
                     resource, resource_api_key_rotation, resource_end_date_change_request, resource_periodic_limits, \
                     service_account, service_provider_account, service_provider_project_group, user_lifecycle, \
                     user_profile, user_role, user_ssh_key";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list))
        .add(Access::SignedIn, routes!(register))
        .add(Access::Staff, routes!(register_webhook))
        .add(Access::Staff, routes!(update_webhook))
        .add(Access::Staff, routes!(resync))
        .add(Access::Staff, routes!(destroy))
}

/// Whose resources a consumer hears of.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventConsumerScope {
    /// `customer`, `project` or `offering`.
    #[serde(rename = "type")]
    kind: &'static str,
    uuid: String,
}

/// Somebody who hears of resources as they change.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventConsumer {
    uuid: String,
    /// Kinds of messages; empty: all.
    object_types: BTreeSet<String>,
    scopes: Vec<EventConsumerScope>,
    /// Everybody's resources.
    is_global: bool,
    /// What an agent logs in with; empty for a webhook.
    rmq_username: String,
    queue_created: bool,
    user_uuid: String,
    user_username: String,
    user_full_name: String,
    user_is_staff: bool,
    auth_kind: &'static str,
    auth_token_prefix: &'static str,
    auth_token_name: &'static str,
    authorized_via: &'static str,
    /// Why nothing is sent any more.
    delivery_blocked_reason: Option<String>,
    /// `rmq` or `webhook`.
    delivery: &'static str,
    /// Scheme and host.
    webhook_destination: Option<String>,
    #[schema(value_type = BTreeMap<String, Vec<Value>>)]
    payload_filters: BTreeMap<String, Vec<Value>>,
    last_delivered_at: Option<DateTime<Utc>>,
    last_error: String,
    last_error_at: Option<DateTime<Utc>>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
}

/// Whose resources a webhook is to hear of.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EventConsumerScopeRequest {
    /// What it is.
    r#type: ScopeKindInput,
    /// Which.
    uuid: IdInput,
}

/// A webhook that is to be registered.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EventConsumerWebhookRequest {
    /// `https://…` or `http://…`; it may hold a key, and is never shown.
    #[schema(min_length = 1, max_length = 2_000, pattern = "^https?://")]
    webhook_url: String,
    /// A message is sent only if each of these of its fields has one of the values: `{"paused": [true]}`.
    #[schema(nullable = false)]
    payload_filters: Option<FiltersInput>,
    /// Kinds of messages; empty, or left out: all.
    #[schema(nullable = false, max_items = 100)]
    object_types: Option<Vec<WordInput>>,
    /// `[{"type": "customer" | "project" | "offering", "uuid": …}]`; empty, or left out: everybody's resources.
    #[schema(nullable = false, max_items = 100)]
    scopes: Option<Vec<EventConsumerScopeRequest>>,
}

/// What a webhook is to become; what is left out stays.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct EventConsumerWebhookUpdateRequest {
    #[schema(min_length = 1, max_length = 2_000, pattern = "^https?://", nullable = false)]
    webhook_url: Option<String>,
    #[schema(nullable = false)]
    payload_filters: Option<FiltersInput>,
    #[schema(nullable = false, max_items = 100)]
    object_types: Option<Vec<WordInput>>,
}

/// Of which kinds the present state is sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventConsumerResyncResponse {
    object_types: BTreeSet<String>,
}

fn scope(scope: &WebhookScope) -> EventConsumerScope {
    let (kind, uuid) = match scope {
        WebhookScope::Customer(id) => ("customer", id.to_string()),
        WebhookScope::Project(id) => ("project", id.to_string()),
        WebhookScope::Offering(id) => ("offering", id.to_string()),
    };
    EventConsumerScope { kind, uuid }
}

fn of_webhook(webhook: Webhook, user: Option<&UserRecord>) -> EventConsumer {
    let wishes = webhook.wishes;
    EventConsumer {
        uuid: webhook.id.as_simple().to_string(),
        scopes: wishes.scopes.iter().map(scope).collect(),
        is_global: wishes.scopes.is_empty(),
        rmq_username: String::new(),
        queue_created: false,
        user_uuid: webhook.owner.to_string(),
        user_username: user.map(|u| u.username.clone()).unwrap_or_default(),
        user_full_name: user.map(|u| u.full_name.clone()).unwrap_or_default(),
        user_is_staff: true,
        auth_kind: "token",
        auth_token_prefix: "",
        auth_token_name: "",
        authorized_via: "staff",
        delivery_blocked_reason: webhook.blocked,
        delivery: "webhook",
        webhook_destination: Some(wishes.destination()),
        object_types: wishes.object_types,
        payload_filters: wishes.payload_filters,
        last_delivered_at: webhook.delivered_at,
        last_error: webhook.error,
        last_error_at: webhook.error_at,
        created: webhook.created,
        modified: webhook.modified,
    }
}

fn of_queue(known: &Registered<QueueFacts>, user: Option<&UserRecord>) -> EventConsumer {
    let facts = &known.facts;
    EventConsumer {
        uuid: facts.consumer.to_string(),
        object_types: facts.object_types.clone().unwrap_or_default(),
        scopes: vec![EventConsumerScope { kind: "offering", uuid: facts.offering.to_string() }],
        is_global: false,
        rmq_username: facts.login.clone(),
        queue_created: true,
        user_uuid: facts.owner.to_string(),
        user_username: user.map(|u| u.username.clone()).unwrap_or_default(),
        user_full_name: user.map(|u| u.full_name.clone()).unwrap_or_default(),
        user_is_staff: false,
        auth_kind: "token",
        auth_token_prefix: "",
        auth_token_name: "",
        authorized_via: "scope_role",
        delivery_blocked_reason: None,
        delivery: "rmq",
        webhook_destination: None,
        payload_filters: BTreeMap::new(),
        last_delivered_at: None,
        last_error: String::new(),
        last_error_at: None,
        created: known.created,
        modified: known.modified,
    }
}

/// A consumer that may be on a page.
enum Row {
    Webhook(Box<Webhook>),
    Queue(Box<Registered<QueueFacts>>),
}

impl Row {
    fn owner(&self) -> UserId {
        match self {
            Self::Webhook(webhook) => webhook.owner,
            Self::Queue(queue) => queue.facts.owner,
        }
    }
}

/// List consumers: the queues of agents that the caller sees, and for staff and support the webhooks.
#[utoipa::path(get, path = "/api/event-consumers/", tag = TAG,
    params(PageParams, ("delivery" = Option<String>, Query, description = "`rmq` or `webhook`"),
        ("is_global" = Option<bool>, Query), ("user_uuid" = Option<String>, Query), ("user_username" = Option<String>, Query)),
    responses((status = 200, body = [EventConsumer]), (status = 400, body = ErrorFields)))]
async fn list(ctx: Context) -> ApiResult {
    let known = |word: &str| matches!(word, "rmq" | "webhook").then(|| word.to_owned());
    let delivery = ctx.query.read("delivery", "rmq, webhook", known)?;
    let (global, user) = (ctx.query.boolean("is_global")?, ctx.query.uuid::<UserId>("user_uuid")?);
    let wants = |kind: &str| delivery.as_ref().is_none_or(|wanted| wanted == kind);
    let mut rows: Vec<Row> = Vec::new();
    if wants("webhook") && ctx.visibility().all {
        let webhooks = ctx.app.webhooks.consumers().all().await.map_err(ApiError::internal)?;
        let found = webhooks.into_iter().filter(|w| global.is_none_or(|global| global == w.wishes.scopes.is_empty()));
        rows.extend(found.map(|webhook| Row::Webhook(Box::new(webhook))));
    }
    if wants("rmq") && global != Some(true) {
        let state = ctx.app.registry.read();
        let visibility = ctx.visibility_in(&state);
        let seen = state.agents().queues().filter(|queue| visibility.offering_id(queue.facts.offering, &state));
        rows.extend(seen.map(|queue| Row::Queue(Box::new(queue.clone()))));
    }
    let owners: Vec<UserId> = rows.iter().map(Row::owner).collect();
    let users = ctx.app.directory.users(&owners).await.map_err(ApiError::internal)?;
    let name = ctx.query.get("user_username");
    rows.retain(|row| {
        let owner = row.owner();
        user.is_none_or(|user| user == owner)
            && name.is_none_or(|name| users.get(&owner).is_some_and(|user| user.username == name))
    });
    paged(&ctx, rows, |row| match row {
        Row::Webhook(webhook) => {
            let user = users.get(&webhook.owner);
            of_webhook(*webhook, user)
        }
        Row::Queue(queue) => of_queue(&queue, users.get(&queue.facts.owner)),
    })
}

fn address(value: &Json, egress: &Egress) -> Result<String, String> {
    let text = fields::words(URL_CHARS_MAX)(value)?;
    let url = reqwest::Url::parse(&text).map_err(|error| format!("Enter a valid URL: {error}."))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("Enter a valid URL: it begins with https:// or http:// and names a host.".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("A name and password in the address are not sent; put a key into its path or query.".to_owned());
    }
    egress.check_url(&url).map_err(|denied| format!("Enter an address that may be called: {denied}."))?;
    Ok(url.into())
}

fn object_types(value: &Json) -> Result<BTreeSet<String>, String> {
    let kind = |value: &Json| {
        let word = fields::words(100)(value)?;
        let known = KINDS.split(',').any(|known| known.trim() == word);
        if known { Ok(word) } else { Err(format!("{word:?} is not a valid choice. Allowed: {KINDS}.")) }
    };
    Ok(fields::list(ITEMS_MAX, kind)(value)?.into_iter().collect())
}

/// A value that a field of a message may have: text, a number, true or false, null.
fn plain(value: &Json) -> Result<Value, String> {
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(value) => json!(value),
        Json::Text(_) => json!(fields::maybe_words(VALUE_CHARS_MAX)(value)?),
        Json::Number(text) => serde_json::from_str(text).map_err(|_| format!("{text} is not a number."))?,
        other => return Err(format!("Expected text, a number, true, false or null, but got {}.", other.kind())),
    })
}

fn filters(value: &Json) -> Result<BTreeMap<String, Vec<Value>>, String> {
    let object = fields::object(value)?;
    if object.len() > ITEMS_MAX {
        return Err(fields::too_many(object.len(), ITEMS_MAX));
    }
    let one = |(field, values): (String, Json)| {
        let field = fields::words(VALUE_CHARS_MAX)(&Json::Text(field))?;
        let values = fields::list(ITEMS_MAX, plain)(&values);
        values.map(|values| (field.clone(), values)).map_err(|message| format!("{field}: {message}"))
    };
    object.into_iter().map(one).collect()
}

fn scopes(ctx: &Context, value: &Json) -> Result<Vec<WebhookScope>, String> {
    let one = |value: &Json| {
        let object = fields::object(value)?;
        let part = |name: &str| object.get(name).ok_or_else(|| format!("{name}: {}", fields::REQUIRED));
        let (kind, id) = (fields::words(50)(part("type")?)?, Json::Text(fields::uuid(part("uuid")?)?.to_string()));
        let state = ctx.app.registry.read();
        match kind.as_str() {
            "customer" => resolve::customer(&id, &state).map(WebhookScope::Customer),
            "project" => resolve::project(&id, &state).map(WebhookScope::Project),
            "offering" => resolve::offering(&id, &state).map(WebhookScope::Offering),
            other => Err(format!("{other:?} is not a valid choice. Allowed: customer, project, offering.")),
        }
    };
    fields::list(ITEMS_MAX, one)(value)
}

/// Queues are for site agents.
#[utoipa::path(post, path = "/api/event-consumers/register/", tag = TAG,
    responses((status = 400, body = ErrorFields, description = "Always: a queue comes with the registration of a site agent")))]
async fn register(_: Context) -> ApiResult {
    let message = "A queue comes with the registration of a site agent (…/marketplace-site-agent-identities/{uuid}/register_queue/); \
                   other systems take a webhook (register_webhook/).";
    Err(ApiError::field("non_field_errors", message))
}

async fn shown(ctx: &Context, status: StatusCode, id: Uuid) -> ApiResult {
    let webhook = webhook(ctx, id).await?;
    let user = ctx.app.directory.user(webhook.owner).await.map_err(ApiError::internal)?;
    ctx.one(status, &of_webhook(webhook, user.as_ref()))
}

/// A webhook; an agent's queue is none.
async fn webhook(ctx: &Context, id: Uuid) -> Result<Webhook, ApiError> {
    if let Some(webhook) = ctx.app.webhooks.consumers().get(id).await.map_err(ApiError::internal)? {
        return Ok(webhook);
    }
    let queue = ctx.app.registry.read().agents().queue(id.into()).is_some();
    let message = "This is the queue of a site agent: it goes with the agent's identity, and the settings sync repeats what it missed.";
    Err(if queue { ApiError::field("non_field_errors", message) } else { ApiError::NotFound })
}

/// Register a webhook. It hears of everything from now on.
#[utoipa::path(post, path = "/api/event-consumers/register_webhook/", tag = TAG, request_body = EventConsumerWebhookRequest,
    responses((status = 201, body = EventConsumer), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn register_webhook(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let url = fields.required("webhook_url", |value| address(value, ctx.app.webhooks.egress()));
    let wishes = WebhookWishes {
        url: url.unwrap_or_default(),
        object_types: fields.optional("object_types", object_types).unwrap_or_default(),
        scopes: fields.optional("scopes", |value| scopes(&ctx, value)).unwrap_or_default(),
        payload_filters: fields.optional("payload_filters", filters).unwrap_or_default(),
    };
    let consumers = ctx.app.webhooks.consumers();
    if consumers.all().await.map_err(ApiError::internal)?.len() >= WEBHOOKS_MAX {
        fields
            .errors
            .add("non_field_errors", format!("There are {WEBHOOKS_MAX} webhooks already, which is the most allowed."));
    }
    fields.check()?;
    let now = ctx.app.clock.now();
    let webhook = Webhook {
        id: IdSource.fresh(),
        owner: ctx.caller.user,
        wishes,
        position: ctx.app.store.head().await?,
        resync: None,
        delivered_at: None,
        error: String::new(),
        error_at: None,
        attempts: 0,
        blocked: None,
        created: now,
        modified: now,
    };
    consumers.put(&webhook).await.map_err(ApiError::internal)?;
    ctx.app.webhooks.wake(webhook.id);
    shown(&ctx, StatusCode::CREATED, webhook.id).await
}

/// What of a webhook is to change.
fn changed(ctx: &Context, fields: &mut Fields, known: WebhookWishes) -> WebhookWishes {
    let url = fields.optional("webhook_url", |value| address(value, ctx.app.webhooks.egress()));
    let types = fields.optional("object_types", object_types);
    let filtered = fields.optional("payload_filters", filters);
    if fields.has("scopes") {
        fields.errors.add("scopes", "The scopes of a webhook stay; register another one.");
    }
    WebhookWishes {
        url: url.unwrap_or(known.url),
        object_types: types.unwrap_or(known.object_types),
        payload_filters: filtered.unwrap_or(known.payload_filters),
        scopes: known.scopes,
    }
}

/// Change a webhook; what is left out stays. One that was blocked begins again.
#[utoipa::path(post, path = "/api/event-consumers/{uuid}/update_webhook/", tag = TAG, params(("uuid" = String, Path)),
    request_body = EventConsumerWebhookUpdateRequest,
    responses((status = 200, body = EventConsumer), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn update_webhook(ctx: Context, Id(id): Id<Uuid>, Body(mut fields): Body) -> ApiResult {
    let wishes = changed(&ctx, &mut fields, webhook(&ctx, id).await?.wishes);
    fields.check()?;
    ctx.app.webhooks.consumers().change(id, &wishes, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
    ctx.app.webhooks.wake(id);
    shown(&ctx, StatusCode::OK, id).await
}

/// Send a webhook the present state of every resource that it hears of. One that was blocked begins again.
#[utoipa::path(post, path = "/api/event-consumers/{uuid}/resync/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 202, body = EventConsumerResyncResponse), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn resync(ctx: Context, Id(id): Id<Uuid>) -> ApiResult {
    let wishes = webhook(&ctx, id).await?.wishes;
    let taken = MESSAGES.into_iter().filter(|kind| wishes.takes(*kind));
    let object_types: BTreeSet<String> = taken.map(|kind| kind.as_str().to_owned()).collect();
    ctx.app.webhooks.consumers().ask_resync(id, &object_types).await.map_err(ApiError::internal)?;
    ctx.app.webhooks.wake(id);
    ctx.one(StatusCode::ACCEPTED, &EventConsumerResyncResponse { object_types })
}

/// Forget a webhook.
#[utoipa::path(delete, path = "/api/event-consumers/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 204), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn destroy(ctx: Context, Id(id): Id<Uuid>) -> ApiResult {
    webhook(&ctx, id).await?;
    ctx.app.webhooks.consumers().remove(id).await.map_err(ApiError::internal)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
