//! `/api/events/`: the event log itself, in order, filtered, and as a live tail.
//!
//! Pages are by position: `after` is the end of the last page. A selective filter costs a bounded scan per page, so a
//! page may be short or empty although more events follow; `X-Next-Position` says where to continue, and is absent at
//! the head.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use utoipa_axum::routes;
use uuid::Uuid;

use super::access::{Access, Caller, Routes};
use super::context::Context;
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::logged::{LoggedEvent, OneEvent, waldur_name};
use super::policies::span;
use super::state::ApiState;
use crate::admission::Share;
use crate::app::App;
use crate::domain::ids::{PolicyId, ResourceId};
use crate::events::envelope::{ActorKind, Position, RecordedEvent};
use crate::projections::{Span, event_chains};
use crate::registry::book_of;
use crate::store::StoreError;

/// Events that one page reads at most, whatever matches.
const SCAN_MAX: usize = 20_000;

/// Events read at a time.
const READ: usize = 1_000;

/// Bytes of payload on a page: the event that reaches them is its last.
const PAGE_BYTES: usize = 2 << 20;

/// Bytes of payload that a live tail makes ready at a time.
const READY_BYTES: usize = 256 << 10;

/// Runs of events with one correlation id that one page looks at.
const RUNS: usize = 500;

/// Events on a page unless asked otherwise, and at most.
const PAGE: usize = 100;

/// Where the next page begins.
pub const X_NEXT_POSITION: HeaderName = HeaderName::from_static("x-next-position");

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Support, routes!(list)).add(Access::Support, routes!(tail)).add(Access::Support, routes!(show))
}

/// What somebody wants to see.
#[derive(Debug, Clone)]
pub struct Filter {
    types: Vec<String>,
    role: Option<ActorKind>,
    resource: Option<ResourceId>,
    policy: Option<String>,
    actor: Option<Uuid>,
    correlation: Option<Uuid>,
    span: Span,
}

impl Filter {
    /// Reads what is asked for.
    pub fn of(ctx: &Context) -> Result<Self, ApiError> {
        let role = |text: &str| ActorKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        Ok(Self {
            role: ctx.query.read("actor", "staff, support, owner, member, agent, system, cli", role)?,
            types: ctx.query.all("type").chain(ctx.query.all("event_type")).map(str::to_owned).collect(),
            resource: ctx.query.uuid("resource_uuid")?,
            policy: ctx.query.uuid::<PolicyId>("policy_uuid")?.map(|id| id.to_string()),
            actor: ctx.query.uuid("actor_uuid")?.or(ctx.query.uuid("user_uuid")?),
            correlation: ctx.query.uuid("correlation_id")?,
            span: span(ctx)?,
        })
    }

    /// Whether an event was recorded before the time that is asked for, as are all that stand before it.
    pub fn is_before_its_time(&self, event: &RecordedEvent) -> bool {
        self.span.from.is_some_and(|from| event.recorded_at < from)
    }

    /// Whether an event is asked for.
    pub fn wants(&self, event: &RecordedEvent) -> bool {
        self.wants_type(&event.event_type)
            && self.role.is_none_or(|role| event.metadata.actor.kind == role)
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
                || waldur_name(event_type).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
        };
        self.types.is_empty() || self.types.iter().any(named)
    }
}

/// A page as it fills.
struct Page<'a> {
    filter: &'a Filter,
    size: usize,
    found: Vec<serde_json::Value>,
    scanned: usize,
    bytes: usize,
    /// What was looked at last.
    after: Position,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.has_enough() || self.scanned >= SCAN_MAX
    }

    fn has_enough(&self) -> bool {
        self.found.len() == self.size || self.bytes >= PAGE_BYTES
    }

    /// Takes what is wanted of these events, up to a position; false once no more can be looked at.
    fn take(&mut self, ctx: &Context, events: &[RecordedEvent], last: Option<Position>) -> Result<bool, ApiError> {
        for event in events {
            if last.is_some_and(|last| event.position > last) {
                return Ok(true);
            }
            if self.has_enough() {
                return Ok(false);
            }
            self.after = event.position;
            self.scanned += 1;
            if self.filter.wants(event) {
                self.bytes += event.payload.len();
                self.found.push(ctx.shown(&LoggedEvent::of(event))?);
            }
        }
        Ok(true)
    }

    /// Fills itself from the log; says whether there may be more behind it.
    async fn of_log(&mut self, ctx: &Context) -> Result<bool, ApiError> {
        while !self.is_full() {
            let events = ctx.app.store.read_all(self.after, READ).await?;
            if !self.take(ctx, &events, None)? {
                return Ok(true);
            }
            if events.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills itself from the end of the log, or from before a position, backwards.
    async fn of_log_backwards(&mut self, ctx: &Context, before: Option<Position>) -> Result<bool, ApiError> {
        let mut before = before;
        while !self.is_full() {
            let events = ctx.app.store.read_back(before, READ).await?;
            if events.first().is_none_or(|newest| self.filter.is_before_its_time(newest)) {
                return Ok(false);
            }
            if !self.take(ctx, &events, None)? {
                return Ok(true);
            }
            before = Some(self.after);
        }
        Ok(true)
    }

    /// The same for the events of one correlation id: where they stand is known, but for those that have just come.
    async fn of_chain(&mut self, ctx: &Context, correlation: Uuid) -> Result<bool, ApiError> {
        let known_to = event_chains::known_to(&ctx.app.read).await?;
        let runs = event_chains::runs(&ctx.app.read, correlation, self.after, RUNS).await?;
        let all = runs.len() < RUNS;
        for run in runs {
            self.after = self.after.max(run.after);
            while self.after < run.last {
                if self.is_full() {
                    return Ok(true);
                }
                let events = ctx.app.store.read_up_to(self.after, run.last, READ).await?;
                let before = self.after;
                if !self.take(ctx, &events, Some(run.last))? {
                    return Ok(true);
                }
                if self.after == before {
                    break;
                }
            }
        }
        if !all {
            return Ok(true);
        }
        self.after = self.after.max(known_to);
        self.of_log(ctx).await
    }
}

/// A position of this log in the query.
pub fn position_in(ctx: &Context, name: &str) -> Result<Option<Position>, ApiError> {
    let numbers = ctx.app.store.numbers();
    // A position from another kind of log would be beyond the end of this one, and never return anything.
    let fits = |position: &Position| numbers.is_none_or(|numbers| numbers.fits(*position));
    let read = |text: &str| text.parse().ok().filter(fits);
    ctx.query.read(name, "a position as `position` and X-Next-Position of this log give it", read)
}

/// A position from which the log can be read: a stream that has begun can refuse nothing any more.
async fn known(ctx: &Context, after: Position) -> Result<Position, ApiError> {
    let store = &ctx.app.store;
    let is_number = store.numbers().is_some_and(|numbers| numbers.fits(after));
    if is_number || after == Position::START || store.event_at(after).await?.is_some() {
        Ok(after)
    } else {
        Err(StoreError::NoEventThere.into())
    }
}

/// Events in the order of the log, after a position.
#[utoipa::path(get, path = "/api/events/", tag = "Events",
    params(
        ("after" = Option<String>, Query, description = "Position to go on after; the start of the log unless given"),
        ("before" = Option<String>, Query, description = "With `o=-created`: position to go on before; the end of the log unless given"),
        ("page_size" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Rows per page; 100 without it"),
        ("type" = Option<Vec<String>>, Query, description = "Type with or without version, or Waldur's name: SLURM_POLICY_EVALUATION, policy_created, policy_updated, policy_deleted; repeatable"),
        ("event_type" = Option<Vec<String>>, Query, description = "The same under the name that Waldur's clients use"),
        ("resource_uuid" = Option<String>, Query), ("policy_uuid" = Option<String>, Query),
        ("actor_uuid" = Option<String>, Query, description = "Caused by this user"),
        ("actor" = Option<String>, Query, description = "Caused in this role: staff, support, owner, member, agent, system or cli"),
        ("user_uuid" = Option<String>, Query, description = "The same as `actor_uuid`"), ("correlation_id" = Option<String>, Query),
        ("field" = Option<Vec<String>>, Query, description = "Only these fields of each event; may be repeated"),
        ("page" = Option<u64>, Query, minimum = 1, maximum = 1, description = "Only 1, the first: further pages go by `after`"),
        ("o" = Option<String>, Query, description = "`created`: in the order of the log, as without it; `-created`: the newest first"),
        ("from" = Option<String>, Query, description = "Occurred at this instant or later, or from this site date on"), ("to" = Option<String>, Query, description = "Occurred up to this instant, or up to the end of this site date")),
    responses((status = 200, body = Vec<LoggedEvent>), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let filter = Filter::of(&ctx)?;
    ctx.query.read("page", "1; further pages go by X-Next-Position and after", |text| (text == "1").then_some(()))?;
    let backwards = |text: &str| match text {
        "created" => Some(false),
        "-created" => Some(true),
        _ => None,
    };
    let backwards =
        ctx.query.read("o", "created: in the order of the log, and -created: the newest first", backwards)?;
    let (backwards, before) = (backwards.unwrap_or(false), position_in(&ctx, "before")?);
    if before.is_some() && !backwards {
        return Err(ApiError::field("before", "It goes with o=-created, which asks for the newest first.".to_owned()));
    }
    let size = |text: &str| text.parse().ok().filter(|n| (1..=PAGE).contains(n));
    let size = ctx.query.read("page_size", "a whole number from 1 to 100", size)?.unwrap_or(PAGE);
    let after = position_in(&ctx, "after")?.unwrap_or(Position::START);
    let mut page = Page { filter: &filter, size, found: Vec::with_capacity(size), scanned: 0, bytes: 0, after };
    let _room = ctx.app.store.room().await;
    let more = match filter.correlation {
        _ if backwards => page.of_log_backwards(&ctx, before).await?,
        Some(correlation) => page.of_chain(&ctx, correlation).await?,
        None => page.of_log(&ctx).await?,
    };
    let next = page.after.to_string();
    let mut response = (StatusCode::OK, JsonBody(page.found)).into_response();
    if more {
        let link = format!(
            "<{}{}?{}>; rel=\"next\"",
            ctx.base,
            ctx.path,
            ctx.query.with(if backwards { "before" } else { "after" }, &next)
        );
        for (name, value) in [(X_NEXT_POSITION, next), (header::LINK, link)] {
            response.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(ApiError::internal)?);
        }
    }
    Ok(response)
}

/// One event.
#[utoipa::path(get, path = "/api/events/{position}/", tag = "Events", params(("position" = String, Path)),
    responses((status = 200, body = OneEvent), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn show(ctx: Context, Path(position): Path<String>) -> ApiResult {
    let numbers = ctx.app.store.numbers();
    let fits = |position: &Position| numbers.is_none_or(|numbers| numbers.fits(*position));
    let position = position.parse().ok().filter(fits).ok_or(ApiError::NotFound)?;
    let event = ctx.app.store.event_at(position).await?.ok_or(ApiError::NotFound)?;
    ctx.one(StatusCode::OK, &OneEvent::of(&event))
}

/// A live tail: server-sent events from now on, or from `Last-Event-ID` (or `after`) on.
#[utoipa::path(get, path = "/api/events/stream/", tag = "Events",
    params(
        ("after" = Option<String>, Query, description = "Position to go on after; now unless given"),
        ("type" = Option<Vec<String>>, Query), ("event_type" = Option<Vec<String>>, Query, description = "The same as `type`"),
        ("resource_uuid" = Option<String>, Query), ("policy_uuid" = Option<String>, Query),
        ("actor_uuid" = Option<String>, Query), ("user_uuid" = Option<String>, Query, description = "The same as `actor_uuid`"),
        ("actor" = Option<String>, Query, description = "Caused in this role"),
        ("correlation_id" = Option<String>, Query),
        ("from" = Option<String>, Query, description = "Occurred at this instant or later, or from this site date on"),
        ("to" = Option<String>, Query, description = "Occurred up to this instant, or up to the end of this site date")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400, body = ErrorFields),
        (status = 403, body = ErrorDetail)))]
async fn tail(
    State(state): State<ApiState>,
    headers: HeaderMap,
    Caller(key): Caller,
    ctx: Context,
) -> Result<Response, ApiError> {
    let filter = Filter::of(&ctx)?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let after = match resumed.or(position_in(&ctx, "after")?) {
        Some(after) => known(&ctx, after).await?,
        None => ctx.app.store.head().await?,
    };
    let share = state.allowances.tail(ctx.caller.token)?;
    let most = state.limits.tails_max;
    let place = Arc::clone(&state.tails).try_acquire_owned();
    let place = place.map_err(|_| ApiError::Unavailable(format!("{most} live tails are open already").into()))?;
    let (app, checked) = (Arc::clone(&ctx.app), Instant::now());
    let live = Tail { app, key, checked, filter, after, ready: VecDeque::new(), _place: place, _share: share };
    let events = futures::stream::unfold(live, Tail::next);
    Ok(sse(events))
}

fn sse(events: impl Stream<Item = Result<SseEvent, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

/// A live tail's place in the log.
struct Tail {
    app: Arc<App>,
    /// The token that opened it, and when it was looked at last; none of a page, which looks after its own session.
    key: Option<SecretString>,
    checked: Instant,
    filter: Filter,
    after: Position,
    ready: VecDeque<SseEvent>,
    /// Given back when the caller leaves.
    _place: tokio::sync::OwnedSemaphorePermit,
    /// One of those that its token may hold.
    _share: Share,
}

impl Tail {
    /// Whether the token still opens it. A directory that does not answer turns nobody out.
    async fn may_go_on(&mut self) -> bool {
        let Some(key) = self.key.clone() else { return true };
        if self.checked.elapsed() < self.app.options.limits.token_check {
            return true;
        }
        self.checked = Instant::now();
        let found = self.app.directory.authenticate(key.expose_secret(), self.app.clock.now()).await;
        found.map_or(true, |found| found.is_some_and(|principal| Access::Support.admits(principal.role)))
    }

    /// The next event; the end when the token is no longer good, the server goes down or the log cannot be read.
    async fn next(mut self) -> Option<(Result<SseEvent, Infallible>, Self)> {
        loop {
            if !self.may_go_on().await {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            let room = self.app.store.room().await;
            let events = self.app.store.read_all(self.after, READ).await.ok()?;
            if events.is_empty() {
                drop(room);
                tokio::select! {
                    () = self.app.stopping.cancelled() => return None,
                    () = self.app.store.wait_beyond(self.after, self.app.options.limits.token_check) => {}
                }
                continue;
            }
            // What a client does not take in time waits here, so it is little; the rest is read again.
            let mut bytes = 0;
            for event in events {
                self.after = event.position;
                if self.filter.wants(&event) {
                    bytes += event.payload.len();
                    let named = SseEvent::default().id(event.position.to_string()).event(&*event.event_type);
                    self.ready.push_back(named.json_data(LoggedEvent::of(&event)).ok()?);
                }
                if bytes >= READY_BYTES {
                    break;
                }
            }
        }
    }
}
