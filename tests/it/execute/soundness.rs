//! Events that cannot be relied on: who meets one names it and waits, everybody else goes on, and setting it aside ends it.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice::app::{App, AppError};
use sluice::commands::allocation::AllocationCommand;
use sluice::commands::execute::CommandError;
use sluice::domain::ids::slug_uuid;
use sluice::domain::policy::PolicyTerms;
use sluice::events::envelope::{Actor, DecodeError, Metadata, NewEvent, Position, RecordedEvent};
use sluice::events::site::{EventSetAside, SiteEvent};
use sluice::http::{ApiState, router};
use sluice::registry::FollowError;
use sluice::serve::Server;
use sluice::store::ExpectedVersion;
use sluice::store::address::Database;
use sluice::store::consumer::LoopError;
use sluice::store::copy::{self, CopyError};
use sluice::store::sound::{examine, judge, quarantine_stream};
use sqlx::{AssertSqlSafe, Connection};
use tokio_util::sync::CancellationToken;

use super::{Place, lay_out, put_policy, resource_id, run, usage};
use crate::support::database::connect;
use crate::support::fleet::meta;
use crate::support::positions::number;
use crate::support::world::{ALL_THREE, dec, terms};

/// Changes the rows of events as nobody may.
///
/// # Panics
/// The database does not take it.
pub async fn spoil(database: &Database, sqlite: &str, postgres: &str) {
    match database {
        Database::Sqlite(log) => {
            let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", log.display())).await.unwrap();
            let all = format!(
                "PRAGMA foreign_keys = OFF; DROP TRIGGER IF EXISTS events_append_only; \
                 DROP TRIGGER IF EXISTS events_archived_stay; {sqlite}"
            );
            sqlx::raw_sql(AssertSqlSafe(all)).execute(&mut raw).await.unwrap();
            raw.close().await.unwrap();
        }
        Database::Postgres(url) => {
            let all = format!("SET session_replication_role = replica; SET search_path = sluice; {postgres}");
            sqlx::raw_sql(AssertSqlSafe(all)).execute(&mut connect(url).await).await.unwrap();
        }
    }
}

/// The newest event of a type, as it is stored.
async fn newest(app: &App, event_type: &str) -> RecordedEvent {
    let events = app.guard.log().read_all(Position::START, 10_000).await.unwrap();
    events.into_iter().rev().find(|event| &*event.event_type == event_type).unwrap()
}

async fn set_aside(app: &App, unsound: &DecodeError) {
    let said = SiteEvent::EventSetAside(EventSetAside {
        position: unsound.position,
        stream: unsound.stream.clone(),
        version: unsound.version,
        event_type: unsound.event_type.to_string(),
        problem: unsound.problem.clone(),
    });
    let id = slug_uuid("event", &unsound.position.plain());
    let event = NewEvent {
        event_id: id,
        event_type: said.event_type(),
        occurred_at: app.clock.now(),
        metadata: Metadata { actor: Actor::CLI, correlation_id: id, causation_id: None, reason: Some("a test".into()) },
        payload: said.to_append().unwrap(),
    };
    app.store.append(&quarantine_stream(), ExpectedVersion::Any, vec![event]).await.unwrap();
}

/// A site with resources `a` and `b`, and a report on `a` that no read model has seen.
async fn reported(place: &Place) -> RecordedEvent {
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a", "b"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    app.settle().await.unwrap();
    run(&app, "a", &usage("2026-03", 10)).await;
    newest(&app, "usage_reported.v1").await
}

const CUT: (&str, &str) = (
    "UPDATE events SET payload = substr(payload, 1, length(payload) - 3) WHERE position = ",
    "UPDATE events SET payload = left(payload, -3) WHERE position = ",
);

#[tokio::test]
async fn an_event_that_cannot_be_read_is_named_and_stands_in_the_way_until_it_is_set_aside() {
    let place = Place::new();
    let report = reported(&place).await;
    let at = number(report.position);
    spoil(&place.options().database, &format!("{}{at}", CUT.0), &format!("{}{at}", CUT.1)).await;
    let app = place.again().await;
    let Err(AppError::Loop(LoopError::Stalled { reason, .. })) = app.settle().await else { panic!("nobody noticed") };
    for part in [&format!("position {at}"), report.stream.as_str(), "usage_reported.v1", "EOF"] {
        assert!(reason.contains(part), "no {part:?} in {reason}");
    }
    let noted = app.guard.noted();
    assert_eq!((noted.len(), noted[0].position, noted[0].version), (1, report.position, report.version));
    // Its resource waits, the others do not.
    let refused = app.allocations.execute(resource_id("a"), &usage("2026-03", 11), &meta()).await;
    assert!(matches!(&refused, Err(CommandError::Unsound(unsound)) if **unsound == noted[0]), "{refused:?}");
    run(&app, "b", &usage("2026-03", 7)).await;
    let both = [(resource_id("b"), usage("2026-03", 8)), (resource_id("a"), usage("2026-03", 12))];
    let outcomes = app.allocations.execute_many(&both, &meta()).await;
    assert!(outcomes[0].is_ok() && matches!(outcomes[1], Err(CommandError::Unsound(_))), "{outcomes:?}");

    set_aside(&app, &noted[0]).await;
    app.settle().await.unwrap();
    assert_eq!(app.guard.noted(), []);
    let book = app.allocations.book(resource_id("a")).await.unwrap();
    assert_eq!(book.amount("2026-03".parse().unwrap(), "node"), None);
    run(&app, "a", &usage("2026-03", 13)).await;
    app.settle().await.unwrap();
    sluice::projections::rebuild::all(&app.consumers, &app.read, |_, _| ()).await.unwrap();
    let head = app.store.head().await.unwrap();
    let found = examine(&**app.guard.log(), Position::START, head, |_| ()).await.unwrap();
    assert!(found.is_sound() && found.set_aside == 1, "{found:?}");
    // Another process, later, passes it over too.
    let other = place.again().await;
    other.settle().await.unwrap();
    let book = other.allocations.book(resource_id("a")).await.unwrap();
    assert_eq!(book.amount("2026-03".parse().unwrap(), "node"), Some(dec("13")));
}

#[tokio::test]
async fn what_was_changed_after_it_was_recorded_is_found() {
    let place = Place::new();
    let report = reported(&place).await;
    let at = number(report.position);
    let change = format!("UPDATE events SET payload = replace(payload, '\"10\"', '\"01\"') WHERE position = {at}");
    spoil(&place.options().database, &change, &change).await;
    let app = place.again().await;
    assert_eq!(app.guard.noted(), []);
    app.look_at_log().await.unwrap();
    let noted = app.guard.noted();
    assert_eq!((noted.len(), noted[0].position), (1, report.position));
    assert!(noted[0].problem.contains("committed"), "{}", noted[0]);
    // It can be read, so nobody waits for it; whoever watches the service is told.
    let (status, ready) = started(&place.again().await).await;
    assert_eq!((status, &ready["status"]), (200, &json!("degraded")), "{ready}");
    assert_eq!(ready["unsound_events"][0]["position"], at.to_string());
}

/// What readiness answers of a server that was just started.
async fn started(app: &Arc<App>) -> (u16, Value) {
    let server = Server::start(Arc::clone(app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, service) = (server.address(), router(ApiState::new(Arc::clone(app))));
    let running = tokio::spawn(async move { server.run(service, CancellationToken::new()).await });
    let answer = reqwest::get(format!("http://{address}/health/ready")).await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    // It is not asked to end in order: it would wait for consumers that stand still.
    running.abort();
    let _ = running.await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn what_the_registry_cannot_read_stops_what_is_decided_by_it_and_keeps_no_server_from_starting() {
    // A change that nobody has taken in yet; an older version of a policy, and a setting, that everybody had.
    for (event_type, taken_in) in
        [("policy_changed.v1", false), ("policy_created.v1", true), ("setting_changed.v1", true)]
    {
        let place = Place::new();
        let app = place.open_at("2026-03-10T12:00:00Z").await;
        lay_out(&app, &["a"]).await;
        let change = [("fairshare_divisor".to_owned(), json!(4))].into_iter().collect();
        app.settings.change(&change, &meta()).await.unwrap();
        put_policy(&app, terms(ALL_THREE)).await;
        app.settle().await.unwrap();
        put_policy(&app, PolicyTerms { grace_ratio: dec("0.3"), ..terms(ALL_THREE) }).await;
        if taken_in {
            app.settle().await.unwrap();
        }
        let changed = newest(&app, event_type).await;
        let at = number(changed.position);
        drop(app);
        spoil(&place.options().database, &format!("{}{at}", CUT.0), &format!("{}{at}", CUT.1)).await;

        let app = place.again().await;
        assert_eq!(app.follower.stands_at().map(|unsound| unsound.position), Some(changed.position), "{event_type}");
        let (status, ready) = started(&app).await;
        let named = &ready["unsound_events"][0];
        assert_eq!((status, &named["position"], &named["type"]), (503, &json!(at.to_string()), &json!(event_type)));
        let registry = ready["workers"].as_array().unwrap().iter().find(|worker| worker["name"] == "registry");
        assert_eq!(registry.unwrap()["stalled"], true, "{ready}");
        // Nothing is decided by what is not known; what somebody says once is kept.
        let head = app.store.head().await.unwrap();
        let refused = app.allocations.execute(resource_id("a"), &usage("2026-03", 11), &meta()).await;
        assert!(matches!(refused, Err(CommandError::Registry(FollowError::Event(_)))), "{event_type}: {refused:?}");
        let many = app.allocations.execute_many(&[(resource_id("a"), usage("2026-03", 11))], &meta()).await;
        assert!(matches!(many[0], Err(CommandError::Registry(_))), "{event_type}: {many:?}");
        assert_eq!(app.store.head().await.unwrap(), head);
        run(&app, "a", &AllocationCommand::NoteSync).await;

        set_aside(&app, &app.guard.noted()[0]).await;
        app.settle().await.unwrap();
        assert_eq!((app.follower.stands_at(), app.guard.noted().len()), (None, 0), "{event_type}");
        run(&app, "a", &usage("2026-03", 12)).await;
        let (status, ready) = started(&place.again().await).await;
        assert_eq!((status, &ready["status"]), (200, &json!("ready")), "{event_type}: {ready}");
    }
}

#[tokio::test]
async fn settings_that_were_set_aside_go_to_nobody_and_are_worked_out_anew() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    lay_out(&app, &["a"]).await;
    put_policy(&app, terms(ALL_THREE)).await;
    run(&app, "a", &usage("2026-03", 1050)).await;
    app.settle().await.unwrap();
    let owed = app.publisher.depth().await.unwrap();
    assert_eq!(owed.queued, 1, "no queue takes it yet");
    let commanded = newest(&app, "settings_commanded.v2").await;
    drop(app);
    let at = number(commanded.position);
    spoil(&place.options().database, &format!("{}{at}", CUT.0), &format!("{}{at}", CUT.1)).await;

    let app = place.again().await;
    app.look_at_log().await.unwrap();
    set_aside(&app, &app.guard.noted()[0]).await;
    app.settle().await.unwrap();
    let (row, owed) = (owed_rows(&app).await, app.publisher.depth().await.unwrap());
    let anew = newest(&app, "settings_commanded.v2").await;
    assert!(anew.position > commanded.position && anew.stream == commanded.stream);
    assert_eq!((owed.queued, row), (1, vec![i64::try_from(anew.version).unwrap()]), "the new one, and it alone");
    // Made again from the log, it is the same.
    sluice::projections::rebuild::all(&app.consumers, &app.read, |_, _| ()).await.unwrap();
    app.settle().await.unwrap();
    assert_eq!(owed_rows(&app).await, vec![i64::try_from(anew.version).unwrap()]);
}

/// Which events the agent is owed, by their versions.
async fn owed_rows(app: &App) -> Vec<i64> {
    let rows = app.read.query("SELECT version FROM outbox ORDER BY no", &[]).await.unwrap();
    rows.iter().map(|row| row.i64(0).unwrap()).collect()
}

#[tokio::test]
async fn every_way_for_a_row_to_make_no_sense_is_a_named_event() {
    let place = Place::new();
    let report = reported(&place).await;
    let at = number(report.position);
    let app = place.again().await;
    let on_file = matches!(place.options().database, Database::Sqlite(_));
    // SQLite keeps any bytes; a server of its own refuses most of these by itself.
    let mut ways = vec!["actor_kind = 99", "payload = 'null'", "payload = '{}'"];
    if on_file {
        ways.extend([
            "payload = CAST(x'7bff7d' AS TEXT)",
            "correlation_id = x'00'",
            "salt = x'00'",
            "commitment = x'00'",
        ]);
        ways.push("reason = CAST(x'ff' AS TEXT)");
        ways.push("kind_id = 999");
    }
    for way in ways {
        let set = format!("UPDATE events SET {way} WHERE position = {at}");
        spoil(&place.options().database, &set, &set).await;
        app.store.rest().await;
        let event = app.guard.log().event_at(report.position).await.unwrap().unwrap();
        let unsound = judge(&event).expect_err(way);
        assert_eq!(
            (unsound.position, &unsound.stream, unsound.version),
            (report.position, &report.stream, report.version)
        );
        if event.damage().is_some() {
            let target = Place::new();
            let (from, to) = (place.options(), target.options());
            let (source, copy) = (copy::Place::from(from.database), copy::Place::from(to.database));
            let copied = copy::copy(&source, &copy, &from.limits, |_| ());
            let refused = copied.await.unwrap_err();
            assert!(
                matches!(&refused, CopyError::Unreadable { position, .. } if *position == report.position),
                "{way}: {refused}"
            );
        }
        let stream = app.guard.log().read_streams(std::slice::from_ref(&report.stream)).await.unwrap();
        assert_eq!(
            stream[0].events.last().unwrap().version,
            app.guard.log().read_stream(&report.stream, 0, 100).await.unwrap().last().unwrap().version
        );
    }
}
