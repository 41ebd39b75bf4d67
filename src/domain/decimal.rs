//! Bounds and conversions of decimals: which amounts are accepted, and how they become JSON numbers.
//!
//! The bounds keep every later product and sum within the 28 digits of a `Decimal`; no value is a float until it is
//! written to JSON.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

/// The largest limit or usage of one component, in its own unit.
pub const MAX_AMOUNT: Decimal = Decimal::from_parts(2_764_472_320, 232_830, 0, false, 0);
/// The largest weight of one component.
pub const MAX_WEIGHT: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);
/// The most digits behind the decimal point of anything that is entered.
pub const MAX_DECIMALS: u32 = 12;
/// One hundred, as in percent.
pub const HUNDRED: Decimal = Decimal::ONE_HUNDRED;

/// Says in words what is wrong with an entered value, or nothing when it is from `low` to `high` with few enough decimals.
pub fn complaint(value: Decimal, low: Decimal, high: Decimal) -> Option<String> {
    if value < low || value > high {
        Some(format!("{value} is out of range: a number from {low} to {high} is allowed."))
    } else if value.normalize().scale() > MAX_DECIMALS {
        Some(format!("{value} has too many decimals: at most {MAX_DECIMALS} are allowed."))
    } else {
        None
    }
}

/// The whole part as an integer; what does not fit is the nearest integer that does.
pub fn whole(value: Decimal) -> i64 {
    value.trunc().to_i64().unwrap_or(if value.is_sign_negative() { i64::MIN } else { i64::MAX })
}

/// Rounds for display, halves away from zero, without trailing zeros.
pub fn rounded(value: Decimal, decimals: u32) -> Decimal {
    value.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero).normalize()
}

/// The value as a JSON number: an integer where it is whole, else the nearest double.
pub fn number(value: Decimal) -> serde_json::Value {
    let value = value.normalize();
    match (value.scale(), value.to_i64(), value.to_f64()) {
        (0, Some(whole), _) => whole.into(),
        (_, _, Some(double)) => double.into(),
        _ => value.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn the_bounds_are_what_they_are_called() {
        assert_eq!(MAX_AMOUNT, dec("1000000000000000"));
        assert_eq!(MAX_WEIGHT, dec("1000000000"));
        assert_eq!(HUNDRED, dec("100"));
    }

    #[test]
    fn complaints_name_the_value_and_what_is_allowed() {
        for (value, expected) in [
            ("0", None),
            ("1", None),
            ("0.5000000000000000", None),
            ("1.1", Some("from 0 to 1")),
            ("-0.1", Some("-0.1")),
            ("0.1234567890123", Some("at most 12")),
        ] {
            match (complaint(dec(value), Decimal::ZERO, Decimal::ONE), expected) {
                (None, None) => {}
                (Some(text), Some(part)) => assert!(text.contains(part), "{text}"),
                other => panic!("{value}: {other:?}"),
            }
        }
    }

    #[test]
    fn whole_truncates_and_saturates() {
        for (value, expected) in [
            ("1.99", 1),
            ("-1.99", -1),
            ("0", 0),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", i64::MIN),
        ] {
            assert_eq!(whole(dec(value)), expected, "{value}");
        }
    }

    #[test]
    fn json_numbers_are_integers_where_they_can_be() {
        for (value, expected) in [
            ("1000.00", "1000"),
            ("992.1875", "992.1875"),
            ("0.1", "0.1"),
            ("-3", "-3"),
            ("0", "0"),
            ("75.294117647058823529411764706", "75.29411764705883"),
        ] {
            assert_eq!(number(dec(value)).to_string(), expected);
        }
    }

    #[test]
    fn halves_are_rounded_up() {
        for (value, expected) in [("0.125", "0.13"), ("2.675", "2.68"), ("46.666667", "46.67"), ("1.0", "1")] {
            assert_eq!(rounded(dec(value), 2).to_string(), expected);
        }
    }
}
