//! Totals over allocations: counts by state, recent changes, and combined usage.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::rows::AllocationState;
use super::{OfParams, TAG, a_day_before, asked, instant, seen};
use crate::app::App;
use crate::directory::Principal;
use crate::domain::decimal::rounded;
use crate::domain::standing::Standing;
use crate::http::context::Context;
use crate::http::error::{ApiError, ApiResult, ErrorFields};
use crate::http::number::Num;
use crate::operations::standings::{PolicyTotals, SortBy, Sorting, StandingQuery};
use crate::projections::status_summary::StandingFilter;

/// Allocations that changed which are named.
const CHANGED_MAX: usize = 20;

/// All allocations under a policy, taken together.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyTotalsShown {
    pub policy_uuid: String,
    pub policy_slug: String,
    pub billing_period: String,
    pub period_start: Option<NaiveDate>,
    pub period_end: Option<NaiveDate>,
    /// Allocations that are counted in.
    pub allocations: u64,
    pub used: Num,
    pub may_use: Num,
    pub percentage: Num,
    /// Points of percent ahead of a pace that uses up all of it on the last day; below zero: behind it.
    pub points_from_ideal: Option<Num>,
}

/// Numbers over the allocations that the caller sees.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationSummary {
    /// Allocations, each counted once.
    pub allocations: u64,
    /// By state; an allocation with several policies by the most pressing of its states.
    pub states: BTreeMap<&'static str, u64>,
    /// Not restricted, and a rung comes in the period.
    pub at_risk: u64,
    /// Since when changes are counted.
    pub since: DateTime<Utc>,
    /// Allocations whose state has changed since then.
    pub changed_count: u64,
    /// The last twenty of them, the newest first.
    pub changed: Vec<AllocationState>,
    /// By policy and period: amounts under different policies may have different units.
    pub together: Vec<PolicyTotalsShown>,
}

/// Numbers over the allocations that somebody sees; changes since an instant, or since a day ago.
///
/// # Errors
/// The read models fail.
pub async fn summary(
    app: &App,
    caller: &Principal,
    of: &StandingFilter,
    since: Option<DateTime<Utc>>,
) -> Result<AllocationSummary, ApiError> {
    let since = since.unwrap_or_else(|| a_day_before(app.clock.now()));
    let of = seen(app, caller, of);
    let sums = app.operations.standing_summary(&app.read, &of, since).await?;
    let changed = if sums.changed == 0 {
        Vec::new()
    } else {
        let sorting = Sorting { by: SortBy::Since, descending: true };
        let query = StandingQuery { of, changed_since: Some(since), once: true, sorting, ..StandingQuery::default() };
        let mut found = app.operations.standings(&app.read, &query).await?;
        found.truncate(CHANGED_MAX);
        super::rows::shown(app, caller, &found).await?
    };
    let slug = |sum: &PolicyTotals| {
        let state = app.registry.read();
        state.policy(sum.policy).map(|p| p.facts.slug.clone()).unwrap_or_default()
    };
    let together = sums.together.iter().map(|sum| PolicyTotalsShown {
        policy_uuid: sum.policy.to_string(),
        policy_slug: slug(sum),
        billing_period: sum.period.to_string(),
        period_start: sum.period.start(),
        period_end: sum.period.end(),
        allocations: sum.allocations,
        used: Num(sum.used),
        may_use: Num(sum.may_use),
        percentage: Num(rounded(sum.percentage, 6)),
        points_from_ideal: sum.points_from_ideal.map(|points| Num(rounded(points, 6))),
    });
    Ok(AllocationSummary {
        allocations: sums.allocations,
        states: sums.standings.iter().map(|(standing, n)| (Standing::as_str(*standing), *n)).collect(),
        at_risk: sums.at_risk,
        since,
        changed_count: sums.changed,
        changed,
        together: together.collect(),
    })
}

/// Counts of allocations by state, recent changes, and combined usage.
#[utoipa::path(get, path = "/api/allocation-states/summary/", tag = TAG,
    params(OfParams, ("since" = Option<String>, Query, description = "Changes since this instant; since a day ago without it")),
    responses((status = 200, body = AllocationSummary), (status = 400, body = ErrorFields)))]
pub async fn show(ctx: Context) -> ApiResult {
    let since = instant(&ctx.query, "since")?;
    let shown = summary(&ctx.app, &ctx.caller, &asked(&ctx.query)?, since).await?;
    ctx.one(StatusCode::OK, &shown)
}
