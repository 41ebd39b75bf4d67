//! Changes of limits: what a raise re-arms and what a cut and a carryover do not.

use sluice::commands::allocation::AllocationCommand;
use sluice::domain::evaluate::Trigger;
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::ResourceState;

use crate::support::world::{ALL_THREE, World, amounts, dec, evaluated, names, said, terms};

#[test]
fn a_raise_arms_the_notice_again_and_a_cut_does_not() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    assert_eq!(said(&world.used("900")), "90 % notify");
    assert_eq!(said(&world.limits(&[("node", "950")])), "94.7368421052 % ", "a cut");
    assert_eq!(said(&world.limits(&[("node", "1000")])), "90 % notify", "a raise, if only back to where it was");
    assert_eq!(said(&world.limits(&[("node", "2000")])), "45 % ");
    assert_eq!(said(&world.used("1700")), "85 % notify", "armed by the raise, due later");
    assert_eq!(said(&world.used("1800")), "90 % ");
}

#[test]
fn a_raise_of_a_component_that_does_not_count_arms_nothing() {
    let free = PolicyTerms {
        tres_billing_enabled: true,
        tres_billing_weights: amounts(&[("cpu", "0"), ("node", "1")]).into_iter().collect(),
        ..terms(ALL_THREE)
    };
    let mut world = World::on("2026-03-10");
    world.put_policy("main", free);
    world.register(&[("node", "1000"), ("cpu", "1")]);
    assert_eq!(said(&world.used("900")), "90 % notify");
    assert_eq!(said(&world.limits(&[("node", "1000"), ("cpu", "5")])), "90 % ");
}

#[test]
fn more_carryover_arms_nothing() {
    let carry =
        |factor: &str| PolicyTerms { carryover_enabled: true, carryover_factor: Some(dec(factor)), ..terms(ALL_THREE) };
    let mut world = World::governed("2026-02-10", carry("10"));
    world.day("2026-03-10");
    assert_eq!(said(&world.used("990")), "90 % notify");
    world.put_policy("main", carry("20"));
    assert_eq!(said(&world.evaluate(Trigger::PolicyChanged)), "82.5 % ");
}

#[test]
fn a_raise_of_the_policys_own_limit_arms_too() {
    let with = |limit: &str| PolicyTerms { component_limits: amounts(&[("node", limit)]), ..terms(ALL_THREE) };
    let mut world = World::on("2026-03-10");
    world.put_policy("main", with("100"));
    world.register(&[]);
    assert_eq!(said(&world.used("90")), "90 % notify");
    world.put_policy("main", with("110"));
    assert_eq!(said(&world.evaluate(Trigger::PolicyChanged)), "81.8181818181 % notify");
}

#[test]
fn the_arming_survives_the_books() {
    let quarter = PolicyTerms { period: sluice::domain::period::PeriodKind::Quarter, ..terms(ALL_THREE) };
    let mut world = World::governed("2026-01-10", quarter);
    assert_eq!(said(&world.used("900")), "90 % notify");
    world.day("2026-02-10");
    assert_eq!(said(&world.used("1")), "90.1 % ", "told in January, the same quarter");
    world.day("2026-03-10");
    assert_eq!(said(&world.limits(&[("node", "1100")])), "81.9090909090 % notify".replace("9090 %", "909 %"));
}

#[test]
fn the_same_limits_again_are_nothing_and_bad_ones_are_refused() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    assert_eq!(world.limits(&[("node", "1000.0")]), []);
    for bad in [[("gpu", "1")], [("node", "-1")]] {
        assert!(world.when(&AllocationCommand::ChangeLimits(amounts(&bad))).is_err());
    }
    world.when(&AllocationCommand::ChangeState(ResourceState::Terminating)).unwrap();
    let refusal = world.when(&AllocationCommand::ChangeLimits(amounts(&[("node", "5")]))).unwrap_err();
    assert_eq!(refusal.code(), "not_live");
}

#[test]
fn a_cut_restricts_at_once() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.used("500");
    let events = world.limits(&[("node", "400")]);
    assert_eq!(names(&events), ["limits_changed", "policy_evaluated", "restriction_changed", "settings_commanded"]);
    assert_eq!(said(&events), "125 % pause+downscale+notify");
    assert_eq!(evaluated(&events).trigger, Trigger::LimitsChanged);
}
