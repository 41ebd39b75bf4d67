//! Weighted sums are linear, and the percentage follows usage up and the allocation down.

use proptest::prelude::*;
use rust_decimal::Decimal;
use sluice::domain::tres::{Amounts, Weights, percentage};

use super::{amount, amounts, weights};

fn plus(one: &Amounts, other: &Amounts) -> Amounts {
    let mut sum = one.clone();
    for (component, amount) in other {
        *sum.entry(component.clone()).or_default() += *amount;
    }
    sum
}

/// Equal but for the 28th digit, where amounts of 10^15 with all their decimals are rounded.
fn alike(one: Decimal, other: Decimal) -> bool {
    (one - other).abs() <= Decimal::new(1, 9)
}

proptest! {
    #[test]
    fn billing_is_linear(configured in weights(), one in amounts(), other in amounts(), times in 0_u32..50) {
        let weights = Weights::effective(true, &configured);
        prop_assert!(alike(weights.sum(&plus(&one, &other)), weights.sum(&one) + weights.sum(&other)));
        let many: Amounts = one.iter().map(|(name, amount)| (name.clone(), *amount * Decimal::from(times))).collect();
        prop_assert!(alike(weights.sum(&many), weights.sum(&one) * Decimal::from(times)));
    }

    #[test]
    fn without_billing_everything_counts_as_it_is(configured in weights(), amounts in amounts()) {
        let weights = Weights::effective(false, &configured);
        prop_assert_eq!(weights.sum(&amounts), amounts.values().sum::<Decimal>());
        prop_assert_eq!(weights.matched_sum(&amounts), None);
    }

    #[test]
    fn case_does_not_change_a_weight(configured in weights(), amounts in amounts()) {
        let weights = Weights::effective(true, &configured);
        let shouted: Amounts = amounts.iter().map(|(name, amount)| (name.to_uppercase(), *amount)).collect();
        prop_assert_eq!(weights.sum(&shouted), weights.sum(&amounts));
    }

    #[test]
    fn the_matched_sum_is_a_part_of_the_sum(configured in weights(), amounts in amounts()) {
        let weights = Weights::effective(true, &configured);
        let counted = amounts.keys().any(|name| weights.matched(name).is_some_and(|weight| !weight.is_zero()));
        prop_assert_eq!(weights.matched_sum(&amounts).is_some(), counted);
        prop_assert!(weights.matched_sum(&amounts).unwrap_or_default() <= weights.sum(&amounts));
    }

    #[test]
    fn the_percentage_grows_with_usage_and_shrinks_with_the_allocation(used in amount(), allocated in amount(), more in amount()) {
        let now = percentage(used, Some(allocated));
        prop_assert!(now >= Decimal::ZERO);
        if !allocated.is_zero() {
            prop_assert!(percentage(used + more, Some(allocated)) >= now);
            prop_assert!(percentage(used, Some(allocated + more)) <= now);
            prop_assert_eq!(now >= Decimal::ONE_HUNDRED, used >= allocated);
        }
        prop_assert_eq!(now.is_zero(), used.is_zero());
    }
}
