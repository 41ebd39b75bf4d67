//! A policy's decisions and its commands to the agent: the evaluation log and the command history, newest first.
//!
//! Callers who see the policy see all of it; owners of an organisation whose resources the policy governs see only
//! their own rows.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, TimeZone, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::TAG;
use super::run::State;
use crate::domain::ids::{CustomerId, OfferingId, PolicyId};
use crate::domain::sacctmgr::CommandType;
use crate::events::allocation::{CommandReport, ExecutionMode};
use crate::events::registry::PolicyFacts;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail};
use crate::http::fields::parse_instant;
use crate::http::number::Num;
use crate::http::paging::{Page, PageParams, listed};
use crate::projections::Span;
use crate::projections::command_history::{self, CommandFilter, CommandRow, DispatchStatus};
use crate::projections::evaluation_log::{self, ActionFilter, EvaluationFilter, EvaluationOutcome, EvaluationRow};
use crate::projections::registry::{ObjectFilter, policies};

/// How log and history are filtered.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that are read one by one")]
pub struct LogParams {
    /// Of this resource.
    resource_uuid: Option<String>,
    /// Address of an offering; another one than the policy's has no rows.
    scope: Option<String>,
    /// Id of an offering; another one than the policy's has no rows.
    scope_uuid: Option<String>,
    /// In this period: `2026-03`, `2026-Q1`, `2026` or `total`.
    billing_period: Option<String>,
    /// Log: `pause`, `downscale`, `notify` or `none`. History: `fairshare`, `limits`, `qos` or `reset_usage`.
    action: Option<String>,
    /// Log: `changed`, `unchanged` or `failed`. History: `queued`, `sent`, `no_answer`, `confirmed`, `failed` or `superseded`.
    outcome: Option<String>,
    /// From this instant or site date on.
    from: Option<String>,
    /// Up to this instant, or up to the end of this site date.
    to: Option<String>,
}

/// What the agent answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentResponse {
    success: bool,
    error_message: String,
    mode: &'static str,
    commands_executed: Vec<String>,
}

impl From<CommandReport> for AgentResponse {
    fn from(report: CommandReport) -> Self {
        Self {
            success: report.success,
            error_message: report.error_message,
            mode: report.mode.as_str(),
            commands_executed: report.commands_executed,
        }
    }
}

/// One evaluation.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogEntry {
    uuid: String,
    policy_uuid: String,
    policy_version: u64,
    resource_uuid: String,
    resource_name: String,
    billing_period: String,
    usage_percentage: Num,
    grace_limit_percentage: Num,
    /// `pause`, `downscale`, `notify`.
    actions_taken: Vec<&'static str>,
    previous_state: State,
    new_state: State,
    evaluated_at: DateTime<Utc>,
    /// `changed`, `unchanged` or `failed`.
    outcome: &'static str,
    trigger: &'static str,
    explanation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dispatch_uuid: Option<String>,
    stomp_message_sent: bool,
    site_agent_confirmed: Option<bool>,
    site_agent_response: Option<AgentResponse>,
}

impl From<EvaluationRow> for LogEntry {
    fn from(row: EvaluationRow) -> Self {
        Self {
            uuid: row.uuid.to_string(),
            policy_uuid: row.policy.to_string(),
            policy_version: row.policy_version,
            resource_uuid: row.resource.to_string(),
            resource_name: row.resource_name,
            billing_period: row.period.to_string(),
            // A failed evaluation has no percentage; the client reads a number, and `outcome` says that it is none.
            usage_percentage: Num(row.percentage.unwrap_or_default()),
            grace_limit_percentage: Num(row.grace_limit_percentage.unwrap_or(Decimal::ONE_HUNDRED)),
            actions_taken: row.verbs.iter().map(|verb| verb.as_str()).collect(),
            previous_state: row.before.into(),
            new_state: row.after.into(),
            evaluated_at: row.evaluated_at,
            outcome: row.outcome.as_str(),
            trigger: row.trigger.as_str(),
            explanation: row.explanation,
            error: row.error,
            dispatch_uuid: row.dispatch.map(|d| d.to_string()),
            stomp_message_sent: row.stomp_message_sent,
            site_agent_confirmed: row.site_agent_confirmed,
            site_agent_response: row.site_agent_response.map(Into::into),
        }
    }
}

/// One intended command.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandEntry {
    uuid: String,
    policy_uuid: String,
    resource_uuid: String,
    resource_name: String,
    billing_period: String,
    /// `fairshare`, `limits`, `qos` or `reset_usage`.
    command_type: &'static str,
    description: String,
    shell_command: String,
    parameters: Value,
    /// When it was decided.
    executed_at: DateTime<Utc>,
    queued_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    /// When the agent reported.
    confirmed_at: Option<DateTime<Utc>>,
    /// The state of its dispatch.
    status: &'static str,
    dispatch_uuid: String,
    /// `production` or `emulator`; `production` until the agent says otherwise.
    execution_mode: &'static str,
    /// Null until reported.
    success: Option<bool>,
    error_message: String,
    /// Whether it is among the commands that were reported; null until reported, and for a class of service, which the agent
    /// sets on another occasion. The agent leaves out what SLURM has already.
    reported: Option<bool>,
    /// The commands that the agent reported for the whole dispatch.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_commands: Option<Vec<String>>,
}

impl From<CommandRow> for CommandEntry {
    fn from(row: CommandRow) -> Self {
        Self {
            reported: row.ran,
            uuid: row.uuid.as_simple().to_string(),
            policy_uuid: row.policy.to_string(),
            resource_uuid: row.resource.to_string(),
            resource_name: row.resource_name,
            billing_period: row.period.to_string(),
            command_type: row.command.command_type.wire_name(),
            description: row.command.description,
            shell_command: row.command.shell_command,
            parameters: row.command.parameters,
            executed_at: row.queued_at,
            queued_at: row.queued_at,
            sent_at: row.sent_at,
            confirmed_at: row.answered_at,
            status: row.status.as_str(),
            dispatch_uuid: row.dispatch.to_string(),
            execution_mode: row.execution_mode.unwrap_or(ExecutionMode::Production).as_str(),
            success: row.success,
            error_message: row.error_message.unwrap_or_default(),
            reported_commands: row.reported,
        }
    }
}

/// Whose rows the caller may see: everybody's (none), or those of some organisations.
pub(super) async fn rows_for(ctx: &Context, policy: PolicyId) -> Result<Option<Vec<CustomerId>>, ApiError> {
    let facts = known(ctx, policy).await?;
    let asked = [ctx.query.uuid::<OfferingId>("scope_uuid")?, ctx.query.uuid("scope")?];
    let elsewhere = asked.into_iter().flatten().any(|offering| offering != facts.offering);
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    if visibility.offering_id(facts.offering, &state) {
        return Ok(elsewhere.then(Vec::new));
    }
    let concerned =
        |e: &crate::registry::ResourceEntry| e.offering == facts.offering && visibility.customers.contains(&e.customer);
    if !visibility.customers.is_empty() && state.resources().any(|(_, entry)| concerned(entry)) {
        return Ok(Some(if elsewhere { Vec::new() } else { visibility.customers.into_iter().collect() }));
    }
    Err(ApiError::NotFound)
}

/// The policy, also one that was deleted: what it decided stays readable.
pub(super) async fn known(ctx: &Context, policy: PolicyId) -> Result<PolicyFacts, ApiError> {
    if let Some(known) = ctx.app.registry.read().policy(policy) {
        return Ok(known.facts.clone());
    }
    let filter = ObjectFilter { id: Some(policy.as_uuid()), gone_too: true, ..ObjectFilter::default() };
    let (mut rows, _) = policies(&ctx.app.read, &filter, crate::projections::Page::first(1)).await?;
    rows.pop().map(|row| row.facts).ok_or(ApiError::NotFound)
}

/// The span of time that is asked for; a date is one of the site's.
pub fn span(ctx: &Context) -> Result<Span, ApiError> {
    const ALLOWED: &str = "an ISO 8601 instant, or a date YYYY-MM-DD";
    let zone = ctx.app.allocations.rules().zone;
    let midnight = |date: NaiveDate| {
        let local = date.and_hms_opt(0, 0, 0)?;
        Some(zone.from_local_datetime(&local).earliest().map_or_else(|| local.and_utc(), |at| at.to_utc()))
    };
    let read = |text: &str, days: u32| match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) => midnight(date.checked_add_days(Days::new(days.into()))?),
        // A plus sign that was not encoded arrives as a space. The instant itself is in the span, as the day is.
        Err(_) => parse_instant(text)
            .or_else(|| parse_instant(&text.replace(' ', "+")))
            .map(|at| at.to_utc() + TimeDelta::microseconds(i64::from(days))),
    };
    Ok(Span {
        from: ctx.query.read("from", ALLOWED, |text| read(text, 0))?,
        to: ctx.query.read("to", ALLOWED, |text| read(text, 1))?,
    })
}

/// The evaluations of a policy, newest first.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/evaluation-logs/", tag = TAG,
    params(("uuid" = String, Path), PageParams, LogParams),
    responses((status = 200, body = [LogEntry], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 404, body = ErrorDetail)))]
pub async fn evaluation_logs(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let filter = EvaluationFilter {
        policy: Some(policy),
        customers: rows_for(&ctx, policy).await?,
        resource: ctx.query.uuid("resource_uuid")?,
        period: period(&ctx)?,
        action: ctx.query.read("action", "pause, downscale, notify, none", ActionFilter::parse)?,
        outcome: ctx.query.read("outcome", "changed, unchanged, failed", EvaluationOutcome::parse)?,
        span: span(&ctx)?,
    };
    let page = Page::of(&ctx.query)?;
    let (rows, total) = evaluation_log::list(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.into_iter().map(LogEntry::from).collect::<Vec<_>>())
}

fn period(ctx: &Context) -> Result<Option<crate::domain::period::Period>, ApiError> {
    ctx.query.read("billing_period", "a period such as 2026-03, 2026-Q1, 2026 or total", |text| text.parse().ok())
}

fn command_type(word: &str) -> Option<CommandType> {
    let all = [CommandType::Fairshare, CommandType::Limits, CommandType::Qos, CommandType::ResetUsage];
    all.into_iter().find(|known| known.wire_name() == word)
}

/// Which commands, or dispatches, are asked for, whatever policy they come of.
pub fn commands_asked(ctx: &Context) -> Result<CommandFilter, ApiError> {
    const TYPES: &str = "fairshare, limits, qos, reset_usage";
    const OUTCOMES: &str = "queued, sent, no_answer, confirmed, failed, superseded";
    let named = ctx.query.read("action", TYPES, command_type)?;
    Ok(CommandFilter {
        resource: ctx.query.uuid("resource_uuid")?,
        period: period(ctx)?,
        command_type: named.or(ctx.query.read("command_type", TYPES, command_type)?),
        status: ctx.query.read("outcome", OUTCOMES, DispatchStatus::parse)?,
        span: span(ctx)?,
        ..CommandFilter::default()
    })
}

/// The same, of a policy.
pub(super) async fn command_filter(ctx: &Context, policy: PolicyId) -> Result<CommandFilter, ApiError> {
    let asked = commands_asked(ctx)?;
    Ok(CommandFilter { policy: Some(policy), customers: rows_for(ctx, policy).await?, ..asked })
}

/// The commands that a policy had the agent told, newest first.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/command-history/", tag = TAG,
    params(("uuid" = String, Path), PageParams, LogParams,
        ("command_type" = Option<String>, Query, description = "The same as `action`")),
    responses((status = 200, body = [CommandEntry], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 404, body = ErrorDetail)))]
pub async fn command_history(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let filter = command_filter(&ctx, policy).await?;
    let page = Page::of(&ctx.query)?;
    let (rows, total) = command_history::list(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.into_iter().map(CommandEntry::from).collect::<Vec<_>>())
}
