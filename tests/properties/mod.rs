//! Property tests: what must hold for every input, not for chosen ones.

mod carryover;
mod events;
mod period;
mod sacct;
mod settings;
mod stomp;
mod tres;

use std::collections::BTreeMap;

use proptest::prelude::*;
use rust_decimal::Decimal;
use sluice::domain::tres::Amounts;

/// Amounts as they may be entered: up to 10^15, some of them with six decimals.
fn amount() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        1 => Just(Decimal::ZERO),
        6 => (0_i64..10_000_000_000).prop_map(|micros| Decimal::new(micros, 6)),
        2 => (0_i64..100_000).prop_map(Decimal::from),
        1 => (0_i64..=1_000_000_000_000_000).prop_map(Decimal::from),
    ]
}

/// A number from 0 to 1 with four decimals.
fn ratio() -> impl Strategy<Value = Decimal> {
    (0_i64..=10_000).prop_map(|parts| Decimal::new(parts, 4))
}

/// Amounts of up to four components.
fn amounts() -> impl Strategy<Value = Amounts> {
    let component = prop_oneof![Just("cpu"), Just("mem"), Just("node"), Just("gres/gpu"), Just("node_hours")];
    prop::collection::btree_map(component.prop_map(str::to_owned), amount(), 0..5)
        .prop_map(|amounts| amounts.into_iter().collect())
}

/// Weights as they may be configured, zero among them.
fn weights() -> impl Strategy<Value = BTreeMap<String, Decimal>> {
    let component = prop_oneof![Just("CPU"), Just("Mem"), Just("node"), Just("GRES/gpu")];
    let weight = prop_oneof![Just(Decimal::ZERO), (1_i64..1_000_000).prop_map(|micros| Decimal::new(micros, 6))];
    prop::collection::btree_map(component.prop_map(str::to_owned), weight, 0..4)
}
