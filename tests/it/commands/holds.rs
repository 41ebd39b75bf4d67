//! Who holds a restriction, and who may release it.

use sluice::commands::allocation::{AllocationCommand, Refusal};
use sluice::domain::evaluate::{Flags, Trigger};
use sluice::domain::ids::{HoldId, slug_uuid};
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::{AllocationEvent, HoldKind, ResourceState, WithdrawReason};

use crate::support::world::{ALL_THREE, World, dec, evaluations, message, names, policy_id, terms};

const BOTH: Flags = Flags { paused: true, downscaled: true };
const SLOW: Flags = Flags { paused: false, downscaled: true };
const NONE: Flags = Flags { paused: false, downscaled: false };

fn hold(name: &str) -> HoldId {
    HoldId::from(slug_uuid("hold", name))
}

fn place(
    world: &mut World,
    name: &str,
    kind: HoldKind,
    expires_at: Option<&str>,
) -> Result<Vec<AllocationEvent>, Refusal> {
    world.when(&AllocationCommand::PlaceHold {
        hold: hold(name),
        kind,
        reason: "because".into(),
        ticket: Some("T-1".into()),
        expires_at: expires_at.map(|t| t.parse().unwrap()),
        public: false,
    })
}

fn release(world: &mut World, name: &str) -> Result<Vec<AllocationEvent>, Refusal> {
    world.when(&AllocationCommand::ReleaseHold { hold: hold(name), expired: false })
}

/// A policy that slows down at 100 % and another that pauses past its grace.
fn two_policies() -> World {
    let mut world = World::on("2026-03-10");
    world.put_policy("slow", terms("notify_organization_owners,request_downscaling"));
    world.day("2026-03-11");
    world.put_policy("grace", PolicyTerms { grace_ratio: dec("0.5"), ..terms("request_pausing") });
    world.register(&[("node", "1000")]);
    world
}

#[test]
fn restrictions_of_several_policies_add_up_in_one_message() {
    let mut world = two_policies();
    let events = world.used("1500");
    assert_eq!(
        names(&events),
        ["usage_reported", "policy_evaluated", "policy_evaluated", "restriction_changed", "settings_commanded"]
    );
    assert_eq!(world.book().flags, BOTH);
    let message = message(&events).unwrap();
    assert_eq!(message.policy, policy_id("slow"), "the oldest of those that caused it");
    assert_eq!(message.others, [policy_id("grace")]);
    let AllocationEvent::RestrictionChanged(changed) = &events[3] else { panic!() };
    assert_eq!((changed.from, changed.to), (NONE, BOTH));
    assert_eq!(changed.policies, [policy_id("slow"), policy_id("grace")]);
}

#[test]
fn the_message_is_of_the_policy_whose_decision_it_was() {
    let mut world = two_policies();
    world.used("1100");
    let events = world.used("1600");
    assert_eq!(message(&events).unwrap().policy, policy_id("grace"));
}

#[test]
fn each_policy_releases_its_own_only() {
    let mut world = two_policies();
    world.used("1500");
    world.used("1400");
    assert_eq!(world.book().flags, SLOW, "the pause was the grace policy's");
    world.used("1500");
    world.put_policy("slow", terms("notify_organization_owners"));
    world.evaluate_one("slow", Trigger::PolicyChanged);
    assert_eq!(world.book().flags, Flags { paused: true, downscaled: false }, "a policy without the action lets go");
}

#[test]
fn evaluating_one_policy_does_not_evaluate_the_other() {
    let mut world = two_policies();
    world.used("1500");
    let events = world.evaluate_one("grace", Trigger::Requested);
    assert_eq!(evaluations(&events).iter().map(|e| e.policy).collect::<Vec<_>>(), [policy_id("grace")]);
    assert_eq!(world.book().flags, BOTH);
}

#[test]
fn a_policy_that_goes_is_withdrawn_with_its_reason_and_its_restrictions_fall() {
    for reason in [WithdrawReason::Deleted, WithdrawReason::Disabled, WithdrawReason::OutOfScope] {
        let mut world = two_policies();
        world.used("1500");
        world.drop_policy("grace", reason);
        let events = world.evaluate_one("grace", Trigger::PolicyChanged);
        assert_eq!(names(&events), ["policy_withdrawn", "restriction_changed", "settings_commanded"], "{reason:?}");
        let AllocationEvent::PolicyWithdrawn(withdrawn) = &events[0] else { panic!() };
        assert_eq!((withdrawn.reason, withdrawn.released), (reason, Flags { paused: true, downscaled: false }));
        assert_eq!(world.book().flags, SLOW);
    }
}

#[test]
fn the_last_policy_leaves_its_limits_and_takes_its_restriction() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.answer();
    world.used("1300");
    let limits = world.book().commanded.as_ref().unwrap().settings.limits.clone();
    world.drop_policy("main", WithdrawReason::Disabled);
    let events = world.evaluate(Trigger::PolicyChanged);
    let message = message(&events).unwrap();
    assert_eq!((message.flags, &message.settings.limits), (NONE, &limits));
    assert_eq!((message.period.to_string().as_str(), message.settings.reset_raw_usage), ("2026-03", false));
}

#[test]
fn termination_withdraws_everything_and_tells_nobody() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.used("1300");
    let events = world.when(&AllocationCommand::ChangeState(ResourceState::Terminated)).unwrap();
    assert_eq!(names(&events), ["resource_state_changed", "policy_withdrawn", "restriction_changed"]);
    let AllocationEvent::PolicyWithdrawn(withdrawn) = &events[1] else { panic!() };
    assert_eq!((withdrawn.reason, withdrawn.released), (WithdrawReason::Terminated, BOTH));
    let refusal = world.when(&AllocationCommand::ChangeState(ResourceState::Ok)).unwrap_err();
    assert_eq!(refusal.code(), "not_live");
}

#[test]
fn a_manual_hold_stays_whatever_policies_say_and_goes_by_hand() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let events = place(&mut world, "audit", HoldKind::Pause, None).unwrap();
    assert_eq!(names(&events), ["hold_placed", "policy_evaluated", "restriction_changed", "settings_commanded"]);
    let AllocationEvent::RestrictionChanged(changed) = &events[2] else { panic!() };
    assert_eq!(changed.policies, [], "an operator's doing");
    assert_eq!(place(&mut world, "audit", HoldKind::Pause, None).unwrap(), [], "the same hold again");
    world.used("10");
    world.day("2026-04-01");
    world.evaluate(Trigger::PeriodBoundary);
    assert!(world.book().flags.paused);
    release(&mut world, "audit").unwrap();
    assert_eq!(world.book().flags, NONE);
    assert_eq!(release(&mut world, "audit").unwrap_err().code(), "no_such_hold");
}

#[test]
fn releasing_a_hold_leaves_what_policies_hold() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    place(&mut world, "audit", HoldKind::Downscale, None).unwrap();
    world.used("1300");
    assert_eq!(world.book().flags, BOTH);
    release(&mut world, "audit").unwrap();
    assert_eq!(world.book().flags, BOTH);
}

#[test]
fn an_exemption_lifts_every_restriction_while_it_lasts() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.used("1300");
    place(&mut world, "vip", HoldKind::Exemption, None).unwrap();
    assert_eq!(world.book().flags, NONE);
    let events = world.used("1400");
    assert_eq!(
        (evaluations(&events)[0].after, evaluations(&events)[0].outcome.holds),
        (NONE, BOTH),
        "decided, not in force"
    );
    release(&mut world, "vip").unwrap();
    assert_eq!(world.book().flags, BOTH);
}

#[test]
fn a_hold_ends_after_now_or_is_refused_and_runs_out_by_itself() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    for end in ["2026-03-10T11:59:59Z", "2026-03-10T12:00:00Z"] {
        assert_eq!(place(&mut world, "short", HoldKind::Pause, Some(end)).unwrap_err().code(), "hold_in_the_past");
    }
    place(&mut world, "short", HoldKind::Pause, Some("2026-03-11T00:00:00Z")).unwrap();
    world.at("2026-03-10T23:59:59Z");
    world.evaluate(Trigger::Scheduled);
    assert!(world.book().flags.paused);
    world.at("2026-03-11T00:00:00Z");
    let events = world.evaluate(Trigger::Scheduled);
    assert_eq!(names(&events)[0], "hold_released");
    let AllocationEvent::HoldReleased(released) = &events[0] else { panic!() };
    assert!(released.expired);
    assert_eq!(world.book().flags, NONE);
}

#[test]
fn nothing_is_held_on_a_resource_that_is_gone() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.when(&AllocationCommand::ChangeState(ResourceState::Terminating)).unwrap();
    assert_eq!(place(&mut world, "late", HoldKind::Pause, None).unwrap_err().code(), "not_live");
}

#[test]
fn a_change_of_groups_evaluates_what_is_new_only() {
    let mut world = World::on("2026-03-10");
    world.put_policy("slow", terms("request_downscaling"));
    world.register(&[("node", "1000")]);
    assert_eq!(world.evaluate(Trigger::ScopeChanged), []);
    world.put_policy("grace", terms("request_pausing"));
    let events = world.evaluate(Trigger::ScopeChanged);
    assert_eq!(evaluations(&events).iter().map(|e| e.policy).collect::<Vec<_>>(), [policy_id("grace")]);
}

#[test]
fn an_older_version_of_a_policy_than_the_book_has_seen_is_refused() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let old = world.policies[0].clone();
    world.put_policy("main", PolicyTerms { grace_ratio: dec("0.1"), ..terms(ALL_THREE) });
    world.evaluate(Trigger::PolicyChanged);
    world.policies[0] = old;
    let command = AllocationCommand::Evaluate { policy: None, trigger: Trigger::Requested };
    assert_eq!(world.when(&command).unwrap_err(), Refusal::StaleRegistry { policy: policy_id("main"), seen: 2 });
}
