//! Carryover stays within its bounds and never grows with what was used.

use proptest::prelude::*;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use sluice::domain::carryover::{
    CarryoverBase, CarryoverDetails, CarryoverInputs, ComponentInputs, Formula, PreviousBase, component, decay_factor,
};
use sluice::domain::period::Period;

use super::{amount, amounts};

fn half_life() -> impl Strategy<Value = Decimal> {
    (1_i64..1_000_000).prop_map(|thousandths| Decimal::new(thousandths, 3))
}

fn formula_on(base: CarryoverBase) -> impl Strategy<Value = Formula> {
    prop_oneof![
        half_life().prop_map(move |half_life_days| Formula::decayed(base, half_life_days)),
        (0_i64..=1000).prop_map(move |tenths| Formula::capped(base, Decimal::new(tenths, 1))),
    ]
}

fn formula() -> impl Strategy<Value = Formula> {
    prop_oneof![formula_on(CarryoverBase::Previous), formula_on(CarryoverBase::Current)]
}

fn days() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![30_u32, 90, 365])
}

fn steady(base: Decimal, used: Decimal) -> ComponentInputs {
    ComponentInputs::steady(base, used)
}

proptest! {
    #[test]
    fn a_change_of_the_base_of_now_changes_nothing_that_was_left_over(
        formula in formula_on(CarryoverBase::Previous), days in days(), was in amount(), now in amount(), other in amount(), used in amount()
    ) {
        let with = |base| component(&formula, days, ComponentInputs { base, previous_base: was, previous_usage: used });
        let (one, another) = (with(now), with(other));
        prop_assert_eq!(one.carryover, another.carryover);
        prop_assert!(one.carryover <= was, "{:?}", one);
        prop_assert_eq!(one.total, now + one.carryover);
    }

    #[test]
    fn both_forms_of_a_formula_agree_where_the_base_stayed(formula in formula(), days in days(), base in amount(), used in amount()) {
        let of = |on| component(&formula.on(on), days, steady(base, used));
        let (previous, current) = (of(CarryoverBase::Previous), of(CarryoverBase::Current));
        prop_assert_eq!((previous.carryover, previous.total), (current.carryover, current.total));
    }

    #[test]
    fn carryover_is_between_nothing_and_the_base(formula in formula(), days in days(), base in amount(), used in amount()) {
        let terms = component(&formula, days, steady(base, used));
        prop_assert!(terms.carryover >= Decimal::ZERO && terms.carryover <= base, "{:?}", terms);
        prop_assert_eq!(terms.total, base + terms.carryover);
        if let Some(factor_percent) = formula.factor_percent() {
            prop_assert!(terms.carryover <= base * factor_percent / Decimal::ONE_HUNDRED);
            prop_assert!(used >= base || terms.carryover <= base - used);
            prop_assert!(used < base || terms.carryover.is_zero());
        }
    }

    #[test]
    fn more_use_never_carries_more(formula in formula(), days in days(), base in amount(), used in amount(), more in amount()) {
        let (less, greater) = (component(&formula, days, steady(base, used)), component(&formula, days, steady(base, used + more)));
        prop_assert!(greater.carryover <= less.carryover, "{:?} {:?}", less, greater);
    }

    #[test]
    fn a_larger_base_never_carries_less(formula in formula(), days in days(), base in amount(), more in amount(), used in amount()) {
        let (less, greater) = (component(&formula, days, steady(base, used)), component(&formula, days, steady(base + more, used)));
        prop_assert!(greater.carryover >= less.carryover, "{:?} {:?}", less, greater);
    }

    #[test]
    fn the_decay_factor_is_a_power_of_a_half(days in 0_u32..400, half_life in half_life()) {
        let factor = decay_factor(days, half_life);
        prop_assert!(factor >= Decimal::ZERO && factor <= Decimal::ONE);
        let reference = (-f64::from(days) / half_life.to_f64().unwrap()).exp2();
        prop_assert!((factor.to_f64().unwrap() - reference).abs() < 1e-12, "{} against {}", factor, reference);
        prop_assert!(decay_factor(days + 1, half_life) <= factor);
    }

    #[test]
    fn whole_half_lives_halve_exactly(count in 0_u32..=24, half_life in 1_u32..=15) {
        let factor = decay_factor(count * half_life, Decimal::from(half_life));
        prop_assert_eq!(factor * Decimal::from(1_u32 << count), Decimal::ONE);
    }

    #[test]
    fn details_never_take_from_the_base(formula in formula(), base in amounts(), used in amounts(), enabled: bool, existed_before: bool) {
        let period: Period = "2026-Q1".parse().unwrap();
        let details = CarryoverDetails::of(&CarryoverInputs { formula: &formula, enabled, period, existed_before, base: &base, previous_base: PreviousBase { amounts: &base, first_known: false }, previous_usage: &used });
        let effective = details.effective(&base);
        prop_assert_eq!(effective.keys().collect::<Vec<_>>(), base.keys().collect::<Vec<_>>());
        prop_assert!(base.iter().all(|(name, base)| effective[name] >= *base));
        prop_assert_eq!(details.carryover_applied, enabled && existed_before && !base.is_empty());
        prop_assert_eq!(details.reason.is_none(), details.carryover_applied);
        prop_assert!(details.carryover_applied || effective == base);
        let text = serde_json::to_string(&details).unwrap();
        prop_assert_eq!(serde_json::from_str::<CarryoverDetails>(&text).unwrap(), details);
    }
}
