//! The worked cases of `tests/golden/cases` on the real engine.

use sluice::domain::evaluate::Trigger;
use sluice::domain::period::{Month, Period};
use sluice::domain::policy::PolicyTerms;
use sluice::domain::qos::QosClass;
use sluice::domain::tres::Amounts;
use sluice::events::allocation::{AllocationEvent, ResourceState};

use crate::support::cases::{DecisionCase, PercentageCase, ResetCase, SequenceCase, load};
use crate::support::world::{ALL_THREE, World, component, evaluated, message, terms, verbs};

fn entries(amounts: &Amounts) -> Vec<(String, String)> {
    amounts.iter().map(|(c, a)| (c.clone(), a.to_string())).collect()
}

fn borrowed(entries: &[(String, String)]) -> Vec<(&str, &str)> {
    entries.iter().map(|(c, a)| (c.as_str(), a.as_str())).collect()
}

fn flags(flags: sluice::domain::evaluate::Flags) -> crate::support::cases::Flags {
    crate::support::cases::Flags { paused: flags.paused, downscaled: flags.downscaled }
}

#[test]
fn percentages_are_those_of_the_worked_cases() {
    for case in load::<PercentageCase>("percentages") {
        let mut terms = case.terms.whole();
        terms.actions = crate::support::world::terms(ALL_THREE).actions;
        let mut world = World::on(&case.today.to_string());
        let types: Vec<&String> = case.limits.keys().chain(case.usage.iter().map(|u| &u.component)).collect();
        world.offering.components = types.iter().map(|c| component(c)).collect();
        world.put_policy("main", terms);
        let limits = entries(&case.limits);
        let mut last = world.register_since(&borrowed(&limits), &format!("{}T00:00:00Z", case.existed_since));
        for usage in &case.usage {
            last = world.report(&usage.month.to_string(), &[(&usage.component, &usage.amount.to_string())]);
        }
        let evaluation = evaluated(&last);
        assert_eq!(evaluation.period, case.expect.period, "{}", case.name);
        assert_eq!(evaluation.outcome.percentage.round_dp(6), case.expect.percentage.round_dp(6), "{}", case.name);
        let (basis, _) = world.book().policies.values().next().unwrap().basis.clone().unwrap();
        assert_eq!(basis.allocation.effective, case.expect.effective, "{}", case.name);
    }
}

/// Brings a fresh resource to the flags and notices a case begins with: an earlier report left them, and the one of the
/// case replaces it.
fn bring_to(case: &DecisionCase, terms: &PolicyTerms) -> World {
    let mut world = World::on("2026-03-10");
    world.listens = true;
    world.put_policy("main", terms.clone());
    world.register(&[("node", "100")]);
    match (case.before.paused, case.before.downscaled, case.notified_before) {
        (true, _, _) => world.used("200"),
        (_, true, _) => world.used("100"),
        (_, _, true) => world.used("90"),
        _ => Vec::new(),
    };
    if is_over_nothing(case) {
        world.used("0");
        world.limits(&[("node", "0")]);
    }
    assert_eq!(flags(world.book().flags), case.before, "{}: the case begins as it says", case.name);
    world
}

fn is_over_nothing(case: &DecisionCase) -> bool {
    case.percentage == "9999.99".parse().unwrap()
}

#[test]
fn decisions_are_those_of_the_worked_cases() {
    for case in load::<DecisionCase>("decisions") {
        let terms = PolicyTerms { tres_billing_enabled: false, carryover_enabled: false, ..case.terms.whole() };
        let mut world = bring_to(&case, &terms);
        let used = if is_over_nothing(&case) { "1".to_owned() } else { case.percentage.to_string() };
        let events = world.used(&used);
        let evaluation = evaluated(&events);
        let qos = world.book().commanded.as_ref().unwrap().qos;
        assert_eq!(evaluation.outcome.percentage, case.percentage, "{}", case.name);
        assert_eq!(verbs(&events), case.expect.actions, "{}", case.name);
        assert_eq!(flags(world.book().flags), case.expect.after, "{}", case.name);
        assert_eq!(message(&events).is_some(), case.expect.message_sent, "{}", case.name);
        assert_eq!(qos, case.expect.qos, "{}", case.name);
        if let Some(fired) = case.expect.has_fired {
            assert_eq!(evaluation.outcome.fired, fired, "{}, fired before: {}", case.name, case.fired_before);
        }
    }
}

#[test]
fn sequences_go_as_the_worked_cases() {
    for case in load::<SequenceCase>("sequences") {
        let mut world = World::on(&case.steps[0].at.date_naive().to_string());
        world.listens = true;
        world.put_policy("main", case.terms.whole());
        world.register_since(&borrowed(&entries(&case.limits)), &format!("{}T00:00:00Z", case.existed_since));
        for step in &case.steps {
            let before = Month::of_instant(world.now, world.rules.zone);
            let month = Month::of_instant(step.at, world.rules.zone);
            world.now = step.at;
            if before < month {
                // The run at the boundary comes first: it resets, and tells the agent of the new allocation.
                world.now = month.starts_at(world.rules.zone);
                world.evaluate(Trigger::PeriodBoundary);
                world.now = step.at;
            }
            let mut events = Vec::new();
            if !step.limits.is_empty() {
                events = world.limits(&borrowed(&entries(&step.limits)));
            }
            if !step.usage.is_empty() {
                events = world.report(&month.to_string(), &borrowed(&entries(&step.usage)));
            }
            if evaluated_none(&events) {
                events = world.evaluate(Trigger::Requested);
            }
            let evaluation = evaluated(&events);
            let name = format!("{} at {}", case.name, step.at);
            let expect = &step.expect;
            let (basis, _) = world.book().policies.values().next().unwrap().basis.clone().unwrap();
            assert_eq!(evaluation.period, expect.period, "{name}");
            assert_eq!(evaluation.outcome.percentage.round_dp(4), expect.percentage, "{name}");
            assert_eq!(basis.allocation.effective, expect.effective, "{name}");
            assert_eq!(verbs(&events), expect.actions, "{name}");
            assert_eq!(flags(world.book().flags), expect.after, "{name}");
            assert_eq!(QosClass::of(expect.after.paused, expect.after.downscaled), expect.qos, "{name}");
            assert_eq!(world.book().commanded.as_ref().unwrap().qos, expect.qos, "{name}");
            assert_eq!(evaluation.outcome.fired, expect.has_fired, "{name}");
            // A boundary's own message is not the step's: there a change of restrictions was told at the boundary.
            if before.next() > month {
                assert_eq!(message(&events).is_some(), expect.message_sent, "{name}");
            }
        }
    }
}

fn evaluated_none(events: &[AllocationEvent]) -> bool {
    !events.iter().any(|e| matches!(e, AllocationEvent::PolicyEvaluated(_)))
}

#[test]
fn resets_are_decided_as_in_the_worked_cases() {
    for case in load::<ResetCase>("resets") {
        let mut world = World::on("2026-01-01");
        for (index, sync) in case.syncs.iter().enumerate() {
            world.now = sync.at;
            let events = if index == 0 {
                world.put_policy("main", PolicyTerms { actions: terms(ALL_THREE).actions, ..case.terms.whole() });
                world.register(&[("node", "1000")])
            } else {
                world.evaluate(Trigger::Requested)
            };
            let reset = message(&events).is_some_and(|m| m.reset.is_some());
            assert_eq!(reset, sync.reset, "{} at {}", case.name, sync.at);
        }
        assert_eq!(world.book().facts.state, ResourceState::Ok);
        assert!(matches!(world.book().policies.values().next().unwrap().period, Period::Month(_)));
    }
}
