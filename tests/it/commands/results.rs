//! What the agent reports, and which dispatch it answers.

use sluice::commands::allocation::AllocationCommand;
use sluice::domain::ids::{DispatchId, slug_uuid};
use sluice::events::allocation::{AllocationEvent, CommandReport, ExecutionMode};

use crate::support::world::{ALL_THREE, World, message, policy_id, terms};

fn report(success: bool, reset: bool) -> CommandReport {
    let mut commands_executed = vec!["sacctmgr --immediate modify account hpc_climate set fairshare=3".to_owned()];
    if reset {
        commands_executed.push("sacctmgr --immediate modify account hpc_climate set RawUsage=0".to_owned());
    }
    CommandReport { success, error_message: String::new(), mode: ExecutionMode::Emulator, commands_executed }
}

/// The dispatch that a report was matched to; none if it was kept as unmatched.
fn matched(world: &mut World, named: Option<DispatchId>, report: CommandReport) -> Option<DispatchId> {
    let command = AllocationCommand::ReportCommandResult { policy: policy_id("main"), dispatch: named, report };
    match world.when(&command).unwrap().as_slice() {
        [AllocationEvent::CommandResultReported(reported)] => Some(reported.dispatch),
        [AllocationEvent::CommandResultUnmatched(_)] => None,
        other => panic!("{other:?}"),
    }
}

/// A take-over with reset, answered, and then three messages without one.
fn three_open() -> (World, Vec<DispatchId>) {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    world.hand_over();
    world.listens = true;
    let first = world.book().commanded.as_ref().unwrap().dispatch;
    assert_eq!(matched(&mut world, None, report(true, true)), Some(first));
    let open = ["1000", "1300", "10"].map(|used| message(&world.used(used)).unwrap().dispatch);
    (world, open.to_vec())
}

#[test]
fn a_named_dispatch_is_the_one_answered() {
    let (mut world, open) = three_open();
    assert_eq!(matched(&mut world, Some(open[1]), report(true, false)), Some(open[1]));
    assert_eq!(matched(&mut world, None, report(true, false)), Some(open[0]));
    assert_eq!(matched(&mut world, Some(DispatchId::from(slug_uuid("dispatch", "other"))), report(true, false)), None);
}

#[test]
fn else_the_oldest_unanswered_one_whose_reset_agrees() {
    let (mut world, open) = three_open();
    world.day("2026-04-01");
    world.evaluate(sluice::domain::evaluate::Trigger::PeriodBoundary);
    let boundary = world.book().commanded.as_ref().unwrap().dispatch;
    assert_eq!(matched(&mut world, None, report(true, true)), Some(boundary));
    for dispatch in open {
        assert_eq!(matched(&mut world, None, report(true, false)), Some(dispatch));
    }
    assert_eq!(matched(&mut world, None, report(true, false)), None, "nothing is left to answer");
}

#[test]
fn a_failure_answers_the_oldest_whatever_it_ran_and_touches_no_other() {
    let mut world = World::governed("2026-03-10", terms(ALL_THREE));
    let first = world.book().commanded.as_ref().unwrap().dispatch;
    world.used("1000");
    let second = world.book().commanded.as_ref().unwrap().dispatch;
    assert_eq!(matched(&mut world, None, report(false, false)), Some(first), "it may have stopped before the reset");
    assert_eq!(matched(&mut world, None, report(false, false)), Some(second));
    assert_eq!(matched(&mut world, None, report(false, true)), None, "nothing unanswered is left to fail");
}

#[test]
fn a_success_after_failures_clears_the_newest() {
    let (mut world, open) = three_open();
    for dispatch in &open {
        assert_eq!(matched(&mut world, None, report(false, false)), Some(*dispatch));
    }
    assert_eq!(matched(&mut world, None, report(true, false)), Some(open[2]));
    assert_eq!(matched(&mut world, None, report(true, false)), Some(open[1]));
}

#[test]
fn a_report_changes_neither_restrictions_nor_settings() {
    let (mut world, _) = three_open();
    let (flags, commanded) = (world.book().flags, world.book().commanded.clone());
    matched(&mut world, None, report(false, false));
    assert_eq!((world.book().flags, world.book().commanded.clone()), (flags, commanded));
}
