//! Commands from all sides at once: nothing is lost, nothing is decided on an old book.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use sluice::commands::allocation::{AllocationCommand, Refusal};
use sluice::commands::execute::CommandError;
use sluice::events::allocation::{AllocationEvent, BooksClosed};
use sluice::events::envelope::NewEvent;
use sluice::store::ExpectedVersion;
use uuid::Uuid;

use super::{Place, count, instant, is_evaluation, is_report, lay_out, log, paused, put_policy, run, usage};
use crate::support::fleet::meta;
use crate::support::world::{ALL_THREE, names, resource_id, terms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_at_the_same_time_on_one_resource_and_on_many_all_count() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    let many: Vec<String> = (0..16).map(|n| format!("r{n}")).collect();
    lay_out(&app, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    let before = count(&app, is_evaluation).await;
    let tasks: Vec<_> = (1..=64_u32)
        .map(|n| {
            let (app, name) = (app.clone(), if n <= 32 { "r0".to_owned() } else { format!("r{}", n % 16) });
            tokio::spawn(async move { run(&app, &name, &usage("2026-03", n * 10)).await.events.len() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap() >= 2);
    }
    assert_eq!(count(&app, is_report).await, 64);
    assert_eq!(count(&app, is_evaluation).await, before + 64, "each with its own evaluation");
    let book = app.allocations.book(resource_id("r0")).await.unwrap();
    let last = log(&app).await.into_iter().rev().find_map(|(stream, e)| match e {
        AllocationEvent::UsageReported(r) if stream.contains(&resource_id("r0").to_string()) => {
            Some(r.amounts["node"].amount)
        }
        _ => None,
    });
    assert_eq!(book.amount("2026-03".parse().unwrap(), "node"), last, "the newest report is the total");
}

#[tokio::test]
async fn a_batch_may_name_a_resource_twice_and_each_command_has_its_outcome() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a", "b"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    run(&app, "b", &usage("2026-03", 5)).await;
    let batch = [
        (resource_id("a"), usage("2026-03", 10)),
        (resource_id("b"), usage("2026-03", 5)),
        (resource_id("a"), usage("2026-03", 20)),
        (resource_id("nobody"), usage("2026-03", 1)),
        (resource_id("b"), usage("2026-05", 1)),
        (resource_id("a"), usage("2026-03", 20)),
    ];
    let outcomes = app.allocations.execute_many(&batch, &meta()).await;
    let done: Vec<_> = outcomes.iter().map(|o| o.as_ref().map(|e| !e.events.is_empty())).collect();
    assert!(
        matches!(
            done.as_slice(),
            [
                Ok(true),
                Ok(false),
                Ok(true),
                Err(CommandError::NoSuchResource(_)),
                Err(CommandError::Refused(Refusal::FutureMonth { .. })),
                Ok(false)
            ]
        ),
        "{done:?}"
    );
    let book = app.allocations.book(resource_id("a")).await.unwrap();
    assert_eq!(book.amount("2026-03".parse().unwrap(), "node"), Some(Decimal::from(20)));
}

#[tokio::test]
async fn two_processes_on_one_database_decide_on_what_both_wrote() {
    let place = Place::new();
    let one = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&one, &["a"]).await;
    put_policy(&one, terms(ALL_THREE)).await;
    run(&one, "a", &usage("2026-03", 100)).await;
    let other = place.again().await;
    run(&other, "a", &usage("2026-03", 1300)).await;
    // What `one` has in memory is old now. The report that equals it is none the less a change.
    let events = run(&one, "a", &usage("2026-03", 100)).await;
    assert!(!events.already_applied(), "100 replaces 1300");
    run(&other, "a", &usage("2026-03", 1300)).await;
    assert!(paused(&one, resource_id("a")).await, "reads see it too");
    let batch = [(resource_id("a"), usage("2026-03", 100))];
    assert!(!one.allocations.execute_many(&batch, &meta()).await[0].as_ref().unwrap().already_applied());
    // A resource that the other registers is found, and not registered a second time.
    lay_out(&other, &["b"]).await;
    run(&one, "b", &usage("2026-03", 1)).await;
}

#[tokio::test]
async fn a_book_sealed_without_its_successor_is_continued() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    run(&app, "a", &usage("2026-03", 1300)).await;
    let book = app.allocations.book(resource_id("a")).await.unwrap();
    let stream = sluice::commands::allocation::stream_of(resource_id("a"), book.month);
    let sealed = AllocationEvent::BooksClosed(BooksClosed { successor: "2026-04".parse().unwrap() });
    let event = NewEvent {
        event_id: Uuid::from_u128(42),
        event_type: sealed.event_type(),
        occurred_at: instant("2026-04-01T00:00:00Z"),
        metadata: sluice::events::envelope::Metadata {
            actor: sluice::events::envelope::Actor::SYSTEM,
            correlation_id: Uuid::from_u128(42),
            causation_id: None,
            reason: None,
        },
        payload: sealed.to_append().unwrap(),
    };
    app.store.append(&stream, ExpectedVersion::Exact(book.version), vec![event]).await.unwrap();
    app.advance_clock(instant("2026-05-02T12:00:00Z")).await.unwrap();
    let months: BTreeSet<String> =
        log(&app).await.into_iter().map(|(stream, _)| stream[stream.len() - 7..].to_owned()).collect();
    assert_eq!(months.into_iter().collect::<Vec<_>>(), ["2026-03", "2026-04", "2026-05"]);
    let book = app.allocations.book(resource_id("a")).await.unwrap();
    assert_eq!(book.amount("2026-03".parse().unwrap(), "node"), Some(Decimal::from(1300)));
    assert!(!book.flags.any());
}

#[tokio::test]
async fn what_changes_nothing_opens_no_book_and_what_opens_one_begins_the_month() {
    let place = Place::new();
    let app = place.open_at("2026-03-31T12:00:00Z").await;
    lay_out(&app, &["a"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    run(&app, "a", &usage("2026-03", 1300)).await;
    // The clock moves without the scheduler: the server was down over the boundary.
    let sluice::app::AppClock::Simulated(clock) = &app.clock_kind else { panic!() };
    clock.advance_to(instant("2026-04-01T00:00:01Z"));
    assert!(run(&app, "a", &usage("2026-03", 1300)).await.already_applied());
    assert_eq!(app.registry.book_hint(resource_id("a")), Some("2026-03".parse().unwrap()));
    let command = AllocationCommand::ChangeDetails { name: Some("New".into()), backend_id: None };
    let done = run(&app, "a", &command).await;
    let events: Vec<_> = done.events.into_iter().map(|(_, e)| e).collect();
    assert_eq!(
        names(&events),
        ["resource_details_changed", "policy_evaluated", "restriction_changed", "settings_commanded"]
    );
    assert!(!paused(&app, resource_id("a")).await);
}
