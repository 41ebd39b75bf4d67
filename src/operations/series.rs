//! The series of an allocation in a period: usage against the thresholds at each time, its restrictions and decisions,
//! read from its books in the log. The cost depends only on the allocation's own history in the period.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::timeline::PAGE;
use crate::commands::allocation::stream_of;
use crate::domain::evaluate::Flags;
use crate::domain::forecast::amount_of;
use crate::domain::ids::{HoldId, PolicyId, ResourceId};
use crate::domain::period::{Month, Period};
use crate::domain::series::{Step, thinned};
use crate::domain::standing::{ByHand, Standing};
use crate::domain::threshold::{Effect, Rung};
use crate::events::allocation::{AllocationEvent, HoldKind, HoldPlaced, PolicyEvaluated, RecordedBasis};
use crate::events::envelope::{DecodeError, Position, RecordedEvent};
use crate::events::resolve::Resolver;
use crate::projections::Span;
use crate::store::{EventStore, StoreError};

/// Steps of a series at most.
pub const STEPS_MAX: usize = 800;

/// Months of books that are read for a period without an end, the newest ones.
const MONTHS_MAX: usize = 60;

/// How long the site may say nothing before that is a gap.
const GAP: TimeDelta = TimeDelta::days(1);

/// Where an event stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Its position.
    pub position: Position,
    /// Its id.
    pub event: Uuid,
}

impl Place {
    fn of(recorded: &RecordedEvent) -> Self {
        Self { at: recorded.occurred_at, position: recorded.position, event: recorded.event_id }
    }
}

/// Usage from an evaluation on, until the next step.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageStep {
    /// The evaluation.
    pub place: Place,
    /// Weighted usage in the period.
    pub used: Decimal,
    /// Weighted effective allocation.
    pub may_use: Decimal,
    /// Percent.
    pub percentage: Decimal,
    /// How the allocation stood after it.
    pub standing: Standing,
    /// Something was decided: the state or the allocation changed, or people were told.
    pub decided: bool,
}

impl Step for UsageStep {
    fn at(&self) -> DateTime<Utc> {
        self.place.at
    }

    fn decides(&self) -> bool {
        self.decided
    }
}

/// Thresholds from an evaluation on, until the next step.
#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdStep {
    /// The evaluation.
    pub place: Place,
    /// The version of the policy.
    pub policy_version: u64,
    /// Weighted base allocation.
    pub base: Decimal,
    /// What was carried over on it.
    pub carried_over: Decimal,
    /// Both together.
    pub may_use: Decimal,
    /// The rungs, lowest first, each with its amount.
    pub rungs: Vec<(Rung, Decimal)>,
}

/// A stretch of time in which something was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// How the allocation stood.
    pub standing: Standing,
    /// From when on.
    pub from: DateTime<Utc>,
    /// Until when; none while it lasts.
    pub to: Option<DateTime<Utc>>,
}

/// What a marker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerKind {
    /// People were told that a percentage was reached.
    Warned,
    /// It was slowed down.
    SlowedDown,
    /// It was paused.
    Paused,
    /// A restriction was lifted.
    Restored,
    /// Its limits changed.
    LimitsChanged,
    /// The policy changed.
    PolicyChanged,
    /// An operator placed a hold.
    HoldPlaced,
    /// A hold ended.
    HoldEnded,
    /// Usage was corrected.
    Restated,
}

impl MarkerKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warned => "warned",
            Self::SlowedDown => "slowed_down",
            Self::Paused => "paused",
            Self::Restored => "restored",
            Self::LimitsChanged => "limits_changed",
            Self::PolicyChanged => "policy_changed",
            Self::HoldPlaced => "hold_placed",
            Self::HoldEnded => "hold_ended",
            Self::Restated => "restated",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Marker {
    /// The event.
    pub place: Place,
    /// What it is about.
    pub kind: MarkerKind,
    /// Percent, where an evaluation says one.
    pub percentage: Option<Decimal>,
    /// Which hold, and of what kind.
    pub hold: Option<(HoldId, HoldKind)>,
}

/// A stretch of time in which the site said nothing: no report with anything new, and no sign that the agent came round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The last word before it.
    pub from: DateTime<Utc>,
    /// The first word after it; none while it lasts.
    pub to: Option<DateTime<Utc>>,
}

/// The series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Usage.
    pub steps: Vec<UsageStep>,
    /// Steps that were left out.
    pub left_out: usize,
    /// Thresholds as they were.
    pub thresholds: Vec<ThresholdStep>,
    /// When it was not normal.
    pub bands: Vec<Band>,
    /// What happened.
    pub markers: Vec<Marker>,
    /// When the site said nothing.
    pub gaps: Vec<Gap>,
}

/// Which series is asked for.
#[derive(Debug, Clone, Copy)]
pub struct SeriesQuery {
    /// The allocation.
    pub resource: ResourceId,
    /// Under this policy.
    pub policy: PolicyId,
    /// In this period.
    pub period: Period,
    /// The newest book of the allocation.
    pub newest_book: Month,
    /// In this time of it.
    pub span: Span,
    /// Steps at most.
    pub steps_max: usize,
    /// The instant it is.
    pub now: DateTime<Utc>,
}

/// The series of an allocation in a period.
///
/// # Errors
/// The log cannot be read.
pub async fn series(store: &dyn EventStore, query: &SeriesQuery) -> Result<Series, StoreError> {
    let mut fold = Fold::new(query);
    for month in months(query) {
        let (stream, mut after) = (stream_of(query.resource, month), 0);
        let mut resolver = Resolver::default();
        loop {
            let _room = store.room().await;
            let page = store.read_stream(&stream, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.version;
            for recorded in page.iter().filter(|recorded| Fold::matters(&recorded.event_type)) {
                match AllocationEvent::decode(&recorded.event_type, &recorded.payload) {
                    Some(Ok(event)) => fold.take(recorded, &event, &mut resolver),
                    Some(Err(problem)) => store.note(&DecodeError::new(recorded, problem)),
                    None => {}
                }
            }
        }
    }
    Ok(fold.finish(query))
}

/// The months whose books tell of the period, oldest first.
fn months(query: &SeriesQuery) -> Vec<Month> {
    if let Some(months) = query.period.months() {
        return months.into_iter().filter(|month| *month <= query.newest_book).collect();
    }
    let back = std::iter::successors(Some(query.newest_book), |month| Some(month.previous()));
    let mut months: Vec<Month> = back.take(MONTHS_MAX).collect();
    months.reverse();
    months
}

/// The fold.
struct Fold {
    policy: PolicyId,
    period: Period,
    series: Series,
    flags: Flags,
    holds: HashMap<HoldId, HoldKind>,
    warned: bool,
    /// Its state, and since when; none before anything is known.
    standing: Option<(Standing, DateTime<Utc>)>,
    reported_at: Option<DateTime<Utc>>,
    begun: bool,
}

impl Fold {
    fn new(query: &SeriesQuery) -> Self {
        Self {
            policy: query.policy,
            period: query.period,
            series: Series::default(),
            flags: Flags::default(),
            holds: HashMap::new(),
            warned: false,
            standing: None,
            reported_at: None,
            begun: false,
        }
    }

    fn matters(event_type: &str) -> bool {
        matches!(
            event_type,
            "books_opened.v1"
                | "resource_registered.v1"
                | "policy_evaluated.v1"
                | "restriction_changed.v1"
                | "hold_placed.v1"
                | "hold_released.v1"
                | "limits_changed.v1"
                | "usage_reported.v1"
                | "resource_synced.v1"
                | "policy_withdrawn.v1"
        )
    }

    fn take(&mut self, recorded: &RecordedEvent, event: &AllocationEvent, resolver: &mut Resolver) {
        let place = Place::of(recorded);
        match event {
            AllocationEvent::ResourceRegistered(_) => self.begin(place, None),
            AllocationEvent::BooksOpened(opened) => {
                let carried = &opened.carried;
                self.begin(place, Some((carried.flags, &carried.holds)));
            }
            AllocationEvent::PolicyEvaluated(evaluated) if evaluated.policy == self.policy => {
                // What cannot be resolved was noted where the decision is checked.
                let Ok(inputs) = resolver.resolve(recorded.version, evaluated) else { return };
                if evaluated.period == self.period {
                    self.evaluated(place, evaluated, &inputs.basis);
                }
            }
            AllocationEvent::RestrictionChanged(changed) => {
                self.restricted(place, changed.from, changed.to);
                self.stands(place.at);
            }
            AllocationEvent::HoldPlaced(hold) => {
                self.holds.insert(hold.hold, hold.kind);
                self.mark(place, MarkerKind::HoldPlaced, None, Some((hold.hold, hold.kind)));
                self.stands(place.at);
            }
            AllocationEvent::HoldReleased(released) => {
                let kind = self.holds.remove(&released.hold);
                self.mark(place, MarkerKind::HoldEnded, None, kind.map(|kind| (released.hold, kind)));
                self.stands(place.at);
            }
            AllocationEvent::LimitsChanged(_) => self.mark(place, MarkerKind::LimitsChanged, None, None),
            AllocationEvent::UsageReported(reported) => {
                self.reported(place.at);
                if reported.restated {
                    self.mark(place, MarkerKind::Restated, None, None);
                }
            }
            AllocationEvent::ResourceSynced(_) => self.reported(place.at),
            AllocationEvent::PolicyWithdrawn(withdrawn) if withdrawn.policy == self.policy => {
                self.warned = false;
                self.stands(place.at);
            }
            _ => {}
        }
    }

    /// The first book of the period says how the allocation stood when it began; later ones say nothing new.
    fn begin(&mut self, place: Place, carried: Option<(Flags, &[HoldPlaced])>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if let Some((flags, holds)) = carried {
            self.flags = flags;
            self.holds = holds.iter().map(|hold| (hold.hold, hold.kind)).collect();
        }
        self.stands(place.at);
    }

    fn evaluated(&mut self, place: Place, evaluated: &PolicyEvaluated, recorded: &RecordedBasis) {
        let (outcome, terms) = (&evaluated.outcome, &recorded.basis.terms);
        self.threshold(place, evaluated, recorded);
        let mut notices = terms.ladder.iter().filter(|rung| rung.effect == Effect::Notify);
        self.warned = notices.any(|rung| rung.is_reached_by(outcome.percentage));
        if !outcome.notified.is_empty() {
            self.mark(place, MarkerKind::Warned, Some(outcome.percentage), None);
        }
        let flags = evaluated.after;
        let standing = Standing::of(flags, self.by_hand(), self.warned);
        let last = self.series.steps.last();
        let same = last.is_some_and(|last| {
            (last.used, last.may_use, last.standing) == (outcome.weighted_usage, outcome.weighted_allocation, standing)
        });
        if same && outcome.notified.is_empty() {
            return;
        }
        let decided = !outcome.notified.is_empty()
            || last.is_none_or(|last| last.standing != standing || last.may_use != outcome.weighted_allocation);
        self.series.steps.push(UsageStep {
            place,
            used: outcome.weighted_usage,
            may_use: outcome.weighted_allocation,
            percentage: outcome.percentage,
            standing,
            decided,
        });
        self.stands(place.at);
    }

    fn threshold(&mut self, place: Place, evaluated: &PolicyEvaluated, recorded: &RecordedBasis) {
        let (may_use, terms) = (evaluated.outcome.weighted_allocation, &recorded.basis.terms);
        let weighted = recorded.basis.base.iter().map(|(component, term)| terms.weights.of(component) * term.amount);
        let base: Decimal = weighted.sum();
        let last = self.series.thresholds.last();
        let same = last.is_some_and(|last| {
            (last.policy_version, last.base, last.may_use) == (evaluated.policy_version, base, may_use)
        });
        if same {
            return;
        }
        if last.is_some_and(|last| last.policy_version != evaluated.policy_version) {
            self.mark(place, MarkerKind::PolicyChanged, None, None);
        }
        self.series.thresholds.push(ThresholdStep {
            place,
            policy_version: evaluated.policy_version,
            base,
            carried_over: may_use - base,
            may_use,
            rungs: terms.ladder.iter().map(|rung| (rung.clone(), amount_of(rung, may_use))).collect(),
        });
    }

    fn restricted(&mut self, place: Place, from: Flags, to: Flags) {
        self.flags = to;
        let kind = match (from, to) {
            (from, to) if to.paused && !from.paused => MarkerKind::Paused,
            (from, to) if to.downscaled && !from.downscaled && !to.paused && !from.paused => MarkerKind::SlowedDown,
            (from, to) if !to.paused && from.paused && to.downscaled => MarkerKind::SlowedDown,
            _ => MarkerKind::Restored,
        };
        self.mark(place, kind, None, None);
    }

    fn mark(&mut self, place: Place, kind: MarkerKind, percentage: Option<Decimal>, hold: Option<(HoldId, HoldKind)>) {
        self.series.markers.push(Marker { place, kind, percentage, hold });
    }

    fn by_hand(&self) -> ByHand {
        let exempts = |kind: &HoldKind| *kind == HoldKind::Exemption;
        ByHand { restricts: self.holds.values().any(|kind| !exempts(kind)), exempts: self.holds.values().any(exempts) }
    }

    /// Ends the band in force and begins another where the allocation stands differently now.
    fn stands(&mut self, at: DateTime<Utc>) {
        let now = Standing::of(self.flags, self.by_hand(), self.warned);
        if self.standing.is_some_and(|(standing, _)| standing == now) {
            return;
        }
        self.end_band(Some(at));
        self.standing = Some((now, at));
    }

    fn end_band(&mut self, to: Option<DateTime<Utc>>) {
        let Some((standing, from)) = self.standing else { return };
        // What lasts no time was a step on the way.
        if standing != Standing::Normal && to != Some(from) {
            self.series.bands.push(Band { standing, from, to });
        }
    }

    fn reported(&mut self, at: DateTime<Utc>) {
        if let Some(before) = self.reported_at.replace(at)
            && at - before > GAP
        {
            self.series.gaps.push(Gap { from: before, to: Some(at) });
        }
    }

    fn finish(mut self, query: &SeriesQuery) -> Series {
        self.end_band(None);
        if let Some(last) = self.reported_at
            && query.now - last > GAP
        {
            self.series.gaps.push(Gap { from: last, to: None });
        }
        let Series { steps, thresholds, bands, markers, gaps, .. } = self.series;
        let steps = within(steps, query.span, |step| step.place.at);
        let found = steps.len();
        let steps = thinned(steps, query.steps_max);
        let touches = |from: DateTime<Utc>, to: Option<DateTime<Utc>>| {
            query.span.to.is_none_or(|end| from < end)
                && query.span.from.is_none_or(|start| to.is_none_or(|to| to > start))
        };
        Series {
            left_out: found - steps.len(),
            steps,
            thresholds: within(thresholds, query.span, |step| step.place.at),
            bands: bands.into_iter().filter(|band| touches(band.from, band.to)).collect(),
            markers: markers.into_iter().filter(|marker| contains(query.span, marker.place.at)).collect(),
            gaps: gaps.into_iter().filter(|gap| touches(gap.from, gap.to)).collect(),
        }
    }
}

fn contains(span: Span, at: DateTime<Utc>) -> bool {
    span.from.is_none_or(|from| at >= from) && span.to.is_none_or(|to| at < to)
}

/// The steps of a span, and the one that holds when it begins.
fn within<T>(steps: Vec<T>, span: Span, at: impl Fn(&T) -> DateTime<Utc>) -> Vec<T> {
    let before = steps.iter().take_while(|step| span.from.is_some_and(|from| at(step) < from)).count();
    let steps = steps.into_iter().skip(before.saturating_sub(1));
    steps.take_while(|step| span.to.is_none_or(|to| at(step) < to)).collect()
}
