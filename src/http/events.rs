//! `/api/events/`: the event log itself, in order, filtered, and as a live tail.
//!
//! Pages go by position: `after` is where the last page ended. A filter that matches little costs a bounded scan per page, so a
//! page may be short, or empty, with more behind it; `X-Next-Position` says where to go on, and is absent at the head.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::Stream;
use serde::Serialize;
use utoipa_axum::routes;
use uuid::Uuid;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::policies::span;
use super::state::ApiState;
use crate::app::App;
use crate::domain::ids::{PolicyId, ResourceId};
use crate::events::envelope::{Position, RecordedEvent};
use crate::projections::Span;
use crate::registry::book_of;

/// Events that one page reads at most, whatever matches.
const SCAN_MAX: usize = 20_000;

/// Events read at a time.
const READ: usize = 1_000;

/// Events on a page unless asked otherwise, and at most.
const PAGE: usize = 100;

/// The name under which Waldur's users know an evaluation.
const POLICY_EVALUATION: &str = "SLURM_POLICY_EVALUATION";

/// Where the next page begins.
const X_NEXT_POSITION: HeaderName = HeaderName::from_static("x-next-position");

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Support, routes!(list)).add(Access::Support, routes!(tail))
}

/// Who caused an event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct EventActor {
    /// staff, support, owner, member, agent, system or cli.
    kind: &'static str,
    /// Opaque id; the directory resolves it.
    uuid: Option<String>,
}

/// An event of the log.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct LoggedEvent {
    /// Where it stands in the log; opaque, in order.
    position: String,
    uuid: String,
    /// The stored type with its version.
    #[serde(rename = "type")]
    event_type: String,
    /// The name on Waldur's feed, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_name: Option<&'static str>,
    /// One sentence, where the event has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    stream: String,
    /// Where it stands in the stream, from 1.
    version: u64,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    actor: EventActor,
    correlation_id: String,
    causation_id: Option<String>,
    reason: Option<String>,
    resource_uuid: Option<String>,
    /// What it says; null once disposed of.
    payload: serde_json::Value,
    /// SHA-256 over salt and payload, hex.
    commitment: String,
}

impl LoggedEvent {
    fn of(event: &RecordedEvent) -> Self {
        let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap_or_default();
        let evaluation = is_evaluation(&event.event_type);
        let message = payload.pointer("/outcome/explanation").or_else(|| payload.get("error")).and_then(|m| m.as_str());
        Self {
            position: event.position.to_string(),
            uuid: event.event_id.as_simple().to_string(),
            event_type: event.event_type.to_string(),
            event_name: evaluation.then_some(POLICY_EVALUATION),
            message: message.filter(|_| evaluation).map(str::to_owned),
            stream: event.stream.to_string(),
            version: event.version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            actor: EventActor {
                kind: event.metadata.actor.kind.as_str(),
                uuid: event.metadata.actor.id.map(|id| id.as_simple().to_string()),
            },
            correlation_id: event.metadata.correlation_id.as_simple().to_string(),
            causation_id: event.metadata.causation_id.map(|id| id.as_simple().to_string()),
            reason: event.metadata.reason.as_deref().map(str::to_owned),
            resource_uuid: book_of(event.stream.as_str()).map(|(resource, _)| resource.to_string()),
            payload,
            commitment: hex(&event.commitment),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn is_evaluation(event_type: &str) -> bool {
    matches!(event_type, "policy_evaluated.v1" | "evaluation_failed.v1")
}

/// What somebody wants to see.
#[derive(Debug, Clone)]
struct Filter {
    types: Vec<String>,
    resource: Option<ResourceId>,
    policy: Option<String>,
    actor: Option<Uuid>,
    correlation: Option<Uuid>,
    span: Span,
}

impl Filter {
    fn of(ctx: &Context) -> Result<Self, ApiError> {
        Ok(Self {
            types: ctx.query.all("type").map(str::to_owned).collect(),
            resource: ctx.query.uuid("resource_uuid")?,
            policy: ctx.query.uuid::<PolicyId>("policy_uuid")?.map(|id| id.to_string()),
            actor: ctx.query.uuid("actor_uuid")?,
            correlation: ctx.query.uuid("correlation_id")?,
            span: span(ctx)?,
        })
    }

    fn wants(&self, event: &RecordedEvent) -> bool {
        self.wants_type(&event.event_type)
            && self.resource.is_none_or(|r| book_of(event.stream.as_str()).is_some_and(|(of, _)| of == r))
            && self
                .policy
                .as_ref()
                .is_none_or(|p| event.stream.as_str().ends_with(p.as_str()) || event.payload.contains(p.as_str()))
            && self.actor.is_none_or(|a| event.metadata.actor.id == Some(a))
            && self.correlation.is_none_or(|c| event.metadata.correlation_id == c)
            && self.span.from.is_none_or(|from| event.occurred_at >= from)
            && self.span.to.is_none_or(|to| event.occurred_at < to)
    }

    /// A type is asked for with or without its version, or by Waldur's name.
    fn wants_type(&self, event_type: &str) -> bool {
        let named = |wanted: &String| {
            wanted == event_type
                || event_type.rsplit_once('.').is_some_and(|(bare, _)| bare == wanted)
                || (wanted == POLICY_EVALUATION && is_evaluation(event_type))
        };
        self.types.is_empty() || self.types.iter().any(named)
    }
}

fn position_in(ctx: &Context, name: &str) -> Result<Option<Position>, ApiError> {
    ctx.query.read(name, "a position as `position` and X-Next-Position give it", |text| text.parse().ok())
}

/// Events in the order of the log, after a position.
#[utoipa::path(get, path = "/api/events/", tag = "Events",
    params(
        ("after" = Option<String>, Query, description = "Position to go on after; the start of the log unless given"),
        ("page_size" = Option<u32>, Query, description = "1 to 100"),
        ("type" = Option<Vec<String>>, Query, description = "Type with or without version, or SLURM_POLICY_EVALUATION; repeatable"),
        ("resource_uuid" = Option<String>, Query), ("policy_uuid" = Option<String>, Query),
        ("actor_uuid" = Option<String>, Query), ("correlation_id" = Option<String>, Query),
        ("from" = Option<String>, Query, description = "Occurred at or after"), ("to" = Option<String>, Query, description = "Occurred before")),
    responses((status = 200, body = Vec<LoggedEvent>), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let filter = Filter::of(&ctx)?;
    let size = |text: &str| text.parse().ok().filter(|n| (1..=PAGE).contains(n));
    let size = ctx.query.read("page_size", "a whole number from 1 to 100", size)?.unwrap_or(PAGE);
    let mut after = position_in(&ctx, "after")?.unwrap_or(Position::START);
    let (mut found, mut scanned, mut more) = (Vec::with_capacity(size), 0, true);
    while found.len() < size && scanned < SCAN_MAX && more {
        let events = ctx.app.store.read_all(after, READ).await?;
        more = events.len() == READ;
        for event in &events {
            if found.len() == size {
                more = true;
                break;
            }
            after = event.position;
            scanned += 1;
            if filter.wants(event) {
                found.push(ctx.shown(&LoggedEvent::of(event))?);
            }
        }
    }
    let mut response = (StatusCode::OK, JsonBody(found)).into_response();
    if more {
        let next = after.to_string();
        let link = format!("<{}{}?{}>; rel=\"next\"", ctx.base, ctx.path, ctx.query.with("after", &next));
        for (name, value) in [(X_NEXT_POSITION, next), (header::LINK, link)] {
            response.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(ApiError::internal)?);
        }
    }
    Ok(response)
}

/// A live tail: server-sent events from now on, or from `Last-Event-ID` (or `after`) on.
#[utoipa::path(get, path = "/api/events/stream/", tag = "Events",
    params(
        ("after" = Option<String>, Query, description = "Position to go on after; now unless given"),
        ("type" = Option<Vec<String>>, Query), ("resource_uuid" = Option<String>, Query), ("policy_uuid" = Option<String>, Query),
        ("actor_uuid" = Option<String>, Query), ("correlation_id" = Option<String>, Query)),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail)))]
async fn tail(State(state): State<ApiState>, headers: HeaderMap, ctx: Context) -> Result<Response, ApiError> {
    let filter = Filter::of(&ctx)?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let after = match resumed.or(position_in(&ctx, "after")?) {
        Some(after) => after,
        None => ctx.app.store.head().await?,
    };
    let most = state.limits.tails_max;
    let place = Arc::clone(&state.tails).try_acquire_owned();
    let place = place.map_err(|_| ApiError::Unavailable(format!("{most} live tails are open already").into()))?;
    let live = Tail { app: Arc::clone(&ctx.app), filter, after, ready: VecDeque::new(), _place: place };
    let events = futures::stream::unfold(live, Tail::next);
    Ok(sse(events))
}

fn sse(events: impl Stream<Item = Result<SseEvent, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

/// A live tail's place in the log.
struct Tail {
    app: Arc<App>,
    filter: Filter,
    after: Position,
    ready: VecDeque<SseEvent>,
    /// Given back when the caller leaves.
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Tail {
    /// The next event; the end when the server goes down or the log cannot be read.
    async fn next(mut self) -> Option<(Result<SseEvent, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            let events = self.app.store.read_all(self.after, READ).await.ok()?;
            if events.is_empty() {
                tokio::select! {
                    () = self.app.stopping.cancelled() => return None,
                    () = self.app.store.wait_beyond(self.after, Duration::from_secs(5)) => {}
                }
            }
            for event in events {
                self.after = event.position;
                if self.filter.wants(&event) {
                    let named = SseEvent::default().id(event.position.to_string()).event(&*event.event_type);
                    self.ready.push_back(named.json_data(LoggedEvent::of(&event)).ok()?);
                }
            }
        }
    }
}
