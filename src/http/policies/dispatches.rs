//! `…/dispatches/`: a policy's messages to the agent, each with the intended commands beside those that ran.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::TAG;
use super::logs::{LogParams, command_filter};
use crate::domain::ids::PolicyId;
use crate::domain::sacctmgr::Command;
use crate::events::allocation::ExecutionMode;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiResult, ErrorDetail};
use crate::http::paging::{Page, PageParams, listed};
use crate::projections::command_history::{DispatchRow, dispatches};

/// One of the commands that were meant.
#[derive(Debug, Serialize, ToSchema)]
pub struct DispatchCommand {
    /// `fairshare`, `limits`, `qos` or `reset_usage`.
    command_type: &'static str,
    description: String,
    shell_command: String,
    /// Whether it is among the commands that were reported; null until reported, and for a class of service, which the agent
    /// sets on another occasion. The agent leaves out what SLURM has already.
    reported: Option<bool>,
}

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
    /// `production` or `emulator`; `production` until the agent says otherwise.
    execution_mode: &'static str,
    /// Null until reported.
    success: Option<bool>,
    error_message: String,
    /// The commands that were meant, in order.
    intended_commands: Vec<String>,
    /// The same, each with its type and whether it was run.
    commands: Vec<DispatchCommand>,
    /// What the agent says that it ran, its reads included; null until reported.
    reported_commands: Option<Vec<String>>,
    /// Where both are not the same, in sentences. The agent leaves out what SLURM has already.
    differences: Vec<String>,
}

fn command((command, reported): (Command, Option<bool>)) -> DispatchCommand {
    DispatchCommand {
        command_type: command.command_type.wire_name(),
        description: command.description,
        shell_command: command.shell_command,
        reported,
    }
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
            execution_mode: row.execution_mode.unwrap_or(ExecutionMode::Production).as_str(),
            success: row.success,
            error_message: row.error_message.unwrap_or_default(),
            intended_commands: row.intended.iter().map(|command| command.shell_command.clone()).collect(),
            commands: row.intended.into_iter().zip(row.ran).map(command).collect(),
            reported_commands: row.reported,
            differences: row.differences,
        }
    }
}

/// What a policy had the agent told, newest first: each message with the commands that were meant beside those that were run.
#[utoipa::path(get, path = "/api/marketplace-slurm-periodic-usage-policies/{uuid}/dispatches/", tag = TAG,
    params(("uuid" = String, Path), PageParams, LogParams,
        ("command_type" = Option<String>, Query, description = "The same as `action`")),
    responses((status = 200, body = [Dispatch], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 404, body = ErrorDetail)))]
pub async fn list(ctx: Context, Id(policy): Id<PolicyId>) -> ApiResult {
    let filter = command_filter(&ctx, policy).await?;
    let page = Page::of(&ctx.query)?;
    let (rows, total) = dispatches(&ctx.app.read, &filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &rows.into_iter().map(Dispatch::from).collect::<Vec<_>>())
}
