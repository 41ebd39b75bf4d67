//! What an evaluation comes of: the fact that called for it, and nothing that only stands beside it.

use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::domain::evaluate::Trigger;
use sluice::domain::ids::{HoldId, slug_uuid};
use sluice::events::allocation::HoldKind;

use crate::support::world::{ALL_THREE, World, amounts, terms};

/// What the newest decisions led to, from a mark on.
fn since(world: &World, mark: usize) -> Vec<(&'static str, Option<&'static str>)> {
    world.causes[mark..].to_vec()
}

#[test]
fn a_late_amount_beside_an_accepted_one_is_no_cause() {
    let mut world = World::governed("2026-03-20", terms(ALL_THREE));
    let report = |entries: &[(&str, &str)], at: &str| {
        let report = UsageReport::new("2026-03".parse().unwrap(), amounts(entries));
        AllocationCommand::ReportUsage(report.measured_at(at.parse().unwrap()))
    };
    world.when(&report(&[("node", "1300")], "2026-03-20T10:00:00Z")).unwrap();
    let mark = world.causes.len();
    world.when(&report(&[("node", "900"), ("cpu", "5")], "2026-03-20T09:00:00Z")).unwrap();
    let led = since(&world, mark);
    assert_eq!(
        led[..3],
        [("late_usage_reported", None), ("usage_reported", None), ("policy_evaluated", Some("usage_reported"))],
        "{led:?}"
    );
}

#[test]
fn a_hold_whose_time_is_over_is_no_cause_of_the_evaluation_that_notices_it() {
    let held = || {
        let mut world = World::governed("2026-03-20", terms(ALL_THREE));
        world
            .when(&AllocationCommand::PlaceHold {
                hold: HoldId::from(slug_uuid("hold", "deadline")),
                kind: HoldKind::Exemption,
                reason: "a deadline".into(),
                ticket: None,
                expires_at: Some("2026-03-21T00:00:00Z".parse().unwrap()),
                public: false,
            })
            .unwrap();
        world.used("1300");
        world.day("2026-03-22");
        let mark = world.causes.len();
        (world, mark)
    };
    let (mut world, mark) = held();
    world.evaluate(Trigger::Scheduled);
    let led = since(&world, mark);
    assert_eq!(led[..2], [("hold_released", None), ("policy_evaluated", None)], "{led:?}");
    let changed = led.iter().find(|(name, _)| *name == "restriction_changed").expect("it is paused now");
    assert!(matches!(changed.1, Some("hold_released" | "policy_evaluated")), "{led:?}");

    let (mut world, mark) = held();
    world.used("1400");
    let led = since(&world, mark);
    let evaluated = led.iter().find(|(name, _)| *name == "policy_evaluated").unwrap();
    assert_eq!(evaluated.1, Some("usage_reported"), "{led:?}");
}

#[test]
fn an_answer_that_opens_a_month_is_no_cause_of_its_beginning() {
    let mut world = World::governed("2026-03-20", terms(ALL_THREE));
    world.used("1300");
    world.hand_over();
    world.at("2026-04-01T00:00:30Z");
    let mark = world.causes.len();
    world.answer();
    let led = since(&world, mark);
    assert_eq!(
        led[..2],
        [("command_result_reported", Some("earlier")), ("policy_evaluated", None)],
        "the answer belongs to the chain of March: {led:?}"
    );
    let commanded = led.iter().find(|(name, _)| *name == "settings_commanded").expect("April's settings");
    assert!(matches!(commanded.1, Some("restriction_changed" | "policy_evaluated")), "{led:?}");
}
