//! Usage: month-to-date totals of components, and the shares of users in them.

mod components;
mod report;
mod users;

use utoipa::IntoParams;
use utoipa_axum::routes;
use uuid::Uuid;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::ApiError;
use super::fields::parse_instant;
use super::query::{Query, complaint};
use crate::domain::period::Month;
use crate::projections::usage::UsageFilter;

/// The segment of the address of totals.
const COLLECTION: &str = "marketplace-component-usages";
/// The segment of the address of shares.
const USER_COLLECTION: &str = "marketplace-component-user-usages";
/// The group in the API's description.
const TAG: &str = "Usage";

/// The routes of usage.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(components::list))
        .add(Access::Reporting, routes!(report::set_usage))
        .add(Access::SignedIn, routes!(components::retrieve))
        .add(Access::Reporting, routes!(users::set_user_usages))
        .add(Access::Reporting, routes!(users::set_user_usage))
        .add(Access::SignedIn, routes!(users::list))
}

/// How totals, and shares in them, are chosen.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that `filter` reads")]
pub struct UsageParams {
    /// Of this resource.
    resource_uuid: Option<String>,
    /// The same, by address.
    resource: Option<String>,
    /// Of resources on this offering.
    offering_uuid: Option<String>,
    /// Of resources of this organisation.
    customer_uuid: Option<String>,
    /// Of resources of this project.
    project_uuid: Option<String>,
    /// Of this month: its first day, or `YYYY-MM`.
    billing_period: Option<String>,
    /// Of months of this year.
    #[param(minimum = 1970, maximum = 9998)]
    billing_period_year: Option<u32>,
    /// Of this month, 1 to 12, of any year.
    #[param(minimum = 1, maximum = 12)]
    billing_period_month: Option<u32>,
    /// Of months that end on this day or later.
    date_after: Option<String>,
    /// Of months that begin on this day or earlier.
    date_before: Option<String>,
    /// Of this component type.
    r#type: Option<String>,
}

/// One of two spellings of a parameter; given both, they must agree.
fn either<T: From<Uuid> + PartialEq>(query: &Query, names: [&str; 2]) -> Result<Option<T>, ApiError> {
    match (query.uuid(names[0])?, query.uuid(names[1])?) {
        (Some(one), Some(other)) if one != other => {
            Err(ApiError::field(names[1], format!("It is another one than {} says.", names[0])))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// The filter that the query asks for, within what the caller may see. `periods` names the parameters of the month.
fn filter(ctx: &Context, periods: &[&str]) -> Result<UsageFilter, ApiError> {
    const ALLOWED: &str = "the first day of a month YYYY-MM-DD, or YYYY-MM";
    let query = &ctx.query;
    let months = periods.iter().map(|name| query.read(name, ALLOWED, month)).collect::<Result<Vec<_>, _>>()?;
    let year = query.read("billing_period_year", "a year such as 2026", |text| text.parse::<i32>().ok())?;
    let year = match year {
        None => None,
        Some(year) => Some(
            Month::new(year, 1)
                .zip(Month::new(year, 12))
                .ok_or_else(|| complaint("billing_period_year", &year.to_string(), "a year such as 2026"))?,
        ),
    };
    let after = query.date("date_after")?.map(Month::of);
    let before = query.date("date_before")?.map(Month::of);
    Ok(UsageFilter {
        resource: either(query, ["resource_uuid", "resource"])?,
        from: months.iter().copied().chain([year.map(|(first, _)| first), after]).flatten().max(),
        to: months.iter().copied().chain([year.map(|(_, last)| last), before]).flatten().min(),
        month_of_year: query.read("billing_period_month", "a month, 1 to 12", |text| {
            text.parse().ok().filter(|month| (1..=12).contains(month))
        })?,
        component: query.get("type").map(str::to_owned),
        offering: query.uuid("offering_uuid")?,
        customer: query.uuid("customer_uuid")?,
        project: query.uuid("project_uuid")?,
        visible: ctx.visibility_filter(),
    })
}

/// Reads a month from a date in it, or from `YYYY-MM`.
fn month(text: &str) -> Option<Month> {
    text.parse().ok().or_else(|| parse_instant(text).map(|at| Month::of(at.date_naive())))
}

/// A day as the wire has the month of a total: its first.
fn first_day(month: Month) -> String {
    month.first_day().to_string()
}
