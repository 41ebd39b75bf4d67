//! Both formulas in both forms, term by term, and their wording.

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
    let previous_base = PreviousBase { amounts: base, first_known: false };
    CarryoverInputs { formula, enabled: true, period, existed_before: true, base, previous_base, previous_usage }
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
        let terms = component(&decayed("15"), 90, ComponentInputs::steady(dec(base), dec(previous)));
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
        let terms = component(&capped(factor), 30, ComponentInputs::steady(dec("1000"), dec(previous)));
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
        (decayed("15").on(CarryoverBase::Previous), json!({"id": "decayed_usage/2", "half_life_days": "15"})),
        (capped("50").on(CarryoverBase::Previous), json!({"id": "capped_unused/2", "factor_percent": "50"})),
    ] {
        assert_eq!(serde_json::to_value(&formula).unwrap(), expected);
        assert_eq!(expected["id"], formula.id());
        assert_eq!(serde_json::from_value::<Formula>(expected).unwrap(), formula);
    }
}

#[test]
fn the_second_forms_look_at_the_base_of_the_previous_period() {
    let previous = CarryoverBase::Previous;
    for (formula, base, was, used, carryover, total) in [
        // Raised in mid-period: what was left of 1000, not of 1500.
        (capped("100").on(previous), "1500", "1000", "890", "110", "1610"),
        (capped("100"), "1500", "1000", "890", "610", "2110"),
        // All used, then three times as much: nothing was left.
        (capped("50").on(previous), "3000", "1000", "1000", "0", "3000"),
        (capped("50"), "3000", "1000", "1000", "1500", "4500"),
        // Cut: what was left stays, up to a part of what it was.
        (capped("50").on(previous), "500", "1000", "400", "500", "1000"),
        (capped("50").on(previous), "1000", "0", "0", "0", "1000"),
        (decayed("90").on(previous), "1500", "1000", "1000", "500", "2000"),
        (decayed("90"), "1500", "1000", "1000", "1000", "2500"),
    ] {
        let [base, previous_base, previous_usage] = [base, was, used].map(dec);
        let terms = component(&formula, 90, ComponentInputs { base, previous_base, previous_usage });
        assert_eq!((terms.carryover, terms.total), (dec(carryover), dec(total)), "{formula:?}");
        assert_eq!(terms.previous_base, (formula.base() == previous).then_some(previous_base));
    }
}

#[test]
fn another_base_than_now_is_put_into_words() {
    let formula = capped("50").on(CarryoverBase::Previous);
    let base = amounts(&[("cpu", "10"), ("node", "1500")]);
    let (was, none) = (amounts(&[("node", "1000")]), Amounts::new());
    let given = inputs(&formula, &base, &none);
    let words = |amounts, first_known| {
        let previous_base = PreviousBase { amounts, first_known };
        CarryoverDetails::of(&CarryoverInputs { previous_base, ..given }).note
    };
    assert_eq!(words(&base, false), None);
    assert_eq!(
        words(&was, false).unwrap(),
        "Carryover rests on the allocation at the end of 2026-Q1: cpu had no limit (now 10), so nothing of it was left \
         over, node had 1000 (now 1500)."
    );
    assert_eq!(
        words(&base, true).unwrap(),
        "2026-Q1 is older than the record, so the first allocation known stands for it."
    );
    let current = CarryoverInputs { formula: &capped("50"), ..given };
    assert_eq!(CarryoverDetails::of(&current).note, None);
}
