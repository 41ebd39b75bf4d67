//! Usage: month-to-date totals of components, and the shares of users in them.

mod components;
mod report;
mod users;

use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::ApiError;
use super::fields::parse_instant;
use super::sight::Sight;
use crate::domain::ids::{CustomerId, ProjectId};
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
        .add(Access::SignedIn, routes!(users::list))
}

/// The filter that the query asks for, within what the caller may see. `period` names the month's parameter.
fn filter(ctx: &Context, period: &str) -> Result<Option<UsageFilter>, ApiError> {
    const ALLOWED: &str = "the first day of a month YYYY-MM-DD, or YYYY-MM";
    let (state, query) = (ctx.app.registry.read(), &ctx.query);
    let sight = ctx.sight_in(&state);
    let mut filter = UsageFilter {
        resource: query.uuid("resource_uuid")?,
        month: query.read(period, ALLOWED, month)?,
        component: query.get("type").map(str::to_owned),
        offering: query.uuid("offering_uuid")?,
        visible: None,
    };
    if !sight.all {
        match (sight.offering, filter.offering, filter.resource.and_then(|r| state.resource(r))) {
            // An agent sees its own offering and no other.
            (Some(own), Some(asked), _) if own != asked => return Ok(None),
            (Some(own), _, _) => filter.offering = Some(own),
            // Of a resource that the caller sees every row may be seen.
            (None, _, Some(entry)) if sight.resource(entry, &state) => {}
            (None, Some(asked), None) if sight.offering_id(asked, &state) => {}
            (None, _, _) => filter.visible = Some(owned(&sight)),
        }
    }
    if let Some(customer) = query.uuid::<CustomerId>("customer_uuid")? {
        let projects = state.projects().filter(|p| p.facts.customer == customer && sight.project(&p.facts));
        let projects: Vec<ProjectId> = projects.map(|p| p.facts.project).collect();
        filter.visible = Some((Vec::new(), projects));
        if sight.all || sight.offering.is_some() || sight.customers.contains(&customer) {
            filter.visible = Some((vec![customer], Vec::new()));
        }
    }
    if let Some(project) = query.uuid::<ProjectId>("project_uuid")? {
        let seen =
            state.project(project).is_some_and(|p| sight.all || sight.offering.is_some() || sight.project(&p.facts));
        filter.visible = Some((Vec::new(), if seen { vec![project] } else { Vec::new() }));
    }
    Ok(Some(filter))
}

fn owned(sight: &Sight) -> (Vec<CustomerId>, Vec<ProjectId>) {
    (sight.customers.iter().copied().collect(), sight.projects.iter().copied().collect())
}

/// Reads a month from a date in it, or from `YYYY-MM`.
fn month(text: &str) -> Option<Month> {
    text.parse().ok().or_else(|| parse_instant(text).map(|at| Month::of(at.date_naive())))
}

/// A day as the wire has the month of a total: its first.
fn first_day(month: Month) -> String {
    month.first_day().to_string()
}
