//! Intake of usage: month-to-date totals of a resource, evaluated in the same append.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use rust_decimal::Decimal;
use utoipa::ToSchema;
use uuid::Uuid;

use super::TAG;
use crate::commands::allocation::{AllocationCommand, Refusal, UsageReport};
use crate::commands::execute::CommandError;
use crate::domain::decimal::{self, MAX_AMOUNT};
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::domain::tres::Amounts;
use crate::events::allocation::MissingUsage;
use crate::http::context::{Body, Context, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields, sentence};
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::resolve::NO_SUCH_OBJECT;
use crate::http::taken::{AmountInput, IdInput, InstantInput, MissingUsageInput};

/// One component of a report.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct UsageItem {
    /// Component type.
    #[schema(min_length = 1, max_length = 255)]
    r#type: String,
    /// Month-to-date total, as a number or a string.
    amount: AmountInput,
    /// What happens to a later month without a report: `none` (default), `reuse` this total, or `zero`.
    missing_usage_policy: Option<MissingUsageInput>,
    /// Only false: `missing_usage_policy` says the same, and more.
    recurring: Option<bool>,
    /// Only empty: `reason` is kept with a report.
    #[schema(max_length = 0)]
    description: Option<String>,
}

/// A report of totals.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct SetUsageRequest {
    /// Totals, at least one; omitted components keep theirs.
    #[schema(min_items = 1, max_items = 10_000)]
    usages: Vec<UsageItem>,
    /// UUID or address of the resource.
    #[schema(nullable = false)]
    resource: Option<IdInput>,
    /// In place of `resource`: Sluice has no plans, a resource is its own.
    plan_period: Option<IdInput>,
    /// An instant or day in the month that the totals are of, in the reporter's own zone; the running month without it.
    date: Option<InstantInput>,
    /// When the totals were read from the accounting; now without it.
    measured_at: Option<InstantInput>,
    /// Refused unless empty: usage is kept by month.
    #[schema(max_items = 0)]
    daily_usages: Option<Vec<serde_json::Value>>,
    /// Reason, recorded with the report.
    #[schema(max_length = 2_000)]
    reason: Option<String>,
}

/// An amount that may be reported.
pub fn amount(value: &Json) -> Result<Decimal, String> {
    let amount = fields::number(value)?;
    decimal::complaint(amount, Decimal::ZERO, MAX_AMOUNT).map_or(Ok(amount), Err)
}

/// An item as it was read.
struct Item {
    component: String,
    amount: Decimal,
    missing_usage: MissingUsage,
}

fn item(item: &BTreeMap<String, Json>) -> Result<Item, Vec<String>> {
    const KNOWN: [&str; 5] = ["amount", "description", "missing_usage_policy", "recurring", "type"];
    let mut wrong: Vec<String> = fields::only(item, &KNOWN).err().into_iter().collect();
    let required = |name: &str| item.get(name).ok_or_else(|| fields::REQUIRED.to_owned());
    let component = required("type").and_then(fields::words(255));
    let amount = required("amount").and_then(amount);
    match item.get("recurring") {
        None | Some(Json::Null) => {}
        Some(value) => match fields::boolean(value) {
            Ok(false) => {}
            Ok(true) => wrong
                .push("recurring: true is not taken; \"missing_usage_policy\": \"reuse\" says the same.".to_owned()),
            Err(message) => wrong.push(format!("recurring: {message}")),
        },
    }
    match item.get("description") {
        None | Some(Json::Null) => {}
        Some(Json::Text(text)) if text.is_empty() => {}
        Some(_) => wrong.push("description: it is not kept; \"reason\", beside \"usages\", is.".to_owned()),
    }
    if let Err(message) = &component {
        wrong.push(format!("type: {message}"));
    }
    if let Err(message) = &amount {
        wrong.push(format!("amount: {message}"));
    }
    let policy = item.get("missing_usage_policy").filter(|value| **value != Json::Null);
    let policy = policy.map(fields::choice(MissingUsage::parse, "none, reuse, zero")).transpose();
    if let Err(message) = &policy {
        wrong.push(format!("missing_usage_policy: {message}"));
    }
    match (component, amount) {
        (Ok(component), Ok(amount)) if wrong.is_empty() => {
            Ok(Item { component, amount, missing_usage: policy.ok().flatten().unwrap_or_default() })
        }
        _ => Err(wrong),
    }
}

/// Totals by component, and what becomes of later months without a report.
type Totals = (Amounts, BTreeMap<String, MissingUsage>);

fn totals(fields: &mut Fields, most: usize) -> Option<Totals> {
    let items = fields.required("usages", fields::list(most, fields::object))?;
    if items.is_empty() {
        fields.errors.add("usages", "It is empty: at least one item is needed.");
    }
    let (mut totals, mut missing) = (Amounts::new(), BTreeMap::new());
    for (index, given) in items.iter().enumerate() {
        let place = index + 1;
        match item(given) {
            Ok(Item { component, amount, missing_usage }) => {
                missing.insert(component.clone(), missing_usage);
                if totals.insert(component.clone(), amount).is_some() {
                    fields.errors.add("usages", format!("Item {place}: type: {component:?} is given more than once."));
                }
            }
            Err(wrong) => {
                for message in wrong {
                    fields.errors.add("usages", format!("Item {place}: {message}"));
                }
            }
        }
    }
    Some((totals, missing))
}

/// Amounts by day are not kept, so none may be given.
fn no_days(fields: &mut Fields) {
    let days = fields.nullable("daily_usages", fields::list(usize::MAX, |_| Ok(()))).flatten();
    if days.is_some_and(|days| !days.is_empty()) {
        fields.errors.add(
            "daily_usages",
            "Amounts by day are not taken: usage is kept by the month. Report the month's total in \"usages\".",
        );
    }
}

/// The month of a report: that of its date in its own zone. Without one it is the running month at the site.
pub fn month(ctx: &Context, fields: &mut Fields) -> Option<Month> {
    match fields.nullable("date", fields::offset_instant) {
        Some(Some(date)) => Some(Month::of(date.date_naive())),
        // Given, but unreadable.
        None if fields.has("date") => None,
        Some(None) | None => Some(running(ctx)),
    }
}

/// The running month at the site.
pub fn running(ctx: &Context) -> Month {
    Month::of_instant(ctx.app.clock.now(), ctx.app.allocations.rules().zone)
}

/// The resource, where a plan period is given beside it: the two must be one.
fn same_plan(fields: &mut Fields) -> Option<Uuid> {
    let resource = fields.required("resource", fields::uuid);
    let plan = fields.nullable("plan_period", fields::uuid).flatten();
    if plan.is_some() && resource.is_some() && plan != resource {
        fields.errors.add("plan_period", "Sluice has no plans: leave it out, or give the resource itself.");
    }
    resource
}

/// A resource that the caller may report on. One that the caller does not see is answered as if there were none.
fn reportable(ctx: &Context, resource: ResourceId) -> Result<(), ApiError> {
    let state = ctx.app.registry.read();
    let visibility = ctx.visibility_in(&state);
    let entry = state.resource(resource).filter(|entry| visibility.resource(entry, &state));
    let entry = entry.ok_or_else(|| ApiError::field("resource", NO_SUCH_OBJECT))?;
    if visibility.reports_for(entry.offering) { Ok(()) } else { Err(ApiError::Forbidden) }
}

/// A refusal by the field of the report that it is about.
pub fn refused(error: CommandError, items: &str) -> ApiError {
    match error {
        CommandError::Refused(refusal) => {
            let field = match &refusal {
                Refusal::AmountOutOfRange { .. } => items,
                Refusal::NotLive(_) | Refusal::Missing => "resource",
                _ => return refusal.into(),
            };
            ApiError::field(field, sentence(&refusal.to_string()))
        }
        other => other.into(),
    }
}

/// Report month-to-date totals of a resource.
#[utoipa::path(post, path = "/api/marketplace-component-usages/set_usage/", tag = TAG, request_body = SetUsageRequest,
    responses((status = 201), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
pub async fn set_usage(ctx: Context, Body(mut fields): Body) -> ApiResult {
    let resource = match (fields.has("resource"), fields.has("plan_period")) {
        // Sluice has no plans; a resource is its own plan period.
        (false, true) => fields.required("plan_period", fields::uuid),
        (true, true) => same_plan(&mut fields),
        _ => fields.required("resource", fields::uuid),
    };
    let totals = totals(&mut fields, ctx.limits.report_items_max);
    no_days(&mut fields);
    let month = month(&ctx, &mut fields);
    let measured_at = fields.nullable("measured_at", fields::instant).flatten();
    let reason = reason(&mut fields);
    if let Some(resource) = resource {
        reportable(&ctx, resource.into()).or_else(|error| match error {
            // Together with the other complaints, if there are any.
            ApiError::Invalid(more) => {
                fields.errors.extend(more);
                Ok(())
            }
            other => Err(other),
        })?;
    }
    fields.check()?;
    let (Some(resource), Some((amounts, missing_usage)), Some(month)) = (resource, totals, month) else {
        return Err(ApiError::NotFound);
    };
    let command =
        AllocationCommand::ReportUsage(UsageReport { measured_at, missing_usage, ..UsageReport::new(month, amounts) });
    let executed = ctx.app.allocations.execute(resource.into(), &command, &ctx.meta(reason)).await;
    let executed = executed.map_err(|error| refused(error, "usages"))?;
    ctx.visible(executed.position).await;
    Ok(StatusCode::CREATED.into_response())
}
