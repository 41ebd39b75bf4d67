//! Usage reports: what is a fact, what is a repetition, what is a restatement, what is refused.

use sluice::commands::allocation::{AllocationCommand, Refusal};
use sluice::domain::ids::{UserId, slug_uuid};
use sluice::events::allocation::{AllocationEvent, UsageReported};

use crate::support::world::{ALL_THREE, World, amounts, dec, evaluated, names, terms};

fn reported(events: &[AllocationEvent]) -> &UsageReported {
    match &events[0] {
        AllocationEvent::UsageReported(reported) => reported,
        other => panic!("{}", other.event_type()),
    }
}

fn refused(world: &mut World, month: &str, component: &str, amount: &str) -> Refusal {
    let command =
        AllocationCommand::ReportUsage { month: month.parse().unwrap(), amounts: amounts(&[(component, amount)]) };
    let streams = world.streams.clone();
    let refusal = world.when(&command).unwrap_err();
    assert_eq!(world.streams, streams, "nothing is recorded");
    refusal
}

#[test]
fn a_report_and_its_evaluation_are_one_append() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let events = world.used("100");
    assert_eq!(names(&events), ["usage_reported", "policy_evaluated"]);
    assert_eq!(reported(&events).amounts["node"].amount, dec("100"));
    assert_eq!(evaluated(&events).outcome.percentage, dec("10"));
}

#[test]
fn the_same_report_twice_is_one_fact() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.used("100");
    assert_eq!(world.used("100"), []);
    assert_eq!(world.used("100.000"), [], "however it is written");
    world.day("2026-04-02");
    assert_eq!(world.report("2026-03", &[("node", "100")]), [], "also in a month that it does not begin");
    assert_eq!(world.streams.len(), 1);
}

#[test]
fn a_total_replaces_the_earlier_one_and_both_stay() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.used("100");
    let events = world.used("250");
    let report = reported(&events);
    assert_eq!((report.amounts["node"].amount, report.amounts["node"].previous), (dec("250"), Some(dec("100"))));
    assert!(!report.restated, "a month goes on");
    assert_eq!(evaluated(&events).outcome.percentage, dec("25"), "250, not 350");
}

#[test]
fn a_decrease_and_a_change_of_a_past_month_are_restatements_and_a_late_first_report_is_not() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.used("100");
    assert!(reported(&world.used("90")).restated);
    assert!(!reported(&world.report("2026-02", &[("node", "5")])).restated, "nobody had said anything of February");
    assert!(reported(&world.report("2026-02", &[("node", "6")])).restated);
    let mixed = world.report("2026-03", &[("node", "95"), ("cpu", "1")]);
    assert!(!reported(&mixed).restated);
}

#[test]
fn only_the_components_that_differ_are_in_the_event() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.report("2026-03", &[("node", "100"), ("cpu", "7")]);
    let events = world.report("2026-03", &[("node", "110"), ("cpu", "7")]);
    assert_eq!(reported(&events).amounts.keys().collect::<Vec<_>>(), ["node"]);
    assert_eq!(world.book().amount("2026-03".parse().unwrap(), "cpu"), Some(dec("7")));
}

#[test]
fn a_month_that_has_not_begun_at_the_site_is_refused() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    assert!(matches!(refused(&mut world, "2026-04", "node", "1"), Refusal::FutureMonth { .. }));
    // At 23:30 UTC on 31 March it is April in Tallinn already.
    world.at("2026-03-31T23:30:00Z");
    assert_eq!(refused(&mut world, "2026-04", "node", "1").code(), "future_month");
    world.rules.zone = chrono_tz::Europe::Tallinn;
    assert!(!world.report("2026-04", &[("node", "1")]).is_empty());
}

#[test]
fn unknown_components_and_impossible_amounts_are_refused() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let refusal = refused(&mut world, "2026-03", "gpu", "1");
    assert_eq!(refusal.to_string(), "component type \"gpu\" is unknown to the offering; it has node, cpu");
    for amount in ["-0.001", "1000000000000001", "1.0000000000001"] {
        assert_eq!(refused(&mut world, "2026-03", "node", amount).code(), "amount_out_of_range", "{amount}");
    }
}

#[test]
fn a_first_report_of_nothing_is_a_fact() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    assert_eq!(names(&world.used("0")), ["usage_reported", "policy_evaluated"]);
    assert_eq!(world.used("0"), []);
}

#[test]
fn usage_of_users_is_recorded_and_decides_nothing() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let alice = UserId::from(slug_uuid("user", "alice"));
    let command = |component: &str, amount| AllocationCommand::ReportUserUsage {
        month: "2026-03".parse().unwrap(),
        component: component.to_owned(),
        amounts: [(alice, dec(amount))].into(),
    };
    assert_eq!(names(&world.when(&command("node", "5000")).unwrap()), ["user_usage_reported"]);
    assert_eq!(world.when(&command("gpu", "1")).unwrap_err().code(), "unknown_component");
    assert_eq!(world.when(&command("node", "-1")).unwrap_err().code(), "amount_out_of_range");
}

#[test]
fn a_terminated_resource_still_takes_the_last_reports_and_nobody_judges_them() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.when(&AllocationCommand::ChangeState(sluice::events::allocation::ResourceState::Terminated)).unwrap();
    assert_eq!(names(&world.used("5000")), ["usage_reported"]);
}
