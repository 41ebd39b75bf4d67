//! Raw usage: when SLURM's counter starts again, and what the limits allow for what was counted before.

use sluice::commands::allocation::{AllocationCommand, Refusal};
use sluice::domain::evaluate::Trigger;
use sluice::domain::period::PeriodKind;
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::{AllocationEvent, ResourceState};

use crate::support::world::{ALL_THREE, World, message, terms};

fn of(period: PeriodKind) -> PolicyTerms {
    PolicyTerms { period, ..terms(ALL_THREE) }
}

fn resets(events: &[AllocationEvent]) -> bool {
    message(events).is_some_and(|m| m.reset.is_some())
}

/// Evaluates on each day; the days on which a reset was decided.
fn days_of_resets(world: &mut World, days: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for day in days {
        world.day(day);
        if resets(&world.evaluate(Trigger::Scheduled)) {
            found.push((*day).to_owned());
        }
    }
    found
}

const DAYS: [&str; 12] = [
    "2026-02-10",
    "2026-02-28",
    "2026-03-01",
    "2026-03-02",
    "2026-03-31",
    "2026-04-01",
    "2026-04-30",
    "2026-07-01",
    "2026-07-02",
    "2026-12-31",
    "2027-01-01",
    "2027-01-15",
];

#[test]
fn a_reset_is_decided_at_take_over_and_once_per_period() {
    for (kind, expected) in [
        (PeriodKind::Month, vec!["2026-03-01", "2026-04-01", "2026-07-01", "2026-12-31", "2027-01-01"]),
        (PeriodKind::Quarter, vec!["2026-04-01", "2026-07-01", "2026-12-31", "2027-01-01"]),
        (PeriodKind::Year, vec!["2027-01-01"]),
    ] {
        let mut world = World::on("2026-02-05");
        world.put_policy("main", of(kind));
        assert!(resets(&world.register(&[("node", "1000")])), "{kind:?}: taken over");
        assert_eq!(days_of_resets(&mut world, &DAYS), expected, "{kind:?}");
    }
}

#[test]
fn total_never_resets_but_at_take_over_where_the_site_asks_for_it() {
    for asked in [false, true] {
        let mut world = World::on("2026-02-05");
        world.rules.reset_total_at_takeover = asked;
        world.put_policy("main", of(PeriodKind::Total));
        assert_eq!(resets(&world.register(&[("node", "1000")])), asked);
        assert_eq!(days_of_resets(&mut world, &DAYS), [""; 0]);
    }
}

#[test]
fn a_policy_with_the_reset_off_never_asks_for_it() {
    let mut world = World::on("2026-02-05");
    world.put_policy("main", PolicyTerms { raw_usage_reset: false, ..of(PeriodKind::Month) });
    assert!(!resets(&world.register(&[("node", "1000")])));
    assert_eq!(days_of_resets(&mut world, &DAYS), [""; 0]);
}

#[test]
fn two_periods_on_one_resource_share_the_counter() {
    let mut world = World::on("2026-02-05");
    world.put_policy("month", of(PeriodKind::Month));
    world.put_policy("quarter", of(PeriodKind::Quarter));
    world.register(&[("node", "1000")]);
    world.day("2026-02-20");
    world.used("300");
    world.day("2026-03-01");
    let events = world.evaluate(Trigger::PeriodBoundary);
    assert!(resets(&events));
    // The quarter had counted 300 hours when the counter was reset for the month.
    assert_eq!(message(&events).unwrap().settings.limits["node"], 72_000 - 18_000);
    assert_eq!(message(&events).unwrap().settings.grace_limit["node"], 72_000, "for information: not reduced");
    world.day("2026-04-01");
    let events = world.evaluate(Trigger::PeriodBoundary);
    assert!(resets(&events), "once for both");
    assert_eq!(message(&events).unwrap().settings.limits["node"], 72_000);
    assert_eq!(days_of_resets(&mut world, &["2026-04-02", "2026-04-30"]), [""; 0]);
}

#[test]
fn a_reset_for_one_period_counts_for_a_policy_that_was_away() {
    let mut world = World::on("2026-02-05");
    world.put_policy("month", of(PeriodKind::Month));
    world.put_policy("quarter", of(PeriodKind::Quarter));
    world.register(&[("node", "1000")]);
    let month = world.drop_policy("month", sluice::events::allocation::WithdrawReason::Disabled);
    world.evaluate(Trigger::PolicyChanged);
    assert_eq!(days_of_resets(&mut world, &["2026-03-01", "2026-04-01"]), ["2026-04-01"]);
    world.policies.insert(0, month);
    assert_eq!(days_of_resets(&mut world, &["2026-04-15"]), [""; 0], "April's counter began on the first");
    assert_eq!(days_of_resets(&mut world, &["2026-05-01"]), ["2026-05-01"]);
}

#[test]
fn what_was_counted_before_the_take_over_is_the_baseline() {
    let mut world = World::on("2026-03-10");
    world.register(&[("node", "1000")]);
    world.report("2026-02", &[("node", "500")]);
    world.used("100.01");
    world.put_policy("main", of(PeriodKind::Month));
    let events = world.evaluate(Trigger::PolicyChanged);
    assert_eq!(message(&events).unwrap().settings.limits["node"], 72_000 - 6_000);
    world.hand_over();
    // The counter goes on from there: later usage changes nothing, a cut does, and never below nothing.
    assert!(message(&world.used("400")).is_none());
    let events = world.limits(&[("node", "50")]);
    assert_eq!(message(&events).unwrap().settings.limits["node"], 0);
    world.day("2026-04-01");
    let events = world.evaluate(Trigger::PeriodBoundary);
    assert_eq!(message(&events).unwrap().settings.limits["node"], 3_600, "at a boundary it is nothing");
}

#[test]
fn a_boundary_that_is_noticed_late_allows_for_what_was_counted_since() {
    let mut world = World::governed("2026-03-10", of(PeriodKind::Month));
    world.day("2026-04-05");
    let events = world.used("10");
    assert!(resets(&events));
    assert_eq!(message(&events).unwrap().settings.limits["node"], 72_000 - 600);
}

#[test]
fn an_unanswered_reset_is_inherited_by_what_supersedes_it() {
    let mut world = World::governed("2026-03-10", of(PeriodKind::Month));
    let first = world.book().commanded.as_ref().unwrap().dispatch;
    let events = world.used("1000");
    let told = message(&events).unwrap();
    assert!(told.reset.is_none() && told.settings.reset_raw_usage);
    assert_eq!(told.inherits_reset, Some(first));
    assert!(told.commands.last().unwrap().shell_command.ends_with("RawUsage=0"));
}

#[test]
fn a_reset_known_to_be_done_is_not_handed_on() {
    use sluice::commands::allocation::AllocationCommand;
    let mut world = World::governed("2026-03-10", of(PeriodKind::Month));
    let first = world.book().commanded.clone().unwrap();
    world.used("1000");
    let report = sluice::events::allocation::CommandReport {
        success: true,
        error_message: String::new(),
        mode: sluice::events::allocation::ExecutionMode::Production,
        commands_executed: vec!["sacctmgr modify account hpc_climate set RawUsage=0".into()],
    };
    let answer =
        AllocationCommand::ReportCommandResult { policy: first.policy, dispatch: Some(first.dispatch), report };
    world.when(&answer).unwrap();
    let events = world.used("1300");
    assert!(!message(&events).unwrap().settings.reset_raw_usage, "the first message did it");
}

#[test]
fn a_reset_by_hand_makes_what_was_counted_the_baseline() {
    let mut world = World::governed("2026-02-05", of(PeriodKind::Quarter));
    world.answer();
    world.used("400");
    world.day("2026-02-20");
    let minutes = |events: &[AllocationEvent]| message(events).unwrap().settings.limits["node"];
    let events = world.when(&AllocationCommand::ResetRawUsage).unwrap();
    assert!(resets(&events));
    assert_eq!(minutes(&events), 1_000 * 72 - 400 * 60, "the grace limit less what was counted");
    let told: Vec<&str> = message(&events).unwrap().commands.iter().map(|c| c.shell_command.as_str()).collect();
    assert_eq!(told.last(), Some(&"sacctmgr --immediate modify account hpc_climate set RawUsage=0"));
    world.answer();
    world.day("2026-03-10");
    world.used("100");
    assert!(
        message(&world.limits(&[("node", "1100")])).is_some_and(|m| m.settings.limits["node"] == 1_100 * 72 - 400 * 60)
    );
    world.answer();
    assert_eq!(days_of_resets(&mut world, &DAYS[5..8]), ["2026-04-01", "2026-07-01"], "boundaries as ever");
    let again = world.when(&AllocationCommand::ResetRawUsage).unwrap();
    assert!(resets(&again), "each time it is asked for");
}

#[test]
fn a_reset_by_hand_is_decided_also_where_policies_decide_none() {
    for terms in [of(PeriodKind::Total), PolicyTerms { raw_usage_reset: false, ..of(PeriodKind::Month) }] {
        let mut world = World::governed("2026-02-05", terms);
        world.used("400");
        let events = world.when(&AllocationCommand::ResetRawUsage).unwrap();
        assert!(resets(&events));
        assert_eq!(message(&events).unwrap().settings.limits["node"], 1_000 * 72 - 400 * 60);
        assert_eq!(days_of_resets(&mut world, &DAYS), [""; 0], "and none follows from it");
    }
}

#[test]
fn nothing_is_reset_where_nothing_is_compared() {
    let mut world = World::on("2026-02-05");
    world.register(&[("node", "1000")]);
    assert_eq!(world.when(&AllocationCommand::ResetRawUsage), Err(Refusal::NoPolicy));
    world.put_policy("main", of(PeriodKind::Month));
    world.when(&AllocationCommand::ChangeState(ResourceState::Terminated)).unwrap();
    assert_eq!(world.when(&AllocationCommand::ResetRawUsage), Err(Refusal::NotLive("Terminated")));
}
