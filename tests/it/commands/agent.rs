//! What the agent is told, and when: take-over, changes, several policies, an account that changes.

use sluice::commands::allocation::AllocationCommand;
use sluice::domain::evaluate::Trigger;
use sluice::domain::policy::PolicyTerms;
use sluice::domain::qos::QosClass;
use sluice::events::allocation::ResourceState;

use crate::support::world::{ALL_THREE, World, amounts, dec, message, names, policy_id, terms};

#[test]
fn a_resource_is_taken_over_at_registration_with_limits_or_without() {
    let mut world = World::on("2026-03-10");
    world.put_policy("main", terms(ALL_THREE));
    let events = world.register(&[("node", "100")]);
    assert_eq!(names(&events), ["resource_registered", "policy_evaluated", "settings_commanded"]);
    let told = message(&events).unwrap();
    assert_eq!((told.settings.fairshare, told.settings.limits["node"]), (33, 7200));
    let commands: Vec<&str> = told.commands.iter().map(|c| c.shell_command.as_str()).collect();
    assert_eq!(
        commands,
        [
            "sacctmgr --immediate modify account hpc_climate set fairshare=33",
            "sacctmgr --immediate modify account hpc_climate set GrpTRESMins=node=7200",
            "sacctmgr --immediate modify account hpc_climate set RawUsage=0",
        ],
        "no class of service: it is the default"
    );
    let mut world = World::on("2026-03-10");
    world.put_policy("main", terms(ALL_THREE));
    let events = world.register(&[]);
    let told = message(&events).unwrap();
    assert_eq!((told.settings.fairshare, told.settings.limits.len()), (1, 0));
}

#[test]
fn without_a_policy_nobody_is_told_anything() {
    let mut world = World::on("2026-03-10");
    assert_eq!(names(&world.register(&[("node", "100")])), ["resource_registered"]);
    assert_eq!(names(&world.used("500")), ["usage_reported"]);
    world.put_policy("main", terms(ALL_THREE));
    let events = world.evaluate(Trigger::PolicyChanged);
    assert_eq!(names(&events), ["policy_evaluated", "restriction_changed", "settings_commanded"]);
    assert!(message(&events).unwrap().settings.reset_raw_usage, "taken over now");
}

#[test]
fn a_message_is_due_when_settings_or_restrictions_changed_and_not_otherwise() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.answer();
    assert!(message(&world.used("850")).is_none(), "a notice is no message to the agent");
    assert!(message(&world.evaluate(Trigger::Scheduled)).is_none());
    let events = world.used("1000");
    let told = message(&events).unwrap();
    assert_eq!((told.qos, told.qos_name.as_deref()), (QosClass::Downscaled, Some("slowdown")));
    assert_eq!(
        told.commands.last().unwrap().shell_command,
        "sacctmgr --immediate modify account hpc_climate set qos=slowdown"
    );
    world.hand_over();
    assert!(message(&world.used("1100")).is_none());
    let events = world.limits(&[("node", "1050")]);
    let told = message(&events).unwrap();
    assert!(!told.commands.iter().any(|c| c.shell_command.contains("qos=")), "the class did not change");
}

#[test]
fn numbers_that_round_to_the_same_settings_are_not_sent_again() {
    let mut world = World::governed("2026-03-10", PolicyTerms { grace_ratio: dec("0"), ..terms(ALL_THREE) });
    assert!(message(&world.limits(&[("node", "1000.001")])).is_none(), "the same whole minutes, the same fairshare");
    assert!(message(&world.limits(&[("node", "1000.02")])).is_some(), "one minute more");
}

#[test]
fn the_strictest_limit_of_several_policies_is_sent() {
    let mut world = World::on("2026-03-10");
    let billing = PolicyTerms {
        tres_billing_enabled: true,
        tres_billing_weights: amounts(&[("node", "2")]).into_iter().collect(),
        grace_ratio: dec("0.5"),
        ..terms("request_pausing")
    };
    world.put_policy("slow", PolicyTerms { grace_ratio: dec("0.1"), ..terms("request_downscaling") });
    world.put_policy("billing", billing);
    let events = world.register(&[("node", "100")]);
    let told = message(&events).unwrap();
    assert_eq!(told.settings.limits["node"], 6600, "grace 0.1 before grace 0.5");
    assert_eq!(told.settings.limits["billing"], 18_000, "only one of them counts in billing units");
    assert_eq!((told.policy, told.others.as_slice()), (policy_id("slow"), [policy_id("billing")].as_slice()));
}

#[test]
fn another_account_is_told_everything() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.used("1000");
    let rename = |name: Option<&str>, account: Option<&str>| AllocationCommand::ChangeDetails {
        name: name.map(Into::into),
        backend_id: account.map(Into::into),
    };
    assert_eq!(names(&world.when(&rename(Some("Better"), None)).unwrap()), ["resource_details_changed"]);
    assert_eq!(world.when(&rename(Some("Better"), None)).unwrap(), []);
    let events = world.when(&rename(None, Some("hpc other"))).unwrap();
    let told = message(&events).unwrap();
    assert!(told.commands.iter().all(|c| c.shell_command.contains("account 'hpc other' set")));
    assert!(told.commands.iter().any(|c| c.shell_command.ends_with("qos=slowdown")));
}

#[test]
fn a_resource_in_the_making_and_one_with_errors_are_decided_for_too() {
    for state in [ResourceState::Creating, ResourceState::Erred, ResourceState::Updating] {
        let mut world = World::governed("2026-03-10", terms(ALL_THREE));
        world.when(&AllocationCommand::ChangeState(state)).unwrap();
        let events = world.used("1300");
        assert!(message(&events).is_some() && world.book().flags.paused, "{state:?}: who waits is the dispatch");
    }
}
