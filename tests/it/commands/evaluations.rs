//! Percentages, thresholds and what follows from them: boundaries, ladders, carryover, weights, explanations.

use sluice::domain::carryover::CarryoverReason;
use sluice::domain::evaluate::Trigger;
use sluice::domain::period::PeriodKind;
use sluice::domain::policy::{PolicyTerms, QosStrategy};
use sluice::domain::threshold::{Effect, Rung};
use sluice::events::allocation::{PolicyEvaluated, Recorded, WithdrawReason};
use sluice::events::registry::LimitPeriod;

use crate::support::world::{ALL_THREE, World, amounts, dec, evaluated, message, names, policy_id, said, terms};

fn weighted(weights: &[(&str, &str)]) -> PolicyTerms {
    PolicyTerms {
        tres_billing_enabled: true,
        tres_billing_weights: amounts(weights).into_iter().collect(),
        ..terms(ALL_THREE)
    }
}

#[test]
fn thresholds_act_at_and_release_below() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    for (used, expected) in [
        ("799.999999999", "79.9999999999 % "),
        ("800", "80 % notify"),
        ("999.999999999", "99.9999999999 % "),
        ("1000", "100 % downscale"),
        ("1199.999999999", "119.9999999999 % downscale"),
        ("1200", "120 % pause+downscale"),
        ("1199.999999999", "119.9999999999 % downscale"),
        ("999.999999999", "99.9999999999 % "),
        ("0", "0 % "),
    ] {
        assert_eq!(said(&world.used(used)), expected);
    }
}

#[test]
fn a_percentage_is_never_shown_as_a_threshold_it_has_not_reached() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.limits(&[("node", "1000000000000000")]);
    let events = world.used("999999999999999.999999999999");
    assert_eq!(said(&events), "99.9999999999 % notify");
}

#[test]
fn a_grace_of_fourteen_percent_is_reached_at_114() {
    for (limit, used) in [("100", "114"), ("1", "1.14"), ("300", "342"), ("0.07", "0.0798")] {
        let mut world =
            World::governed("2026-03-10", PolicyTerms { grace_ratio: dec("0.14"), ..terms("request_pausing") });
        world.limits(&[("node", limit)]);
        assert_eq!(said(&world.used(used)), "114 % pause", "{used} of {limit}");
    }
}

#[test]
fn an_explicit_nothing_is_over_the_pause_limit_once_used() {
    let mut world = World::on("2026-03-10");
    world.put_policy("main", terms(ALL_THREE));
    world.register(&[("node", "0")]);
    assert_eq!(said(&world.used("0")), "0 % ");
    let events = world.used("0.001");
    assert_eq!(said(&events), "9999.99 % pause+downscale+notify");
    let explanation = &evaluated(&events).outcome.explanation;
    assert!(explanation.contains("explicitly zero") && explanation.contains("9999.99 %"), "{explanation}");
    assert!(world.book().flags.paused);
    // The same number by plain overuse is explained as what it is.
    world.limits(&[("node", "1")]);
    let events = world.used("99.9999");
    assert_eq!(evaluated(&events).outcome.percentage, dec("9999.99"));
    assert!(!evaluated(&events).outcome.explanation.contains("explicitly zero"));
}

#[test]
fn without_a_limit_nothing_is_used_up() {
    let mut world = World::on("2026-03-10");
    world.put_policy("main", terms(ALL_THREE));
    world.register(&[]);
    let events = world.used("1000000");
    assert_eq!(said(&events), "0 % ");
    assert!(evaluated(&events).outcome.explanation.contains("no limit is set"));
    assert!(!evaluated(&events).outcome.fired);
}

#[test]
fn the_resources_own_limit_comes_before_the_policys_and_each_component_counts_by_itself() {
    let mut world = World::on("2026-03-10");
    world.put_policy(
        "main",
        PolicyTerms { component_limits: amounts(&[("node", "10"), ("cpu", "100")]), ..terms(ALL_THREE) },
    );
    world.register(&[("node", "900")]);
    let events = world.report("2026-03", &[("node", "250"), ("cpu", "250")]);
    assert_eq!(evaluated(&events).outcome.percentage, dec("50"), "500 of 900 + 100");
}

#[test]
fn usage_of_a_component_without_a_limit_counts_and_a_weight_of_nothing_does_not() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let events = world.report("2026-03", &[("node", "100"), ("cpu", "400")]);
    assert_eq!(evaluated(&events).outcome.percentage, dec("50"));
    world.put_policy("main", weighted(&[("cpu", "0")]));
    assert_eq!(evaluated(&world.evaluate(Trigger::PolicyChanged)).outcome.percentage, dec("10"));
    world.put_policy("main", weighted(&[("CPU", "0.5"), ("NODE", "2")]));
    assert_eq!(evaluated(&world.evaluate(Trigger::PolicyChanged)).outcome.percentage, dec("20"), "(200 + 200) of 2000");
}

#[test]
fn an_allocation_that_no_weight_counts_is_no_explicit_nothing() {
    let mut world = World::governed("2026-03-10", weighted(&[("node", "0")]));
    assert_eq!(said(&world.used("5000")), "0 % ");
}

#[test]
fn a_notice_is_given_once_per_threshold_and_several_at_once_are_one_verb() {
    let three = [dec("50"), dec("80"), dec("95")].to_vec();
    let mut world = World::governed("2026-03-10", PolicyTerms { notification_thresholds: three, ..terms(ALL_THREE) });
    let events = world.used("850");
    assert_eq!(said(&events), "85 % notify");
    assert_eq!(evaluated(&events).outcome.notified, [dec("50"), dec("80")]);
    assert_eq!(said(&world.used("40")), "4 % ");
    assert_eq!(said(&world.used("960")), "96 % notify");
    assert_eq!(said(&world.evaluate(Trigger::Requested)), "96 % ");
    assert!(evaluated(&world.evaluate(Trigger::Requested)).outcome.fired, "it fires as long as it stands there");
}

#[test]
fn a_policy_that_comes_back_within_the_period_does_not_repeat_its_notices() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    assert_eq!(said(&world.used("850")), "85 % notify");
    let policy = world.drop_policy("main", WithdrawReason::Disabled);
    assert_eq!(names(&world.evaluate(Trigger::PolicyChanged)), ["policy_withdrawn"]);
    assert_eq!(world.evaluate(Trigger::PolicyChanged), [], "withdrawn once");
    world.policies.push(policy);
    assert_eq!(said(&world.evaluate(Trigger::PolicyChanged)), "85 % ");
    // A deleted one does not come back; what it knew goes.
    world.drop_policy("main", WithdrawReason::Deleted);
    world.evaluate(Trigger::PolicyChanged);
    assert!(!world.book().policies.contains_key(&policy_id("main")));
}

#[test]
fn a_new_period_gives_notice_again() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    assert_eq!(said(&world.used("850")), "85 % notify");
    world.day("2026-04-10");
    assert_eq!(said(&world.used("850")), "85 % notify");
}

#[test]
fn a_policy_without_the_action_reaches_no_threshold() {
    let mut world = World::governed("2026-03-10", terms("request_pausing"));
    assert_eq!(said(&world.used("1100")), "110 % ");
    assert!(!evaluated(&world.evaluate(Trigger::Requested)).outcome.fired);
    let mut world = World::governed("2026-03-10", terms("block_creation_of_new_resources"));
    let events = world.used("1100");
    let outcome = &evaluated(&events).outcome;
    assert!(outcome.fired && outcome.full && outcome.verbs.is_empty());
    let events = world.used("999");
    assert!(!evaluated(&events).outcome.fired && !evaluated(&events).outcome.full);
}

fn rung(percent: &str, effect: Effect, qos: Option<&str>) -> Rung {
    Rung { percent: dec(percent), effect, qos: qos.map(str::to_owned) }
}

#[test]
fn progressive_rungs_give_their_own_class_and_the_strictest_effect_decides_which() {
    let rungs = vec![
        rung("50", Effect::Notify, None),
        rung("60", Effect::Downscale, Some("gentle")),
        rung("80", Effect::Downscale, Some("harder")),
        rung("100", Effect::Downscale, None),
        rung("120", Effect::Pause, None),
        rung("150", Effect::Pause, Some("frozen")),
    ];
    let terms =
        PolicyTerms { qos_strategy: QosStrategy::Progressive, progressive_thresholds: rungs, ..terms(ALL_THREE) };
    let mut world = World::governed("2026-03-10", terms);
    world.hand_over();
    world.listens = true;
    for (used, qos) in [
        ("500", None),
        ("600", Some("gentle")),
        ("800", Some("harder")),
        ("1000", Some("slowdown")),
        ("1200", Some("blocked")),
        ("1500", Some("frozen")),
        ("650", Some("gentle")),
        ("10", Some("normal")),
    ] {
        let events = world.used(used);
        let told = message(&events).map(|m| m.commands.iter().find(|c| c.shell_command.contains("qos=")).unwrap());
        let expected = qos.map(|q| format!("sacctmgr --immediate modify account hpc_climate set qos={q}"));
        assert_eq!(told.map(|c| c.shell_command.clone()), expected, "at {used}");
    }
}

fn capped() -> PolicyTerms {
    PolicyTerms { carryover_enabled: true, carryover_factor: Some(dec("50")), ..terms(ALL_THREE) }
}

fn effective(world: &World) -> String {
    let (basis, _) = world.book().policies[&policy_id("main")].basis.clone().unwrap();
    basis.allocation.effective["node"].to_string()
}

#[test]
fn restrictions_fall_at_the_boundary_and_what_was_left_is_carried_over_once() {
    let mut world = World::governed("2026-01-10", capped());
    world.used("700");
    world.day("2026-02-01");
    let events = world.evaluate(Trigger::PeriodBoundary);
    assert_eq!((said(&events), effective(&world)), ("0 % ".into(), "1300".into()));
    assert_eq!(said(&world.used("1600")), "123.076923076 % pause+downscale+notify".replace("076 %", "0769 %"));
    world.day("2026-03-01");
    let events = world.evaluate(Trigger::PeriodBoundary);
    assert_eq!(names(&events), ["policy_evaluated", "restriction_changed", "settings_commanded"]);
    assert!(!world.book().flags.any());
    assert_eq!(effective(&world), "1000", "never over more than one period, never against the enlarged total");
}

#[test]
fn a_past_month_that_is_corrected_decides_anew_about_the_present_that_carries_it_over() {
    let mut world = World::governed("2026-01-10", capped());
    world.used("700");
    world.day("2026-02-01");
    world.evaluate(Trigger::PeriodBoundary);
    world.used("1250");
    assert_eq!(effective(&world), "1300");
    assert!(!world.book().flags.any(), "1250 of 1300 is below the limit");
    // January used more than was said: less of it is left.
    let events = world.report("2026-01", &[("node", "950")]);
    assert_eq!(effective(&world), "1050");
    assert_eq!(said(&events), "119.0476190476 % downscale");
    assert!(world.book().flags.downscaled);
}

#[test]
fn decayed_usage_grants_after_overuse_and_says_so() {
    let terms = PolicyTerms { carryover_enabled: true, period: PeriodKind::Quarter, ..terms(ALL_THREE) };
    let mut world = World::governed("2026-02-10", terms);
    world.used("2000");
    world.day("2026-04-01");
    let events = world.evaluate(Trigger::PeriodBoundary);
    assert_eq!(effective(&world), "1968.75");
    let Recorded::Full(basis) = &evaluated(&events).basis else { panic!("a new book records in full") };
    assert!(basis.allocation.carryover.note.as_ref().unwrap().contains("used 2000 of 1000"));
}

#[test]
fn a_resource_has_carryover_only_if_it_existed_in_the_previous_period() {
    for (created, expected, reason) in [
        ("2026-02-15T10:00:00Z", "1500", None),
        ("2026-02-28T23:59:59Z", "1500", None),
        ("2026-03-01T00:00:00Z", "1000", Some(CarryoverReason::NotInPreviousPeriod)),
    ] {
        let mut world = World::on("2026-03-10");
        world.put_policy("main", capped());
        let events = world.register_since(&[("node", "1000")], created);
        assert_eq!(effective(&world), expected, "created {created}");
        let Recorded::Full(basis) = &evaluated(&events).basis else { panic!("first evaluations are in full") };
        assert_eq!(basis.allocation.carryover.reason, reason);
    }
}

#[test]
fn periods_add_up_their_months_and_total_adds_up_everything() {
    for (kind, expected) in [
        (PeriodKind::Month, "4 %"),
        (PeriodKind::Quarter, "7 %"),
        (PeriodKind::Year, "10 %"),
        (PeriodKind::Total, "15 %"),
    ] {
        let mut world = World::governed("2026-05-10", PolicyTerms { period: kind, ..terms(ALL_THREE) });
        for (month, used) in [("2025-12", "50"), ("2026-03", "30"), ("2026-04", "30")] {
            world.report(month, &[("node", used)]);
        }
        assert_eq!(said(&world.used("40")), format!("{expected} "), "{kind:?}");
    }
}

#[test]
fn the_offerings_limit_period_wins() {
    let mut world = World::governed("2026-05-10", PolicyTerms { period: PeriodKind::Month, ..terms(ALL_THREE) });
    world.report("2026-04", &[("node", "30")]);
    assert_eq!(said(&world.used("40")), "4 % ");
    world.limit_period(LimitPeriod::Annual);
    let events = world.evaluate(Trigger::PolicyChanged);
    assert_eq!((said(&events), evaluated(&events).period.to_string()), ("7 % ".into(), "2026".into()));
}

#[test]
fn the_sentence_has_the_numbers() {
    let mut world = World::on("2026-01-10");
    world.offering.components[0].component_type = "node_hours".into();
    let base =
        PolicyTerms { carryover_enabled: true, carryover_factor: Some(dec("100")), ..terms("request_downscaling") };
    world.put_policy("main", base);
    world.register(&[("node_hours", "700")]);
    world.report("2026-01", &[("node_hours", "400")]);
    world.day("2026-02-10");
    let events = world.report("2026-02", &[("node_hours", "1043.2")]);
    assert_eq!(
        evaluated(&events).outcome.explanation,
        "104.3 % = 1043.2 of 1000 node_hours (700 base + 300 carried over); 100 % reached -> downscale"
    );
    let events = world.report("2026-02", &[("node_hours", "500")]);
    assert!(evaluated(&events).outcome.explanation.ends_with("; below the threshold -> released"));
    world.report("2026-02", &[("node_hours", "1200")]);
    world.put_policy(
        "main",
        PolicyTerms { carryover_factor: Some(dec("100")), carryover_enabled: true, ..terms("notify_external_user") },
    );
    let events = world.evaluate(Trigger::PolicyChanged);
    assert!(evaluated(&events).outcome.explanation.contains("earlier restriction released"));
}

/// What may stand as a reference does: the record of an evaluation that repeats unchanged terms stays small.
#[test]
fn a_repeated_evaluation_is_the_same_and_small() {
    let mut world = World::on("2026-06-10");
    world.offering.components = ["node", "cpu", "mem", "gpu"].map(crate::support::world::component).into();
    let year = PolicyTerms {
        period: PeriodKind::Year,
        tres_billing_enabled: true,
        carryover_enabled: true,
        notification_thresholds: vec![dec("50"), dec("80"), dec("95")],
        ..terms(ALL_THREE)
    };
    world.put_policy("main", year);
    let all = |amount: &'static str| ["node", "cpu", "mem", "gpu"].map(|c| (c, amount));
    world.register(&all("1000.123456"));
    for month in ["2025-03", "2025-04", "2026-01", "2026-02", "2026-03"] {
        world.report(month, &all("333.333333333"));
    }
    let events = world.report("2026-06", &all("3210.987654321"));
    let first: PolicyEvaluated = evaluated(&events).clone();
    world.evaluate(Trigger::Scheduled);
    let events = world.evaluate(Trigger::Scheduled);
    let again = evaluated(&events);
    assert!(matches!((&again.basis, &again.usage), (Recorded::Same { .. }, Recorded::Same { .. })));
    assert_eq!(again.outcome.percentage, first.outcome.percentage);
    assert_eq!(again.outcome.holds, first.outcome.holds);
    assert_eq!(names(&events), ["policy_evaluated"], "running it again changes nothing but its own record");
    let bytes = events[0].payload().len();
    assert!(bytes < 700, "{bytes} bytes: {}", events[0].payload());
}
