//! `…/dispatches/`: what a policy had the agent told, each message with what was meant beside what was run.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::TAG;
use super::logs::{LogParams, command_filter};
use crate::domain::ids::PolicyId;
use crate::events::allocation::ExecutionMode;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiResult, ErrorDetail};
use crate::http::paging::{Page, PageParams, listed};
use crate::projections::command_history::{DispatchRow, dispatches};

/// One message to the agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dispatch {
    uuid: String,
    policy_uuid: String,
    resource_uuid: String,
    resource_name: String,
    billing_period: String,
    /// `queued`, `sent`, `no_answer`, `confirmed`, `failed` or `superseded`.
    status: &'static str,
    queued_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    /// When the agent reported.
    confirmed_at: Option<DateTime<Utc>>,
    /// `production` or `emulator`; absent until reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_mode: Option<&'static str>,
    /// Null until reported.
    success: Option<bool>,
    error_message: String,
    /// The commands that were meant, in order.
    intended_commands: Vec<String>,
    /// What the agent says that it ran, its reads included; null until reported.
    reported_commands: Option<Vec<String>>,
    /// Where both are not the same, in sentences. The agent leaves out what SLURM has already.
    differences: Vec<String>,
}

impl From<DispatchRow> for Dispatch {
    fn from(row: DispatchRow) -> Self {
        Self {
            uuid: row.dispatch.to_string(),
            policy_uuid: row.policy.to_string(),
            resource_uuid: row.resource.to_string(),
            resource_name: row.resource_name,
            billing_period: row.period.to_string(),
            status: row.status.as_str(),
            queued_at: row.queued_at,
            sent_at: row.sent_at,
            confirmed_at: row.answered_at,
            execution_mode: row.execution_mode.map(ExecutionMode::as_str),
            success: row.success,
            error_message: row.error_message.unwrap_or_default(),
            intended_commands: row.intended.into_iter().map(|command| command.shell_command).collect(),
            reported_commands: row.reported,
            differences: row.differences,
        }
    }
}

/// What a policy had the agent told, newest first: each message with the commands that were meant beside those that were run.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/dispatches/", tag = TAG,
    params(("uuid" = String, Path), PageParams, LogParams),
    responses((status = 200, body = [Dispatch], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 404, body = ErrorDetail)))]
pub async fn list(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let filter = command_filter(&ctx, policy).await?;
    let page = Page::of(&ctx.query)?;
    let (rows, total) = dispatches(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.into_iter().map(Dispatch::from).collect::<Vec<_>>())
}
