//! `/api/marketplace-site-agent-logs/`: the log of site agents that are configured to ship it.

use axum::Json as JsonBody;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, own, seen};
use crate::agent_logs::{Line, LineFilter, LogLevel, NewLine};
use crate::domain::ids::{AgentId, OfferingId};
use crate::domain::text::{NAME, cleaned, on_one_line};
use crate::http::context::{Context, Items};
use crate::http::declared::unknown;
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::paging::{Page, PageParams, listed};
use crate::http::registry::OFFERING_COLLECTION;
use crate::http::resolve::NO_SUCH_OBJECT;
use crate::http::taken::{DecimalInput, IdInput, LevelInput, LinesInput};

/// Lines of one request at most.
const LINES_MAX: usize = 1_000;
/// Characters of a line that are kept; the agent does not bound them.
const MESSAGE_CHARS_MAX: usize = 8_000;
/// Characters of the name of a part of an agent.
const MODULE_CHARS_MAX: usize = 255;
/// The levels, for people.
const LEVELS: &str = "DEBUG, INFO, WARNING, ERROR, CRITICAL";

/// A line of an agent's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct SiteAgentLog {
    uuid: String,
    /// Address of the offering.
    offering: String,
    offering_uuid: String,
    agent_identity_uuid: String,
    /// When it was logged: seconds since 1970, by the agent's clock.
    timestamp: f64,
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    level: &'static str,
    message: String,
    /// The part of the agent.
    module: String,
    /// When it came in.
    created: DateTime<Utc>,
}

/// A line that an agent ships.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct SiteAgentLogRequest {
    /// The agent: one of the caller's offering.
    agent_identity_uuid: IdInput,
    /// Seconds since 1970.
    timestamp: DecimalInput,
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    level: LevelInput,
    /// What happened; of a very long line the beginning is kept.
    message: String,
    /// The part of the agent.
    module: String,
}

#[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 are exact in a double until 2255")]
fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1_000_000.0
}

fn show(ctx: &Context, line: Line) -> SiteAgentLog {
    SiteAgentLog {
        uuid: line.id.as_simple().to_string(),
        offering: ctx.url(OFFERING_COLLECTION, line.line.offering),
        offering_uuid: line.line.offering.to_string(),
        agent_identity_uuid: line.line.agent.to_string(),
        timestamp: seconds(line.line.logged_at),
        level: line.line.level.as_str(),
        message: line.line.message,
        module: line.line.module,
        created: line.received_at,
    }
}

/// Seconds since 1970 in words of a caller.
fn instant(seconds: Decimal) -> Option<DateTime<Utc>> {
    let micros = seconds.checked_mul(Decimal::from(1_000_000))?.trunc().to_i64()?;
    DateTime::from_timestamp_micros(micros)
}

const INSTANT: &str = "seconds since 1970";

/// Text on one line, without what a terminal would act on, of bounded length.
fn plain(max: usize) -> impl Fn(&Json) -> Result<String, String> {
    move |value| Ok(cleaned(&fields::raw_text(value)?, max))
}

/// The fields of a line.
const LINE: [&str; 5] = ["agent_identity_uuid", "level", "message", "module", "timestamp"];

fn read(ctx: &Context, item: &mut Fields) -> Option<NewLine> {
    let others: Vec<String> = item.names().filter(|name| !LINE.contains(name)).map(str::to_owned).collect();
    for name in others {
        item.errors.add(&on_one_line(&name, NAME.max), unknown("field", &name, LINE.into_iter()));
    }
    let agent = item.required("agent_identity_uuid", |value| {
        let known = own(ctx, AgentId::from(fields::uuid(value)?)).map_err(|_| NO_SUCH_OBJECT.to_owned())?;
        Ok((known.facts.agent, known.facts.offering))
    });
    let at = item.required("timestamp", |value| {
        let given = fields::number(value)?;
        instant(given).ok_or_else(|| format!("{} is no instant: {INSTANT} are expected.", value.shown()))
    });
    let level = item.required("level", fields::choice(LogLevel::parse, LEVELS));
    let message = item.required("message", plain(MESSAGE_CHARS_MAX));
    let module = item.required("module", plain(MODULE_CHARS_MAX));
    let (agent, offering) = agent?;
    Some(NewLine { agent, offering, logged_at: at?, level: level?, module: module?, message: message? })
}

/// Ship lines of an agent's log: a list of them. All are kept, or none.
#[utoipa::path(post, path = "/api/marketplace-site-agent-logs/", tag = TAG, request_body = LinesInput,
    responses((status = 201, body = [SiteAgentLog]), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
pub async fn create(ctx: Context, Items(items): Items) -> ApiResult {
    if items.len() > LINES_MAX {
        return Err(ApiError::field("non_field_errors", fields::too_many(items.len(), LINES_MAX)));
    }
    let mut lines = Vec::with_capacity(items.len());
    for (at, mut item) in items.into_iter().enumerate() {
        let line = read(&ctx, &mut item);
        item.check_as(&format!("Line {}: ", at + 1))?;
        lines.extend(line);
    }
    let kept = ctx.app.agent_logs.put(lines, ctx.app.clock.now()).await.map_err(ApiError::internal)?;
    let shown: Vec<SiteAgentLog> = kept.into_iter().map(|line| show(&ctx, line)).collect();
    Ok((StatusCode::CREATED, JsonBody(shown)).into_response())
}

/// The agents whose lines are asked for and may be seen; none: all.
fn agents(ctx: &Context) -> Result<Option<Vec<AgentId>>, ApiError> {
    let (agent, offering) =
        (ctx.query.uuid::<AgentId>("agent_identity_uuid")?, ctx.query.uuid::<OfferingId>("offering_uuid")?);
    if ctx.visibility().all && offering.is_none() {
        return Ok(agent.map(|agent| vec![agent]));
    }
    let seen = seen(ctx);
    let state = ctx.app.registry.read();
    let wanted = state.agents().identities().map(|known| &known.facts).filter(|facts| {
        seen(facts.offering) && agent.is_none_or(|a| a == facts.agent) && offering.is_none_or(|o| o == facts.offering)
    });
    Ok(Some(wanted.map(|facts| facts.agent).collect()))
}

/// List what agents logged, the newest first.
#[utoipa::path(get, path = "/api/marketplace-site-agent-logs/", tag = TAG,
    params(PageParams, ("agent_identity_uuid" = Option<String>, Query, description = "Of this agent"),
        ("offering_uuid" = Option<String>, Query, description = "Of this offering's agents"),
        ("level" = Option<String>, Query, description = "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`"),
        ("timestamp_from" = Option<f64>, Query, description = "Logged at this instant (seconds since 1970) or later"),
        ("timestamp_to" = Option<f64>, Query, description = "Logged at this instant or before")),
    responses((status = 200, body = [SiteAgentLog]), (status = 400, body = ErrorFields)))]
pub async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let at = |text: &str| crate::http::json::decimal(text).and_then(instant);
    let filter = LineFilter {
        agents: agents(&ctx)?,
        level: ctx.query.read("level", LEVELS, LogLevel::parse)?,
        from: ctx.query.read("timestamp_from", INSTANT, at)?,
        to: ctx.query.read("timestamp_to", INSTANT, at)?,
    };
    let (lines, total) =
        ctx.app.agent_logs.list(&filter, page.offset(), page.size).await.map_err(ApiError::internal)?;
    let page = page.within(total)?;
    listed(&ctx, page, total, &lines.into_iter().map(|line| show(&ctx, line)).collect::<Vec<_>>())
}
