//! The scheduled replay: what it verifies, what it records, and that a verdict which is not clean is not forgotten.

use std::sync::Arc;

use rust_decimal::Decimal;
use sluice::app::{App, AppOptions};
use sluice::events::envelope::Position;
use sluice::events::site::{DecisionsReplayed, REPLAY_STREAM, SiteEvent};
use sluice::scheduler::{CronTexts, Job, Run, Schedule};

use super::replayed;
use crate::execute::soundness::spoil;
use crate::support::database::options;
use crate::support::fleet;

async fn verdicts(app: &App) -> Vec<DecisionsReplayed> {
    let all = app.store.read_all(Position::START, 10_000).await.unwrap();
    let of = all.iter().filter(|event| event.stream.as_str() == REPLAY_STREAM);
    of.map(|event| match SiteEvent::decode(&event.event_type, &event.payload) {
        Some(Ok(SiteEvent::DecisionsReplayed(verdict))) => verdict,
        other => panic!("{other:?}"),
    })
    .collect()
}

/// The night to this day.
async fn night(app: &Arc<App>, day: &str) -> Option<Run> {
    let runs = app.advance_clock(format!("2026-05-{day}T12:00:00Z").parse().unwrap()).await.unwrap();
    runs.into_iter().find(|run| run.job == Job::Replay)
}

#[tokio::test]
async fn a_verdict_is_recorded_and_one_that_is_not_clean_has_everything_verified_anew() {
    let folder = tempfile::tempdir().unwrap();
    let texts = CronTexts { replay: Some("0 4 * * *"), ..CronTexts::default() };
    let schedule = Schedule::new(chrono_tz::Tz::UTC, texts).unwrap();
    let at = Some("2026-05-01T12:00:00Z".parse().unwrap());
    let app = App::open(AppOptions { schedule, simulated_clock: at, ..options(folder.path()) }).await.unwrap();
    assert!(night(&app, "02").await.is_some() && verdicts(&app).await.is_empty(), "there was nothing to verify");
    assert_eq!(app.verifier.standing().await.unwrap().release, "");

    fleet::lay_out(&app, 3).await;
    for number in 0..3 {
        let report = fleet::report(&app, Decimal::from(40 + 50 * number));
        app.allocations.execute(fleet::resource(number), &report, &fleet::meta()).await.unwrap();
    }
    let run = night(&app, "03").await.unwrap();
    let first = verdicts(&app).await.pop().unwrap();
    assert!(run.error.is_none() && first.different == 0 && first.same > 5, "{run:?} {first:?}");
    assert_eq!((first.after, first.release.as_str()), (Position::START, env!("CARGO_PKG_VERSION")));
    night(&app, "04").await.unwrap();
    let all = verdicts(&app).await;
    assert!(all.iter().skip(1).all(|later| later.after == first.through), "it goes on where it was: {all:?}");

    let newest = "SELECT max(position) FROM events e JOIN event_kinds k ON k.kind_id = e.kind_id \
                  WHERE k.name = 'policy_evaluated.v1'";
    let replaced = |from: &str, to: &str| {
        format!("UPDATE events SET payload = replace(payload, '{from}', '{to}') WHERE position = ({newest})")
    };
    let changed = replaced("\"percentage\":\"", "\"percentage\":\"7");
    spoil(&app.options.database, &changed, &changed).await;
    let app = reopened(app).await;
    let next = app.verifier.begin().await.unwrap();
    assert!(next.report().after > Position::START, "every verdict so far is clean");
    let whole = replayed(app.guard.log()).await;
    assert!(whole.total().different == 1, "{whole:?}");
    app.verifier.record(&whole, &fleet::meta()).await.unwrap();
    assert!(!app.verifier.standing().await.unwrap().agrees());
    let next = app.verifier.begin().await.unwrap();
    assert_eq!(next.report().after, Position::START, "one is not");

    let back = replaced("\"percentage\":\"7", "\"percentage\":\"");
    spoil(&app.options.database, &back, &back).await;
    let app = reopened(app).await;
    let run = night(&app, "05").await.unwrap();
    let standing = app.verifier.standing().await.unwrap();
    assert!(run.error.is_none() && standing.agrees() && standing.same >= first.same, "{run:?} {standing:?}");
}

/// As another process opens it.
async fn reopened(app: Arc<App>) -> Arc<App> {
    let options = AppOptions { simulated_clock: None, ..app.options.clone() };
    drop(app);
    App::open(options).await.unwrap()
}
