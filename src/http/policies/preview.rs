//! Preview: the effect of parameters, on the numbers of the request or on a resource. With a resource it also shows the
//! result of the policy's own parameters and all differences, since typed clients send defaults that nobody asked for.

use axum::http::StatusCode;
use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::TAG;
use super::logs::CommandEntry;
use crate::domain::carryover::{CarryoverBase, ComponentCarryover};
use crate::domain::decimal::{self, MAX_AMOUNT};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::preview::{DateProjections, Projection, ProjectionStatus, date_projections};
use crate::domain::sacctmgr::Command;
use crate::http::context::{Body, Context};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::fields::{self, Fields};
use crate::http::number::Num;
use crate::http::taken::{AmountInput, CarryoverBaseInput, HalfLifeInput, IdInput, PercentInput, RatioInput};
use crate::operations::standings::StandingQuery;
use crate::operations::{self, OperationError};
use crate::projections::status_summary::StandingFilter;
use crate::projections::{Page, command_history};

/// The newest commands of a resource that are shown with its preview.
const HISTORY_ROWS: u32 = 10;

/// The parameters of a preview.
#[derive(Debug, ToSchema)]
#[schema(as = PreviewRequest)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct Request {
    /// Preview enforcement on this resource.
    resource_uuid: Option<IdInput>,
    /// Allocation of one period; 1000.
    #[schema(nullable = false)]
    allocation: Option<AmountInput>,
    /// What it was in the previous period, without a resource; the same.
    #[schema(nullable = false)]
    previous_allocation: Option<AmountInput>,
    /// 0 to 1; 0.2.
    #[schema(nullable = false)]
    grace_ratio: Option<RatioInput>,
    /// Usage of the previous period; without any there is no carryover.
    #[schema(nullable = false)]
    previous_usage: Option<AmountInput>,
    /// 0 to 100: the capped formula.
    #[schema(nullable = false)]
    carryover_factor: Option<PercentInput>,
    /// Days: the decaying formula, where no factor is given.
    #[schema(nullable = false)]
    fairshare_decay_half_life: Option<HalfLifeInput>,
    /// Which allocation past usage is compared with: `previous` or `current`.
    #[schema(nullable = false)]
    carryover_base: Option<CarryoverBaseInput>,
    /// Whether anything is carried over.
    #[schema(nullable = false)]
    carryover_enabled: Option<bool>,
    /// Used so far.
    #[schema(nullable = false)]
    current_usage: Option<AmountInput>,
    /// Used per day.
    #[schema(nullable = false)]
    daily_usage_rate: Option<AmountInput>,
}

/// The terms of a carryover.
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
#[derive(Debug, Serialize, ToSchema)]
pub struct Carryover {
    previous_usage: Num,
    carryover_factor: Num,
    base_allocation: Num,
    /// That of the previous period, where the formula looks at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_base_allocation: Option<Num>,
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
    /// With a resource and a period that ends: whether the period lasts that long. A date after its end never comes:
    /// usage starts again from zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_period: Option<bool>,
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

/// The effect of the parameters.
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
    /// At the daily rate above: the request's, else the average since the period began.
    date_projections: DateProjectionSet,
    /// With a resource to which a policy applies: daily usage in the last seven days.
    #[serde(skip_serializing_if = "Option::is_none")]
    daily_usage_rate_last_7_days: Option<Num>,
    /// The same dates at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    date_projections_last_7_days: Option<DateProjectionSet>,
    preview_commands: Vec<PreviewCommand>,
    command_history: Vec<CommandEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_period_start: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_period_end: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<String>,
    /// Days, if the decay formula is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    fairshare_decay_half_life: Option<Num>,
    /// With a resource to which a policy applies: the current result of that policy with its own parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforcement: Option<Enforcement>,
    /// Beside it: where the preview is not what is enforced. Parameters first, then what they come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<Difference>>,
    /// The same in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    differences_note: Option<String>,
}

/// The current enforcement on a resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct Enforcement {
    policy_uuid: String,
    grace_ratio: Num,
    carryover_enabled: bool,
    carryover_formula: &'static str,
    /// Percent, if the capping formula is in force.
    carryover_factor: Option<Num>,
    /// Days, if the decay formula is in force.
    fairshare_decay_half_life: Option<Num>,
    base_allocation: Num,
    carryover: Option<Carryover>,
    effective_allocation: Num,
    thresholds: Thresholds,
    usage_percentage: Num,
    /// `normal`, `notification`, `slowdown` or `blocked`.
    current_qos_status: &'static str,
    explanation: Option<String>,
}

/// Something in which a preview and enforcement differ.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    field: &'static str,
    /// With the parameters of the request.
    previewed: Value,
    /// With those of the policy.
    enforced: Value,
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
        previous_allocation: between("previous_allocation", Decimal::ZERO, MAX_AMOUNT),
        grace_ratio: between("grace_ratio", Decimal::ZERO, Decimal::ONE),
        previous_usage: between("previous_usage", Decimal::ZERO, MAX_AMOUNT),
        carryover_factor: between("carryover_factor", Decimal::ZERO, Decimal::ONE_HUNDRED),
        fairshare_decay_half_life: between("fairshare_decay_half_life", least, Decimal::from(1_000_000)),
        carryover_base: None,
        carryover_enabled: None,
        current_usage: between("current_usage", Decimal::ZERO, MAX_AMOUNT),
        daily_usage_rate: between("daily_usage_rate", Decimal::ZERO, MAX_AMOUNT),
    };
    request.carryover_enabled = fields.optional("carryover_enabled", fields::boolean);
    request.resource = fields.nullable("resource_uuid", fields::uuid).flatten().map(ResourceId::from);
    request.carryover_base =
        fields.optional("carryover_base", fields::choice(CarryoverBase::from_name, "previous, current"));
    if request.resource.is_some() && request.previous_allocation.is_some() {
        fields.errors.add(
            "previous_allocation",
            "Not allowed with resource_uuid: what the resource had at the end of the previous period is known.",
        );
    }
    fields.check()?;
    Ok(request)
}

/// The client reads every term, so those that the decaying formula does not have are given as what they come to.
fn carryover(terms: &ComponentCarryover, factor: Decimal) -> Carryover {
    Carryover {
        previous_usage: Num(terms.previous_usage),
        carryover_factor: Num(factor),
        base_allocation: Num(terms.base),
        previous_base_allocation: terms.previous_base.map(Num),
        unused: Num(terms.unused.unwrap_or_else(|| (terms.compared() - terms.previous_usage).max(Decimal::ZERO))),
        carryover_cap: Num(terms.carryover_cap.unwrap_or(terms.compared())),
        carryover: Num(terms.carryover),
        total_allocation: Num(terms.total),
        decay_factor: terms.decay_factor.map(Num),
        effective_previous_usage: terms.effective_previous_usage.map(Num),
    }
}

fn projections(dates: &DateProjections, last_day: Option<NaiveDate>) -> DateProjectionSet {
    let in_period = |p: Projection| match p.status {
        ProjectionStatus::Exceeded => true,
        ProjectionStatus::Never => false,
        ProjectionStatus::Projected => p.date.is_some_and(|date| last_day.is_none_or(|last| date <= last)),
    };
    let one = |p: Projection| DateProjection {
        days: p.days,
        date: p.date,
        status: p.status,
        in_period: last_day.map(|_| in_period(p)),
    };
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

fn thresholds(limits: &crate::domain::preview::Thresholds) -> Thresholds {
    Thresholds {
        allocation: Num(limits.allocation),
        grace_ratio: Num(limits.grace_ratio),
        notification_ratio: Num(limits.notification_ratio),
        notification_threshold: Num(limits.notification_threshold),
        slowdown_threshold: Num(limits.slowdown_threshold),
        blocked_threshold: Num(limits.blocked_threshold),
    }
}

/// The factor, where the formula has one: an answer has 50 where it has none.
fn factor(preview: &operations::Preview) -> Option<Num> {
    preview.half_life_days.is_none().then_some(Num(preview.carryover_factor))
}

fn enforcement(preview: &operations::Preview, policy: PolicyId) -> Enforcement {
    let numbers = &preview.numbers;
    Enforcement {
        policy_uuid: policy.to_string(),
        grace_ratio: Num(preview.grace_ratio),
        carryover_enabled: preview.carryover_enabled,
        carryover_formula: preview.carryover_formula,
        carryover_factor: factor(preview),
        fairshare_decay_half_life: preview.half_life_days.map(Num),
        base_allocation: Num(numbers.base_allocation),
        carryover: numbers.carryover.as_ref().map(|terms| carryover(terms, preview.carryover_factor)),
        effective_allocation: Num(numbers.effective_allocation),
        thresholds: thresholds(&numbers.thresholds),
        usage_percentage: Num(numbers.usage_percentage),
        current_qos_status: numbers.current_qos_status.wire_name(),
        explanation: preview.explanation.clone(),
    }
}

/// What can differ, of a preview: parameters first, then what they come to.
fn comparable(preview: &operations::Preview) -> [(&'static str, Value); 12] {
    let numbers = &preview.numbers;
    let limits = &numbers.thresholds;
    let number = |amount: Decimal| json!(Num(amount));
    [
        ("grace_ratio", number(preview.grace_ratio)),
        ("carryover_enabled", json!(preview.carryover_enabled)),
        ("carryover_formula", json!(preview.carryover_formula)),
        ("carryover_factor", json!(factor(preview))),
        ("fairshare_decay_half_life", json!(preview.half_life_days.map(Num))),
        ("carryover", number(numbers.carryover.as_ref().map(|terms| terms.carryover).unwrap_or_default())),
        ("effective_allocation", number(numbers.effective_allocation)),
        ("notification_threshold", number(limits.notification_threshold)),
        ("slowdown_threshold", number(limits.slowdown_threshold)),
        ("blocked_threshold", number(limits.blocked_threshold)),
        ("usage_percentage", number(numbers.usage_percentage)),
        ("current_qos_status", json!(numbers.current_qos_status.wire_name())),
    ]
}

fn differences(previewed: &operations::Preview, enforced: &operations::Preview) -> Vec<Difference> {
    let pairs = comparable(previewed).into_iter().zip(comparable(enforced));
    let differs = pairs.filter(|((_, previewed), (_, enforced))| previewed != enforced);
    differs.map(|((field, previewed), (_, enforced))| Difference { field, previewed, enforced }).collect()
}

/// What a reader of a preview should know before taking its figures for those in force.
fn note(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "The figures are those in force.".to_owned();
    }
    let word = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let one = |d: &Difference| format!("{} {} (previewed: {})", d.field, word(&d.enforced), word(&d.previewed));
    let all: Vec<String> = differences.iter().map(one).collect();
    format!("The request stands in place of the policy's parameters; in force: {}.", all.join(", "))
}

fn shown(preview: operations::Preview, history: Vec<CommandEntry>, recent: Option<Recent>) -> Preview {
    let beside = preview.enforced.as_deref().zip(preview.policy);
    let differences = beside.map(|(enforced, _)| differences(&preview, enforced));
    let enforcement = beside.map(|(enforced, policy)| enforcement(enforced, policy));
    let numbers = preview.numbers;
    let last_day = preview.period.map(|(_, end)| end);
    let recent = recent.map(|Recent { rate, today }| {
        (rate, date_projections(numbers.current_usage, rate, &numbers.thresholds, today))
    });
    Preview {
        daily_usage_rate_last_7_days: recent.as_ref().map(|(rate, _)| Num(decimal::rounded(*rate, 2))),
        date_projections_last_7_days: recent.as_ref().map(|(_, dates)| projections(dates, last_day)),
        differences_note: differences.as_deref().map(note),
        differences,
        enforcement,
        fairshare_decay_half_life: preview.half_life_days.map(Num),
        base_allocation: Num(numbers.base_allocation),
        effective_allocation: Num(numbers.effective_allocation),
        carryover_enabled: preview.carryover_enabled,
        carryover: numbers.carryover.as_ref().map(|terms| carryover(terms, preview.carryover_factor)),
        carryover_formula: preview.carryover_formula,
        carryover_note: preview.carryover_note,
        thresholds: thresholds(&numbers.thresholds),
        grace_ratio: Num(preview.grace_ratio),
        carryover_factor: Num(preview.carryover_factor),
        current_usage: Num(numbers.current_usage),
        daily_usage_rate: Num(numbers.daily_usage_rate),
        usage_percentage: Num(numbers.usage_percentage),
        current_qos_status: numbers.current_qos_status.wire_name(),
        date_projections: projections(&numbers.date_projections, last_day),
        preview_commands: preview.commands.into_iter().map(command).collect(),
        command_history: history,
        billing_period_start: preview.period.map(|(start, _)| start),
        billing_period_end: preview.period.map(|(_, end)| end),
        explanation: preview.explanation,
    }
}

/// What was used in a day of late.
struct Recent {
    rate: Decimal,
    today: NaiveDate,
}

/// The pace of the last seven days, as lists of allocations show it.
async fn recent(ctx: &Context, resource: ResourceId, policy: PolicyId) -> Result<Option<Recent>, ApiError> {
    let of = StandingFilter { resource: Some(resource), policy: Some(policy), ..StandingFilter::default() };
    let query = StandingQuery { of, ..StandingQuery::default() };
    let found = ctx.app.operations.standings(&ctx.app.read, &query).await?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(row.outlook().map(|outlook| Recent { rate: outlook.paces.recent, today: row.today }))
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
    let recent = match (request.resource, preview.policy) {
        (Some(resource), Some(policy)) => recent(&ctx, resource, policy).await?,
        _ => None,
    };
    ctx.one(StatusCode::OK, &shown(preview, history, recent))
}
