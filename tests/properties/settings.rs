//! Settings follow the allocation: more hours or more grace never mean a lower limit, and a merge is never laxer.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rust_decimal::Decimal;
use sluice::domain::carryover::{CarryoverDetails, CarryoverReason};
use sluice::domain::policy::{LimitType, PolicyTerms};
use sluice::domain::sacctmgr::commands;
use sluice::domain::settings::{AgentSettings, SettingsInputs, strictest};
use sluice::domain::small_map::SmallMap;
use sluice::domain::tres::{Amounts, Weights};

use super::{amount, amounts, ratio, weights};

fn terms() -> impl Strategy<Value = PolicyTerms> {
    let limit_type = prop::sample::select(&LimitType::ALL[..]);
    (limit_type, any::<bool>(), weights(), ratio()).prop_map(
        |(limit_type, tres_billing_enabled, tres_billing_weights, grace_ratio)| PolicyTerms {
            limit_type,
            tres_billing_enabled,
            tres_billing_weights,
            grace_ratio,
            ..PolicyTerms::default()
        },
    )
}

fn settings(terms: &PolicyTerms, effective: &Amounts, baseline: &Amounts) -> AgentSettings {
    AgentSettings::of(&SettingsInputs {
        limit_type: terms.limit_type,
        weights: &Weights::effective(terms.tres_billing_enabled, &terms.tres_billing_weights),
        grace_ratio: terms.grace_ratio,
        effective,
        components: &BTreeMap::new(),
        baseline_minutes: baseline,
        fairshare_divisor: Decimal::from(3),
        reset_raw_usage: false,
        carryover: &CarryoverDetails::not_applied(&terms.carryover_formula(), CarryoverReason::Disabled),
    })
}

/// Whether every number of `lower` has one in `upper` that is at least as high.
fn at_most(lower: &SmallMap<String, i64>, upper: &SmallMap<String, i64>) -> bool {
    lower.iter().all(|(key, value)| upper.get(key).is_some_and(|other| value <= other))
}

proptest! {
    #[test]
    fn more_hours_never_lower_a_limit(terms in terms(), effective in amounts(), more in amount()) {
        let none = Amounts::new();
        let larger: Amounts = effective.iter().map(|(name, hours)| (name.clone(), *hours + more)).collect();
        let (now, then) = (settings(&terms, &effective, &none), settings(&terms, &larger, &none));
        prop_assert!(at_most(&now.limits, &then.limits), "{:?} {:?}", now, then);
        prop_assert!(now.fairshare <= then.fairshare && now.fairshare >= 1);
        prop_assert!(at_most(&now.grace_limit, &then.grace_limit));
    }

    #[test]
    fn the_hard_limit_is_never_below_the_slowdown(terms in terms(), effective in amounts()) {
        let settings = settings(&terms, &effective, &Amounts::new());
        prop_assert!(at_most(&settings.qos_threshold, &settings.grace_limit), "{:?}", settings);
        let generous = PolicyTerms { grace_ratio: Decimal::ONE, ..terms.clone() };
        let with_all_grace = self::settings(&generous, &effective, &Amounts::new());
        prop_assert!(at_most(&settings.limits, &with_all_grace.limits));
        prop_assert_eq!(&settings.qos_threshold, &with_all_grace.qos_threshold);
    }

    #[test]
    fn a_baseline_takes_from_limits_and_never_below_zero(terms in terms(), effective in amounts(), baseline in amounts()) {
        let (plain, reduced) = (settings(&terms, &effective, &Amounts::new()), settings(&terms, &effective, &baseline));
        prop_assert!(at_most(&reduced.limits, &plain.limits));
        prop_assert!(reduced.limits.values().all(|minutes| *minutes >= 0));
        prop_assert_eq!(&reduced.grace_limit, &plain.grace_limit);
        prop_assert!(terms.limit_type == LimitType::GrpTresMins || reduced == plain);
    }

    #[test]
    fn the_strictest_is_below_each_and_does_not_depend_on_order(terms in terms(), one in amounts(), other in amounts()) {
        let none = Amounts::new();
        let (one, other) = (settings(&terms, &one, &none), settings(&terms, &other, &none));
        let merged = strictest(&[one.clone(), other.clone()]);
        for key in one.limits.keys().chain(other.limits.keys()) {
            let low = [&one, &other].iter().filter_map(|settings| settings.limits.get(key)).min();
            prop_assert_eq!(merged.limits.get(key), low);
        }
        prop_assert_eq!(merged.fairshare, one.fairshare.min(other.fairshare));
        prop_assert_eq!(&strictest(&[other, one]).limits, &merged.limits);
        prop_assert_eq!(&strictest(&[merged.clone(), merged.clone()]), &merged);
    }

    #[test]
    fn the_wire_and_the_commands_say_the_same(terms in terms(), effective in amounts(), account in "[ -~]{1,12}") {
        let settings = settings(&terms, &effective, &Amounts::new());
        let wire = settings.to_wire();
        let shown = commands(&account, &settings, None);
        prop_assert_eq!(&wire["fairshare"], &shown[0].parameters["fairshare"]);
        prop_assert_eq!(shown.len() == 2, !settings.limits.is_empty());
        if let Some(limits) = shown.get(1) {
            prop_assert_eq!(&wire[settings.limit_type.settings_key()], &limits.parameters["limits"]);
            prop_assert_eq!(limits.shell_command.matches("sacctmgr --immediate modify account ").count() >= settings.limits.len(), true);
        }
    }
}
