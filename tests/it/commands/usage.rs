//! Usage reports: what is a fact, what is a repetition, what is a restatement, what is refused.

use sluice::commands::allocation::{AllocationCommand, Refusal, UsageReport};
use sluice::domain::ids::{UserId, slug_uuid};
use sluice::events::allocation::{AllocationEvent, MissingUsage, ResourceState, UsageReported};

use crate::support::world::{ALL_THREE, World, amounts, dec, evaluated, names, terms};

fn reported(events: &[AllocationEvent]) -> &UsageReported {
    match &events[0] {
        AllocationEvent::UsageReported(reported) => reported,
        other => panic!("{}", other.event_type()),
    }
}

fn refused(world: &mut World, month: &str, component: &str, amount: &str) -> Refusal {
    refused_report(world, UsageReport::new(month.parse().unwrap(), amounts(&[(component, amount)])))
}

fn refused_report(world: &mut World, report: UsageReport) -> Refusal {
    let command = AllocationCommand::ReportUsage(report);
    let streams = world.streams.clone();
    let refusal = world.when(&command).unwrap_err();
    assert_eq!(world.streams, streams, "nothing is recorded");
    refusal
}

#[test]
fn a_report_and_its_evaluation_are_one_append() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.hand_over();
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
    world.when(&AllocationCommand::ChangeState(ResourceState::Terminated)).unwrap();
    assert_eq!(names(&world.used("5000")), ["usage_reported"]);
}

/// Node hours of March as they were at an instant.
fn measured(amount: &str, at: &str) -> AllocationCommand {
    let report = UsageReport::new("2026-03".parse().unwrap(), amounts(&[("node", amount)]));
    AllocationCommand::ReportUsage(report.measured_at(at.parse().unwrap()))
}

fn stands(world: &World) -> Option<rust_decimal::Decimal> {
    world.book().amount("2026-03".parse().unwrap(), "node")
}

#[test]
fn a_total_measured_before_the_known_one_is_kept_and_changes_nothing() {
    let mut world = World::governed("2026-03-20", terms(ALL_THREE));
    world.when(&measured("100", "2026-03-20T10:00:00Z")).unwrap();
    for (amount, at) in [("90", "2026-03-20T09:59:59Z"), ("1300", "2026-03-01T00:00:00Z")] {
        let events = world.when(&measured(amount, at)).unwrap();
        let [AllocationEvent::LateUsageReported(late)] = &events[..] else { panic!("{:?}", names(&events)) };
        assert_eq!((late.amounts["node"].amount, late.amounts["node"].stands), (dec(amount), dec("100")));
        assert_eq!(
            late.amounts["node"].stands_since,
            "2026-03-20T10:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap()
        );
        assert_eq!(stands(&world), Some(dec("100")));
        assert_eq!(world.when(&measured(amount, at)).unwrap(), [], "the same late report twice is one fact");
    }
    assert_eq!(world.when(&measured("100", "2026-03-02T00:00:00Z")).unwrap(), [], "it says what is known");
    assert_eq!(
        names(&world.when(&measured("120", "2026-03-20T10:00:00Z")).unwrap())[0],
        "usage_reported",
        "measured at the same time"
    );
    world.day("2026-04-02");
    let late = world.when(&measured("110", "2026-03-20T09:00:00Z")).unwrap();
    assert_eq!(names(&late)[..2], ["late_usage_reported", "policy_evaluated"], "April begins with it");
    assert_eq!(evaluated(&late).trigger, sluice::domain::evaluate::Trigger::PeriodBoundary);
    assert_eq!(stands(&world), Some(dec("120")));
}

#[test]
fn a_report_that_does_not_say_when_it_was_measured_is_the_newest() {
    let mut world = World::governed("2026-03-20", terms(ALL_THREE));
    world.used("100");
    world.hand_over();
    assert_eq!(names(&world.when(&measured("90", "2026-03-20T11:59:59Z")).unwrap()), ["late_usage_reported"]);
    // The clock of the server that took the first report ran ahead of this one's.
    world.at("2026-03-20T11:58:00Z");
    assert_eq!(names(&world.used("95"))[..2], ["usage_reported", "policy_evaluated"]);
    world.at("2026-03-20T12:30:00Z");
    assert_eq!(names(&world.when(&measured("90", "2026-03-20T11:59:30Z")).unwrap()), ["late_usage_reported"]);
    assert_eq!(stands(&world), Some(dec("95")));
}

#[test]
fn each_component_is_late_or_not_by_itself() {
    let mut world = World::governed("2026-03-20", terms(ALL_THREE));
    world.when(&measured("100", "2026-03-20T10:00:00Z")).unwrap();
    let both = UsageReport::new("2026-03".parse().unwrap(), amounts(&[("node", "90"), ("cpu", "7")]));
    let both = AllocationCommand::ReportUsage(both.measured_at("2026-03-20T09:00:00Z".parse().unwrap()));
    assert_eq!(names(&world.when(&both).unwrap()), ["late_usage_reported", "usage_reported", "policy_evaluated"]);
    assert_eq!(
        (stands(&world), world.book().amount("2026-03".parse().unwrap(), "cpu")),
        (Some(dec("100")), Some(dec("7")))
    );
}

#[test]
fn an_instant_of_measurement_lies_between_the_beginning_of_its_month_and_now() {
    let mut world = World::governed("2026-03-20", terms(ALL_THREE));
    let report = |at: &str| {
        UsageReport::new("2026-03".parse().unwrap(), amounts(&[("node", "1")])).measured_at(at.parse().unwrap())
    };
    let refusal = refused_report(&mut world, report("2026-03-20T12:05:01Z"));
    assert_eq!(
        (refusal.code(), refusal.to_string().contains("2026-03-20 12:05:01 UTC")),
        ("measured_in_future", true),
        "{refusal}"
    );
    assert_eq!(refused_report(&mut world, report("2026-02-28T23:54:59Z")).code(), "measured_before_month");
    world.when(&AllocationCommand::ReportUsage(report("2026-03-20T12:05:00Z"))).unwrap();
    world.at("2026-03-20T12:01:00Z");
    assert_eq!(
        names(&world.when(&measured("2", "2026-03-20T12:01:00Z")).unwrap())[0],
        "usage_reported",
        "a clock that ran ahead holds nobody up"
    );
}

#[test]
fn usage_is_taken_from_some_months_before_the_resource_was_created() {
    let mut world = World::on("2026-02-10");
    world.register_since(&[("node", "1000")], "2025-11-15T00:00:00Z");
    for (month, first) in [("2023-10", "2023-11"), ("1970-01", "2023-11"), ("1999-12", "2023-11")] {
        let refusal = refused(&mut world, month, "node", "5");
        assert_eq!(refusal.code(), "month_too_early");
        assert!(
            refusal.to_string().contains(first) && refusal.to_string().contains("usage_before_creation_months"),
            "{refusal}"
        );
    }
    assert_eq!(names(&world.report("2023-11", &[("node", "5")])), ["usage_reported"]);
    world.rules.usage_before_creation_months = 0;
    assert_eq!(refused(&mut world, "2025-10", "node", "5").code(), "month_too_early");
    world.report("2025-11", &[("node", "5")]);
    world.rules.usage_before_creation_months = 1_200;
    assert_eq!(names(&world.report("1970-01", &[("node", "5")])), ["usage_reported"]);
}

#[test]
fn a_resource_that_has_ended_takes_usage_until_the_month_of_its_end() {
    let mut world = World::governed("2026-02-10", terms(ALL_THREE));
    world.when(&AllocationCommand::ChangeState(ResourceState::Terminating)).unwrap();
    world.day("2026-03-10");
    assert_eq!(names(&world.used("4"))[0], "usage_reported", "it is still going");
    world.when(&AllocationCommand::ChangeState(ResourceState::Terminated)).unwrap();
    world.day("2026-04-10");
    assert_eq!(names(&world.report("2026-03", &[("node", "5")])), ["usage_reported"]);
    let refusal = refused(&mut world, "2026-04", "node", "5");
    assert_eq!(
        refusal.to_string(),
        "2026-04 is too late: the resource ended in 2026-03, and usage is taken until then"
    );
    world.day("2026-06-10");
    assert_eq!(refused(&mut world, "2026-05", "node", "5").code(), "month_after_end", "later books know of the end");
    let users = AllocationCommand::ReportUserUsage {
        month: "2026-05".parse().unwrap(),
        component: "node".to_owned(),
        amounts: [(UserId::from(slug_uuid("user", "alice")), dec("1"))].into(),
    };
    assert_eq!(world.when(&users).unwrap_err().code(), "month_after_end", "shares of users follow the same rule");
}

/// Node hours of a month, with what becomes of later ones without a report.
fn with_policy(world: &mut World, month: &str, amount: &str, policy: MissingUsage) -> Vec<AllocationEvent> {
    let report = UsageReport::new(month.parse().unwrap(), amounts(&[("node", amount)]));
    let missing_usage = [("node".to_owned(), policy)].into();
    world.when(&AllocationCommand::ReportUsage(UsageReport { missing_usage, ..report })).unwrap()
}

fn node_of(world: &World, month: &str) -> Option<String> {
    world.book().amount(month.parse().unwrap(), "node").map(|amount| amount.to_string())
}

#[test]
fn a_month_that_ends_without_a_report_gets_what_the_last_one_asks_for() {
    for (policy, expected) in
        [(MissingUsage::None, None), (MissingUsage::Reuse, Some("100")), (MissingUsage::Zero, Some("0"))]
    {
        let mut world = World::governed("2026-03-10", terms(ALL_THREE));
        with_policy(&mut world, "2026-03", "100", policy);
        world.at("2026-04-30T23:59:59Z");
        assert_eq!(world.when(&AllocationCommand::FillMissingUsage).unwrap(), [], "April is not over");
        world.at("2026-06-01T00:00:00Z");
        let events = world.when(&AllocationCommand::FillMissingUsage).unwrap();
        let filled = names(&events).iter().filter(|name| **name == "missing_usage_filled").count();
        assert_eq!(filled, if expected.is_some() { 2 } else { 0 }, "April and May: {policy:?}");
        assert_eq!(
            (node_of(&world, "2026-04").as_deref(), node_of(&world, "2026-05").as_deref()),
            (expected, expected)
        );
        if expected.is_some() {
            assert_eq!(evaluated(&events).trigger, sluice::domain::evaluate::Trigger::MissingUsage);
        }
        assert_eq!(node_of(&world, "2026-06"), None);
        assert_eq!(world.when(&AllocationCommand::FillMissingUsage).unwrap(), [], "once");
    }
}

#[test]
fn a_report_that_comes_after_all_takes_the_place_of_what_was_filled_in() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    with_policy(&mut world, "2026-03", "100", MissingUsage::Reuse);
    world.at("2026-05-01T00:00:00Z");
    world.when(&AllocationCommand::FillMissingUsage).unwrap();
    world.at("2026-05-02T00:00:00Z");
    let april = UsageReport::new("2026-04".parse().unwrap(), amounts(&[("node", "70")]));
    let april = AllocationCommand::ReportUsage(april.measured_at("2026-04-30T20:00:00Z".parse().unwrap()));
    assert!(reported(&world.when(&april).unwrap()).restated, "measured before it was filled in, and not late");
    assert_eq!(node_of(&world, "2026-04").as_deref(), Some("70"));
    world.at("2026-06-01T00:00:00Z");
    assert_eq!(world.when(&AllocationCommand::FillMissingUsage).unwrap(), [], "the newer report asks for nothing");
}

#[test]
fn the_first_report_of_a_month_finds_those_before_it_filled_in() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    with_policy(&mut world, "2026-03", "100", MissingUsage::Reuse);
    world.at("2026-05-01T00:00:01Z");
    let events = world.used("5");
    assert_eq!(names(&events)[..2], ["missing_usage_filled", "usage_reported"]);
    assert_eq!(
        (node_of(&world, "2026-04").as_deref(), node_of(&world, "2026-05").as_deref()),
        (Some("100"), Some("5"))
    );
    world.at("2026-06-15T00:00:00Z");
    assert_eq!(
        names(&with_policy(&mut world, "2026-05", "5", MissingUsage::Zero))[..1],
        ["usage_reported"],
        "the policy alone is news"
    );
    assert_eq!(with_policy(&mut world, "2026-05", "5", MissingUsage::Zero), [], "once");
}

#[test]
fn a_resource_that_has_ended_uses_nothing_more() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    with_policy(&mut world, "2026-03", "100", MissingUsage::Reuse);
    world.when(&AllocationCommand::ChangeState(ResourceState::Terminated)).unwrap();
    world.at("2026-06-01T00:00:00Z");
    assert_eq!(world.when(&AllocationCommand::FillMissingUsage).unwrap(), []);
}
