//! Carryover: how much of the last period's allocation a resource may still use in this one.
//!
//! There are two formulas, each with an id recorded beside every number it produced, so that a later formula never
//! changes what an earlier one decided. Both look one period back, component by component: in their second form at the
//! allocation when that period ended, in their first at the current allocation.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::decimal::{HUNDRED, number, rounded};
pub use super::formula::{CarryoverBase, Formula};
use super::period::{Period, PeriodKind};
use super::small_map::SmallMap;
use super::tres::Amounts;

/// Digits behind the point to which an irrational decay factor is rounded.
const FACTOR_DECIMALS: u32 = 15;
/// From this many half-lives on nothing is left at [`FACTOR_DECIMALS`] digits.
const HALVINGS_TO_NOTHING: u32 = 51;
/// The natural logarithm of two.
const LN_2: Decimal = Decimal::from_parts(0xAA7A_65BF, 0x81F5_2F01, 0x1665_943F, false, 28);

/// Every term of one component's carryover, in the component's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentCarryover {
    /// The allocation of one period, without carryover.
    pub base: Decimal,
    /// What it was in the previous period, where the formula looks at that; 0 if there was no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_base: Option<Decimal>,
    /// What was used in the previous period.
    pub previous_usage: Decimal,
    /// 2^(-days / half-life), of the decay formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_factor: Option<Decimal>,
    /// The previous usage times that factor, of the decay formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_previous_usage: Option<Decimal>,
    /// What was left of the base that counts, of the capped formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<Decimal>,
    /// The most that may be carried over, of the capped formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carryover_cap: Option<Decimal>,
    /// What is carried over.
    pub carryover: Decimal,
    /// Base and carryover together.
    pub total: Decimal,
}

impl ComponentCarryover {
    /// The base that past usage is compared with.
    pub fn compared(&self) -> Decimal {
        self.previous_base.unwrap_or(self.base)
    }

    /// Whether something is carried over although more than the base was used.
    pub fn granted_after_overuse(&self) -> bool {
        self.previous_usage > self.compared() && self.carryover > Decimal::ZERO
    }

    /// The terms as JSON numbers, under the names of the wire contract.
    pub fn to_wire(&self) -> Value {
        let terms = [
            ("base", Some(self.base)),
            ("previous_base", self.previous_base),
            ("previous_usage", Some(self.previous_usage)),
            ("decay_factor", self.decay_factor),
            ("effective_previous_usage", self.effective_previous_usage),
            ("unused", self.unused),
            ("carryover_cap", self.carryover_cap),
            ("carryover", Some(self.carryover)),
            ("total", Some(self.total)),
        ];
        let named: Map<String, Value> =
            terms.into_iter().filter_map(|(name, term)| Some((name.to_owned(), number(term?)))).collect();
        named.into()
    }
}

/// What one component's carryover is worked out from, besides the formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentInputs {
    /// The base of now.
    pub base: Decimal,
    /// The base of the previous period, which the second form of a formula looks at.
    pub previous_base: Decimal,
    /// What was used in the previous period.
    pub previous_usage: Decimal,
}

impl ComponentInputs {
    /// A component whose base has not changed since.
    pub fn steady(base: Decimal, previous_usage: Decimal) -> Self {
        Self { base, previous_base: base, previous_usage }
    }
}

/// The carryover of one component by a formula; `days` is the nominal length of the period, the age of past usage.
///
/// Rounding happens at the 15th digit behind the point only.
pub fn component(formula: &Formula, days: u32, inputs: ComponentInputs) -> ComponentCarryover {
    let ComponentInputs { base, previous_base, previous_usage } = inputs;
    let previous_base = (formula.base() == CarryoverBase::Previous).then_some(previous_base);
    let compared = previous_base.unwrap_or(base);
    let mut terms = ComponentCarryover {
        base,
        previous_base,
        previous_usage,
        decay_factor: None,
        effective_previous_usage: None,
        unused: None,
        carryover_cap: None,
        carryover: Decimal::ZERO,
        total: base,
    };
    match formula {
        Formula::DecayedUsage { half_life_days } | Formula::DecayedUsageOfPrevious { half_life_days } => {
            let factor = decay_factor(days, *half_life_days);
            let remembered = previous_usage.saturating_mul(factor).round_dp(FACTOR_DECIMALS).normalize();
            terms.decay_factor = Some(factor);
            terms.effective_previous_usage = Some(remembered);
            terms.carryover = (compared - remembered).max(Decimal::ZERO).normalize();
        }
        Formula::CappedUnused { factor_percent } | Formula::CappedUnusedOfPrevious { factor_percent } => {
            let unused = (compared - previous_usage).max(Decimal::ZERO).normalize();
            let cap = (compared.saturating_mul(*factor_percent) / HUNDRED).normalize();
            terms.unused = Some(unused);
            terms.carryover_cap = Some(cap);
            terms.carryover = unused.min(cap);
        }
    }
    terms.total = (base + terms.carryover).normalize();
    terms
}

/// 2^(-days / half-life): exact for a whole number of half-lives as far as 28 digits go, else rounded to 15 digits.
///
/// A half-life that is not above zero forgets everything at once.
pub fn decay_factor(days: u32, half_life_days: Decimal) -> Decimal {
    if days == 0 {
        return Decimal::ONE;
    }
    let half_lives =
        if half_life_days > Decimal::ZERO { Decimal::from(days).checked_div(half_life_days) } else { None };
    let Some(half_lives) = half_lives.filter(|count| *count < Decimal::from(HALVINGS_TO_NOTHING)) else {
        return Decimal::ZERO;
    };
    let mut factor = half_to_the(half_lives.fract());
    let mut halvings = half_lives.trunc();
    while halvings > Decimal::ZERO {
        factor /= Decimal::TWO;
        halvings -= Decimal::ONE;
    }
    // A terminating factor is kept whole; 24 halvings are what the 28 digits hold beside the 15 that are promised.
    let exact = half_lives.fract().is_zero() && half_lives <= Decimal::from(24);
    if exact { factor.normalize() } else { factor.round_dp(FACTOR_DECIMALS).normalize() }
}

/// 2^(-part) for a part from 0 to below 1, by the power series of the exponential function.
fn half_to_the(part: Decimal) -> Decimal {
    let exponent = -(part * LN_2);
    let (mut term, mut sum) = (Decimal::ONE, Decimal::ONE);
    for step in 1..=28_u32 {
        term = term * exponent / Decimal::from(step);
        sum += term;
    }
    sum
}

/// Why nothing is carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CarryoverReason {
    /// The policy has carryover off.
    Disabled,
    /// A total has no previous period.
    TotalPeriod,
    /// The resource did not exist yet in the previous period.
    NotInPreviousPeriod,
    /// There is no allocation to carry over.
    NoAllocation,
}

impl CarryoverReason {
    /// The word it is recorded as.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::TotalPeriod => "total_period",
            Self::NotInPreviousPeriod => "not_in_previous_period",
            Self::NoAllocation => "no_allocation",
        }
    }
}

/// The base of the previous period, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct PreviousBase<'a> {
    /// By component; one that is absent had no limit.
    pub amounts: &'a Amounts,
    /// The record begins after that period: these are the first amounts known.
    pub first_known: bool,
}

/// What the carryover of one evaluation is worked out from.
#[derive(Debug, Clone, Copy)]
pub struct CarryoverInputs<'a> {
    /// The formula of the policy.
    pub formula: &'a Formula,
    /// Whether the policy has carryover on.
    pub enabled: bool,
    /// The period that is being evaluated.
    pub period: Period,
    /// Whether the resource existed in the period before.
    pub existed_before: bool,
    /// The current base allocation of each component that has one.
    pub base: &'a Amounts,
    /// The base of the period before, of each component that had one.
    pub previous_base: PreviousBase<'a>,
    /// The usage of the period before.
    pub previous_usage: &'a Amounts,
}

/// Whether and how something was carried over, with every term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarryoverDetails {
    /// Whether the formula was applied.
    pub carryover_applied: bool,
    /// Why not, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CarryoverReason>,
    /// The id of the formula in force, applied or not.
    pub formula: String,
    /// The period that was looked back at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_period: Option<Period>,
    /// The cap in percent, of the capped formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carryover_factor: Option<Decimal>,
    /// The half-life in days, of the decay formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life_days: Option<Decimal>,
    /// The days past usage is taken to be old, of the decay formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// The terms of each component.
    #[serde(default, skip_serializing_if = "SmallMap::is_empty")]
    pub per_component: SmallMap<String, ComponentCarryover>,
    /// A note for people, if the numbers alone would surprise them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl CarryoverDetails {
    /// Nothing is carried over, for a reason.
    pub fn not_applied(formula: &Formula, reason: CarryoverReason) -> Self {
        Self {
            carryover_applied: false,
            reason: Some(reason),
            formula: formula.id().to_owned(),
            previous_period: None,
            carryover_factor: None,
            half_life_days: None,
            days: None,
            per_component: SmallMap::new(),
            note: None,
        }
    }

    /// Works out the carryover of every component with a base, or the first reason for which there is none.
    pub fn of(inputs: &CarryoverInputs<'_>) -> Self {
        let refused = |reason| Self::not_applied(inputs.formula, reason);
        if !inputs.enabled {
            return refused(CarryoverReason::Disabled);
        }
        let (Some(previous), Some(days)) = (inputs.period.previous(), PeriodKind::nominal_days(inputs.period.kind()))
        else {
            return refused(CarryoverReason::TotalPeriod);
        };
        if !inputs.existed_before {
            return refused(CarryoverReason::NotInPreviousPeriod);
        }
        if inputs.base.is_empty() {
            return refused(CarryoverReason::NoAllocation);
        }
        let used = |name: &String| inputs.previous_usage.get(name).copied().unwrap_or_default();
        let per_component: SmallMap<_, _> = inputs
            .base
            .iter()
            .map(|(name, base)| {
                let previous_base = inputs.previous_base.amounts.get(name).copied().unwrap_or_default();
                let inputs_of = ComponentInputs { base: *base, previous_base, previous_usage: used(name) };
                (name.clone(), component(inputs.formula, days, inputs_of))
            })
            .collect();
        let half_life_days = inputs.formula.half_life_days();
        let notes = [
            half_life_days.and_then(|half_life| overuse_note(half_life, &per_component, previous)),
            base_note(inputs, &per_component, previous),
        ];
        let notes: Vec<String> = notes.into_iter().flatten().collect();
        Self {
            carryover_applied: true,
            reason: None,
            formula: inputs.formula.id().to_owned(),
            previous_period: Some(previous),
            carryover_factor: inputs.formula.factor_percent(),
            half_life_days,
            days: half_life_days.map(|_| days),
            note: (!notes.is_empty()).then(|| notes.join(" ")),
            per_component,
        }
    }

    /// The base with what is carried over: the allocation that usage is compared with.
    pub fn effective(&self, base: &Amounts) -> Amounts {
        let total = |name: &String, base: &Decimal| self.per_component.get(name).map_or(*base, |terms| terms.total);
        base.iter().map(|(name, base)| (name.clone(), total(name, base))).collect()
    }

    /// The details as the site agent gets them, with JSON numbers; the formula shows in the terms it has.
    pub fn to_wire(&self) -> Value {
        let mut wire = Map::new();
        wire.insert("carryover_applied".into(), self.carryover_applied.into());
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                wire.insert(name.to_owned(), value);
            }
        };
        put("reason", self.reason.map(|reason| reason.word().into()));
        put("previous_period", self.previous_period.map(|period| period.to_string().into()));
        put("carryover_factor", self.carryover_factor.map(number));
        put("half_life_days", self.half_life_days.map(number));
        put("days", self.days.map(Value::from));
        let components: Map<String, Value> =
            self.per_component.iter().map(|(name, terms)| (name.clone(), terms.to_wire())).collect();
        put("per_component", (!components.is_empty()).then(|| json!(components)));
        wire.into()
    }
}

/// Says for which components the decay formula grants carryover after more than the base was used.
fn overuse_note(
    half_life: Decimal,
    components: &SmallMap<String, ComponentCarryover>,
    previous: Period,
) -> Option<String> {
    let cases: Vec<String> = components
        .iter()
        .filter(|(_, terms)| terms.granted_after_overuse())
        .map(|(name, terms)| {
            let [used, base, carried] =
                [terms.previous_usage, terms.compared(), terms.carryover].map(|term| rounded(term, 2));
            format!("{name} used {used} of {base} and still carries over {carried}")
        })
        .collect();
    (!cases.is_empty()).then(|| {
        let half_life = half_life.normalize();
        format!(
            "In {previous} {}: with a half-life of {half_life} days past usage fades instead of being held \
             against the next period.",
            cases.join(", ")
        )
    })
}

/// Says where the base of the previous period is another than that of now, and where it is not known as it stood.
fn base_note(
    inputs: &CarryoverInputs<'_>,
    components: &SmallMap<String, ComponentCarryover>,
    previous: Period,
) -> Option<String> {
    if inputs.formula.base() == CarryoverBase::Current {
        return None;
    }
    let differing: Vec<String> = components
        .iter()
        .filter(|(_, terms)| terms.compared() != terms.base)
        .map(|(name, terms)| {
            let now = rounded(terms.base, 2);
            match inputs.previous_base.amounts.get(name) {
                Some(was) => format!("{name} had {} (now {now})", rounded(*was, 2)),
                None => format!("{name} had no limit (now {now}), so nothing of it was left over"),
            }
        })
        .collect();
    let known = if inputs.previous_base.first_known {
        format!("{previous} is older than the record, so the first allocation known stands for it")
    } else {
        format!("carryover rests on the allocation at the end of {previous}")
    };
    match (differing.is_empty(), inputs.previous_base.first_known) {
        (true, false) => None,
        (true, true) => Some(format!("{known}.")),
        (false, _) => Some(format!("{}: {}.", capital(&known), differing.join(", "))),
    }
}

/// What a policy that says nothing of the base carries over after a raise, and what it would if it looked at the previous
/// period's; none if that is the same.
pub fn without_a_choice(formula: &Formula, days: u32) -> Option<String> {
    let [was, used, now] = [1000, 900, 1500].map(Decimal::from);
    let carried = |base| {
        let inputs = ComponentInputs { base: now, previous_base: was, previous_usage: used };
        rounded(component(&formula.on(base), days, inputs).carryover, 2)
    };
    let (today, then) = (carried(CarryoverBase::Current), carried(CarryoverBase::Previous));
    (today != then).then(|| {
        format!(
            "carryover_base is not set, so carryover is worked out from the allocation of now, as it was before there was \
             a choice: after a period with {was} of which {used} were used, a raise to {now} carries {today} over. With \
             carryover_base previous it would carry {then}. Nothing changes until you set it to previous or current."
        )
    })
}

/// The text with its first letter in upper case.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
#[path = "carryover_tests.rs"]
mod tests;
