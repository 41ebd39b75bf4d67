//! One evaluation: usage against an effective allocation, thresholds reached, and the resulting verbs and holds.
//!
//! [`evaluate`] is a pure function of [`EvaluationInputs`]; an evaluation event records the inputs, so that the same
//! function repeats any recorded decision. Comparison never divides: `usage × 100 >= percent × allocation` is exact.
//! The percentage shown is the quotient rounded down, so that it never shows a threshold that was not reached.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use super::carryover::{CarryoverDetails, CarryoverInputs, Formula, PreviousBase};
use super::decimal::HUNDRED;
use super::explain;
use super::ids::EventId;
use super::period::{Month, Period, PeriodKind};
use super::policy::{Action, PolicyTerms};
use super::small_map::SmallMap;
use super::threshold::{self, Effect, Rung};
use super::tres::{self, Amounts, OVER_NOTHING_PERCENT, Weights};

/// Decimal places of a recorded percentage.
const PERCENT_PLACES: u32 = 10;

/// What an evaluation calls for, in the order in which it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Stop new jobs.
    Pause,
    /// Slow down.
    Downscale,
    /// Tell the owners.
    Notify,
}

impl Verb {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Pause => "pause",
            Verb::Downscale => "downscale",
            Verb::Notify => "notify",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an evaluation ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A usage report was accepted.
    UsageReported,
    /// The resource's limits changed.
    LimitsChanged,
    /// The resource was registered or came back into a state that policies apply to.
    ResourceChanged,
    /// A policy was created, changed, enabled or disabled.
    PolicyChanged,
    /// The customer joined or left an organisation group.
    ScopeChanged,
    /// A hold was placed, released or ran out.
    HoldChanged,
    /// Somebody asked for it.
    Requested,
    /// Somebody forced a period reset.
    ForcedPeriodReset,
    /// The nightly run.
    Scheduled,
    /// A period began.
    PeriodBoundary,
    /// A month ended without a report, and what the last one says of such months was recorded.
    MissingUsage,
}

impl Trigger {
    /// The word stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::UsageReported => "usage_reported",
            Trigger::LimitsChanged => "limits_changed",
            Trigger::ResourceChanged => "resource_changed",
            Trigger::PolicyChanged => "policy_changed",
            Trigger::ScopeChanged => "scope_changed",
            Trigger::HoldChanged => "hold_changed",
            Trigger::Requested => "requested",
            Trigger::ForcedPeriodReset => "forced_period_reset",
            Trigger::Scheduled => "scheduled",
            Trigger::PeriodBoundary => "period_boundary",
            Trigger::MissingUsage => "missing_usage",
        }
    }
}

/// A pair of flags: restrictions in force on a resource, or holds of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Flags {
    /// New jobs are stopped.
    pub paused: bool,
    /// Slowed down.
    pub downscaled: bool,
}

impl Flags {
    /// True if either flag is set.
    pub fn any(self) -> bool {
        self.paused || self.downscaled
    }
}

/// Flags as the list of those that are set: how evaluations write them, many times over.
pub mod flag_words {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Flags;

    #[derive(PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Paused,
        Downscaled,
    }

    /// Writes the list.
    pub fn serialize<S: Serializer>(flags: &Flags, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            flags.paused.then_some(Word::Paused).into_iter().chain(flags.downscaled.then_some(Word::Downscaled)),
        )
    }

    /// Reads the list.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Flags, D::Error> {
        let words = Vec::<Word>::deserialize(deserializer)?;
        Ok(Flags { paused: words.contains(&Word::Paused), downscaled: words.contains(&Word::Downscaled) })
    }
}

/// Where a component's base allocation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseSource {
    /// The resource's own limit.
    Resource,
    /// The policy's `component_limits_set`.
    Policy,
}

/// One component's base allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseTerm {
    /// In the component's unit (hours).
    pub amount: Decimal,
    /// Who says so.
    pub source: BaseSource,
}

/// A month-to-date total and the report that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTerm {
    /// In the component's unit (hours).
    pub amount: Decimal,
    /// The event that supplied it.
    pub report: EventId,
}

/// Usage of one calendar month by component.
pub type MonthUsage = SmallMap<String, UsageTerm>;

/// Usage by calendar month and component.
pub type UsageByMonth = SmallMap<Month, MonthUsage>;

/// The parameters of a policy version that an evaluation reads, in the form it needs them; made once per version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationTerms {
    /// What period usage is counted in.
    pub period: PeriodKind,
    /// Weights in force.
    pub weights: Weights,
    /// The thresholds the policy acts on, lowest first.
    pub ladder: Vec<Rung>,
    /// Whether anything is carried over.
    pub carries_over: bool,
    /// How.
    pub formula: Formula,
    /// Percent at which the policy blocks creation, if it does: it counts for `has_fired`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub blocks_creation: bool,
    /// (1 + grace ratio) × 100.
    pub pause_percent: Decimal,
}

impl EvaluationTerms {
    /// The evaluation's view of a policy counted in `period` (which the offering may decide).
    pub fn of(terms: &PolicyTerms, period: PeriodKind) -> Self {
        Self {
            period,
            weights: Weights::effective(terms.tres_billing_enabled, &terms.tres_billing_weights),
            ladder: threshold::ladder(terms),
            carries_over: terms.carryover_enabled,
            formula: terms.carryover_formula(),
            blocks_creation: terms.actions.contains(&Action::BlockCreation),
            pause_percent: terms.grace_limit_percent(),
        }
    }

    /// How much more than the allocation the hard limit allows, as a part of it.
    pub fn grace_ratio(&self) -> Decimal {
        self.pause_percent / HUNDRED - Decimal::ONE
    }
}

/// The terms that seldom change between two evaluations of a resource: recorded once and referred to afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// Version of the policy.
    pub policy_version: u64,
    /// Its parameters.
    pub terms: std::sync::Arc<EvaluationTerms>,
    /// The period that is counted.
    pub period: Period,
    /// Base allocation by component; a component that is absent has no limit.
    pub base: SmallMap<String, BaseTerm>,
    /// Usage of the months of the previous period, where carryover reads it.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub previous: UsageByMonth,
    /// The resource existed in the previous period.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub existed: bool,
    /// Base allocation by component at the end of the previous period, where the formula looks at it.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub previous_base: SmallMap<String, BaseTerm>,
    /// The record begins after the previous period: that base is the first one known.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub first_known: bool,
    /// Usage of the earlier months of the period.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub earlier: UsageByMonth,
}

/// What follows from a [`Basis`] alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// Base plus carryover by component.
    pub effective: Amounts,
    /// The weighted sum of it.
    pub weighted: Decimal,
    /// How the carryover came about.
    pub carryover: CarryoverDetails,
}

/// Notices given in the period, and how often the base allocation was raised.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NoticeTerms {
    /// Number of raises of the base allocation so far; a raise re-arms.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub raises: u32,
    /// Thresholds (percent) already noticed, with the number of raises at that time.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub given: Vec<NoticeGiven>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// One notice; written as a pair, since every evaluation repeats them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Decimal, u32)", into = "(Decimal, u32)")]
pub struct NoticeGiven {
    /// Percent.
    pub threshold: Decimal,
    /// Raises of the base allocation when it was given.
    pub raises: u32,
}

impl From<(Decimal, u32)> for NoticeGiven {
    fn from((threshold, raises): (Decimal, u32)) -> Self {
        Self { threshold, raises }
    }
}

impl From<NoticeGiven> for (Decimal, u32) {
    fn from(given: NoticeGiven) -> Self {
        (given.threshold, given.raises)
    }
}

impl NoticeTerms {
    /// True if a notice for `threshold` is still owed.
    pub fn is_due(&self, threshold: Decimal) -> bool {
        !self.given.iter().any(|g| g.threshold == threshold && g.raises == self.raises)
    }

    /// Marks `threshold` as noticed.
    pub fn mark(&mut self, threshold: Decimal) {
        self.given.retain(|g| g.threshold != threshold);
        self.given.push(NoticeGiven { threshold, raises: self.raises });
    }
}

/// Everything an evaluation depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationInputs<'a> {
    /// Terms that seldom change.
    pub basis: &'a Basis,
    /// What follows from them.
    pub allocation: &'a Allocation,
    /// Usage of the month that is running (`total`: of every month not in the basis).
    pub usage: &'a MonthUsage,
    /// Notices given.
    pub notices: &'a NoticeTerms,
    /// The policy's own holds before.
    pub held: Flags,
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Percent of the effective allocation, over 100 possible; 9999.99 where zero is allowed and something was used.
    pub percentage: Decimal,
    /// Weighted usage.
    pub weighted_usage: Decimal,
    /// Weighted effective allocation.
    pub weighted_allocation: Decimal,
    /// What is called for: pause, downscale, notify.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub verbs: Vec<Verb>,
    /// Thresholds (percent) for which a notice became due now.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notified: Vec<Decimal>,
    /// The policy's holds after.
    #[serde(with = "flag_words", skip_serializing_if = "no_flags", default)]
    pub holds: Flags,
    /// At or above a threshold of one of the policy's actions.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub fired: bool,
    /// At or above 100 %: what `block_creation_of_new_resources` looks at.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub full: bool,
    /// The QoS name of the highest rung reached among those with the strictest effect, where that rung names one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub qos: Option<String>,
    /// One sentence with the numbers.
    pub explanation: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn no_flags(flags: &Flags) -> bool {
    !flags.any()
}

/// The arithmetic ran out of range; nothing was decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is out of the range of decimal arithmetic")]
pub struct ArithmeticError {
    /// The term that overflowed.
    pub what: &'static str,
}

impl Basis {
    /// Base plus carryover for every component with a base, and the weighted sum.
    pub fn allocate(&self) -> Result<Allocation, ArithmeticError> {
        let amounts = |base: &SmallMap<String, BaseTerm>| -> Amounts {
            base.iter().map(|(component, term)| (component.clone(), term.amount)).collect()
        };
        let (base, previous_base) = (amounts(&self.base), amounts(&self.previous_base));
        let used = sum_months(&self.previous).ok_or(ArithmeticError { what: "the usage of the previous period" })?;
        let carryover = CarryoverDetails::of(&CarryoverInputs {
            formula: &self.terms.formula,
            enabled: self.terms.carries_over,
            period: self.period,
            existed_before: self.existed,
            base: &base,
            previous_base: PreviousBase { amounts: &previous_base, first_known: self.first_known },
            previous_usage: &used,
        });
        let effective = carryover.effective(&base);
        let weighted = weighted_sum(&self.terms.weights, effective.iter().map(|(c, a)| (c.as_str(), *a)))
            .ok_or(ArithmeticError { what: "the weighted allocation" })?;
        Ok(Allocation { effective, weighted, carryover })
    }

    /// Usage of the whole period by component: the earlier months and the running one.
    pub fn period_usage(&self, current: &MonthUsage) -> Option<Amounts> {
        let mut sum = sum_months(&self.earlier)?;
        add_month(&mut sum, current)?;
        Some(sum)
    }
}

fn add_month(sum: &mut Amounts, month: &MonthUsage) -> Option<()> {
    for (component, term) in month {
        match sum.get_mut(component) {
            Some(total) => *total = total.checked_add(term.amount)?,
            None => {
                sum.insert(component.clone(), term.amount);
            }
        }
    }
    Some(())
}

/// Sum by component over months; none if it overflows.
pub fn sum_months(months: &UsageByMonth) -> Option<Amounts> {
    let mut sum = Amounts::new();
    for month in months.values() {
        add_month(&mut sum, month)?;
    }
    Some(sum)
}

fn weighted_sum<'a>(weights: &Weights, amounts: impl Iterator<Item = (&'a str, Decimal)>) -> Option<Decimal> {
    amounts
        .into_iter()
        .try_fold(Decimal::ZERO, |sum, (component, amount)| sum.checked_add(weights.of(component).checked_mul(amount)?))
}

/// Usage over allocation, kept as a fraction.
struct Ratio {
    usage: Decimal,
    allocation: Decimal,
    /// Zero is explicitly allowed and something was used.
    over_zero: bool,
}

impl Ratio {
    fn of(inputs: &EvaluationInputs<'_>) -> Result<Self, ArithmeticError> {
        let what = "the weighted usage";
        let used = inputs.basis.period_usage(inputs.usage).ok_or(ArithmeticError { what })?;
        let weights = &inputs.basis.terms.weights;
        let usage =
            weighted_sum(weights, used.iter().map(|(c, a)| (c.as_str(), *a))).ok_or(ArithmeticError { what })?;
        let allocation = inputs.allocation.weighted;
        let zero_allowed = allocation.is_zero()
            && inputs.basis.base.iter().any(|(c, b)| b.amount.is_zero() && !weights.of(c).is_zero());
        Ok(Self { usage, allocation, over_zero: zero_allowed && usage > Decimal::ZERO })
    }

    /// `usage / allocation × 100 >= percent`, without dividing.
    fn reached(&self, percent: Decimal) -> bool {
        if self.allocation.is_zero() {
            return self.over_zero;
        }
        match (self.usage.checked_mul(Decimal::ONE_HUNDRED), percent.checked_mul(self.allocation)) {
            (Some(used), Some(limit)) => used >= limit,
            (None, _) => true,
            (_, None) => false,
        }
    }

    fn percentage(&self) -> Decimal {
        if self.over_zero {
            return OVER_NOTHING_PERCENT;
        }
        let allocated = (!self.allocation.is_zero()).then_some(self.allocation);
        tres::percentage(self.usage, allocated)
            .round_dp_with_strategy(PERCENT_PLACES, RoundingStrategy::ToZero)
            .normalize()
    }
}

/// The name of its own that the rung in force has. A gentler rung further down says nothing about a pause.
fn qos_of(reached: &[&Rung], holds: Flags) -> Option<String> {
    let strictest = match (holds.paused, holds.downscaled) {
        (true, _) => Effect::Pause,
        (false, true) => Effect::Downscale,
        (false, false) => return None,
    };
    reached.iter().rfind(|rung| rung.effect == strictest)?.qos.clone()
}

/// Decides: the percentage, the thresholds reached, the verbs and the policy's holds that follow.
///
/// Acts at `>=`, releases at `<`. Pause and downscale are listed whenever they are called for, also if the hold stood
/// before; a notice is listed once per threshold and number of base raises.
pub fn evaluate(inputs: &EvaluationInputs<'_>) -> Result<Outcome, ArithmeticError> {
    let ratio = Ratio::of(inputs)?;
    let terms = &inputs.basis.terms;
    let reached: Vec<&Rung> = terms.ladder.iter().filter(|rung| ratio.reached(rung.percent)).collect();
    let calls_for = |effect| reached.iter().any(|rung| rung.effect == effect);
    let holds = Flags { paused: calls_for(Effect::Pause), downscaled: calls_for(Effect::Downscale) };
    let notified: Vec<Decimal> = reached
        .iter()
        .filter(|rung| rung.effect == Effect::Notify && inputs.notices.is_due(rung.percent))
        .map(|rung| rung.percent)
        .collect();
    let full = ratio.reached(Decimal::ONE_HUNDRED);
    let verbs =
        [(Verb::Pause, holds.paused), (Verb::Downscale, holds.downscaled), (Verb::Notify, !notified.is_empty())]
            .into_iter()
            .filter_map(|(verb, listed)| listed.then_some(verb))
            .collect();
    let mut outcome = Outcome {
        percentage: ratio.percentage(),
        weighted_usage: ratio.usage.normalize(),
        weighted_allocation: ratio.allocation.normalize(),
        verbs,
        notified,
        holds,
        fired: !reached.is_empty() || (terms.blocks_creation && full),
        full,
        qos: qos_of(&reached, holds),
        explanation: String::new(),
    };
    outcome.explanation = explain::sentence(inputs, &outcome);
    Ok(outcome)
}
