//! Runs as records: what was missed, what was cut short, what failed, what is due at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sluice::app::{App, AppClock, AppError};
use sluice::commands::allocation::AllocationCommand;
use sluice::commands::execute::CommandMeta;
use sluice::domain::evaluate::Trigger;
use sluice::domain::ids::{HoldId, ResourceId, slug_uuid};
use sluice::events::allocation::{AllocationEvent, EvaluationFailed, HoldKind};
use sluice::events::envelope::{Actor, Metadata, NewEvent, Payload};
use sluice::events::registry::{GroupFacts, RegistryEvent};
use sluice::projections::Page;
use sluice::reactions::Unsettled;
use sluice::scheduler::{Job, RUNS_PER_JOB_MAX, Run, RunFilter, RunState, SchedulerError, Sweep, SweepError};
use sluice::store::ExpectedVersion;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Place, count, instant, lay_out, log, put_policy, run};
use crate::support::world::{ALL_THREE, policy_id, resource_id, terms};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

async fn governed(place: &Place, now: &str) -> Arc<App> {
    let app = place.open_at(now).await;
    lay_out(&app, &NAMES).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    // A database that has not seen a job starts counting when it is first asked.
    assert_eq!(catch_up(&app).await, []);
    app
}

async fn catch_up(app: &App) -> Vec<Run> {
    app.scheduler.catch_up(&CancellationToken::new()).await.unwrap()
}

/// The clock moves, and nobody runs what is due.
fn away_until(app: &App, now: &str) {
    let AppClock::Simulated(clock) = &app.clock_kind else { panic!() };
    clock.advance_to(instant(now));
}

async fn records(app: &App, job: Job) -> Vec<Run> {
    let filter = RunFilter { job: Some(job), ..RunFilter::default() };
    app.scheduler.runs().list(&filter, Page::first(2_000)).await.unwrap().0
}

async fn scheduled(app: &App) -> Vec<String> {
    let of = |event: &AllocationEvent| matches!(event, AllocationEvent::PolicyEvaluated(e) if e.trigger == Trigger::Scheduled);
    log(app).await.into_iter().filter(|(_, event)| of(event)).map(|(stream, _)| stream).collect()
}

#[tokio::test]
async fn a_run_says_what_it_was_for_and_what_it_did() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    away_until(&app, "2026-03-13T14:05:00Z");
    let runs = catch_up(&app).await;
    let due: Vec<String> = runs.iter().map(|r| format!("{} {}", r.job.name(), r.due.format("%d %H:%M"))).collect();
    assert_eq!(
        due,
        ["period_boundary 13 01:00", "evaluate_all 13 02:00", "retention 13 03:00", "settings_sync 13 14:00"],
        "one run for three nights, named after the last of them"
    );
    let night = records(&app, Job::EvaluateAll).await;
    assert_eq!(night, [runs[1].clone()], "what was said is what is kept");
    let night = &night[0];
    assert_eq!((night.state, night.attempt, night.done, night.total, night.failed), (RunState::Done, 1, 4, Some(4), 0));
    assert_eq!(night.counts["resources"], 4);
    assert_eq!((night.started_at, night.finished_at), (app.clock.now(), Some(app.clock.now())));
    assert_eq!((night.cursor, night.error.as_deref()), (None, None));
    assert!(night.took_micros.is_some());
    assert_eq!(catch_up(&app).await, [], "once");
    let upcoming = app.scheduler.upcoming().await.unwrap();
    let next: Vec<String> = upcoming
        .iter()
        .map(|u| format!("{} {}", u.job.name(), u.next_due.map(|due| due.to_rfc3339()).unwrap_or_default()))
        .collect();
    assert_eq!(
        next,
        [
            "period_boundary 2026-03-14T01:00:00+00:00",
            "hold_expiry ",
            "settings_sync 2026-03-13T14:10:00+00:00",
            "evaluate_all 2026-03-14T02:00:00+00:00",
            "retention 2026-03-14T03:00:00+00:00",
            "replay ",
            "checkpoint ",
        ]
    );
}

#[tokio::test]
async fn a_run_that_was_cut_short_goes_on_where_it_stopped() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    away_until(&app, "2026-03-11T02:00:00Z");
    let mut order: Vec<ResourceId> = NAMES.map(resource_id).to_vec();
    order.sort_unstable();
    // As a process leaves it that is killed after two of four resources.
    let due = instant("2026-03-11T02:00:00Z");
    let mut begun = app.scheduler.runs().begin(Job::EvaluateAll, due, app.clock.now()).await.unwrap().unwrap();
    (begun.done, begun.total, begun.cursor) = (2, Some(4), Some(order[1]));
    app.scheduler.runs().progress(&begun).await.unwrap();
    // The time is kept with every job on the way; this test moved it by hand.
    app.meta.set("simulated_now", &app.clock.now().to_rfc3339()).await.unwrap();
    drop(app);
    let app = place.again().await;
    away_until(&app, "2026-03-11T02:00:00Z");
    let runs = app.scheduler.start(&CancellationToken::new()).await.unwrap();
    let night = runs.iter().find(|run| run.job == Job::EvaluateAll).unwrap();
    assert_eq!((night.state, night.attempt, night.done, night.total), (RunState::Done, 2, 4, Some(4)));
    let evaluated = scheduled(&app).await;
    let expected: Vec<String> = order[2..].iter().map(|resource| format!("allocation-{resource}-2026-03")).collect();
    assert_eq!(evaluated, expected, "those behind the cursor, and no others");
    let records = records(&app, Job::EvaluateAll).await;
    assert_eq!(
        records.iter().map(|r| (r.state, r.done)).collect::<Vec<_>>(),
        [(RunState::Done, 4), (RunState::Interrupted, 2)]
    );
    assert_eq!(records[1].error.as_deref(), Some("the server ended before the run did"));
    assert_eq!(catch_up(&app).await, []);
}

#[tokio::test]
async fn a_run_of_another_night_begins_from_the_start() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    let mut order: Vec<ResourceId> = NAMES.map(resource_id).to_vec();
    order.sort_unstable();
    let due = instant("2026-03-11T02:00:00Z");
    let mut begun = app.scheduler.runs().begin(Job::EvaluateAll, due, due).await.unwrap().unwrap();
    (begun.done, begun.total, begun.cursor) = (3, Some(4), Some(order[2]));
    app.scheduler.runs().progress(&begun).await.unwrap();
    away_until(&app, "2026-03-12T12:00:00Z");
    app.scheduler.start(&CancellationToken::new()).await.unwrap();
    let newest = &records(&app, Job::EvaluateAll).await[0];
    assert_eq!((newest.attempt, newest.done, newest.due), (1, 4, instant("2026-03-12T02:00:00Z")));
    assert_eq!(scheduled(&app).await.len(), 4, "everybody in the night that counts now");
}

#[tokio::test]
async fn told_to_stop_a_run_stops_and_is_made_up_for_later() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    away_until(&app, "2026-03-11T02:00:00Z");
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(app.scheduler.catch_up(&stop).await.unwrap(), [], "nothing is begun any more");
    let runs = catch_up(&app).await;
    assert!(runs.iter().any(|run| run.job == Job::EvaluateAll && run.done == 4));
}

#[tokio::test]
async fn a_job_is_not_started_beside_itself() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    away_until(&app, "2026-03-11T04:00:00Z");
    let (one, two, three) = tokio::join!(catch_up(&app), catch_up(&app), catch_up(&app));
    let mut jobs: Vec<&str> = [one, two, three].iter().flatten().map(|run| run.job.name()).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, ["evaluate_all", "period_boundary", "retention", "settings_sync"]);
    assert_eq!(scheduled(&app).await.len(), 4);
}

/// Fails as often as it is told to, then has something to do once.
struct Moody {
    failures: AtomicU32,
    due: DateTime<Utc>,
    done: AtomicU32,
}

#[async_trait]
impl Sweep for Moody {
    fn name(&self) -> &'static str {
        "moods"
    }

    async fn next_due(&self) -> Result<Option<DateTime<Utc>>, SweepError> {
        Ok((self.done.load(Ordering::SeqCst) == 0).then_some(self.due))
    }

    async fn sweep(&self, now: DateTime<Utc>, _: &CommandMeta) -> Result<u64, SweepError> {
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err("not in the mood".into());
        }
        if now < self.due || self.done.load(Ordering::SeqCst) > 0 {
            return Ok(0);
        }
        self.done.store(7, Ordering::SeqCst);
        Ok(7)
    }
}

#[tokio::test]
async fn a_failed_run_is_a_record_and_is_tried_again() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    let due = instant("2026-03-10T12:25:00Z");
    let moody = Arc::new(Moody { failures: AtomicU32::new(2), due, done: AtomicU32::new(0) });
    app.scheduler.sweep_with(Arc::clone(&moody) as Arc<dyn Sweep>);
    for attempt in 1..=2 {
        let failed = app.advance_clock(instant("2026-03-10T18:00:00Z")).await;
        let Err(AppError::Scheduler(SchedulerError::Failed(job, error))) = failed else { panic!("{failed:?}") };
        assert_eq!((job, error.as_str()), ("settings_sync", "moods could not be swept up: not in the mood"));
        assert_eq!(app.clock.now(), instant("2026-03-10T12:30:00Z"), "the first sync with something to do");
        let record = &records(&app, Job::SettingsSync).await[0];
        assert_eq!((record.state, record.attempt), (RunState::Failed, attempt));
        assert_eq!(record.error.as_deref(), Some("moods could not be swept up: not in the mood"));
    }
    let runs = app.advance_clock(instant("2026-03-10T18:00:00Z")).await.unwrap();
    let syncs: Vec<String> = runs.iter().map(|r| format!("{} {}", r.due.format("%H:%M"), r.done)).collect();
    assert_eq!(syncs, ["12:30 7", "18:00 0"], "no stop for the many between that would find nothing");
    assert_eq!((runs[0].attempt, &runs[0].counts["moods"]), (3, &7.into()));
    assert_eq!(records(&app, Job::SettingsSync).await.len(), 4);
}

#[tokio::test]
async fn by_the_real_clock_a_failed_job_waits_and_keeps_no_other_from_running() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    let due = instant("2026-03-10T12:00:00Z");
    app.scheduler.sweep_with(Arc::new(Moody { failures: AtomicU32::new(1), due, done: AtomicU32::new(0) }));
    away_until(&app, "2026-03-11T04:00:00Z");
    let states: Vec<_> = catch_up(&app).await.iter().map(|run| (run.job.name(), run.state.as_str())).collect();
    assert_eq!(
        states,
        [("period_boundary", "done"), ("evaluate_all", "done"), ("retention", "done"), ("settings_sync", "failed")]
    );
    assert_eq!(catch_up(&app).await, [], "it waits before it is tried again");
    drop(app);
    // Another process does not know of the wait.
    let app = place.again().await;
    away_until(&app, "2026-03-11T04:00:00Z");
    let again = app.scheduler.start(&CancellationToken::new()).await.unwrap();
    assert_eq!(
        again.iter().map(|run| (run.job, run.attempt, run.state)).collect::<Vec<_>>(),
        [(Job::SettingsSync, 2, RunState::Done)]
    );
}

#[tokio::test]
async fn holds_end_at_their_instant_all_of_it_in_one_run() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    let place_hold = async |resource: &str, end: &str| {
        let command = AllocationCommand::PlaceHold {
            hold: HoldId::from(slug_uuid("hold", resource)),
            kind: HoldKind::Pause,
            reason: "inspection".into(),
            ticket: None,
            expires_at: Some(instant(end)),
            public: false,
        };
        run(&app, resource, &command).await
    };
    for resource in ["a", "b"] {
        place_hold(resource, "2026-03-10T12:34:56Z").await;
    }
    place_hold("c", "2026-03-10T12:34:57Z").await;
    let paused = async || {
        let mut paused = Vec::new();
        for name in NAMES {
            if super::paused(&app, resource_id(name)).await {
                paused.push(name);
            }
        }
        paused
    };
    app.advance_clock(instant("2026-03-10T12:34:55Z")).await.unwrap();
    assert_eq!(paused().await, ["a", "b", "c"]);
    let runs = app.advance_clock(instant("2026-03-10T12:34:56Z")).await.unwrap();
    assert_eq!(runs.iter().map(|r| (r.job, r.done)).collect::<Vec<_>>(), [(Job::HoldExpiry, 2)]);
    assert_eq!(paused().await, ["c"]);
    let runs = app.advance_clock(instant("2026-03-10T12:39:00Z")).await.unwrap();
    assert_eq!(runs.iter().map(|r| (r.job, r.done)).collect::<Vec<_>>(), [(Job::HoldExpiry, 1)]);
    assert_eq!(paused().await, [""; 0]);
    let ended = |e: &AllocationEvent| matches!(e, AllocationEvent::HoldReleased(released) if released.expired);
    assert_eq!(count(&app, ended).await, 3);
}

/// Appends to the book of a resource what no command of this version would.
async fn stray(app: &App, resource: &str, event_type: &'static str, payload: String) {
    let stream = sluice::commands::allocation::stream_of(resource_id(resource), "2026-03".parse().unwrap());
    let version = app.store.read_stream(&stream, 0, 1_000).await.unwrap().len() as u64;
    let event = NewEvent {
        event_id: slug_uuid("event", resource),
        event_type,
        occurred_at: app.clock.now(),
        metadata: Metadata { actor: Actor::SYSTEM, correlation_id: Uuid::nil(), causation_id: None, reason: None },
        payload: Payload::of_no_family(payload),
    };
    app.store.append(&stream, ExpectedVersion::Exact(version), vec![event]).await.unwrap();
    app.allocations.forget_books();
    app.settle().await.unwrap();
}

#[tokio::test]
async fn an_evaluation_that_failed_is_tried_again_by_the_settings_sync() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    let failed = AllocationEvent::EvaluationFailed(EvaluationFailed {
        policy: policy_id("main"),
        policy_version: 1,
        trigger: Trigger::UsageReported,
        period: "2026-03"
            .parse::<sluice::domain::period::Month>()
            .map(|m| sluice::domain::period::Period::of_month(sluice::domain::period::PeriodKind::Month, m))
            .unwrap(),
        error: "too large".into(),
        flags: sluice::domain::evaluate::Flags::default(),
    });
    stray(&app, "a", failed.event_type(), failed.payload()).await;
    let list = Unsettled::new(app.read.clone());
    assert_eq!(list.count().await.unwrap(), 1);
    let runs = app.advance_clock(instant("2026-03-10T18:00:00Z")).await.unwrap();
    let syncs: Vec<String> = runs.iter().map(|r| format!("{} {}", r.due.format("%H:%M"), r.done)).collect();
    assert_eq!(syncs, ["12:10 1", "18:00 0"]);
    assert_eq!(list.count().await.unwrap(), 0);
    assert_eq!(scheduled(&app).await, [format!("allocation-{}-2026-03", resource_id("a"))]);
}

#[tokio::test]
async fn one_resource_that_cannot_be_evaluated_fails_no_run_and_is_tried_at_growing_intervals() {
    let place = Place::new();
    let app = governed(&place, "2026-03-10T12:00:00Z").await;
    // A book that no longer reads as one.
    let misplaced = RegistryEvent::GroupRegistered(GroupFacts {
        group: slug_uuid("organization_group", "lost").into(),
        slug: "lost".into(),
        name: "Lost".into(),
        retired: false,
    });
    stray(&app, "b", misplaced.event_type(), misplaced.payload()).await;
    let runs = app.advance_clock(instant("2026-03-11T04:00:00Z")).await.unwrap();
    let night = runs.iter().find(|run| run.job == Job::EvaluateAll).unwrap();
    assert_eq!((night.state, night.done, night.failed), (RunState::Done, 4, 1));
    let error = night.error.as_deref().unwrap();
    assert!(error.contains(&resource_id("b").to_string()), "{error}");
    assert_eq!(scheduled(&app).await.len(), 3, "the others are");
    let tried: Vec<String> = runs
        .iter()
        .filter(|run| run.job == Job::SettingsSync && run.done > 0)
        .map(|run| format!("{} {} of {}", run.due.format("%H:%M"), run.failed, run.done))
        .collect();
    assert_eq!(tried, ["02:10 1 of 1", "02:30 1 of 1", "03:10 1 of 1"]);
}

#[tokio::test]
async fn records_are_bounded() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    let runs = app.scheduler.runs();
    let start = instant("2026-03-10T12:00:00Z");
    for number in 0..RUNS_PER_JOB_MAX + 5 {
        let due = start + chrono::TimeDelta::minutes(number);
        let mut run = runs.begin(Job::SettingsSync, due, due).await.unwrap().unwrap();
        run.state = RunState::Done;
        runs.finish(&run).await.unwrap();
    }
    let other = runs.begin(Job::Retention, start, start).await.unwrap().unwrap();
    let (kept, total) = runs.list(&RunFilter::default(), Page::first(2_000)).await.unwrap();
    assert_eq!(total, RUNS_PER_JOB_MAX + 1);
    assert!(kept.contains(&other), "another job's records are another matter");
    let oldest = kept.iter().filter(|run| run.job == Job::SettingsSync).map(|run| run.due).min();
    assert_eq!(oldest, Some(start + chrono::TimeDelta::minutes(5)));
}
