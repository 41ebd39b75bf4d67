//! Preview: what parameters would mean, on the numbers of the request or on a resource.

use axum::http::StatusCode;
use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::TAG;
use super::logs::CommandEntry;
use crate::domain::carryover::ComponentCarryover;
use crate::domain::decimal::{self, MAX_AMOUNT};
use crate::domain::ids::ResourceId;
use crate::domain::preview::{DateProjections, Projection};
use crate::domain::sacctmgr::Command;
use crate::http::context::{Body, Context};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::number::Num;
use crate::operations::{self, OperationError};
use crate::projections::{Page, command_history};

/// The newest commands of a resource that are shown with its preview.
const HISTORY_ROWS: u32 = 10;

/// What a preview is asked for.
#[derive(Debug, ToSchema)]
#[schema(as = PreviewRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// Preview enforcement on this resource.
    resource_uuid: Option<String>,
    /// Allocation of one period; 1000.
    allocation: Option<f64>,
    /// 0 to 1; 0.2.
    grace_ratio: Option<f64>,
    /// Usage of the previous period; without any there is no carryover.
    previous_usage: Option<f64>,
    /// 0 to 100: the capped formula.
    carryover_factor: Option<f64>,
    /// Days: the decaying formula, where no factor is given.
    fairshare_decay_half_life: Option<f64>,
    /// Whether anything is carried over.
    carryover_enabled: Option<bool>,
    /// Used so far.
    current_usage: Option<f64>,
    /// Used per day.
    daily_usage_rate: Option<f64>,
}

/// The terms of a carryover.
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
#[derive(Debug, Serialize, ToSchema)]
pub struct Carryover {
    previous_usage: Num,
    carryover_factor: Num,
    base_allocation: Num,
    unused: Num,
    carryover_cap: Num,
    carryover: Num,
    total_allocation: Num,
    #[serde(skip_serializing_if = "Option::is_none")]
    decay_factor: Option<Num>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_previous_usage: Option<Num>,
}

/// The amounts at which something happens.
#[derive(Debug, Serialize, ToSchema)]
pub struct Thresholds {
    allocation: Num,
    grace_ratio: Num,
    notification_ratio: Num,
    notification_threshold: Num,
    slowdown_threshold: Num,
    blocked_threshold: Num,
}

/// When a threshold will be reached.
#[derive(Debug, Serialize, ToSchema)]
pub struct DateProjection {
    days: Option<i64>,
    date: Option<NaiveDate>,
    /// `never`, `exceeded` or `projected`.
    #[schema(value_type = String)]
    status: crate::domain::preview::ProjectionStatus,
}

/// When each threshold will be reached.
#[derive(Debug, Serialize, ToSchema)]
pub struct DateProjectionSet {
    notification: DateProjection,
    slowdown: DateProjection,
    blocked: DateProjection,
}

/// A command that would be sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewCommand {
    #[serde(rename = "type")]
    command_type: &'static str,
    description: String,
    command: String,
    parameters: Value,
}

/// What the parameters would mean.
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
#[derive(Debug, Serialize, ToSchema)]
pub struct Preview {
    base_allocation: Num,
    effective_allocation: Num,
    carryover_enabled: bool,
    carryover: Option<Carryover>,
    carryover_formula: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    carryover_note: Option<String>,
    thresholds: Thresholds,
    grace_ratio: Num,
    carryover_factor: Num,
    current_usage: Num,
    daily_usage_rate: Num,
    usage_percentage: Num,
    /// `normal`, `notification`, `slowdown` or `blocked`.
    current_qos_status: &'static str,
    date_projections: DateProjectionSet,
    preview_commands: Vec<PreviewCommand>,
    command_history: Vec<CommandEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_period_start: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_period_end: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<String>,
}

fn read(fields: &mut Fields) -> Result<operations::PreviewRequest, ApiError> {
    let mut between = |name: &str, low: Decimal, high: Decimal| {
        fields.optional(name, |value| {
            let number = fields::number(value)?;
            decimal::complaint(number, low, high).map_or(Ok(number), Err)
        })
    };
    let least = Decimal::new(1, decimal::MAX_DECIMALS);
    let mut request = operations::PreviewRequest {
        resource: None,
        allocation: between("allocation", Decimal::ZERO, MAX_AMOUNT),
        grace_ratio: between("grace_ratio", Decimal::ZERO, Decimal::ONE),
        previous_usage: between("previous_usage", Decimal::ZERO, MAX_AMOUNT),
        carryover_factor: between("carryover_factor", Decimal::ZERO, Decimal::ONE_HUNDRED),
        fairshare_decay_half_life: between("fairshare_decay_half_life", least, Decimal::from(1_000_000)),
        carryover_enabled: None,
        current_usage: between("current_usage", Decimal::ZERO, MAX_AMOUNT),
        daily_usage_rate: between("daily_usage_rate", Decimal::ZERO, MAX_AMOUNT),
    };
    request.carryover_enabled = fields.optional("carryover_enabled", fields::boolean);
    request.resource = fields.nullable("resource_uuid", fields::uuid).flatten().map(ResourceId::from);
    fields.check()?;
    Ok(request)
}

/// The client reads every term, so those that the decaying formula does not have are given as what they come to.
fn carryover(terms: &ComponentCarryover, factor: Decimal) -> Carryover {
    Carryover {
        previous_usage: Num(terms.previous_usage),
        carryover_factor: Num(factor),
        base_allocation: Num(terms.base),
        unused: Num(terms.unused.unwrap_or_else(|| (terms.base - terms.previous_usage).max(Decimal::ZERO))),
        carryover_cap: Num(terms.carryover_cap.unwrap_or(terms.base)),
        carryover: Num(terms.carryover),
        total_allocation: Num(terms.total),
        decay_factor: terms.decay_factor.map(Num),
        effective_previous_usage: terms.effective_previous_usage.map(Num),
    }
}

fn projections(dates: &DateProjections) -> DateProjectionSet {
    let one = |p: Projection| DateProjection { days: p.days, date: p.date, status: p.status };
    DateProjectionSet {
        notification: one(dates.notification),
        slowdown: one(dates.slowdown),
        blocked: one(dates.blocked),
    }
}

fn command(command: Command) -> PreviewCommand {
    PreviewCommand {
        command_type: command.command_type.wire_name(),
        description: command.description,
        command: command.shell_command,
        parameters: command.parameters,
    }
}

fn shown(preview: operations::Preview, history: Vec<CommandEntry>) -> Preview {
    let numbers = preview.numbers;
    let limits = numbers.thresholds;
    Preview {
        base_allocation: Num(numbers.base_allocation),
        effective_allocation: Num(numbers.effective_allocation),
        carryover_enabled: preview.carryover_enabled,
        carryover: numbers.carryover.as_ref().map(|terms| carryover(terms, preview.carryover_factor)),
        carryover_formula: preview.carryover_formula,
        carryover_note: preview.carryover_note,
        thresholds: Thresholds {
            allocation: Num(limits.allocation),
            grace_ratio: Num(limits.grace_ratio),
            notification_ratio: Num(limits.notification_ratio),
            notification_threshold: Num(limits.notification_threshold),
            slowdown_threshold: Num(limits.slowdown_threshold),
            blocked_threshold: Num(limits.blocked_threshold),
        },
        grace_ratio: Num(preview.grace_ratio),
        carryover_factor: Num(preview.carryover_factor),
        current_usage: Num(numbers.current_usage),
        daily_usage_rate: Num(numbers.daily_usage_rate),
        usage_percentage: Num(numbers.usage_percentage),
        current_qos_status: numbers.current_qos_status.wire_name(),
        date_projections: projections(&numbers.date_projections),
        preview_commands: preview.commands.into_iter().map(command).collect(),
        command_history: history,
        billing_period_start: preview.period.map(|(start, _)| start),
        billing_period_end: preview.period.map(|(_, end)| end),
        explanation: preview.explanation,
    }
}

/// Preview what parameters would mean; nothing is recorded.
#[utoipa::path(post, path = "/api/marketplace-slurm-periodic-usage-policies/preview_impact/", tag = TAG,
    request_body = Request,
    responses((status = 200, body = Preview), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
pub async fn preview_impact(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let request = read(&mut fields)?;
    let preview = match ctx.app.operations.preview(&request).await {
        Err(OperationError::NotInScope(_)) => return Err(ApiError::field("resource_uuid", "Resource not found.")),
        other => other?,
    };
    let history = match request.resource {
        None => Vec::new(),
        Some(resource) => {
            let filter = command_history::CommandFilter { resource: Some(resource), ..Default::default() };
            let (rows, _) = command_history::list(&ctx.app.read, &filter, Page::first(HISTORY_ROWS)).await?;
            rows.into_iter().map(CommandEntry::from).collect()
        }
    };
    ctx.one(StatusCode::OK, &shown(preview, history))
}
