//! `…/timeline/` and `…/reset-raw-usage/` of a resource: its history, and a manual reset of its counter.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{TAG, visible};
use crate::commands::allocation::AllocationCommand;
use crate::domain::ids::ResourceId;
use crate::events::allocation::AllocationEvent;
use crate::http::context::{Body, Context, Id, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::paging::{Page, PageParams, listed};
use crate::http::policies::span;
use crate::operations::timeline::{Entry, EntryKind, TimelineFilter, timeline};

const KINDS: &str = "resource, limits, hold, restriction, evaluation, usage, command, reset, result, notice";

/// Who caused something.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineActor {
    /// staff, support, owner, member, agent, system or cli.
    kind: &'static str,
    /// Opaque id; the directory resolves it.
    uuid: Option<String>,
}

/// Something that happened to a resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// The event's place in the log.
    position: String,
    at: DateTime<Utc>,
    /// `resource`, `limits`, `hold`, `restriction`, `evaluation`, `usage`, `command`, `reset`, `result` or `notice`.
    kind: &'static str,
    /// It in one sentence.
    summary: String,
    actor: TimelineActor,
    /// The reason that the actor gave.
    reason: Option<String>,
    /// The particulars, by name.
    details: serde_json::Value,
}

impl From<Entry> for TimelineEntry {
    fn from(entry: Entry) -> Self {
        let uuid = entry.actor.id.map(|id| id.as_simple().to_string());
        Self {
            position: entry.position.to_string(),
            at: entry.at,
            kind: entry.kind.as_str(),
            summary: entry.summary,
            actor: TimelineActor { kind: entry.actor.kind.as_str(), uuid },
            reason: entry.reason,
            details: entry.details,
        }
    }
}

fn filter(ctx: &Context) -> Result<TimelineFilter, ApiError> {
    let span = span(ctx)?;
    let kinds = ctx.query.every("kind", KINDS, EntryKind::parse)?;
    Ok(TimelineFilter { kinds, from: span.from, to: span.to, outside: false })
}

/// What happened to a resource, newest first: changes, holds, restrictions, evaluations that changed something, commands.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/{uuid}/timeline/", tag = TAG,
    params(("uuid" = String, Path), PageParams,
        ("kind" = Option<Vec<String>>, Query, description = "Only of this kind; may be repeated"),
        ("from" = Option<String>, Query, description = "From this instant or site date on"),
        ("to" = Option<String>, Query, description = "Up to this instant, or up to the end of this site date")),
    responses((status = 200, body = [TimelineEntry], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 400, body = ErrorFields), (status = 404, body = ErrorDetail)))]
pub async fn show(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    let entry = visible(&ctx, resource)?;
    let (page, mut filter) = (Page::of(&ctx.query)?, filter(&ctx)?);
    filter.outside = !ctx.visibility().offering_id(entry.offering, &ctx.app.registry.read());
    let (skip, size) = (page.offset().try_into().unwrap_or(usize::MAX), page.size.try_into().unwrap_or(usize::MAX));
    let (entries, total) = timeline(&*ctx.app.store, resource, entry.book, &filter, skip, size).await?;
    let page = page.within(total)?;
    listed(&ctx, page, total, &entries.into_iter().map(TimelineEntry::from).collect::<Vec<_>>())
}

/// A command as it will be told to the agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineCommand {
    /// `fairshare`, `limits`, `qos` or `reset_usage`.
    #[serde(rename = "type")]
    command_type: &'static str,
    shell_command: String,
}

/// A reset of raw usage that was decided by hand.
#[derive(Debug, Serialize, ToSchema)]
pub struct RawUsageReset {
    resource_uuid: String,
    /// The message that carries it.
    dispatch_uuid: String,
    policy_uuid: String,
    billing_period: String,
    decided_at: DateTime<Utc>,
    /// The commands for the agent.
    commands: Vec<TimelineCommand>,
}

/// A manual reset.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct RawUsageResetRequest {
    /// Reason, recorded with the change.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// Order a manual reset of the account's raw usage, and send it to the agent. The usage that the policies' periods have
/// counted so far becomes their baseline, so that nobody gets an allocation twice.
#[utoipa::path(post, path = "/api/marketplace-provider-resources/{uuid}/reset-raw-usage/", tag = TAG,
    params(("uuid" = String, Path)), request_body = RawUsageResetRequest,
    responses((status = 200, body = RawUsageReset), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
pub async fn reset_raw_usage(ctx: Context, Id(resource): Id<ResourceId>, Body(mut fields): Body) -> ApiResult {
    visible(&ctx, resource)?;
    let meta = ctx.meta(reason(&mut fields));
    fields.check()?;
    let executed = ctx.app.allocations.execute(resource, &AllocationCommand::ResetRawUsage, &meta).await?;
    ctx.visible(executed.position).await;
    let told = executed.events.iter().find_map(|(_, event)| match event {
        AllocationEvent::SettingsCommanded(told) if told.reset.is_some() => Some(told),
        _ => None,
    });
    let told = told.ok_or(ApiError::NotFound)?;
    let command = |command: &crate::domain::sacctmgr::Command| TimelineCommand {
        command_type: command.command_type.wire_name(),
        shell_command: command.shell_command.clone(),
    };
    let shown = RawUsageReset {
        resource_uuid: resource.to_string(),
        dispatch_uuid: told.dispatch.to_string(),
        policy_uuid: told.policy.to_string(),
        billing_period: told.period.to_string(),
        decided_at: told.at,
        commands: told.commands.iter().map(command).collect(),
    };
    ctx.one(StatusCode::OK, &shown)
}
