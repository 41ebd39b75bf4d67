//! The base of an earlier period on real stores: from a log that older versions wrote, from its archive, and over a restart.

use std::sync::Arc;

use sluice::app::App;
use sluice::commands::allocation::AllocationCommand;
use sluice::domain::carryover::{CarryoverBase, ComponentCarryover};
use sluice::domain::evaluate::Trigger;
use sluice::domain::period::{Month, PeriodKind};
use sluice::domain::policy::PolicyTerms;
use sluice::events::Event;
use sluice::events::envelope::{NewEvent, Payload, Position};
use sluice::store::ExpectedVersion;
use sluice::store::archive::Archive;

use super::{Place, instant, lay_out, put_policy, run, usage};
use crate::support::fleet::meta;
use crate::support::world::{ALL_THREE, amounts, dec, policy_id, resource_id, terms};

fn quarterly(base: Option<CarryoverBase>) -> PolicyTerms {
    let (period, factor) = (PeriodKind::Quarter, Some(dec("100")));
    PolicyTerms { carryover_enabled: true, carryover_factor: factor, carryover_base: base, period, ..terms(ALL_THREE) }
}

/// What the newest evaluation of the node hours carried over.
async fn carried(app: &App, resource: &str) -> ComponentCarryover {
    let book = app.allocations.book(resource_id(resource)).await.unwrap();
    let (basis, _) = book.policies[&policy_id("main")].basis.clone().unwrap();
    basis.allocation.carryover.per_component["node"].clone()
}

/// The same log as a version wrote it that kept no limits of earlier months in its books.
async fn as_an_older_version_wrote_it(log: &App, place: &Place, now: &str) -> Arc<App> {
    let app = place.open_at(now).await;
    let mut after = Position::START;
    loop {
        let page = log.store.read_all(after, 500).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        for event in &page {
            let mut payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap();
            if let Some(carried) = payload.get_mut("carried").and_then(serde_json::Value::as_object_mut) {
                assert!(carried.remove("limit_history").is_some());
            }
            let stored = NewEvent {
                event_id: event.event_id,
                event_type: Event::types().find(|known| **known == *event.event_type).unwrap(),
                occurred_at: event.occurred_at,
                metadata: event.metadata.clone(),
                payload: Payload::of_no_family(payload.to_string()),
            };
            let expected = ExpectedVersion::Exact(event.version - 1);
            app.store.append(&event.stream, expected, vec![stored]).await.unwrap();
        }
    }
    app.follower.catch_up().await.unwrap();
    app
}

/// 1000 node hours in the first quarter, 890 used; 1200 from April on, 1500 from May on.
async fn two_raises(app: &App) {
    lay_out(app, &["a", "b"]).await;
    put_policy(app, quarterly(None)).await;
    for resource in ["a", "b"] {
        run(app, resource, &usage("2026-02", 890)).await;
    }
    for (day, limit) in [("2026-04-10T12:00:00Z", "1200"), ("2026-05-10T12:00:00Z", "1500")] {
        app.advance_clock(instant(day)).await.unwrap();
        for resource in ["a", "b"] {
            run(app, resource, &AllocationCommand::ChangeLimits(amounts(&[("node", limit)]))).await;
        }
    }
    app.advance_clock(instant("2026-06-10T12:00:00Z")).await.unwrap();
}

fn month_of(at: chrono::DateTime<chrono::Utc>) -> (String, chrono::DateTime<chrono::Utc>) {
    let month = Month::of_instant(at, chrono_tz::Tz::UTC);
    (month.to_string(), month.next().starts_at(chrono_tz::Tz::UTC))
}

#[tokio::test]
async fn a_log_of_an_older_version_gives_the_right_base_from_its_books_and_from_its_archive() {
    let (new, old) = (Place::new(), Place::new());
    let written = new.open_at("2026-02-10T12:00:00Z").await;
    two_raises(&written).await;
    assert_eq!(carried(&written, "a").await.carryover, dec("610"), "an upgrade moves nobody's allowance");
    let app = as_an_older_version_wrote_it(&written, &old, "2026-06-10T12:00:00Z").await;

    let options = &app.options;
    let archive = Archive::open(&options.database, options.limits.clone()).await.unwrap();
    let planned = archive.plan(instant("2026-07-01T00:00:00Z"), &month_of).await.unwrap();
    let now: sluice::store::Now = Arc::new(sluice::clock::real_now);
    assert!(archive.run(&planned, &now, |_| ()).await.unwrap().removed > 0);

    put_policy(&app, quarterly(Some(CarryoverBase::Previous))).await;
    let evaluate = AllocationCommand::Evaluate { policy: None, trigger: Trigger::PolicyChanged };
    let both = [(resource_id("a"), evaluate.clone()), (resource_id("b"), evaluate.clone())];
    for outcome in app.allocations.execute_many(&both, &meta()).await {
        outcome.unwrap();
    }
    for resource in ["a", "b"] {
        let terms = carried(&app, resource).await;
        assert_eq!((terms.previous_base, terms.carryover, terms.total), (Some(dec("1000")), dec("110"), dec("1610")));
    }
    // What was read once is carried on.
    app.advance_clock(instant("2026-07-02T12:00:00Z")).await.unwrap();
    let book = app.allocations.book(resource_id("a")).await.unwrap();
    assert!(book.limit_history.reaches("2026-03".parse().unwrap()));
    assert_eq!(carried(&app, "a").await.previous_base, Some(dec("1500")));
}

#[tokio::test]
async fn a_preview_on_an_old_log_reads_the_old_books_too() {
    let (new, old) = (Place::new(), Place::new());
    let written = new.open_at("2026-02-10T12:00:00Z").await;
    two_raises(&written).await;
    let app = as_an_older_version_wrote_it(&written, &old, "2026-06-10T12:00:00Z").await;
    let request = sluice::operations::PreviewRequest {
        resource: Some(resource_id("a")),
        carryover_base: Some(CarryoverBase::Previous),
        ..Default::default()
    };
    let preview = app.operations.preview(&request).await.unwrap();
    assert_eq!((preview.carryover_formula, preview.numbers.effective_allocation), ("capped_unused/2", dec("1610")));
    assert_eq!(carried(&app, "a").await.carryover, dec("610"), "nothing was recorded");
}

#[tokio::test]
async fn limits_of_the_policy_are_known_after_a_restart() {
    let place = Place::new();
    let app = place.open_at("2026-02-10T12:00:00Z").await;
    lay_out(&app, &[]).await;
    let with = |node: &str| PolicyTerms {
        component_limits: amounts(&[("node", node)]),
        ..quarterly(Some(CarryoverBase::Previous))
    };
    put_policy(&app, with("1000")).await;
    let facts = crate::support::world::resource_facts("a", amounts(&[]), instant("2020-01-01T00:00:00Z"));
    run(&app, "a", &AllocationCommand::Register(Box::new(facts))).await;
    run(&app, "a", &usage("2026-02", 890)).await;
    app.advance_clock(instant("2026-05-10T12:00:00Z")).await.unwrap();
    put_policy(&app, with("1200")).await;
    put_policy(&app, with("1500")).await;
    app.settle().await.unwrap();
    for app in [app, place.again().await] {
        run(&app, "a", &AllocationCommand::Evaluate { policy: None, trigger: Trigger::Requested }).await;
        let terms = carried(&app, "a").await;
        assert_eq!((terms.base, terms.previous_base, terms.carryover), (dec("1500"), Some(dec("1000")), dec("110")));
    }
}
