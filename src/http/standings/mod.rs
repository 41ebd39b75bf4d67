//! `/api/allocation-states/`: the standing of allocations, over all policies and offerings that the caller sees;
//! totals, and what needs attention.
//!
//! Each endpoint is a function of the application, the caller and the request, which other parts that show the same
//! data call too.

pub mod attention;
pub mod limits;
pub mod rows;
pub mod series;
pub mod summary;

use chrono::{DateTime, TimeDelta, Utc};
use utoipa::IntoParams;
use utoipa_axum::routes;

use self::rows::AllocationState;
use super::access::{Access, Routes};
use super::context::Context;
use super::error::{ApiError, ApiResult, ErrorFields};
use super::fields::parse_instant;
use super::paging::{Page, PageParams, listed};
use super::query::Query;
use super::visibility::Visibility;
use crate::app::App;
use crate::directory::Principal;
use crate::domain::ids::ResourceId;
use crate::domain::standing::Standing;
use crate::operations::standings::{SortBy, Sorting, StandingQuery};
use crate::projections::status_summary::{AgentStatus, StandingFilter};
use crate::registry::ResourceEntry;

/// The group in the API's description.
const TAG: &str = "Allocation states";

const STATES: &str = "on_hold, exempt, paused, slowed_down, warned, normal";
const AGENT_STATUSES: &str = "not_needed, queued, sent, confirmed, failed, no_answer";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::SignedIn, routes!(list))
        .add(Access::SignedIn, routes!(attention::show))
        .add(Access::SignedIn, routes!(summary::show))
        .add(Access::SignedIn, routes!(series::show))
        .add(Access::SignedIn, routes!(limits::show))
}

/// Which allocations are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that are read one by one")]
#[expect(clippy::struct_field_names, reason = "the names are those of the query")]
pub struct OfParams {
    /// This allocation.
    resource_uuid: Option<String>,
    /// Under this policy.
    policy_uuid: Option<String>,
    /// On this offering.
    offering_uuid: Option<String>,
    /// Of this organisation.
    customer_uuid: Option<String>,
    /// Of this project.
    project_uuid: Option<String>,
}

/// How they are chosen among those, and sorted.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that are read one by one")]
struct ListParams {
    /// `on_hold`, `exempt`, `paused`, `slowed_down`, `warned` or `normal`; may be repeated.
    state: Option<Vec<String>>,
    /// `not_needed`, `queued`, `sent`, `confirmed`, `failed` or `no_answer`; may be repeated.
    agent_status: Option<Vec<String>>,
    /// With this in a name, slug or account of the allocation, its project, its organisation or its policy.
    q: Option<String>,
    /// Whose state has changed since this instant.
    changed_since: Option<String>,
    /// Not restricted, and a rung comes in the period; or others.
    at_risk: Option<bool>,
    /// Each allocation once, under the policy that matters most: the one that restricts it, else the one that comes next.
    once: Option<bool>,
    /// `next` (the default), `created`, `name`, `organisation`, `project`, `usage`, `used`, `state`, `state_since`,
    /// `reported` or `pace`; a leading dash reverses the order. Rows without such a value come last.
    o: Option<String>,
}

/// Reads which allocations are asked for.
pub fn asked(query: &Query) -> Result<StandingFilter, ApiError> {
    Ok(StandingFilter {
        resource: query.uuid("resource_uuid")?,
        policy: query.uuid("policy_uuid")?,
        offering: query.uuid("offering_uuid")?,
        customer: query.uuid("customer_uuid")?,
        project: query.uuid("project_uuid")?,
        visible: None,
    })
}

/// Reads an instant.
fn instant(query: &Query, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
    let read =
        |text: &str| parse_instant(text).or_else(|| parse_instant(&text.replace(' ', "+"))).map(|at| at.to_utc());
    query.read(name, "an ISO 8601 instant, or a date YYYY-MM-DD", read)
}

/// Reads how allocations are chosen and sorted.
pub fn read(query: &Query) -> Result<StandingQuery, ApiError> {
    Ok(StandingQuery {
        of: asked(query)?,
        standings: query.every("state", STATES, Standing::parse)?,
        agents: query.every("agent_status", AGENT_STATUSES, AgentStatus::parse)?,
        text: query.get("q").map(str::to_owned),
        changed_since: instant(query, "changed_since")?,
        at_risk: query.boolean("at_risk")?,
        once: query.boolean("once")?.unwrap_or(false),
        sorting: query.read("o", SortBy::ALLOWED, Sorting::parse)?.unwrap_or_default(),
    })
}

/// What somebody may see of what is asked for.
pub(super) fn seen(app: &App, caller: &Principal, of: &StandingFilter) -> StandingFilter {
    let state = app.registry.read();
    StandingFilter { visible: Visibility::of(caller, &state).filter(&state), ..of.clone() }
}

/// An allocation that somebody may see.
pub(super) fn entry(app: &App, caller: &Principal, resource: ResourceId) -> Result<ResourceEntry, ApiError> {
    let state = app.registry.read();
    let entry = state.resource(resource).ok_or(ApiError::NotFound)?;
    if Visibility::of(caller, &state).resource(entry, &state) { Ok(*entry) } else { Err(ApiError::NotFound) }
}

/// A page of the allocations that somebody sees, and how many there are.
///
/// # Errors
/// There is no such page, or the read models fail.
pub async fn page(
    app: &App,
    caller: &Principal,
    query: StandingQuery,
    page: Page,
) -> Result<(Vec<AllocationState>, u64), ApiError> {
    let query = StandingQuery { of: seen(app, caller, &query.of), ..query };
    let found = app.operations.standings(&app.read, &query).await?;
    let total = found.len() as u64;
    let rows = page.within(total)?.cut(found);
    Ok((rows::shown(app, caller, &rows).await?, total))
}

/// The standing of allocations, each under each of its policies: amounts, the state in a word, and the coming rungs,
/// with dates at both paces.
#[utoipa::path(get, path = "/api/allocation-states/", tag = TAG,
    params(PageParams, OfParams, ListParams),
    responses((status = 200, body = [AllocationState], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 400, body = ErrorFields)))]
async fn list(ctx: Context) -> ApiResult {
    let asked = Page::of(&ctx.query)?;
    let (rows, total) = page(&ctx.app, &ctx.caller, read(&ctx.query)?, asked).await?;
    listed(&ctx, asked, total, &rows)
}

/// A day, if nothing is said.
fn a_day_before(now: DateTime<Utc>) -> DateTime<Utc> {
    now - TimeDelta::days(1)
}
