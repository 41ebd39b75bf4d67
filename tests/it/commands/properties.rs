//! What must hold for every sequence of commands: [`World`] checks replay and fold at each step.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rust_decimal::Decimal;
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::domain::evaluate::Trigger;
use sluice::domain::ids::{HoldId, slug_uuid};
use sluice::domain::period::PeriodKind;
use sluice::domain::policy::PolicyTerms;
use sluice::domain::tres::Amounts;
use sluice::events::allocation::{
    AllocationEvent, CommandReport, ExecutionMode, HoldKind, ResourceState, WithdrawReason,
};

use crate::support::world::{ALL_THREE, World, evaluations, message, policy_id, terms};

#[derive(Debug, Clone)]
enum Step {
    Days(i64),
    Use { months_ago: u32, component: &'static str, amount: u32 },
    Limits(u32, Option<u32>),
    Evaluate(Option<&'static str>),
    Place(&'static str, HoldKind, i64),
    Release(&'static str),
    Policy(&'static str, PeriodKind, u32, bool),
    Drop(&'static str, WithdrawReason),
    State(ResourceState),
    Answer(bool, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let policy = || prop_oneof![Just("one"), Just("two")];
    let hold = || prop_oneof![Just("a"), Just("b")];
    let component = prop_oneof![3 => Just("node"), 1 => Just("cpu")];
    let period = (0..4_usize).prop_map(|i| PeriodKind::ALL[i]);
    let kind = prop_oneof![Just(HoldKind::Pause), Just(HoldKind::Downscale), Just(HoldKind::Exemption)];
    let reason = prop_oneof![Just(WithdrawReason::Deleted), Just(WithdrawReason::Disabled)];
    let state = prop_oneof![Just(ResourceState::Erred), Just(ResourceState::Ok), Just(ResourceState::Terminating)];
    prop_oneof![
        3 => (0..45_i64).prop_map(Step::Days),
        6 => (0..5_u32, component, 0..1500_u32).prop_map(|(months_ago, component, amount)| Step::Use { months_ago, component, amount }),
        2 => (0..2000_u32, prop::option::of(0..500_u32)).prop_map(|(n, c)| Step::Limits(n, c)),
        2 => prop::option::of(policy()).prop_map(Step::Evaluate),
        1 => (hold(), kind, 1..60_i64).prop_map(|(h, k, days)| Step::Place(h, k, days)),
        1 => hold().prop_map(Step::Release),
        2 => (policy(), period, 0..100_u32, any::<bool>()).prop_map(|(p, k, g, c)| Step::Policy(p, k, g, c)),
        1 => (policy(), reason).prop_map(|(p, r)| Step::Drop(p, r)),
        1 => state.prop_map(Step::State),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(s, r)| Step::Answer(s, r)),
    ]
}

fn one(component: &str, amount: u32) -> Amounts {
    [(component.to_owned(), Decimal::from(amount))].into()
}

/// Carries a step out. Refusals are fine: they record nothing.
fn take(world: &mut World, step: &Step) -> Vec<AllocationEvent> {
    let command = match step.clone() {
        Step::Days(days) => {
            world.now += chrono::TimeDelta::days(days);
            return Vec::new();
        }
        Step::Use { months_ago, component, amount } => {
            let mut month = sluice::domain::period::Month::of_instant(world.now, world.rules.zone);
            for _ in 0..months_ago {
                month = month.previous();
            }
            AllocationCommand::ReportUsage(UsageReport::new(month, one(component, amount)))
        }
        Step::Limits(node, cpu) => {
            let mut limits = one("node", node);
            limits.extend(cpu.map(|c| ("cpu".to_owned(), Decimal::from(c))));
            AllocationCommand::ChangeLimits(limits)
        }
        Step::Evaluate(policy) => {
            AllocationCommand::Evaluate { policy: policy.map(policy_id), trigger: Trigger::Requested }
        }
        Step::Place(hold, kind, days) => AllocationCommand::PlaceHold {
            hold: HoldId::from(slug_uuid("hold", hold)),
            kind,
            reason: "because".into(),
            ticket: None,
            expires_at: Some(world.now + chrono::TimeDelta::days(days)),
            public: false,
        },
        Step::Release(hold) => {
            AllocationCommand::ReleaseHold { hold: HoldId::from(slug_uuid("hold", hold)), expired: false }
        }
        Step::Policy(name, period, grace, carryover_enabled) => {
            let grace_ratio = Decimal::new(grace.into(), 2);
            world.put_policy(name, PolicyTerms { period, grace_ratio, carryover_enabled, ..terms(ALL_THREE) });
            AllocationCommand::Evaluate { policy: Some(policy_id(name)), trigger: Trigger::PolicyChanged }
        }
        Step::Drop(name, reason) => {
            if !world.policies.iter().any(|p| p.id() == policy_id(name)) {
                return Vec::new();
            }
            world.drop_policy(name, reason);
            AllocationCommand::Evaluate { policy: Some(policy_id(name)), trigger: Trigger::PolicyChanged }
        }
        Step::State(state) => AllocationCommand::ChangeState(state),
        Step::Answer(success, reset) => AllocationCommand::ReportCommandResult {
            policy: policy_id("one"),
            dispatch: None,
            report: CommandReport {
                success,
                error_message: String::new(),
                mode: ExecutionMode::Production,
                commands_executed: if reset { vec!["RawUsage=0".into()] } else { Vec::new() },
            },
        },
    };
    world.when(&command).unwrap_or_default()
}

fn start() -> World {
    let mut world = World::on("2026-01-10");
    world.put_policy("one", terms(ALL_THREE));
    world.register(&[("node", "1000")]);
    world
}

/// A policy that was dropped and made again in a test starts its versions anew, as only a new policy would.
fn plausible(steps: &[Step]) -> bool {
    let mut dropped: Vec<&str> = Vec::new();
    steps.iter().all(|step| match step {
        Step::Drop(name, _) => {
            dropped.push(name);
            true
        }
        Step::Policy(name, ..) => !dropped.contains(name),
        _ => true,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn replay_and_fold_agree_with_what_was_recorded(steps in prop::collection::vec(step(), 1..40).prop_filter("plausible", |s| plausible(s))) {
        let mut world = start();
        let mut notices: BTreeMap<String, u32> = BTreeMap::new();
        let mut resets: BTreeMap<String, u32> = BTreeMap::new();
        for step in &steps {
            let events = take(&mut world, step);
            for evaluation in evaluations(&events) {
                for threshold in &evaluation.outcome.notified {
                    let key = format!("{} {} {threshold} {}", evaluation.policy, evaluation.period, evaluation.notices.raises);
                    let deleted = steps.iter().any(|s| matches!(s, Step::Drop(_, WithdrawReason::Deleted)));
                    let changed = steps.iter().filter(|s| matches!(s, Step::Policy(..))).count() > 0;
                    let count = notices.entry(key).or_default();
                    *count += 1;
                    prop_assert!(*count == 1 || deleted || changed, "a notice is given once");
                }
            }
            if let Some(reset) = message(&events).and_then(|m| m.reset.as_ref()) {
                for period in reset.periods.values() {
                    let count = resets.entry(period.to_string()).or_default();
                    *count += 1;
                    let takes_turns = reset.periods.len() > 1 || steps.iter().any(|s| matches!(s, Step::Policy(..)));
                    prop_assert!(*count == 1 || takes_turns, "reset once per period {period}");
                }
            }
            // What is in force is what is held; the agent was told so.
            let book = world.book();
            if book.facts.state.is_live() {
                prop_assert_eq!(book.flags, book.restrictions());
            }
        }
    }

    #[test]
    fn evaluating_again_changes_nothing_but_its_own_record(steps in prop::collection::vec(step(), 1..25).prop_filter("plausible", |s| plausible(s))) {
        let mut world = start();
        for step in &steps {
            take(&mut world, step);
        }
        world.evaluate(Trigger::Requested);
        let before = world.book().clone();
        let events = world.evaluate(Trigger::Requested);
        let others: Vec<_> = events.iter().filter(|e| !matches!(e, AllocationEvent::PolicyEvaluated(_))).collect();
        prop_assert!(others.is_empty(), "{:?}", others);
        for evaluation in evaluations(&events) {
            prop_assert!(evaluation.outcome.notified.is_empty());
            prop_assert!(events[0].payload().len() < 700);
        }
        prop_assert_eq!(before.flags, world.book().flags);
        prop_assert_eq!(&before.commanded, &world.book().commanded);
    }

    #[test]
    fn the_order_of_reports_does_not_matter(reports in prop::collection::btree_map((0..4_u32, prop_oneof![Just("node"), Just("cpu")]), 0..1500_u32, 1..7), seed in any::<u64>()) {
        let mut shuffled: Vec<_> = reports.clone().into_iter().collect();
        let many = shuffled.len() as u64;
        shuffled.rotate_left(usize::try_from(seed % many).unwrap());
        if seed % 2 == 0 {
            shuffled.reverse();
        }
        let run = |order: Vec<((u32, &'static str), u32)>| {
            let mut world = start();
            world.put_policy("one", PolicyTerms { period: PeriodKind::Quarter, carryover_enabled: true, ..terms(ALL_THREE) });
            world.day("2026-03-20");
            for ((months_ago, component), amount) in order {
                take(&mut world, &Step::Use { months_ago, component, amount });
            }
            let events = world.evaluate(Trigger::Requested);
            let outcome = evaluations(&events)[0].outcome.clone();
            (outcome.percentage, outcome.holds, outcome.fired, world.book().flags)
        };
        prop_assert_eq!(run(reports.into_iter().collect()), run(shuffled));
    }

    #[test]
    fn more_usage_is_never_a_lower_percentage(limit in 0..2000_u32, less in 0..3000_u32, more in 0..3000_u32) {
        let (less, more) = (less.min(more), less.max(more));
        let mut world = start();
        take(&mut world, &Step::Limits(limit, None));
        let percentage = |world: &mut World, amount| {
            take(world, &Step::Use { months_ago: 0, component: "node", amount });
            let events = world.evaluate(Trigger::Requested);
            let outcome = evaluations(&events)[0].outcome.clone();
            (outcome.percentage, outcome.holds.downscaled, outcome.holds.paused)
        };
        let (low, high) = (percentage(&mut world, less), percentage(&mut world, more));
        prop_assert!(low <= high || (limit == 0 && less == more), "{:?} {:?}", low, high);
    }
}
