//! Months: what a book hands to the next, and that whoever opens one begins the month.

use std::sync::Arc;

use sluice::commands::allocation::AllocationCommand;
use sluice::domain::evaluate::{EvaluationTerms, Trigger};
use sluice::domain::ids::{HoldId, UserId, slug_uuid};
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::{AllocationEvent, HoldKind, Recorded};

use crate::support::world::{ALL_THREE, World, dec, evaluated, names, said, terms};

fn quarter() -> PolicyTerms {
    PolicyTerms { period: sluice::domain::period::PeriodKind::Quarter, ..terms(ALL_THREE) }
}

#[test]
fn everything_is_carried_over() {
    let mut world = World::governed("2026-01-10", quarter());
    world.used("1300");
    world
        .when(&AllocationCommand::PlaceHold {
            hold: HoldId::from(slug_uuid("hold", "audit")),
            kind: HoldKind::Pause,
            reason: "because".into(),
            ticket: None,
            expires_at: None,
            public: false,
        })
        .unwrap();
    let before = world.book().carried();
    world.day("2026-02-01");
    let events = world.evaluate(Trigger::PeriodBoundary);
    let AllocationEvent::BooksOpened(opened) = &world.streams[1][0] else { panic!() };
    assert_eq!(opened.carried, before);
    assert_eq!(said(&events), "130 % pause+downscale", "the same quarter, told before");
    assert_eq!(names(&events), ["policy_evaluated"], "nothing changed, nobody is told");
    let after = world.book().carried();
    assert_eq!(
        (after.usage, after.flags, after.holds, after.dispatches),
        (before.usage, before.flags, before.holds, before.dispatches)
    );
}

#[test]
fn the_first_evaluation_of_a_book_is_in_full_so_that_references_stay_within_the_stream() {
    let mut world = World::governed("2026-01-10", quarter());
    world.used("100");
    world.day("2026-02-10");
    let events = world.evaluate(Trigger::Scheduled);
    let (first, again) = (evaluated(&events).clone(), world.evaluate(Trigger::Scheduled));
    assert!(matches!((&first.basis, &first.usage), (Recorded::Full(_), Recorded::Full(_))));
    let version = world.streams[1].iter().position(|e| e == &events[0]).unwrap() as u64 + 1;
    assert_eq!(evaluated(&again).basis, Recorded::Same { same_as: version });
    assert_eq!(evaluated(&again).usage, Recorded::Same { same_as: version });
}

#[test]
fn terms_that_are_read_again_and_again_are_kept_once_and_other_terms_are_other_terms() {
    let read = |terms: PolicyTerms| -> Arc<EvaluationTerms> {
        let mut world = World::governed("2026-01-10", terms);
        let events = world.used("100");
        let full =
            world.streams.iter().flatten().chain(&events).find(
                |event| matches!(event, AllocationEvent::PolicyEvaluated(e) if matches!(e.basis, Recorded::Full(_))),
            );
        let event = full.expect("the first evaluation is in full");
        let AllocationEvent::PolicyEvaluated(evaluated) =
            AllocationEvent::decode(event.event_type(), &event.payload()).unwrap().unwrap()
        else {
            panic!("an evaluation reads back as one")
        };
        assert_eq!(AllocationEvent::PolicyEvaluated(evaluated.clone()), *event);
        let Recorded::Full(basis) = evaluated.basis else { panic!("in full") };
        Arc::clone(&basis.basis.terms)
    };
    let (one, same, other) = (read(quarter()), read(quarter()), read(terms(ALL_THREE)));
    assert!(Arc::ptr_eq(&one, &same));
    assert_ne!(one, other);
}

#[test]
fn whatever_opens_a_month_begins_it() {
    let user = UserId::from(slug_uuid("user", "alice"));
    let commands = [
        AllocationCommand::ChangeDetails { name: Some("New name".into()), backend_id: None },
        AllocationCommand::ReportUserUsage {
            month: "2026-03".parse().unwrap(),
            component: "node".into(),
            amounts: [(user, dec("1"))].into(),
        },
    ];
    for command in commands {
        let mut world = World::governed("2026-03-10", terms(ALL_THREE));
        world.used("1300");
        world.day("2026-04-01");
        let events = world.when(&command).unwrap();
        assert_eq!(evaluated(&events).trigger, Trigger::PeriodBoundary);
        assert!(!world.book().flags.any(), "{command:?}: the new month's restrictions are those of the new month");
    }
}

#[test]
fn a_late_report_of_the_old_month_goes_into_the_new_book() {
    let mut world = World::governed("2026-03-10", quarter());
    world.used("100");
    world.day("2026-04-02");
    let events = world.report("2026-03", &[("node", "120")]);
    assert_eq!(world.book().month.to_string(), "2026-04");
    let AllocationEvent::UsageReported(report) = &events[0] else { panic!() };
    assert!(report.restated);
    assert_eq!(report.amounts["node"].previous, Some(dec("100")));
    assert_eq!(said(&events), "0 % ", "a new quarter");
}
