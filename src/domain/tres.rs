//! Trackable resources: amounts per component, the weights that turn them into billing units, and the percentage used.
//!
//! Amounts are hours, or whatever else the component counts; sums saturate instead of overflowing, so that no report
//! can stop an evaluation.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::decimal::HUNDRED;
use super::small_map::SmallMap;

/// Component type to an amount in the component's own unit (hours, for most).
pub type Amounts = SmallMap<String, Decimal>;

/// The percentage that stands for use of an allocation which is explicitly zero.
pub const OVER_NOTHING_PERCENT: Decimal = Decimal::from_parts(999_999, 0, 0, false, 2);

/// The minutes of one hour.
pub const MINUTES_PER_HOUR: Decimal = Decimal::from_parts(60, 0, 0, false, 0);

/// The MB-minutes of one GB-hour: SLURM counts memory in MB.
const MB_MINUTES_PER_GB_HOUR: Decimal = Decimal::from_parts(61_440, 0, 0, false, 0);

/// Whether a TRES or a component of this name is memory: `mem` itself, and what sites call it (`ram`, `mem_gb_hours`, …).
pub fn is_memory(name: &str) -> bool {
    const MEMORY: [&str; 8] =
        ["mem", "memory", "ram", "mem_gb", "mem_hours", "mem_gb_hours", "memory_hours", "memory_gb_hours"];
    MEMORY.contains(&name.to_ascii_lowercase().replace('-', "_").as_str())
}

/// What one unit of a component is in TRES-minutes where its offering does not say: an hour, of memory a GB-hour.
/// `name` is the component's TRES, or its type where it names none.
pub fn usual_minutes_per_unit(name: &str) -> Decimal {
    if is_memory(name) { MB_MINUTES_PER_GB_HOUR } else { MINUTES_PER_HOUR }
}

/// How a component of the offering appears in SLURM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TresMapping {
    /// The TRES name in limits, for instance `node`, `cpu` or `gres/gpu`.
    pub tres: String,
    /// What one unit of the component is in SLURM's TRES-minutes.
    pub minutes_per_unit: Decimal,
}

impl TresMapping {
    /// A component without a setting of its own: counted in hours, under its own type.
    pub fn of_type(component: &str) -> Self {
        Self { tres: component.to_owned(), minutes_per_unit: MINUTES_PER_HOUR }
    }
}

/// Whether SLURM knows a TRES of this name on any cluster (case does not matter).
pub fn is_slurm_tres(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let typed = |kind: &str| name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty());
    matches!(name.as_str(), "cpu" | "mem" | "energy" | "node" | "billing" | "vmem" | "pages")
        || ["gres/", "license/", "fs/", "bb/", "ic/", "interconnect/"].into_iter().any(typed)
}

/// The weight of each component in the weighted sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    configured: BTreeMap<String, Decimal>,
}

impl Weights {
    /// The weights in force: with billing off every component counts as 1 and none is matched; with billing on and nothing
    /// configured SLURM's customary weights hold.
    pub fn effective(billing_enabled: bool, configured: &BTreeMap<String, Decimal>) -> Self {
        let configured = match (billing_enabled, configured.is_empty()) {
            (false, _) => BTreeMap::new(),
            (true, false) => configured.clone(),
            (true, true) => [("CPU", (15_625, 6)), ("Mem", (1_953_125, 9)), ("GRES/gpu", (25, 2))]
                .into_iter()
                .map(|(component, (digits, scale))| (component.to_owned(), Decimal::new(digits, scale)))
                .collect(),
        };
        Self { configured }
    }

    /// True if nothing is weighted, as with billing off: amounts are added up as they are.
    pub fn are_none(&self) -> bool {
        self.configured.is_empty()
    }

    /// The weight of a component; 1 without an entry, and 0 where the entry says so.
    pub fn of(&self, component: &str) -> Decimal {
        self.matched(component).unwrap_or(Decimal::ONE)
    }

    /// The entry of a component, by its exact name or else without regard to case.
    pub fn matched(&self, component: &str) -> Option<Decimal> {
        let alike = || {
            let folded = component.to_lowercase();
            self.configured.iter().find(|(name, _)| name.to_lowercase() == folded).map(|(_, weight)| weight)
        };
        if self.configured.is_empty() { None } else { self.configured.get(component).or_else(alike).copied() }
    }

    /// The weighted sum of amounts.
    pub fn sum(&self, amounts: &Amounts) -> Decimal {
        amounts
            .iter()
            .map(|(component, amount)| self.of(component).saturating_mul(*amount))
            .fold(Decimal::ZERO, Decimal::saturating_add)
    }

    /// The weighted sum over the components that have an entry, or nothing if none has one that is not zero.
    pub fn matched_sum(&self, amounts: &Amounts) -> Option<Decimal> {
        let weighted: Vec<_> =
            amounts.iter().filter_map(|(component, amount)| Some((self.matched(component)?, *amount))).collect();
        weighted.iter().any(|(weight, _)| !weight.is_zero()).then(|| {
            weighted
                .iter()
                .map(|(weight, amount)| weight.saturating_mul(*amount))
                .fold(Decimal::ZERO, Decimal::saturating_add)
        })
    }
}

/// What part of the weighted allocation is used, in percent and not rounded.
///
/// `allocated` is nothing where no limit is set at all: then nothing can be used up. Of an allocation that is zero
/// nothing is 0 %, and anything is [`OVER_NOTHING_PERCENT`].
pub fn percentage(used: Decimal, allocated: Option<Decimal>) -> Decimal {
    match allocated {
        Some(allocated) if allocated > Decimal::ZERO => {
            // Multiplied before dividing, so that 114 of 100 is 114 and not its neighbour.
            used.saturating_mul(HUNDRED).checked_div(allocated).unwrap_or(Decimal::MAX)
        }
        Some(_) if used > Decimal::ZERO => OVER_NOTHING_PERCENT,
        Some(_) | None => Decimal::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn configured(entries: &[(&str, &str)]) -> BTreeMap<String, Decimal> {
        amounts(entries).into_iter().collect()
    }

    fn amounts(entries: &[(&str, &str)]) -> Amounts {
        entries.iter().map(|(component, amount)| ((*component).to_owned(), dec(amount))).collect()
    }

    #[test]
    fn weights_are_found_by_exact_name_then_without_case_and_are_one_otherwise() {
        let weights =
            Weights::effective(true, &configured(&[("CPU", "0.5"), ("cpu", "0.25"), ("Mem", "0"), ("gpu", "8")]));
        for (component, weight, matched) in [
            ("CPU", "0.5", Some("0.5")),
            ("cpu", "0.25", Some("0.25")),
            ("mem", "0", Some("0")),
            ("GPU", "8", Some("8")),
            ("node_hours", "1", None),
        ] {
            assert_eq!(weights.of(component), dec(weight), "{component}");
            assert_eq!(weights.matched(component), matched.map(dec), "{component}");
        }
    }

    #[test]
    fn customary_weights_hold_when_none_is_configured_and_none_when_billing_is_off() {
        let none = BTreeMap::new();
        let on = Weights::effective(true, &none);
        assert_eq!(
            (on.of("cpu"), on.of("mem"), on.of("gres/GPU"), on.of("node")),
            (dec("0.015625"), dec("0.001953125"), dec("0.25"), dec("1"))
        );
        let off = Weights::effective(false, &configured(&[("cpu", "7")]));
        assert_eq!((off.of("cpu"), off.matched("cpu")), (dec("1"), None));
    }

    #[test]
    fn sums_are_weighted_and_the_matched_sum_wants_a_weight_that_counts() {
        let weights = Weights::effective(true, &configured(&[("cpu", "0.5"), ("mem", "0")]));
        let all = amounts(&[("cpu", "10"), ("mem", "4"), ("node", "3")]);
        assert_eq!(weights.sum(&all), dec("8"));
        assert_eq!(weights.matched_sum(&all), Some(dec("5")));
        assert_eq!(weights.matched_sum(&amounts(&[("mem", "4"), ("node", "3")])), None);
        assert_eq!(weights.matched_sum(&amounts(&[("cpu", "0")])), Some(dec("0")));
    }

    #[test]
    fn sums_saturate_instead_of_overflowing() {
        let weights = Weights::effective(true, &configured(&[("cpu", "79228162514264337593543950335")]));
        assert_eq!(weights.sum(&amounts(&[("cpu", "1000000000000000"), ("mem", "1")])), Decimal::MAX);
    }

    #[test]
    fn percentages_are_exact_and_defined_for_nothing() {
        for (used, allocated, expected) in [
            ("200", Some("1000"), "20"),
            ("1.14", Some("1"), "114"),
            ("342", Some("300"), "114"),
            ("0", Some("0"), "0"),
            ("0.000001", Some("0"), "9999.99"),
            ("5", None, "0"),
            ("1000000000000000000000000000", Some("0.000000000001"), "79228162514264337593543950335"),
        ] {
            assert_eq!(percentage(dec(used), allocated.map(dec)), dec(expected), "{used} of {allocated:?}");
        }
    }

    #[test]
    fn a_unit_is_an_hour_and_of_memory_a_gb_hour() {
        for (name, minutes) in
            [("node", "60"), ("gres/gpu", "60"), ("memo", "60"), ("mem", "61440"), ("Mem-GB-hours", "61440")]
        {
            assert_eq!(usual_minutes_per_unit(name), dec(minutes), "{name}");
        }
    }

    #[test]
    fn slurm_names_are_known_and_others_are_not() {
        for name in ["cpu", "CPU", "mem", "node", "gres/gpu", "GRES/gpu:a100", "license/matlab", "fs/disk", "billing"] {
            assert!(is_slurm_tres(name), "{name}");
        }
        for name in ["node_hours", "nodeHours", "gpu", "gres/", ""] {
            assert!(!is_slurm_tres(name), "{name}");
        }
    }
}
