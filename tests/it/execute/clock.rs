//! The scheduler on a simulated clock: boundaries in the site's zone, the nightly run, what was missed, kinds of clocks.

use sluice::app::{App, AppError, AppOptions};
use sluice::domain::evaluate::Trigger;
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::AllocationEvent;
use sluice::scheduler::Job;
use tokio_util::sync::CancellationToken;

use super::{Place, count, instant, is_reset, lay_out, log, paused, put_policy, run, usage};
use crate::support::world::{ALL_THREE, resource_id, terms};

fn quarterly() -> PolicyTerms {
    PolicyTerms { period: sluice::domain::period::PeriodKind::Quarter, ..terms(ALL_THREE) }
}

#[tokio::test]
async fn two_quarters_go_by_in_the_sites_own_time() {
    let place = Place { zone: chrono_tz::Europe::Tallinn, ..Place::new() };
    let app = place.open_at("2026-03-30T12:00:00Z").await;
    lay_out(&app, &["a"]).await;
    put_policy(&app, quarterly()).await;
    app.settle().await.unwrap();
    run(&app, "a", &usage("2026-03", 1300)).await;
    assert!(paused(&app, resource_id("a")).await);
    // Midnight in Tallinn is 21:00 UTC in summer time.
    app.advance_clock(instant("2026-03-31T20:59:59Z")).await.unwrap();
    assert!(paused(&app, resource_id("a")).await, "still March at the site");
    let runs = app.advance_clock(instant("2026-03-31T21:00:00Z")).await.unwrap();
    assert_eq!(runs.iter().map(|r| r.job).collect::<Vec<_>>(), [Job::PeriodBoundary, Job::SettingsSync]);
    assert_eq!(runs[0].due, instant("2026-03-31T21:00:00Z"));
    assert!(!paused(&app, resource_id("a")).await);
    let runs = app.advance_clock(instant("2026-10-01T12:00:00Z")).await.unwrap();
    let of = |job: Job| runs.iter().filter(|r| r.job == job).count();
    assert_eq!(of(Job::EvaluateAll), 184, "every night from April to the first of October");
    assert!(runs.is_sorted_by_key(|r| r.due));
    let resets: Vec<String> = log(&app)
        .await
        .into_iter()
        .filter(|(_, e)| is_reset(e))
        .map(|(_, e)| match e {
            AllocationEvent::SettingsCommanded(m) => format!("{} at {}", m.period, m.at),
            other => panic!("{}", other.event_type()),
        })
        .collect();
    assert_eq!(
        resets,
        [
            "2026-Q1 at 2026-03-30 12:00:00 UTC",
            "2026-Q2 at 2026-03-31 21:00:00 UTC",
            "2026-Q3 at 2026-06-30 21:00:00 UTC",
            "2026-Q4 at 2026-09-30 21:00:00 UTC",
        ]
    );
}

#[tokio::test]
async fn a_book_opened_by_a_late_hand_does_not_hide_the_boundary() {
    let place = Place::new();
    let app = place.open_at("2026-03-31T12:00:00Z").await;
    lay_out(&app, &["a", "b"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    for name in ["a", "b"] {
        run(&app, name, &usage("2026-03", 1300)).await;
    }
    app.advance_clock(instant("2026-04-01T00:00:00Z")).await.unwrap();
    assert!(!paused(&app, resource_id("a")).await && !paused(&app, resource_id("b")).await);
    let begun =
        |e: &AllocationEvent| matches!(e, AllocationEvent::PolicyEvaluated(e) if e.trigger == Trigger::PeriodBoundary);
    assert_eq!(count(&app, begun).await, 2);
    app.advance_clock(instant("2026-04-01T01:30:00Z")).await.unwrap();
    assert_eq!(count(&app, begun).await, 2, "the run at one o'clock finds nothing left to do");
    assert_eq!(count(&app, is_reset).await, 4, "taken over and begun, once each");
}

#[tokio::test]
async fn a_missed_job_is_caught_up_once() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    let never = CancellationToken::new();
    assert_eq!(app.scheduler.catch_up(&never).await.unwrap(), [], "nothing is due yet");
    let sluice::app::AppClock::Simulated(clock) = &app.clock_kind else { panic!() };
    clock.advance_to(instant("2026-03-15T12:00:00Z"));
    let scheduled =
        |e: &AllocationEvent| matches!(e, AllocationEvent::PolicyEvaluated(e) if e.trigger == Trigger::Scheduled);
    let runs = app.scheduler.catch_up(&never).await.unwrap();
    assert_eq!(
        runs.iter().map(|r| r.job).collect::<Vec<_>>(),
        [Job::PeriodBoundary, Job::EvaluateAll, Job::Retention, Job::SettingsSync]
    );
    assert_eq!(count(&app, scheduled).await, 1, "five nights, one run");
    assert_eq!(app.scheduler.catch_up(&never).await.unwrap(), []);
}

#[tokio::test]
async fn a_database_keeps_its_kind_of_clock_and_its_time() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    app.advance_clock(instant("2026-03-11T00:30:00Z")).await.unwrap();
    let back = app.advance_clock(instant("2026-03-10T00:00:00Z")).await;
    assert!(matches!(back, Err(AppError::Backwards { .. })));
    assert_eq!(app.advance_clock(instant("2026-03-11T00:30:00Z")).await.unwrap(), [], "the same time runs nothing");
    drop(app);
    assert_eq!(place.again().await.clock.now(), instant("2026-03-11T00:30:00Z"));
    let earlier =
        App::open(AppOptions { simulated_clock: Some(instant("2026-03-10T12:00:00Z")), ..place.options() }).await;
    assert!(matches!(earlier.map(drop), Err(AppError::Backwards { .. })));
    let real = Place::new();
    drop(real.again().await);
    let simulated =
        App::open(AppOptions { simulated_clock: Some(instant("2030-01-01T00:00:00Z")), ..real.options() }).await;
    assert!(matches!(simulated.map(drop), Err(AppError::ClockKind { .. })));
}

#[tokio::test]
async fn one_server_at_a_time() {
    let place = Place::new();
    let database = place.options().database;
    let claim = App::claim(&database).await.unwrap();
    assert!(
        App::is_served(&database).await && matches!(App::claim(&database).await.map(drop), Err(AppError::Served(_)))
    );
    drop(claim);
    assert!(!App::is_served(&database).await);
}
