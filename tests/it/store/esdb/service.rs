//! The whole way on a log in `EventStoreDB`: from an HTTP report over the evaluation to read models, which are made again.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::app::{App, AppError, AppOptions};
use sluice::projections::{NAMES, rebuild};
use tempfile::TempDir;

use super::Fixture;
use crate::cli::{Fixture as Cli, failure};
use crate::support::database::{self, database, drop_read_models};
use crate::support::server::{START, TestServer, Who, id};

/// A fixture of the event store and a folder for the database.
struct Place {
    fixture: Fixture,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { fixture: Fixture::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn set(&self, options: &mut AppOptions) {
        options.database = database(&self.folder.path().join("sluice.db"));
        options.event_store = Some(self.fixture.address().parse().unwrap());
    }

    fn options(&self) -> AppOptions {
        let mut options = database::options(self.folder.path());
        options.simulated_clock = Some(START.parse().unwrap());
        self.set(&mut options);
        options
    }

    async fn server(&self) -> TestServer {
        TestServer::customized(|options| self.set(options)).await
    }
}

/// What readers are shown.
async fn shown(server: &TestServer, policy: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    for path in [
        format!("{policy}evaluation-logs/"),
        format!("{policy}command-history/"),
        policy.to_owned(),
        "/api/events/?page_size=100".to_owned(),
        format!("/api/marketplace-provider-resources/{}/", id("resource", "climate-hpc1")),
    ] {
        // Addresses name the port, which is another one each time.
        let text = server.get(Who::Staff, &path).await.expect(200).to_string();
        answers.push(serde_json::from_str(&text.replace(&server.address.to_string(), "HERE")).unwrap());
    }
    answers
}

#[tokio::test]
async fn a_report_is_evaluated_shown_and_shown_again_after_a_rebuild() {
    let place = Place::new();
    let server = place.server().await;
    let (policy, _) = server.policy(|policy| policy["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "850", "2026-03-01T00:00:00Z").await;
    server.report("climate-hpc1", "1300", "2026-03-02T00:00:00Z").await;
    let before = shown(&server, &policy).await;
    let evaluations = before[0].as_array().unwrap();
    assert!(evaluations.iter().any(|evaluation| evaluation.to_string().contains("pause")), "{evaluations:?}");
    let events = before[3].as_array().unwrap();
    assert!(events.len() > 15, "{}", events.len());
    server.get(Who::Anonymous, "/health/ready").await.expect(200);
    server.stop().await;
    let log = place.fixture.log().records.iter().filter(|record| record.stream.starts_with("sluice.")).count();
    assert!(log >= events.len(), "the events are there and not in the file");

    // The same read models after a restart, and made again from the log.
    let app = App::open(place.options()).await.unwrap();
    app.settle().await.unwrap();
    let mut moved = 0;
    for name in NAMES {
        let progress = |_| moved += 1;
        let position = rebuild::one(&app.consumers, &app.read, name, progress).await.unwrap();
        assert_eq!(position, app.store.head().await.unwrap(), "{name}");
    }
    assert!(moved > 0);
    assert!(app.consumers.status().await.unwrap().iter().all(|consumer| consumer.lag == sluice::store::Distance::NONE));
    drop(app);
    let server = place.server().await;
    assert_eq!(shown(&server, &policy).await, before);
    server.stop().await;

    // And when all that can be made again is gone.
    drop_read_models(&place.options().database).await;
    let server = place.server().await;
    // What reactions had done is not remembered there, so they evaluate again; whatever was shown is still shown.
    let after = shown(&server, &policy).await;
    for (list, before) in after[..2].iter().zip(&before) {
        let list = list.as_array().unwrap();
        assert!(before.as_array().unwrap().iter().all(|row| list.contains(row)), "{before} is not all in {list:?}");
    }
    server.report("climate-hpc1", "1301", "2026-03-03T00:00:00Z").await;
    server.stop().await;
}

#[tokio::test]
async fn a_database_goes_with_one_log() {
    let place = Place::new();
    drop(App::open(place.options()).await.unwrap());
    App::open(place.options()).await.unwrap();

    let mut own = place.options();
    own.event_store = None;
    let refused = App::open(own.clone()).await.err().unwrap();
    assert!(matches!(refused, AppError::EventLog(_)) && refused.to_string().contains("--event-store"), "{refused}");

    let mut other = place.options();
    other.event_store = Some(format!("{}&streamPrefix=other.", place.fixture.address()).parse().unwrap());
    let refused = App::open(other).await.err().unwrap().to_string();
    assert!(refused.contains("was made from the log") && refused.contains("streamPrefix=other."), "{refused}");

    // A log of its own in the file.
    own.database = database(&place.folder.path().join("own.db"));
    let app = App::open(own.clone()).await.unwrap();
    let on_file = |options: &mut AppOptions| {
        options.database.clone_from(&own.database);
        options.event_store = None;
    };
    let server = TestServer::customized(on_file).await;
    drop(app);
    server.stop().await;
    own.event_store = place.options().event_store;
    let refused = App::open(own).await.err().unwrap().to_string();
    assert!(refused.contains("a log of its own"), "{refused}");
}

#[test]
fn commands_work_on_it_and_never_show_the_password() {
    let (fixture, cli) = (Fixture::start(), Cli::new());
    let address = format!("esdb://op:geheim@127.0.0.1:{}?tls=false&discoveryInterval=1", fixture.port());
    let with = |arguments: &[&str]| {
        let mut command = cli.command(arguments);
        command.env("SLUICE_EVENT_STORE", &address);
        command
    };
    with(&["apply", "-f", "src/demo/site.yaml"]).assert().success();
    let status = with(&["projections", "status", "--format", "json"]).assert().success();
    let status: Value = serde_json::from_slice(&status.get_output().stdout).unwrap();
    let consumers = status["consumers"].as_array().unwrap();
    assert!(consumers.iter().all(|consumer| consumer["position"].as_str().unwrap().contains('-')), "{status}");
    let rebuilt = with(&["projections", "rebuild"]).assert().success();
    let rebuilt = String::from_utf8_lossy(&rebuilt.get_output().stdout).into_owned();
    assert!(rebuilt.contains("status_summary: rebuilt up to position "), "{rebuilt}");

    let (status, said) = failure(&mut with(&["store", "archive", "--before", "2026-01"]));
    assert_eq!(status, 2);
    assert!(said.contains("no archive of a log in an event store"), "{said}");
    let (_, said) = cli.fails(&["projections", "status"]);
    assert!(said.contains("name it with --event-store"), "{said}");
    let misspelt = address.replace("discoveryInterval", "discoveryIntervall");
    let (status, said) = failure(cli.command(&["projections", "status"]).env("SLUICE_EVENT_STORE", misspelt));
    assert!(status == 2 && said.contains("discoveryIntervall") && !said.contains("geheim"), "{said}");
    let elsewhere = format!("esdb://op:geheim@127.0.0.1:{}?tls=true&discoveryInterval=1", fixture.port());
    let (_, said) = failure(cli.command(&["projections", "status"]).env("SLUICE_EVENT_STORE", elsewhere));
    assert!(said.contains("the event store") && !said.contains("geheim"), "{said}");
}

#[tokio::test]
async fn a_report_takes_few_calls_and_a_start_looks_through_foreign_events_once() {
    let place = Place::new();
    // What is counted is what a report needs: nobody looks for what other processes append meanwhile.
    let never = Duration::from_hours(1);
    let set = |options: &mut AppOptions| {
        place.set(options);
        options.limits.foreign_poll = never;
        options.limits.event_store_poll_max = never;
    };
    let server = TestServer::customized(set).await;
    server.policy(|policy| policy["carryover_enabled"] = json!(false)).await;
    let mut fewest = usize::MAX;
    for day in 1..4 {
        // What the step before led to is over.
        server.app.settle().await.unwrap();
        let (before, appends) = (place.fixture.calls(), place.fixture.appends());
        server.report("climate-hpc1", &day.to_string(), "2026-03-01T00:00:00Z").await;
        let calls = place.fixture.calls() - before;
        assert_eq!(place.fixture.appends() - appends, 1);
        fewest = fewest.min(calls);
    }
    // The book may be read; then the append, and a read by each who follows the log: consumers and registry. A read that the
    // report before led to may still come in between, on a machine with other work.
    assert!(fewest <= 5, "{fewest} calls: {:?}", place.fixture.state.said());
    // Of these, no more than three wait for each other: every call is held long enough that the others are under way meanwhile.
    // Here too, a machine with other work may let a call of the step before come in between.
    let mut shortest = usize::MAX;
    for amount in 4..8 {
        server.app.settle().await.unwrap();
        place.fixture.state.chain.hold(Duration::from_millis(200));
        server.report("climate-hpc1", &amount.to_string(), "2026-03-01T00:00:00Z").await;
        let chain = place.fixture.state.chain.longest();
        assert!(chain >= 2, "an append, and a read of it: {:?}", place.fixture.state.said());
        shortest = shortest.min(chain);
        place.fixture.state.chain.hold(Duration::ZERO);
    }
    assert!(shortest <= 3, "{shortest} in a row: {:?}", place.fixture.state.said());
    server.stop().await;
    place.fixture.others_write(50_000);
    let app = App::open(place.options()).await.unwrap();
    app.settle().await.unwrap();
    let seen = place.fixture.looked_at();
    assert!(app.store.head().await.unwrap() > sluice::events::envelope::Position::START);
    drop(app);
    assert!(place.fixture.looked_at() - seen < 100);
}
