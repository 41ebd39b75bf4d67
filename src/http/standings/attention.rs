//! What needs attention: failed or unanswered commands, holds that end soon, given-up notices, and stalled parts of the
//! service; each with its cause and since when.

use std::collections::{BTreeMap, HashMap};

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, seen};
use crate::app::App;
use crate::directory::Principal;
use crate::domain::ids::ResourceId;
use crate::events::allocation::HoldPlaced;
use crate::http::context::Context;
use crate::http::error::{ApiError, ApiResult};
use crate::http::visibility::Visibility;
use crate::notify::{NoticeFilter, NoticeRow, NoticeState};
use crate::operations::standings::{AllocationStanding, SortBy, Sorting, StandingQuery};
use crate::projections::command_history::{Travelled, travelled};
use crate::projections::status_summary::{AgentStatus, StandingFilter};
use crate::reactions::holds_ending;

/// Items of one kind that are listed.
const LISTED_MAX: usize = 100;
/// How long commands may wait for an answer before somebody should look.
const WAITS_MAX: TimeDelta = TimeDelta::hours(1);
/// How long before its end a hold is named.
const ENDING_WITHIN: TimeDelta = TimeDelta::hours(48);

/// What needs somebody, the most pressing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttentionKind {
    /// A consumer of the log or a worker stands still.
    Stalled,
    /// The agent says that commands failed.
    CommandFailed,
    /// The agent did not answer, however often it was told.
    NoAnswer,
    /// Commands wait for an answer for over an hour.
    NotConfirmed,
    /// A notice could not be delivered and was given up.
    NoticeGivenUp,
    /// A hold ends within 48 hours.
    HoldEnding,
}

impl AttentionKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::CommandFailed => "command_failed",
            Self::NoAnswer => "no_answer",
            Self::NotConfirmed => "not_confirmed",
            Self::NoticeGivenUp => "notice_given_up",
            Self::HoldEnding => "hold_ending",
        }
    }
}

/// Something that needs somebody.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttentionItem {
    /// `stalled`, `command_failed`, `no_answer`, `not_confirmed`, `notice_given_up` or `hold_ending`.
    pub kind: &'static str,
    /// Why, in a sentence.
    pub cause: String,
    /// Since when; of a hold: when it ends.
    pub since: Option<DateTime<Utc>>,
    /// How long that is; below zero: so long until a hold ends.
    pub age_seconds: Option<i64>,
    pub resource_uuid: Option<String>,
    pub resource_name: Option<String>,
    /// The message to the agent.
    pub dispatch_uuid: Option<String>,
    pub hold_uuid: Option<String>,
    pub notice_uuid: Option<String>,
}

/// What needs somebody, as far as the caller sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attention {
    pub checked_at: DateTime<Utc>,
    /// Counts by kind; kinds with none are omitted.
    pub counts: BTreeMap<&'static str, u64>,
    /// The most pressing first, at most a hundred of each kind.
    pub items: Vec<AttentionItem>,
}

/// Items under way.
struct Found {
    now: DateTime<Utc>,
    by_kind: BTreeMap<AttentionKind, (u64, Vec<AttentionItem>)>,
}

impl Found {
    fn add(&mut self, kind: AttentionKind, since: Option<DateTime<Utc>>, cause: String, about: &About<'_>) {
        let (count, items) = self.by_kind.entry(kind).or_default();
        *count += 1;
        if items.len() < LISTED_MAX {
            items.push(AttentionItem {
                kind: kind.as_str(),
                cause,
                since,
                age_seconds: since.map(|since| (self.now - since).num_seconds()),
                resource_uuid: about.resource.map(|(id, _)| id.to_string()),
                resource_name: about.resource.map(|(_, name)| name.to_owned()),
                dispatch_uuid: about.dispatch.clone(),
                hold_uuid: about.hold.clone(),
                notice_uuid: about.notice.clone(),
            });
        }
    }
}

/// What an item is about.
#[derive(Default)]
struct About<'a> {
    resource: Option<(ResourceId, &'a str)>,
    dispatch: Option<String>,
    hold: Option<String>,
    notice: Option<String>,
}

/// What needs somebody, as far as somebody sees it: of allocations their own, of the service what staff and support see.
///
/// # Errors
/// The read models or the notices cannot be read.
pub async fn attention(app: &App, caller: &Principal) -> Result<Attention, ApiError> {
    let now = app.clock.now();
    let mut found = Found { now, by_kind: BTreeMap::new() };
    let visibility = Visibility::of(caller, &app.registry.read());
    if visibility.all {
        stalled(app, &mut found).await?;
        notices(app, &mut found).await?;
    }
    let query = StandingQuery {
        of: seen(app, caller, &StandingFilter::default()),
        once: true,
        sorting: Sorting { by: SortBy::Name, descending: false },
        ..StandingQuery::default()
    };
    let allocations = app.operations.standings(&app.read, &query).await?;
    commands(app, &visibility, &allocations, &mut found).await?;
    holds(app, &visibility, &allocations, &mut found).await?;
    let counts = found.by_kind.iter().map(|(kind, (count, _))| (kind.as_str(), *count)).collect();
    let mut items = Vec::new();
    for (_, mut of_kind) in found.by_kind.into_values() {
        of_kind.sort_by_key(|item| item.since);
        items.extend(of_kind);
    }
    Ok(Attention { checked_at: now, counts, items })
}

async fn stalled(app: &App, found: &mut Found) -> Result<(), ApiError> {
    let consumers = app.consumers.status().await?;
    for consumer in consumers.iter().filter(|consumer| consumer.error.is_some()) {
        let cause = format!(
            "{} stands still, {} events behind. Why is in the server's log; `sluice doctor` says it too.",
            consumer.name, consumer.lag
        );
        found.add(AttentionKind::Stalled, None, cause, &About::default());
    }
    for worker in app.workers.standing().iter().filter(|worker| worker.stalled()) {
        let cause = format!("{} does not go on. Why is in the server's log.", worker.name);
        found.add(AttentionKind::Stalled, worker.since, cause, &About::default());
    }
    Ok(())
}

async fn notices(app: &App, found: &mut Found) -> Result<(), ApiError> {
    let limit = u32::try_from(LISTED_MAX).unwrap_or(u32::MAX);
    let filter = NoticeFilter { state: Some(NoticeState::Failed), resource: None, limit, offset: 0 };
    let total = app.notifier.count(&filter).await.map_err(ApiError::internal)?;
    if total == 0 {
        return Ok(());
    }
    let rows: Vec<NoticeRow> = app.notifier.list(&filter).await.map_err(ApiError::internal)?;
    let listed = rows.len() as u64;
    for row in &rows {
        let why = row.error.as_deref().unwrap_or("no reason is known");
        let cause = format!("A notice ({}) was given up after {} attempts: {why}", row.template.as_str(), row.attempts);
        let about = About { notice: row.notice.map(|id| id.to_string()), ..About::default() };
        found.add(AttentionKind::NoticeGivenUp, Some(row.occurred_at), cause, &about);
    }
    if let Some((count, _)) = found.by_kind.get_mut(&AttentionKind::NoticeGivenUp) {
        *count += total.saturating_sub(listed);
    }
    Ok(())
}

/// The kind of what a dispatch needs, if it needs anybody, with its cause.
fn of_dispatch(
    agent: AgentStatus,
    travelled: &Travelled,
    now: DateTime<Utc>,
    inside: bool,
) -> Option<(AttentionKind, DateTime<Utc>, String)> {
    let error = travelled.error.as_deref().filter(|error| inside && !error.is_empty());
    let sent = travelled.sent_at.unwrap_or(travelled.queued_at);
    match agent {
        AgentStatus::Failed => {
            let cause = error.map_or_else(
                || "The newest commands failed.".to_owned(),
                |error| format!("The newest commands failed: {error}"),
            );
            Some((AttentionKind::CommandFailed, travelled.answered_at.unwrap_or(sent), cause))
        }
        AgentStatus::NoAnswer => {
            let cause = "The site agent did not answer, however often it was told.".to_owned();
            Some((AttentionKind::NoAnswer, sent, cause))
        }
        AgentStatus::Queued if now - travelled.queued_at > WAITS_MAX => {
            let cause = "Commands wait for a queue of the site agent to take them.".to_owned();
            Some((AttentionKind::NotConfirmed, travelled.queued_at, cause))
        }
        AgentStatus::Sent if now - sent > WAITS_MAX => {
            Some((AttentionKind::NotConfirmed, sent, "Commands were sent and are not confirmed.".to_owned()))
        }
        _ => None,
    }
}

async fn commands(
    app: &App,
    visibility: &Visibility,
    allocations: &[AllocationStanding],
    found: &mut Found,
) -> Result<(), ApiError> {
    let waits = |agent| !matches!(agent, AgentStatus::NotNeeded | AgentStatus::Confirmed);
    let waiting: Vec<_> = allocations.iter().map(|of| &of.row).filter(|row| waits(row.agent)).collect();
    let travelled = travelled(&app.read, waiting.iter().filter_map(|row| row.dispatch)).await?;
    let state = app.registry.read();
    for row in waiting {
        let Some((dispatch, travelled)) = row.dispatch.and_then(|id| Some((id, travelled.get(&id)?))) else { continue };
        let inside = state.resource(row.resource).is_some_and(|entry| visibility.team(entry, &state));
        let Some((kind, since, cause)) = of_dispatch(row.agent, travelled, found.now, inside) else { continue };
        let about = About {
            resource: Some((row.resource, &row.name)),
            dispatch: Some(dispatch.to_string()),
            ..About::default()
        };
        found.add(kind, Some(since), cause, &about);
    }
    Ok(())
}

async fn holds(
    app: &App,
    visibility: &Visibility,
    allocations: &[AllocationStanding],
    found: &mut Found,
) -> Result<(), ApiError> {
    let ending = holds_ending(&app.read, found.now + ENDING_WITHIN).await?;
    let names: HashMap<ResourceId, &AllocationStanding> = allocations.iter().map(|of| (of.row.resource, of)).collect();
    let state = app.registry.read();
    for (resource, hold) in &ending {
        let Some(of) = names.get(resource) else { continue };
        let inside = visibility.offering_id(of.row.offering, &state);
        let about =
            About { resource: Some((*resource, &of.row.name)), hold: Some(hold.hold.to_string()), ..About::default() };
        found.add(AttentionKind::HoldEnding, hold.expires_at, of_hold(hold, inside), &about);
    }
    Ok(())
}

/// What ends, and why it is there as far as that may be said.
fn of_hold(hold: &HoldPlaced, inside: bool) -> String {
    let why = if inside || hold.public { format!(": {}", hold.reason) } else { ".".to_owned() };
    format!("A manual hold ({}) ends by itself{why}", hold.kind.as_str())
}

/// What needs attention: on allocations that the caller sees; for staff and support also in the service.
#[utoipa::path(get, path = "/api/allocation-states/attention/", tag = TAG,
    responses((status = 200, body = Attention)))]
pub async fn show(ctx: Context) -> ApiResult {
    ctx.one(StatusCode::OK, &attention(&ctx.app, &ctx.caller).await?)
}
