//! `/api/event-episodes/`: what happened by cause, newest first, with what changed nothing folded together.

use axum::Json as JsonBody;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::events::{Filter, X_NEXT_POSITION, position_in};
use crate::events::envelope::Position;
use crate::operations::episodes::{About, Episode, Episodes};
use crate::projections::registry::resource;

/// Events that one page reads at most, whatever matches.
const SCAN_MAX: usize = 20_000;

/// Events read at a time.
const READ: usize = 500;

/// Rows of a page unless asked otherwise, and at most.
const PAGE: usize = 50;
const PAGE_MAX: usize = 100;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Support, routes!(list))
}

/// What happened of one cause.
#[derive(Debug, Serialize, ToSchema)]
struct EventEpisode {
    correlation_id: String,
    /// It in a few words, with the name of the resource.
    title: String,
    /// What the event says that says most of it.
    message: String,
    /// What it is about: `usage`, `evaluated` or `upkeep` (nothing changed), `sent`, `confirmed`, `agent`, `registry`, `resent`,
    /// `setting`, `corrected`, `resource`, `policy`, `warned`, `limits`, `restored`, `hold`, `no_answer`, `failed`,
    /// `slowed_down` or `paused`.
    about: &'static str,
    /// Nothing changed for anybody.
    quiet: bool,
    /// When its first event happened.
    at: DateTime<Utc>,
    /// When its last event happened.
    until: DateTime<Utc>,
    events: u64,
    /// More than one where what changed nothing is folded.
    chains: u64,
    first_position: String,
    last_position: String,
    /// The event that says most.
    position: String,
    resource_uuid: Option<String>,
    resource_name: Option<String>,
    /// How many resources.
    resources: u64,
    /// In which role somebody caused it: staff, support, owner, member, agent, system or cli.
    actor: &'static str,
    /// Why, in the words of whoever caused it.
    reason: Option<String>,
}

/// A count with its word.
fn counted(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// An episode in a few words.
fn title(episode: &Episode, name: Option<&str>) -> String {
    let resources = episode.resources.len() as u64;
    let of = match (name, resources) {
        (Some(name), 1) => name.to_owned(),
        (_, 0) => String::new(),
        (_, n) => counted(n, "allocation", "allocations"),
    };
    let text = match episode.about {
        About::Usage | About::Evaluated if episode.reports > 0 => {
            format!("{}, nothing changed", counted(episode.reports, "usage report", "usage reports"))
        }
        About::Usage => format!("{of}: shares reported"),
        About::Evaluated => format!("{of} evaluated, nothing changed"),
        About::Upkeep => "Upkeep".to_owned(),
        About::Sent => format!("{of}: told"),
        About::Confirmed => format!("{of}: confirmed"),
        About::Agent => "Site agent".to_owned(),
        About::Registry => "Registry".to_owned(),
        About::Resent => format!("{of}: sent again"),
        About::Setting => "Settings".to_owned(),
        About::Corrected => format!("{of}: usage corrected"),
        About::Resource => format!("{of}: registered or changed"),
        About::Policy => "Policy".to_owned(),
        About::Warned => format!("{of} warned"),
        About::Limits => format!("{of}: limits changed"),
        About::Restored => format!("{of} restored"),
        About::Hold => format!("{of}: hold"),
        About::NoAnswer => format!("{of}: no answer"),
        About::Failed => format!("{of}: failed"),
        About::SlowedDown => format!("{of} slowed down"),
        About::Paused => format!("{of} paused"),
    };
    text.trim_start_matches([':', ' ']).to_owned()
}

async fn shown(ctx: &Context, episode: Episode) -> Result<EventEpisode, ApiError> {
    let name = match episode.resource {
        Some(id) => resource(&ctx.app.read, id).await?.map(|row| row.name),
        None => None,
    };
    Ok(EventEpisode {
        correlation_id: episode.correlation.as_simple().to_string(),
        title: title(&episode, name.as_deref()),
        message: if episode.chains > 1 { String::new() } else { episode.head.1.clone() },
        about: episode.about.as_str(),
        quiet: episode.about.is_quiet(),
        at: episode.at,
        until: episode.until,
        events: episode.events,
        chains: episode.chains,
        first_position: episode.first.to_string(),
        last_position: episode.last.to_string(),
        position: episode.head.0.to_string(),
        resource_uuid: episode.resource.map(|id| id.to_string()),
        resource_name: name,
        resources: episode.resources.len() as u64,
        actor: episode.actor.as_str(),
        reason: episode.reason,
    })
}

/// A page as it fills, from the newest event back.
struct Filling {
    episodes: Episodes,
    /// What was looked at last.
    before: Option<Position>,
    scanned: usize,
}

impl Filling {
    /// Reads until there are enough rows, or enough was read; says whether there may be more before it.
    async fn fill(&mut self, ctx: &Context, filter: &Filter, size: usize, folded: bool) -> Result<bool, ApiError> {
        loop {
            let events = ctx.app.store.read_back(self.before, READ).await?;
            if events.is_empty() {
                return Ok(false);
            }
            for event in &events {
                // Where the time begins that is asked for, nothing earlier is looked at: events stand in about its order.
                if filter.is_before_its_time(event) {
                    return Ok(false);
                }
                let wanted = filter.wants(event);
                let full = self.episodes.rows(folded) >= size || self.scanned >= SCAN_MAX;
                if full && !(wanted && self.episodes.knows(event) && self.scanned < 2 * SCAN_MAX) {
                    return Ok(true);
                }
                self.before = Some(event.position);
                self.scanned += 1;
                if wanted {
                    self.episodes.take(event);
                }
            }
        }
    }
}

/// What happened by cause, newest first. Pages go by position: `before` is where the last page ended. An episode is what of
/// one chain stands on the page; `/api/events/?correlation_id=` has the whole chain.
#[utoipa::path(get, path = "/api/event-episodes/", tag = "Events",
    params(
        ("before" = Option<String>, Query, description = "Position to go on before; the end of the log unless given"),
        ("page_size" = Option<u32>, Query, minimum = 1, maximum = 100, description = "About so many rows; 50 without it"),
        ("folded" = Option<bool>, Query, description = "Whether what changed nothing is folded together by day; true without it"),
        ("type" = Option<Vec<String>>, Query, description = "Only of events of this type, with or without version; repeatable"),
        ("resource_uuid" = Option<String>, Query), ("policy_uuid" = Option<String>, Query),
        ("actor_uuid" = Option<String>, Query, description = "Caused by this user"),
        ("actor" = Option<String>, Query, description = "Caused in this role: staff, support, owner, member, agent, system or cli"),
        ("correlation_id" = Option<String>, Query),
        ("field" = Option<Vec<String>>, Query, description = "Only these fields of each row; may be repeated"),
        ("from" = Option<String>, Query, description = "Occurred at this instant or later, or from this site date on"),
        ("to" = Option<String>, Query, description = "Occurred up to this instant, or up to the end of this site date")),
    responses((status = 200, body = Vec<EventEpisode>), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let filter = Filter::of(&ctx)?;
    let size = |text: &str| text.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n));
    let size = ctx.query.read("page_size", "a whole number from 1 to 100", size)?.unwrap_or(PAGE);
    let folded = ctx.query.boolean("folded")?.unwrap_or(true);
    let before = position_in(&ctx, "before")?;
    let mut page = Filling { episodes: Episodes::default(), before, scanned: 0 };
    let more = {
        let _room = ctx.app.store.room().await;
        page.fill(&ctx, &filter, size, folded).await?
    };
    let mut rows = Vec::new();
    for episode in page.episodes.finish(folded) {
        rows.push(ctx.shown(&shown(&ctx, episode).await?)?);
    }
    let mut response = (StatusCode::OK, JsonBody(rows)).into_response();
    if let Some(next) = page.before.filter(|_| more).map(|before| before.to_string()) {
        let link = format!("<{}{}?{}>; rel=\"next\"", ctx.base, ctx.path, ctx.query.with("before", &next));
        for (name, value) in [(X_NEXT_POSITION, next), (header::LINK, link)] {
            response.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(ApiError::internal)?);
        }
    }
    Ok(response)
}
