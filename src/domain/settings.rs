//! The settings that a site agent applies to an account: fairshare, TRES limits and a reset of raw usage.
//!
//! The hard limit in SLURM is the grace limit, so that the slow-down at 100 % comes first. Everything is truncated to
//! whole minutes (or counts), as SLURM stores them.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::carryover::CarryoverDetails;
use super::decimal::whole;
use super::policy::LimitType;
use super::small_map::SmallMap;
use super::tres::{Amounts, MINUTES_PER_HOUR, TresMapping, Weights};

/// The highest fairshare that is sent: one more means `parent` to SLURM.
pub const MAX_FAIRSHARE: i64 = 2_147_483_646;

/// The TRES key under which billing units are limited.
const BILLING: &str = "billing";
/// The key of informational totals where billing units are not counted.
const NODE: &str = "node";

/// What the settings of one policy on one resource are worked out from.
#[derive(Debug, Clone, Copy)]
pub struct SettingsInputs<'a> {
    /// Which limit the numbers are for.
    pub limit_type: LimitType,
    /// The weights in force.
    pub weights: &'a Weights,
    /// How much more than the allocation the hard limit allows, as a part of it.
    pub grace_ratio: Decimal,
    /// The effective allocation of each component that has one, in the component's unit.
    pub effective: &'a Amounts,
    /// How the components appear in SLURM; one that is missing goes under its own type, in hours.
    pub components: &'a BTreeMap<String, TresMapping>,
    /// Per TRES key the minutes that the period had counted when SLURM's counter was last reset.
    pub baseline_minutes: &'a Amounts,
    /// By what the sum of the effective hours is divided to give the fairshare, above 0.
    pub fairshare_divisor: Decimal,
    /// Whether these settings include a reset of raw usage.
    pub reset_raw_usage: bool,
    /// How the carryover in the effective allocation came about.
    pub carryover: &'a CarryoverDetails,
}

/// The settings of one account; what is zero, empty or false is left as it is by the agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentSettings {
    /// The fairshare weight.
    pub fairshare: i64,
    /// Which limit the numbers are for.
    pub limit_type: LimitType,
    /// TRES name to minutes, or to a count for `GrpTRES`.
    pub limits: SmallMap<String, i64>,
    /// Whether raw usage is reset.
    pub reset_raw_usage: bool,
    /// For information: the minutes at 100 %, not reduced by a baseline.
    pub qos_threshold: SmallMap<String, i64>,
    /// For information: the minutes at the grace limit, not reduced by a baseline.
    pub grace_limit: SmallMap<String, i64>,
    /// For information: the terms of the carryover.
    pub carryover_details: Option<CarryoverDetails>,
}

impl AgentSettings {
    /// Works out the settings of one policy.
    pub fn of(inputs: &SettingsInputs<'_>) -> Self {
        let billed = inputs.weights.matched_sum(inputs.effective);
        let (qos_threshold, grace_limit) = informational(inputs, billed);
        Self {
            fairshare: fairshare(inputs.effective, inputs.fairshare_divisor),
            limit_type: inputs.limit_type,
            limits: limits(inputs, billed),
            reset_raw_usage: inputs.reset_raw_usage,
            qos_threshold,
            grace_limit,
            carryover_details: Some(inputs.carryover.clone()),
        }
    }

    /// The settings as the agent's message holds them.
    pub fn to_wire(&self) -> Value {
        let mut wire = Map::new();
        wire.insert("fairshare".into(), self.fairshare.into());
        wire.insert("limit_type".into(), self.limit_type.wire_name().into());
        wire.insert(self.limit_type.settings_key().into(), json!(self.limits));
        wire.insert("reset_raw_usage".into(), self.reset_raw_usage.into());
        wire.insert("qos_threshold".into(), json!(self.qos_threshold));
        wire.insert("grace_limit".into(), json!(self.grace_limit));
        let details = self.carryover_details.as_ref().map(CarryoverDetails::to_wire);
        wire.insert("carryover_details".into(), details.unwrap_or_else(|| json!({"carryover_applied": false})));
        wire.into()
    }
}

/// The strictest of several policies' settings for one resource: the lowest number of every key, a reset if any asks for one.
///
/// The carryover terms are those of the settings with the lowest fairshare, that is the smallest allocation. Settings for
/// another type of limit than the first one's give no limits; an offering's policies all have the same type.
pub fn strictest(settings: &[AgentSettings]) -> AgentSettings {
    let Some(tightest) = settings.iter().min_by_key(|one| one.fairshare) else {
        return AgentSettings::default();
    };
    let limit_type = settings[0].limit_type;
    let same_type = || settings.iter().filter(|one| one.limit_type == limit_type);
    AgentSettings {
        fairshare: tightest.fairshare,
        limit_type,
        limits: lowest(same_type().map(|one| &one.limits)),
        reset_raw_usage: settings.iter().any(|one| one.reset_raw_usage),
        qos_threshold: lowest(same_type().map(|one| &one.qos_threshold)),
        grace_limit: lowest(same_type().map(|one| &one.grace_limit)),
        carryover_details: tightest.carryover_details.clone(),
    }
}

/// The lowest number of each key that any of the maps has.
fn lowest<'a>(maps: impl Iterator<Item = &'a SmallMap<String, i64>>) -> SmallMap<String, i64> {
    let mut lowest = SmallMap::new();
    for (key, value) in maps.flatten() {
        lowest.entry(key.clone()).and_modify(|low: &mut i64| *low = (*low).min(*value)).or_insert(*value);
    }
    lowest
}

/// max(1, floor(sum of effective hours / divisor)), within what SLURM takes for a number.
fn fairshare(effective: &Amounts, divisor: Decimal) -> i64 {
    let hours = effective.values().fold(Decimal::ZERO, |sum, hours| sum.saturating_add(*hours));
    let share = if divisor > Decimal::ZERO { hours.checked_div(divisor).unwrap_or(Decimal::MAX) } else { hours };
    whole(share.floor()).clamp(1, MAX_FAIRSHARE)
}

/// The limit of each TRES: components of the same TRES are added up, billing units come on top.
fn limits(inputs: &SettingsInputs<'_>, billed: Option<Decimal>) -> SmallMap<String, i64> {
    let mut sums: SmallMap<String, i64> = SmallMap::new();
    let mut add = |tres: &str, amount: i64| {
        let sum = sums.entry(tres.to_owned()).or_default();
        *sum = sum.saturating_add(amount);
    };
    for (component, amount) in inputs.effective {
        let mapping = inputs.components.get(component);
        let tres = mapping.map_or(component.as_str(), |mapping| mapping.tres.as_str());
        let per_unit = mapping.map_or(MINUTES_PER_HOUR, |mapping| mapping.minutes_per_unit);
        add(
            tres,
            if inputs.limit_type == LimitType::GrpTres {
                whole(*amount)
            } else {
                with_grace(*amount, per_unit, inputs.grace_ratio)
            },
        );
    }
    if let Some(billed) = billed.filter(|_| inputs.limit_type != LimitType::GrpTres) {
        // A component that itself goes to SLURM as `billing` is omitted: the weighted sum contains it.
        sums.insert(BILLING.to_owned(), with_grace(billed, MINUTES_PER_HOUR, inputs.grace_ratio));
    }
    // Only the group limit is compared with the account's raw usage; a job's own limit and a count know no counter.
    if inputs.limit_type == LimitType::GrpTresMins {
        for (tres, minutes) in sums.iter_mut() {
            let counted = inputs.baseline_minutes.get(tres).copied().unwrap_or_default();
            *minutes = whole(Decimal::from(*minutes).saturating_sub(counted)).max(0);
        }
    }
    sums
}

/// The minutes at 100 % and at the grace limit, of billing units where those count and of everything together otherwise.
fn informational(
    inputs: &SettingsInputs<'_>,
    billed: Option<Decimal>,
) -> (SmallMap<String, i64>, SmallMap<String, i64>) {
    if inputs.effective.is_empty() {
        return (SmallMap::new(), SmallMap::new());
    }
    let (key, hours) = billed.map_or_else(|| (NODE, inputs.weights.sum(inputs.effective)), |billed| (BILLING, billed));
    let map = |minutes| SmallMap::from([(key.to_owned(), minutes)]);
    (
        map(with_grace(hours, MINUTES_PER_HOUR, Decimal::ZERO)),
        map(with_grace(hours, MINUTES_PER_HOUR, inputs.grace_ratio)),
    )
}

/// Minutes per TRES key that these amounts of components are: what a period had counted when SLURM's counter was last reset.
pub fn baseline_minutes(counted: &Amounts, components: &BTreeMap<String, TresMapping>, weights: &Weights) -> Amounts {
    let mut minutes = Amounts::new();
    for (component, amount) in counted {
        let mapping = components.get(component);
        let tres = mapping.map_or(component.as_str(), |m| m.tres.as_str());
        let per_unit = mapping.map_or(MINUTES_PER_HOUR, |m| m.minutes_per_unit);
        let sum = minutes.entry(tres.to_owned()).or_insert(Decimal::ZERO);
        *sum = sum.saturating_add(amount.saturating_mul(per_unit).trunc());
    }
    if let Some(billed) = weights.matched_sum(counted) {
        minutes.insert(BILLING.to_owned(), billed.saturating_mul(MINUTES_PER_HOUR).trunc());
    }
    minutes
}

/// trunc(trunc(amount x minutes per unit) x (1 + grace)).
pub fn with_grace(amount: Decimal, minutes_per_unit: Decimal, grace_ratio: Decimal) -> i64 {
    let minutes = amount.saturating_mul(minutes_per_unit).trunc();
    whole(minutes.saturating_mul(Decimal::ONE + grace_ratio))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::carryover::CarryoverReason;
    use crate::domain::policy::PolicyTerms;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn amounts(entries: &[(&str, &str)]) -> Amounts {
        entries.iter().map(|(component, amount)| ((*component).to_owned(), dec(amount))).collect()
    }

    fn minutes(entries: &[(&str, i64)]) -> SmallMap<String, i64> {
        entries.iter().map(|(tres, minutes)| ((*tres).to_owned(), *minutes)).collect()
    }

    /// What a case gives besides the defaults: billing off, grace 0.2, no mapping, no baseline, divisor 3.
    struct Given {
        terms: PolicyTerms,
        effective: Amounts,
        components: BTreeMap<String, TresMapping>,
        baseline: Amounts,
    }

    impl Given {
        fn new(effective: &[(&str, &str)]) -> Self {
            let terms = PolicyTerms { tres_billing_enabled: false, ..PolicyTerms::default() };
            Self { terms, effective: amounts(effective), components: BTreeMap::new(), baseline: Amounts::new() }
        }

        fn mapped(mut self, component: &str, tres: &str, per_unit: &str) -> Self {
            self.components
                .insert(component.into(), TresMapping { tres: tres.into(), minutes_per_unit: dec(per_unit) });
            self
        }

        fn billed(mut self, weights: &[(&str, &str)]) -> Self {
            self.terms.tres_billing_enabled = true;
            self.terms.tres_billing_weights = amounts(weights).into_iter().collect();
            self
        }

        fn settings(&self) -> AgentSettings {
            AgentSettings::of(&SettingsInputs {
                limit_type: self.terms.limit_type,
                weights: &Weights::effective(self.terms.tres_billing_enabled, &self.terms.tres_billing_weights),
                grace_ratio: self.terms.grace_ratio,
                effective: &self.effective,
                components: &self.components,
                baseline_minutes: &self.baseline,
                fairshare_divisor: dec("3"),
                reset_raw_usage: false,
                carryover: &CarryoverDetails::not_applied(&self.terms.carryover_formula(), CarryoverReason::Disabled),
            })
        }
    }

    #[test]
    fn minutes_are_truncated_before_and_after_the_grace() {
        for (hours, grace, expected) in [
            ("100", "0.15", 6900),
            ("1", "0.3", 78),
            ("0.999", "0.2", 70),
            ("0.0166", "0.2", 0),
            ("0", "1", 0),
            ("1000000000000000", "1", 120_000_000_000_000_000),
        ] {
            assert_eq!(with_grace(dec(hours), dec("60"), dec(grace)), expected, "{hours} h, grace {grace}");
        }
        assert_eq!(with_grace(dec("1000000000000000"), dec("61440"), dec("1")), i64::MAX);
    }

    #[test]
    fn fairshare_is_a_third_of_the_hours_and_at_least_one() {
        for (effective, expected) in [
            (vec![("node", "1000")], 333),
            (vec![("cpu", "1000"), ("node", "2.999")], 334),
            (vec![("node", "2")], 1),
            (vec![], 1),
            (vec![("node", "1000000000000000")], MAX_FAIRSHARE),
        ] {
            assert_eq!(Given::new(&effective).settings().fairshare, expected, "{effective:?}");
        }
    }

    #[test]
    fn components_go_under_their_tres_in_its_minutes_and_add_up() {
        let given = Given::new(&[("node_hours", "10"), ("big_nodes", "1"), ("ram", "2"), ("cpu", "0")])
            .mapped("node_hours", "node", "60")
            .mapped("big_nodes", "node", "120")
            .mapped("ram", "mem", "61440");
        assert_eq!(given.settings().limits, minutes(&[("cpu", 0), ("mem", 147_456), ("node", 864)]));
        assert_eq!(given.settings().qos_threshold, minutes(&[("node", 780)]));
    }

    #[test]
    fn billing_needs_a_weight_that_counts() {
        for (weights, effective, billing) in [
            (vec![], vec![("cpu", "6400"), ("node", "5")], Some(7200)),
            (vec![("CPU", "0.5")], vec![("cpu", "10"), ("node", "5")], Some(360)),
            (vec![("CPU", "0.5")], vec![("node", "5")], None),
            (vec![("node", "0")], vec![("node", "5")], None),
            (vec![("node", "0"), ("cpu", "1")], vec![("node", "5"), ("cpu", "0")], Some(0)),
        ] {
            let settings = Given::new(&effective).billed(&weights).settings();
            assert_eq!(settings.limits.get("billing").copied(), billing, "{weights:?} {effective:?}");
            let key = if billing.is_some() { "billing" } else { "node" };
            assert_eq!(settings.grace_limit.keys().collect::<Vec<_>>(), [key]);
            assert_eq!(settings.qos_threshold.keys().collect::<Vec<_>>(), [key]);
        }
    }

    #[test]
    fn a_concurrent_count_has_no_minutes_no_grace_and_no_billing() {
        let mut given = Given::new(&[("cpu", "128.9"), ("node", "2")]).billed(&[]);
        given.terms.limit_type = LimitType::GrpTres;
        given.baseline = amounts(&[("cpu", "100")]);
        let settings = given.settings();
        assert_eq!(settings.limits, minutes(&[("cpu", 128), ("node", 2)]));
        assert_eq!(settings.to_wire()["grp_tres"], json!({"cpu": 128, "node": 2}));
    }

    #[test]
    fn the_baseline_lowers_limits_but_not_what_is_for_information() {
        let mut given = Given::new(&[("node", "100"), ("cpu", "1")]);
        given.baseline = amounts(&[("node", "600.5"), ("cpu", "100"), ("gone", "5")]);
        let settings = given.settings();
        assert_eq!(settings.limits, minutes(&[("cpu", 0), ("node", 6599)]));
        assert_eq!(settings.grace_limit, minutes(&[("node", 7272)]));
        given.terms.limit_type = LimitType::MaxTresMins;
        assert_eq!(given.settings().limits, minutes(&[("cpu", 72), ("node", 7200)]));
    }

    #[test]
    fn a_resource_without_limits_is_taken_over_with_the_least_fairshare() {
        let wire = Given::new(&[]).settings().to_wire();
        let expected = json!({"fairshare": 1, "limit_type": "GrpTRESMins", "grp_tres_mins": {}, "reset_raw_usage": false,
            "qos_threshold": {}, "grace_limit": {}, "carryover_details": {"carryover_applied": false, "reason": "disabled"}});
        assert_eq!(wire, expected);
    }

    #[test]
    fn the_strictest_of_each_key_wins() {
        let one = AgentSettings {
            fairshare: 300,
            limits: minutes(&[("node", 100), ("cpu", 5)]),
            qos_threshold: minutes(&[("node", 90)]),
            grace_limit: minutes(&[("node", 100)]),
            ..AgentSettings::default()
        };
        let other = AgentSettings {
            fairshare: 200,
            limits: minutes(&[("node", 120), ("mem", 7)]),
            qos_threshold: minutes(&[("node", 80)]),
            grace_limit: minutes(&[("node", 120)]),
            reset_raw_usage: true,
            ..AgentSettings::default()
        };
        let merged = strictest(&[one.clone(), other]);
        assert_eq!((merged.fairshare, merged.reset_raw_usage), (200, true));
        assert_eq!(merged.limits, minutes(&[("cpu", 5), ("mem", 7), ("node", 100)]));
        assert_eq!((merged.qos_threshold, merged.grace_limit), (minutes(&[("node", 80)]), minutes(&[("node", 100)])));
        assert_eq!(strictest(std::slice::from_ref(&one)), one);
        assert_eq!(strictest(&[]), AgentSettings::default());
    }

    #[test]
    fn settings_survive_json() {
        let settings = Given::new(&[("node", "100")]).settings();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<AgentSettings>(&text).unwrap(), settings);
    }
}
