//! `…/usage-series/`: the bounded data for a chart of an allocation in a period.

use axum::http::StatusCode;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::rows::{AllocationState, Pace, RungAhead, RungShown};
use super::{TAG, entry, rows};
use crate::app::App;
use crate::directory::Principal;
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::Period;
use crate::http::context::{Context, Id};
use crate::http::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use crate::http::number::Num;
use crate::http::policies::span;
use crate::operations::series::{self, Band, Gap, Marker, Place, STEPS_MAX, Series, ThresholdStep, UsageStep};
use crate::operations::standings::StandingQuery;
use crate::projections::Span;
use crate::projections::status_summary::StandingFilter;

/// Which series is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeriesQuery {
    /// Under this policy; without it under the one that matters most.
    pub policy: Option<PolicyId>,
    /// In this period; without it in the one that is counted now.
    pub period: Option<Period>,
    /// In this time of it.
    pub span: Span,
    /// Steps at most.
    pub steps_max: Option<usize>,
}

/// An event that a figure comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesPlace {
    pub at: DateTime<Utc>,
    /// The event's place in the log.
    pub position: String,
    pub event_uuid: String,
}

impl From<Place> for SeriesPlace {
    fn from(place: Place) -> Self {
        Self { at: place.at, position: place.position.to_string(), event_uuid: place.event.as_simple().to_string() }
    }
}

/// Usage from an evaluation on, until the next step.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesStep {
    #[serde(flatten)]
    pub place: SeriesPlace,
    pub used: Num,
    pub may_use: Num,
    pub usage_percentage: Num,
    /// As in allocation states.
    pub state: &'static str,
    /// Something was decided: the state or the allocation changed, or people were told.
    pub decided: bool,
}

impl From<UsageStep> for SeriesStep {
    fn from(step: UsageStep) -> Self {
        Self {
            place: step.place.into(),
            used: Num(step.used),
            may_use: Num(step.may_use),
            usage_percentage: Num(step.percentage),
            state: step.standing.as_str(),
            decided: step.decided,
        }
    }
}

/// A rung with the amount that it had.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesRung {
    pub percent: Num,
    /// `notify`, `downscale` or `pause`.
    pub effect: &'static str,
    pub amount: Num,
}

/// Thresholds from an evaluation on, until the next step.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesThresholds {
    #[serde(flatten)]
    pub place: SeriesPlace,
    pub policy_version: u64,
    pub base: Num,
    pub carried_over: Num,
    pub may_use: Num,
    pub rungs: Vec<SeriesRung>,
}

impl From<ThresholdStep> for SeriesThresholds {
    fn from(step: ThresholdStep) -> Self {
        let rungs = step.rungs.iter().map(|(rung, amount)| SeriesRung {
            percent: Num(rung.percent),
            effect: rung.effect.verb(),
            amount: Num(*amount),
        });
        Self {
            place: step.place.into(),
            policy_version: step.policy_version,
            base: Num(step.base),
            carried_over: Num(step.carried_over),
            may_use: Num(step.may_use),
            rungs: rungs.collect(),
        }
    }
}

/// A stretch of time in which an allocation was not normal.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesBand {
    /// As in allocation states.
    pub state: &'static str,
    pub from: DateTime<Utc>,
    /// Null while it lasts.
    pub to: Option<DateTime<Utc>>,
}

impl From<Band> for SeriesBand {
    fn from(band: Band) -> Self {
        Self { state: band.standing.as_str(), from: band.from, to: band.to }
    }
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesMarker {
    #[serde(flatten)]
    pub place: SeriesPlace,
    /// `warned`, `slowed_down`, `paused`, `restored`, `limits_changed`, `policy_changed`, `hold_placed`, `hold_ended` or
    /// `restated`.
    pub kind: &'static str,
    pub usage_percentage: Option<Num>,
    pub hold_uuid: Option<String>,
    /// `pause`, `downscale` or `exemption`.
    pub hold_kind: Option<&'static str>,
}

impl From<Marker> for SeriesMarker {
    fn from(marker: Marker) -> Self {
        Self {
            place: marker.place.into(),
            kind: marker.kind.as_str(),
            usage_percentage: marker.percentage.map(Num),
            hold_uuid: marker.hold.map(|(hold, _)| hold.to_string()),
            hold_kind: marker.hold.map(|(_, kind)| kind.as_str()),
        }
    }
}

/// A stretch of more than a day without new data from the site or contact with the agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesGap {
    pub from: DateTime<Utc>,
    /// Null while it lasts.
    pub to: Option<DateTime<Utc>>,
}

impl From<Gap> for SeriesGap {
    fn from(gap: Gap) -> Self {
        Self { from: gap.from, to: gap.to }
    }
}

/// Where usage is heading; only of the period that is counted now.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesForecast {
    pub from: DateTime<Utc>,
    pub used: Num,
    /// Daily usage at both paces, and the total that each reaches by the end of the period.
    pub pace: Pace,
    /// Rungs that are not reached, the next one first.
    pub ahead: Vec<RungAhead>,
}

/// The data for a chart of an allocation in a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageSeries {
    pub resource_uuid: String,
    pub policy_uuid: String,
    pub billing_period: String,
    pub period_start: Option<NaiveDate>,
    pub period_end: Option<NaiveDate>,
    /// The instants at which it begins, and at which the next one does, at the site.
    pub starts_at: Option<DateTime<Utc>>,
    pub ends_before: Option<DateTime<Utc>>,
    pub now: DateTime<Utc>,
    /// The unit of the amounts, where all that is counted has the same.
    pub unit: Option<String>,
    /// Usage, oldest first: at most 800 steps, but every decision.
    pub steps: Vec<SeriesStep>,
    /// Omitted steps between these.
    pub steps_left_out: usize,
    /// Thresholds as they were.
    pub thresholds: Vec<SeriesThresholds>,
    pub bands: Vec<SeriesBand>,
    pub markers: Vec<SeriesMarker>,
    pub gaps: Vec<SeriesGap>,
    pub forecast: Option<SeriesForecast>,
    /// The rungs now.
    pub rungs: Vec<RungShown>,
}

/// The series of an allocation that somebody sees.
///
/// # Errors
/// There is no such allocation, or no policy has been evaluated on it; the log or the read models fail.
pub async fn of(
    app: &App,
    caller: &Principal,
    resource: ResourceId,
    query: SeriesQuery,
) -> Result<UsageSeries, ApiError> {
    let entry = entry(app, caller, resource)?;
    let now = app.clock.now();
    let zone = app.allocations.rules().zone;
    let state = standing(app, caller, resource, query.policy).await?;
    let policy: Option<PolicyId> = state.policy_uuid.as_deref().and_then(|id| id.parse().ok());
    let counted: Option<Period> = state.billing_period.as_deref().and_then(|period| period.parse().ok());
    let (Some(policy), Some(counted)) = (policy, counted) else { return Err(ApiError::NotFound) };
    let period = query.period.unwrap_or(counted);
    let asked = series::SeriesQuery {
        resource,
        policy,
        period,
        newest_book: entry.book,
        span: query.span,
        steps_max: query.steps_max.unwrap_or(STEPS_MAX).clamp(2, STEPS_MAX),
        now,
    };
    let Series { steps, left_out, thresholds, bands, markers, gaps } = series::series(&*app.store, &asked).await?;
    let current = period == counted;
    let forecast = state.pace.zip(state.used).filter(|_| current);
    Ok(UsageSeries {
        resource_uuid: resource.to_string(),
        policy_uuid: policy.to_string(),
        billing_period: period.to_string(),
        period_start: period.start(),
        period_end: period.end(),
        starts_at: period.starts_at(zone),
        ends_before: period.ends_before(zone),
        now,
        unit: state.unit,
        steps: steps.into_iter().map(Into::into).collect(),
        steps_left_out: left_out,
        thresholds: thresholds.into_iter().map(Into::into).collect(),
        bands: bands.into_iter().map(Into::into).collect(),
        markers: markers.into_iter().map(Into::into).collect(),
        gaps: gaps.into_iter().map(Into::into).collect(),
        forecast: forecast.map(|(pace, used)| SeriesForecast { from: now, used, pace, ahead: state.ahead }),
        rungs: if current { state.rungs } else { Vec::new() },
    })
}

/// How the allocation stands under a policy, or under the one that matters most.
async fn standing(
    app: &App,
    caller: &Principal,
    resource: ResourceId,
    policy: Option<PolicyId>,
) -> Result<AllocationState, ApiError> {
    let of = StandingFilter { resource: Some(resource), policy, ..StandingFilter::default() };
    let query = StandingQuery { of, once: true, ..StandingQuery::default() };
    let found = app.operations.standings(&app.read, &query).await?;
    rows::shown(app, caller, &found).await?.pop().ok_or(ApiError::NotFound)
}

/// The data for a chart of an allocation in a period: usage, thresholds at each time, restrictions, events, and the
/// forecast.
#[utoipa::path(get, path = "/api/marketplace-provider-resources/{uuid}/usage-series/", tag = TAG,
    params(("uuid" = String, Path),
        ("policy_uuid" = Option<String>, Query, description = "Under this policy; without it under the one that matters most"),
        ("billing_period" = Option<String>, Query, description = "`2026-03`, `2026-Q1`, `2026` or `total`; without it the one that is counted now"),
        ("from" = Option<String>, Query, description = "From this instant or site date on"),
        ("to" = Option<String>, Query, description = "Up to this instant, or up to the end of this site date"),
        ("steps" = Option<u32>, Query, description = "Steps at most, 2 to 800")),
    responses((status = 200, body = UsageSeries), (status = 400, body = ErrorFields), (status = 404, body = ErrorDetail)))]
pub async fn show(ctx: Context, Id(resource): Id<ResourceId>) -> ApiResult {
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| (2..=STEPS_MAX).contains(n));
    let query = SeriesQuery {
        policy: ctx.query.uuid("policy_uuid")?,
        period: ctx
            .query
            .read("billing_period", "a period such as 2026-03, 2026-Q1, 2026 or total", |text| text.parse().ok())?,
        span: span(&ctx)?,
        steps_max: ctx.query.read("steps", "a number from 2 to 800", number)?,
    };
    ctx.one(StatusCode::OK, &of(&ctx.app, &ctx.caller, resource, query).await?)
}
