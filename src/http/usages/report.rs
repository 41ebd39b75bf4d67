//! Intake of usage: month-to-date totals of a resource, evaluated in the same append.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use rust_decimal::Decimal;
use utoipa::ToSchema;

use super::TAG;
use crate::commands::allocation::{AllocationCommand, Refusal};
use crate::commands::execute::CommandError;
use crate::domain::decimal::{self, MAX_AMOUNT};
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::domain::tres::Amounts;
use crate::http::context::{Body, Context, reason};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields, sentence};
use crate::http::fields::{self, Fields};
use crate::http::json::Json;
use crate::http::resolve::NO_SUCH_OBJECT;

/// One component of a report.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct UsageItem {
    /// Component type.
    r#type: String,
    /// Month-to-date total, as a number or a string.
    amount: String,
}

/// A report of totals.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub struct SetUsageRequest {
    /// Totals; components that are left out keep theirs.
    usages: Vec<UsageItem>,
    /// UUID or address of the resource.
    resource: String,
    /// An instant or day in the month that the totals are of, in the reporter's own zone; the running month without it.
    date: Option<String>,
    /// Why; kept with the report.
    reason: Option<String>,
}

/// An amount that may be reported.
pub fn amount(value: &Json) -> Result<Decimal, String> {
    let amount = fields::number(value)?;
    decimal::complaint(amount, Decimal::ZERO, MAX_AMOUNT).map_or(Ok(amount), Err)
}

fn totals(fields: &mut Fields, most: usize) -> Option<Amounts> {
    let items = fields.required("usages", fields::list(fields::object))?;
    if items.len() > most {
        fields.errors.add("usages", format!("{} items are given: at most {most} are allowed.", items.len()));
        return None;
    }
    let mut totals = Amounts::new();
    let mut complain = |message: String| fields.errors.add("usages", message);
    for (index, item) in items.iter().enumerate() {
        let place = index + 1;
        let component = item.get("type").ok_or_else(|| fields::REQUIRED.to_owned()).and_then(fields::words(255));
        let amount = item.get("amount").ok_or_else(|| fields::REQUIRED.to_owned()).and_then(amount);
        match (component, amount) {
            (Ok(component), Ok(amount)) => {
                if totals.insert(component.clone(), amount).is_some() {
                    complain(format!("Item {place}: type: {component:?} is given more than once."));
                }
            }
            (component, amount) => {
                if let Err(message) = component {
                    complain(format!("Item {place}: type: {message}"));
                }
                if let Err(message) = amount {
                    complain(format!("Item {place}: amount: {message}"));
                }
            }
        }
    }
    Some(totals)
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

/// A resource that the caller may report on.
fn reportable(ctx: &Context, resource: ResourceId) -> Result<(), ApiError> {
    let state = ctx.app.registry.read();
    let entry = state.resource(resource).ok_or_else(|| ApiError::field("resource", NO_SUCH_OBJECT))?;
    if ctx.sight_in(&state).reports_for(entry.offering) { Ok(()) } else { Err(ApiError::Forbidden) }
}

/// A refusal by the field of the report that it is about.
pub fn refused(error: CommandError, items: &str) -> ApiError {
    match error {
        CommandError::Refused(refusal) => {
            let field = match &refusal {
                Refusal::FutureMonth { .. } => "date",
                Refusal::UnknownComponent { .. } => "type",
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
        _ => fields.required("resource", fields::uuid),
    };
    let amounts = totals(&mut fields, ctx.limits.report_items_max);
    let month = month(&ctx, &mut fields);
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
    let (Some(resource), Some(amounts), Some(month)) = (resource, amounts, month) else {
        return Err(ApiError::NotFound);
    };
    let command = AllocationCommand::ReportUsage { month, amounts };
    let executed = ctx.app.allocations.execute(resource.into(), &command, &ctx.meta(reason)).await;
    let executed = executed.map_err(|error| refused(error, "usages"))?;
    ctx.visible(executed.position).await;
    Ok(StatusCode::CREATED.into_response())
}
