//! A row in lists of allocations: names, amounts, the state in a word, the next rung.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::directory::Principal;
use crate::domain::forecast::{Ahead, Reach, amount_of};
use crate::domain::ids::OfferingId;
use crate::domain::qos::QosNames;
use crate::http::error::ApiError;
use crate::http::number::Num;
use crate::http::policies::{HeldByHand, SiteStatus, State};
use crate::http::visibility::Visibility;
use crate::operations::standings::{AllocationStanding, Outlook};
use crate::projections::site_answers;
use crate::reactions::holds_on;
use crate::registry::RegistryState;

/// When an amount is reached at a pace.
#[derive(Debug, Serialize, ToSchema)]
pub struct Forecast {
    /// Full days until then; null when never.
    pub days: Option<i64>,
    /// The day; null when never.
    pub date: Option<NaiveDate>,
    /// `never`, `exceeded` or `projected`.
    #[schema(value_type = String)]
    pub status: crate::domain::preview::ProjectionStatus,
    /// Whether the period lasts that long. A date after its end never comes: usage starts again from zero.
    pub in_period: bool,
}

impl From<Reach> for Forecast {
    fn from(reach: Reach) -> Self {
        let Reach { projection, in_period } = reach;
        Self { days: projection.days, date: projection.date, status: projection.status, in_period }
    }
}

/// A rung of the policy's ladder.
#[derive(Debug, Serialize, ToSchema)]
pub struct RungShown {
    pub percent: Num,
    /// `notify`, `downscale` or `pause`.
    pub effect: &'static str,
    pub amount: Num,
    pub reached: bool,
}

/// A rung that is still ahead.
#[derive(Debug, Serialize, ToSchema)]
pub struct RungAhead {
    pub percent: Num,
    /// `notify`, `downscale` or `pause`.
    pub effect: &'static str,
    pub amount: Num,
    /// Until it is reached.
    pub left: Num,
    /// At the average pace since the period began.
    pub at_average: Forecast,
    /// At the pace of the last seven days.
    pub at_last_7_days: Forecast,
    /// The earlier of both days, of those in the period.
    pub soonest: Option<NaiveDate>,
}

impl RungAhead {
    /// Of what is ahead, seen from what is used.
    pub fn of(ahead: &Ahead<'_>, used: rust_decimal::Decimal) -> Self {
        Self {
            percent: Num(ahead.rung.percent),
            effect: ahead.rung.effect.verb(),
            amount: Num(ahead.amount),
            left: Num(ahead.amount - used),
            at_average: ahead.average.into(),
            at_last_7_days: ahead.recent.into(),
            soonest: ahead.soonest(),
        }
    }
}

/// Daily usage, and the total that it reaches.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pace {
    /// Per day, since the period began.
    pub average: Num,
    /// Per day, in the last seven days.
    pub last_7_days: Num,
    /// Per day, if all of it is to last for exactly the period; null where that has no end.
    pub ideal: Option<Num>,
    /// The last seven days over the ideal pace.
    pub multiple_of_ideal: Option<Num>,
    /// Points of percent ahead of the ideal pace; below zero: behind it.
    pub points_from_ideal: Option<Num>,
    /// How much of the period has begun, in percent.
    pub elapsed_percentage: Option<Num>,
    /// Used when the period ends, at the average pace.
    pub at_period_end_average: Option<Num>,
    /// The same at the pace of the last seven days.
    pub at_period_end_last_7_days: Option<Num>,
}

/// Digits of amounts that were divided.
const AMOUNT_DECIMALS: u32 = 6;

impl Pace {
    /// Of an outlook.
    pub fn of(outlook: &Outlook<'_>) -> Self {
        let shown = |amount| Num(crate::domain::decimal::rounded(amount, AMOUNT_DECIMALS));
        let (paces, usage) = (&outlook.paces, &outlook.usage);
        Self {
            average: shown(paces.average),
            last_7_days: shown(paces.recent),
            ideal: paces.ideal.map(shown),
            multiple_of_ideal: outlook.multiple_of_ideal().map(shown),
            points_from_ideal: outlook.points_from_ideal().map(shown),
            elapsed_percentage: usage.elapsed_percent().map(shown),
            at_period_end_average: usage.at_end(paces.average).map(shown),
            at_period_end_last_7_days: usage.at_end(paces.recent).map(shown),
        }
    }
}

/// An allocation under one of its policies, or under none.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationState {
    pub resource_uuid: String,
    pub resource_name: String,
    pub resource_slug: String,
    /// The SLURM account.
    pub backend_id: String,
    pub project_uuid: String,
    pub project_name: String,
    pub project_slug: String,
    pub customer_uuid: String,
    pub customer_name: String,
    pub customer_slug: String,
    pub offering_uuid: String,
    pub offering_name: String,
    pub offering_slug: String,
    /// Null where no policy applies; then there are no amounts either.
    pub policy_uuid: Option<String>,
    pub policy_slug: Option<String>,
    pub policy_version: Option<u64>,
    pub billing_period: Option<String>,
    pub period_start: Option<NaiveDate>,
    pub period_end: Option<NaiveDate>,
    /// `on_hold`, `exempt`, `paused`, `slowed_down`, `warned` or `normal`.
    pub state: &'static str,
    pub state_since: Option<DateTime<Utc>>,
    /// What it was before that.
    pub state_before: Option<&'static str>,
    pub paused: bool,
    pub downscaled: bool,
    /// What of it is the policy's doing.
    pub held: State,
    /// The unit of the amounts, where all that is counted has the same; null where they are weighted sums.
    pub unit: Option<String>,
    /// Used in the period.
    pub used: Option<Num>,
    /// The effective allocation of the period, including carryover.
    pub may_use: Option<Num>,
    /// As evaluated: rounded down, so that it shows no rung that was not reached.
    pub usage_percentage: Option<Num>,
    /// The last report with new usage.
    pub reported_at: Option<DateTime<Utc>>,
    /// How long ago that was.
    pub report_age_seconds: Option<i64>,
    pub evaluated_at: Option<DateTime<Utc>>,
    /// The last evaluation, if it failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// The policy's own rungs, lowest first.
    pub rungs: Vec<RungShown>,
    /// Rungs that are not reached, the next one first.
    pub ahead: Vec<RungAhead>,
    /// Not restricted, and a rung is reached in the period at one of both paces.
    pub at_risk: bool,
    pub pace: Option<Pace>,
    /// `not_needed`, `queued`, `sent`, `confirmed`, `failed` or `no_answer`.
    pub agent_status: &'static str,
    /// Manual holds in force.
    pub manual_holds: Vec<HeldByHand>,
    /// The site's view of the account compared with the intended one.
    pub site: SiteStatus,
}

/// Names of what an allocation belongs to.
struct Of<'a>(&'a RegistryState);

impl Of<'_> {
    fn unit(&self, of: &AllocationStanding) -> Option<String> {
        let components = &self.0.offering(of.row.offering)?.facts.facts.components;
        let weights = &of.policy.as_ref()?.evaluation.weights;
        let unit = &components.first()?.measured_unit;
        let alike = components
            .iter()
            .all(|c| c.measured_unit == *unit && weights.of(&c.component_type) == rust_decimal::Decimal::ONE);
        alike.then(|| unit.clone())
    }
}

fn rungs(of: &AllocationStanding, outlook: Option<&Outlook<'_>>) -> Vec<RungShown> {
    let (Some(policy), Some(outlook)) = (&of.policy, outlook) else { return Vec::new() };
    let rung = |rung: &crate::domain::threshold::Rung| RungShown {
        percent: Num(rung.percent),
        effect: rung.effect.verb(),
        amount: Num(amount_of(rung, outlook.usage.may_use)),
        reached: rung.is_reached_by(outlook.percentage),
    };
    policy.evaluation.ladder.iter().map(rung).collect()
}

impl AllocationState {
    fn of(
        of: &AllocationStanding,
        state: &RegistryState,
        now: DateTime<Utc>,
        manual_holds: Vec<HeldByHand>,
        site: SiteStatus,
    ) -> Self {
        let (row, outlook) = (&of.row, of.outlook());
        let (line, period) = (row.line.as_ref(), row.line.as_ref().and_then(|line| line.period));
        let names = |name: &str, slug: &str| (name.to_owned(), slug.to_owned());
        let project = state.project(row.project).map(|p| names(&p.facts.name, &p.facts.slug)).unwrap_or_default();
        let customer = state.customer(row.customer).map(|c| names(&c.facts.name, &c.facts.slug)).unwrap_or_default();
        let offering = state.offering(row.offering).map(|o| &o.facts.facts);
        let offering = offering.map(|o| names(&o.name, &o.slug)).unwrap_or_default();
        Self {
            resource_uuid: row.resource.to_string(),
            resource_name: row.name.clone(),
            resource_slug: row.slug.clone(),
            backend_id: row.backend_id.clone(),
            project_uuid: row.project.to_string(),
            project_name: project.0,
            project_slug: project.1,
            customer_uuid: row.customer.to_string(),
            customer_name: customer.0,
            customer_slug: customer.1,
            offering_uuid: row.offering.to_string(),
            offering_name: offering.0,
            offering_slug: offering.1,
            policy_uuid: line.map(|line| line.policy.to_string()),
            policy_slug: of.policy.as_ref().map(|p| p.facts.slug.clone()),
            policy_version: line.map(|line| line.version),
            billing_period: period.map(|period| period.to_string()),
            period_start: period.and_then(crate::domain::period::Period::start),
            period_end: period.and_then(crate::domain::period::Period::end),
            state: row.standing.as_str(),
            state_since: row.since,
            state_before: row.stood.map(crate::domain::standing::Standing::as_str),
            paused: row.flags.paused,
            downscaled: row.flags.downscaled,
            held: line.map(|line| line.held).unwrap_or_default().into(),
            unit: Of(state).unit(of),
            used: line.and_then(|line| line.used).map(Num),
            may_use: line.and_then(|line| line.may_use).map(Num),
            usage_percentage: line.and_then(|line| line.percentage).map(Num),
            reported_at: row.reported_at,
            report_age_seconds: row.reported_at.map(|at| (now - at).num_seconds().max(0)),
            evaluated_at: line.map(|line| line.evaluated_at),
            failed_at: line.and_then(|line| line.failed_at),
            rungs: rungs(of, outlook.as_ref()),
            ahead: outlook.iter().flat_map(|o| o.ahead.iter().map(|a| RungAhead::of(a, o.usage.used))).collect(),
            at_risk: of.is_at_risk(),
            pace: outlook.as_ref().map(Pace::of),
            agent_status: row.agent.as_str(),
            manual_holds,
            site,
        }
    }
}

/// Allocations as they are shown to somebody: what belongs to them is read for all at once.
pub(super) async fn shown(
    app: &App,
    caller: &Principal,
    rows: &[AllocationStanding],
) -> Result<Vec<AllocationState>, ApiError> {
    let ids = || rows.iter().map(|of| of.row.resource);
    let answers = site_answers::of_resources(&app.read, ids()).await?;
    let holds = holds_on(&app.read, ids()).await?;
    let told = app.publisher.told(ids()).await?;
    let now = app.clock.now();
    let state = app.registry.read();
    let visibility = Visibility::of(caller, &state);
    let mut offerings: HashMap<OfferingId, (bool, QosNames)> = HashMap::new();
    let mut shown = Vec::with_capacity(rows.len());
    for of in rows {
        let row = &of.row;
        let (inside, names) = offerings.entry(row.offering).or_insert_with(|| {
            let offering = state.offering(row.offering).map(|o| &o.facts.facts);
            (offering.is_some_and(|o| visibility.offering(o)), offering.map(|o| o.qos.clone()).unwrap_or_default())
        });
        let placed = holds.get(&row.resource).map(Vec::as_slice).unwrap_or_default();
        let by_hand = placed.iter().map(|hold| HeldByHand::of(hold, *inside)).collect();
        let told = told.get(&row.resource).copied();
        let site = SiteStatus::of((row.flags, row.agent), answers.get(&row.resource), told, names);
        shown.push(AllocationState::of(of, &state, now, by_hand, site));
    }
    Ok(shown)
}
