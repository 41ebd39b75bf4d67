//! Carryover: how much of the last period's allocation a resource may still use in this one.
//!
//! Two formulas, each with an id that is recorded beside every number it gave, so that a later formula never changes
//! what an earlier one decided. Both look at one period back and at the *current* base, component by component.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::decimal::{HUNDRED, number, rounded};
use super::period::{Period, PeriodKind};
use super::small_map::SmallMap;
use super::tres::Amounts;

/// Digits behind the point to which an irrational decay factor is rounded.
const FACTOR_DECIMALS: u32 = 15;
/// From this many half-lives on nothing is left at [`FACTOR_DECIMALS`] digits.
const HALVINGS_TO_NOTHING: u32 = 51;
/// The natural logarithm of two.
const LN_2: Decimal = Decimal::from_parts(0xAA7A_65BF, 0x81F5_2F01, 0x1665_943F, false, 28);

/// A carryover formula with its parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "id")]
pub enum Formula {
    /// Past usage is discounted by its age; the base less what remains of it is carried over.
    #[serde(rename = "decayed_usage/1")]
    DecayedUsage {
        /// Days in which past usage loses half its weight, above 0.
        half_life_days: Decimal,
    },
    /// What was not used is carried over, up to a part of the base.
    #[serde(rename = "capped_unused/1")]
    CappedUnused {
        /// That part, 0 to 100 percent.
        factor_percent: Decimal,
    },
}

impl Formula {
    /// The id under which its numbers are recorded.
    pub fn id(&self) -> &'static str {
        match self {
            Self::DecayedUsage { .. } => "decayed_usage/1",
            Self::CappedUnused { .. } => "capped_unused/1",
        }
    }

    /// The half-life in days, where the formula has one.
    pub fn half_life_days(&self) -> Option<Decimal> {
        match self {
            Self::DecayedUsage { half_life_days } => Some(*half_life_days),
            Self::CappedUnused { .. } => None,
        }
    }

    /// The cap in percent of the base, where the formula has one.
    pub fn factor_percent(&self) -> Option<Decimal> {
        match self {
            Self::DecayedUsage { .. } => None,
            Self::CappedUnused { factor_percent } => Some(*factor_percent),
        }
    }
}

/// Every term of one component's carryover, in the component's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentCarryover {
    /// The allocation of one period, without carryover.
    pub base: Decimal,
    /// What was used in the previous period.
    pub previous_usage: Decimal,
    /// 2^(-days / half-life), of the decay formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_factor: Option<Decimal>,
    /// The previous usage times that factor, of the decay formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_previous_usage: Option<Decimal>,
    /// What was left of the base, of the capped formula.
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
    /// Whether something is carried over although more than the base was used.
    pub fn granted_after_overuse(&self) -> bool {
        self.previous_usage > self.base && self.carryover > Decimal::ZERO
    }

    /// The terms as JSON numbers, under the names of the wire contract.
    pub fn to_wire(&self) -> Value {
        let terms = [
            ("base", Some(self.base)),
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

/// The carryover of one component by a formula; `days` is the nominal length of the period, the age of past usage.
///
/// Rounding happens at the 15th digit behind the point only.
pub fn component(formula: &Formula, days: u32, base: Decimal, previous_usage: Decimal) -> ComponentCarryover {
    match formula {
        Formula::DecayedUsage { half_life_days } => {
            let factor = decay_factor(days, *half_life_days);
            let remembered = previous_usage.saturating_mul(factor).round_dp(FACTOR_DECIMALS).normalize();
            let carryover = (base - remembered).max(Decimal::ZERO).normalize();
            ComponentCarryover {
                base,
                previous_usage,
                decay_factor: Some(factor),
                effective_previous_usage: Some(remembered),
                unused: None,
                carryover_cap: None,
                carryover,
                total: (base + carryover).normalize(),
            }
        }
        Formula::CappedUnused { factor_percent } => {
            let unused = (base - previous_usage).max(Decimal::ZERO).normalize();
            let cap = (base.saturating_mul(*factor_percent) / HUNDRED).normalize();
            let carryover = unused.min(cap);
            ComponentCarryover {
                base,
                previous_usage,
                decay_factor: None,
                effective_previous_usage: None,
                unused: Some(unused),
                carryover_cap: Some(cap),
                carryover,
                total: (base + carryover).normalize(),
            }
        }
    }
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
    /// Words for people, where the numbers alone would surprise them.
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
            .map(|(name, base)| (name.clone(), component(inputs.formula, days, *base, used(name))))
            .collect();
        let half_life_days = inputs.formula.half_life_days();
        Self {
            carryover_applied: true,
            reason: None,
            formula: inputs.formula.id().to_owned(),
            previous_period: Some(previous),
            carryover_factor: inputs.formula.factor_percent(),
            half_life_days,
            days: half_life_days.map(|_| days),
            note: half_life_days.and_then(|half_life| overuse_note(half_life, &per_component, previous)),
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
                [terms.previous_usage, terms.base, terms.carryover].map(|term| rounded(term, 2));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn decayed(half_life: &str) -> Formula {
        Formula::DecayedUsage { half_life_days: dec(half_life) }
    }

    fn capped(factor: &str) -> Formula {
        Formula::CappedUnused { factor_percent: dec(factor) }
    }

    fn amounts(entries: &[(&str, &str)]) -> Amounts {
        entries.iter().map(|(component, amount)| ((*component).to_owned(), dec(amount))).collect()
    }

    fn inputs<'a>(formula: &'a Formula, base: &'a Amounts, previous_usage: &'a Amounts) -> CarryoverInputs<'a> {
        let period = "2026-Q2".parse().unwrap();
        CarryoverInputs { formula, enabled: true, period, existed_before: true, base, previous_usage }
    }

    #[test]
    fn the_logarithm_is_right_to_its_last_digit() {
        assert_eq!(LN_2.to_string(), "0.6931471805599453094172321215");
    }

    #[test]
    fn decay_is_exact_for_whole_half_lives_and_rounded_otherwise() {
        // The irrational ones were computed with Python's decimal module at 50 digits.
        for (days, half_life, expected) in [
            (90, "15", "0.015625"),
            (15, "15", "0.5"),
            (30, "15", "0.25"),
            (0, "15", "1"),
            (24, "1", "0.000000059604644775390625"),
            (365, "15", "0.000000047308238"),
            (90, "100", "0.535886731268147"),
            (30, "0.7", "0.000000000000126"),
            (365, "1", "0"),
            (90, "0.000000000001", "0"),
            (30, "0", "0"),
            (30, "1000000000000", "0.999999999979206"),
        ] {
            assert_eq!(decay_factor(days, dec(half_life)).to_string(), expected, "{days} days at {half_life}");
        }
    }

    #[test]
    fn the_decay_formula_carries_the_base_less_what_is_remembered() {
        for (base, previous, effective, carryover, total) in [
            ("1000", "500", "7.8125", "992.1875", "1992.1875"),
            ("1000", "0", "0", "1000", "2000"),
            ("1000", "64000", "1000", "0", "1000"),
            ("1000", "100000", "1562.5", "0", "1000"),
            ("0", "10", "0.15625", "0", "0"),
        ] {
            let terms = component(&decayed("15"), 90, dec(base), dec(previous));
            assert_eq!(terms.decay_factor, Some(dec("0.015625")));
            assert_eq!(
                (terms.effective_previous_usage, terms.carryover, terms.total),
                (Some(dec(effective)), dec(carryover), dec(total))
            );
            assert_eq!((terms.unused, terms.carryover_cap), (None, None));
        }
    }

    #[test]
    fn the_capped_formula_carries_what_was_left_up_to_the_cap() {
        for (factor, previous, unused, cap, carryover, total) in [
            ("50", "400", "600", "500", "500", "1500"),
            ("50", "700", "300", "500", "300", "1300"),
            ("15", "600", "400", "150", "150", "1150"),
            ("0", "0", "1000", "0", "0", "1000"),
            ("100", "0", "1000", "1000", "1000", "2000"),
            ("50", "1200", "0", "500", "0", "1000"),
        ] {
            let terms = component(&capped(factor), 30, dec("1000"), dec(previous));
            assert_eq!((terms.unused, terms.carryover_cap), (Some(dec(unused)), Some(dec(cap))));
            assert_eq!((terms.carryover, terms.total), (dec(carryover), dec(total)));
        }
    }

    #[test]
    fn details_give_the_first_reason_against_carryover() {
        let (formula, base, none) = (decayed("15"), amounts(&[("node", "10")]), Amounts::new());
        let given = inputs(&formula, &base, &none);
        for (inputs, reason) in [
            (CarryoverInputs { enabled: false, period: Period::Total, ..given }, CarryoverReason::Disabled),
            (CarryoverInputs { period: Period::Total, existed_before: false, ..given }, CarryoverReason::TotalPeriod),
            (CarryoverInputs { existed_before: false, base: &none, ..given }, CarryoverReason::NotInPreviousPeriod),
            (CarryoverInputs { base: &none, ..given }, CarryoverReason::NoAllocation),
        ] {
            let details = CarryoverDetails::of(&inputs);
            assert_eq!((details.carryover_applied, details.reason), (false, Some(reason)));
            assert_eq!(details.effective(&base), base);
            assert_eq!(details.to_wire(), json!({"carryover_applied": false, "reason": reason.word()}));
        }
    }

    #[test]
    fn details_hold_every_term_and_survive_json() {
        let (formula, base) = (decayed("15"), amounts(&[("cpu", "1000"), ("node", "10")]));
        let previous = amounts(&[("cpu", "500"), ("gone", "7")]);
        let details = CarryoverDetails::of(&inputs(&formula, &base, &previous));
        assert_eq!(details.previous_period.unwrap().to_string(), "2026-Q1");
        assert_eq!(details.effective(&base), amounts(&[("cpu", "1992.1875"), ("node", "20")]));
        assert_eq!(details.note, None);
        let wire = details.to_wire();
        assert_eq!((&wire["half_life_days"], &wire["days"]), (&json!(15), &json!(90)));
        assert_eq!(wire["per_component"]["cpu"]["effective_previous_usage"], json!(7.8125));
        let text = serde_json::to_string(&details).unwrap();
        assert!(text.contains("\"carryover\":\"992.1875\""), "{text}");
        assert_eq!(serde_json::from_str::<CarryoverDetails>(&text).unwrap(), details);
    }

    #[test]
    fn a_grant_after_overuse_is_put_into_words() {
        let (base, previous) = (amounts(&[("node_hours", "1000")]), amounts(&[("node_hours", "1500")]));
        let (decaying, capping) = (decayed("15"), capped("50"));
        let note = CarryoverDetails::of(&inputs(&decaying, &base, &previous)).note.unwrap();
        for part in ["node_hours used 1500 of 1000", "carries over 976.56", "2026-Q1", "15 days"] {
            assert!(note.contains(part), "{part} is missing in: {note}");
        }
        assert_eq!(CarryoverDetails::of(&inputs(&capping, &base, &previous)).note, None);
    }

    #[test]
    fn formulas_are_recorded_under_their_ids() {
        for (formula, expected) in [
            (decayed("15"), json!({"id": "decayed_usage/1", "half_life_days": "15"})),
            (capped("50"), json!({"id": "capped_unused/1", "factor_percent": "50"})),
        ] {
            assert_eq!(serde_json::to_value(&formula).unwrap(), expected);
            assert_eq!(expected["id"], formula.id());
            assert_eq!(serde_json::from_value::<Formula>(expected).unwrap(), formula);
        }
    }
}
