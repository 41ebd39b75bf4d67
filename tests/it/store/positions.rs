//! Positions on every engine: they are shown, compared and handed back, and nobody counts with them where they are no numbers.
//! Every command and page that shows one is run on a log in `SQLite`, in `PostgreSQL` and in `EventStoreDB`.

use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Value, json};
use sluice::app::AppOptions;
use sluice::events::envelope::Position;
use sluice::limits::Limits;
use sluice::projections::rebuild;
use sluice::store::address::Database;
use sluice::store::sound::sample;
use sluice::store::{Distance, EventStore, ExpectedVersion};
use tempfile::TempDir;

use super::esdb::{self, Fault};
use super::support::{engines, events, ids, stream};
use crate::cli::{bare, failure};
use crate::support::database::{postgres, server};
use crate::support::server::{START, TestServer, Who, id};

/// An installation on one engine.
struct Installation {
    engine: &'static str,
    folder: TempDir,
    database: Database,
    fixture: Option<esdb::Fixture>,
}

impl Installation {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::new("sqlite", None), Self::new("eventstoredb", Some(esdb::Fixture::start()))];
        if server().is_some() {
            let mut on_server = Self::new("postgres", None);
            on_server.database = postgres(&on_server.folder.path().join("sluice.db"));
            all.push(on_server);
        }
        all
    }

    fn new(engine: &'static str, fixture: Option<esdb::Fixture>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::from(folder.path().join("sluice.db"));
        Self { engine, folder, database, fixture }
    }

    /// Whether positions are numbers there.
    fn counts(&self) -> bool {
        self.fixture.is_none()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.env("SLUICE_DATA_DIR", self.folder.path()).env("SLUICE_SIMULATED_CLOCK", START);
        if let Database::Postgres(url) = &self.database {
            command.env("SLUICE_DATABASE", url);
        }
        if let Some(fixture) = &self.fixture {
            command.env("SLUICE_EVENT_STORE", fixture.address());
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).assert().success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--format", "json"]].concat())).unwrap()
    }

    fn set(&self, options: &mut AppOptions) {
        options.database = self.database.clone();
        options.event_store = self.fixture.as_ref().map(|fixture| fixture.address().parse().unwrap());
    }

    async fn server(&self) -> TestServer {
        TestServer::customized(|options| self.set(options)).await
    }
}

#[test]
fn every_command_shows_positions_of_every_engine() {
    for at in Installation::all() {
        let engine = at.engine;
        at.run(&["apply", "-f", "src/demo/site.yaml"]);
        // Others write to the same server, more than Sluice does.
        if let Some(fixture) = &at.fixture {
            fixture.others_write(5_000);
        }
        at.run(&["apply", "-f", "src/demo/site.yaml"]);
        let verified = at.json(&["store", "verify"]);
        assert_eq!((&verified["sound"], &verified["missing"]), (&json!(true), &json!([])), "{engine}: {verified}");
        let events = verified["events"].as_u64().unwrap();

        let status = at.json(&["projections", "status"]);
        assert_eq!((&status["events"], &status["events_is"]), (&json!(events), &json!("exact")), "{engine}: {status}");
        let head: Position = status["head"].as_str().unwrap().parse().unwrap();
        for consumer in status["consumers"].as_array().unwrap() {
            assert_eq!((&consumer["lag"], &consumer["lag_is"]), (&json!(0), &json!("exact")), "{engine}: {consumer}");
            assert_eq!(consumer["position"], status["head"], "{engine}: {consumer}");
        }
        let text = at.run(&["projections", "status"]);
        let first = format!("the log holds {events} events; the newest stands at position {}", head.plain());
        assert!(text.starts_with(&first), "{engine}: {text}");
        assert_eq!(head.plain() == events.to_string(), at.counts(), "{engine}: {}", head.plain());
        let rebuilt = at.run(&["projections", "rebuild", "usage"]);
        assert_eq!(rebuilt.trim(), format!("usage: rebuilt up to position {}", head.plain()), "{engine}");

        for arguments in [&["doctor", "--offline"][..], &["doctor", "--offline", "--deep"]] {
            let seen = at.json(arguments);
            assert_eq!(seen["healthy"], true, "{engine}: {seen:#}");
            let looked = seen["findings"].as_array().unwrap().iter().find(|finding| finding["area"] == "log").unwrap();
            let said = format!("{events} events can be read");
            assert!(looked["what"].as_str().unwrap().starts_with(&said), "{engine}: {looked}");
        }

        let set_aside = |position: &str| {
            failure(&mut at.command(&["store", "quarantine", "--position", position, "--reason", "test"]))
        };
        let (status, said) = set_aside("4711");
        assert!(status == 2 && said.contains("no event stands at position 4711"), "{engine}: {said}");
        let (status, said) = set_aside(&head.plain());
        assert!(status == 2 && said.contains("only an event that cannot be relied on"), "{engine}: {said}");
        let (status, said) = set_aside("north");
        assert!(status == 2 && said.contains("a position is a number, or two groups"), "{engine}: {said}");
    }
}

#[tokio::test]
async fn every_page_shows_positions_of_every_engine() {
    for at in Installation::all() {
        let engine = at.engine;
        let server = at.server().await;
        server.policy(|_| ()).await;
        server.report("climate-hpc1", "850", "2026-03-01T00:00:00Z").await;
        if let Some(fixture) = &at.fixture {
            fixture.others_write(5_000);
        }
        server.app.settle().await.unwrap();

        let whole = server.get(Who::Staff, "/api/events/?page_size=100").await.expect(200);
        let whole: Vec<&Value> = whole.as_array().unwrap().iter().collect();
        let (mut paged, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(Who::Staff, &format!("/api/events/?page_size=7{after}")).await;
            paged.extend(page.expect(200).as_array().unwrap().clone());
            match page.header("x-next-position") {
                "" => break,
                next => after = format!("&after={next}"),
            }
        }
        assert_eq!(paged.iter().collect::<Vec<_>>(), whole, "{engine}");
        let places: Vec<Position> =
            whole.iter().map(|event| event["position"].as_str().unwrap().parse().unwrap()).collect();
        assert!(places.is_sorted() && places.last() == Some(&server.app.store.head().await.unwrap()), "{engine}");
        let correlation = whole.last().unwrap()["correlation_id"].as_str().unwrap();
        let chain = server.get(Who::Staff, &format!("/api/events/?correlation_id={correlation}")).await.expect(200);
        let of_chain = |event: &&&Value| event["correlation_id"] == correlation;
        assert_eq!(chain.as_array().unwrap().len(), whole.iter().filter(of_chain).count(), "{engine}");

        // A place where no event begins: it is none of the numbers, or lies within an event.
        let (commit, prepare) = whole[3]["position"].as_str().unwrap().split_once('-').unwrap();
        let within = format!("{commit}-{:x}", u64::from_str_radix(prepare, 16).unwrap() + 1);
        let problem = if at.counts() { "of this log" } else { "No event stands at the position" };
        for path in ["/api/events/", "/api/events/stream/"] {
            let nowhere = server.get(Who::Staff, &format!("{path}?after={within}")).await;
            assert!(nowhere.refusal("after").contains(problem), "{engine}: {}", nowhere.text);
        }
        let timeline = format!("/api/marketplace-provider-resources/{}/timeline/", id("resource", "climate-hpc1"));
        for entry in server.get(Who::Staff, &timeline).await.expect(200).as_array().unwrap() {
            assert!(places.contains(&entry["position"].as_str().unwrap().parse().unwrap()), "{engine}: {entry}");
        }
        let ready = server.get(Who::Anonymous, "/health/ready").await.expect(200);
        for consumer in ready["consumers"].as_array().unwrap() {
            assert_eq!((&consumer["lag"], &consumer["lag_is"]), (&json!(0), &json!("exact")), "{engine}: {consumer}");
        }
        // The bar of a rebuild runs from nothing to the number of events.
        let mut steps = Vec::new();
        let app = &server.app;
        rebuild::one(&app.consumers, &app.read, "usage", |step| steps.push(step)).await.unwrap();
        let events = whole.len() as u64;
        assert_eq!(steps[0].total, Distance::Exact(events), "{engine}");
        assert_eq!(steps.last().unwrap().events, events, "{engine}");

        let metrics = server.get(Who::Staff, "/metrics").await.text;
        let recorded = server.app.store.newest().await.unwrap().unwrap().recorded_at.timestamp();
        for line in [
            format!("sluice_log_newest_event_timestamp_seconds {recorded}"),
            "sluice_consumer_lag_events{consumer=\"usage\"} 0".to_owned(),
            "sluice_consumer_lag_estimated{consumer=\"usage\"} 0".to_owned(),
        ] {
            assert!(metrics.contains(&line), "{engine}: no {line:?} in {metrics}");
        }
        if let Some(numbers) = server.app.store.numbers() {
            let number = numbers.of(server.app.store.head().await.unwrap());
            assert!(metrics.contains(&format!("sluice_log_position {number}")), "{engine}: {metrics}");
        }
        server.stop().await;
    }
}

/// Appends so many events, a hundred at a time.
async fn append(store: &dyn EventStore, numbers: std::ops::Range<u128>) {
    for begin in numbers.clone().step_by(100) {
        let some = events(begin..(begin + 100).min(numbers.end));
        store.append(&stream(&format!("s-{begin}")), ExpectedVersion::NoStream, some).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_says_how_far_itself_and_how_well_it_knows() {
    for (engine, store, _kept) in engines(Limits::default()).await {
        assert_eq!(store.newest().await.unwrap(), None, "{engine}");
        assert_eq!(store.read_back(None, 7).await.unwrap(), [], "{engine}");
        assert_eq!(store.distance(Position::START, Position::START).await, Distance::NONE, "{engine}");
        append(&*store, 0..300).await;
        let head = store.head().await.unwrap();
        let log = store.read_all(Position::START, 1_000).await.unwrap();
        assert_eq!(store.newest().await.unwrap().as_ref(), log.last(), "{engine}");
        assert_eq!(store.distance(Position::START, head).await, Distance::Exact(300), "{engine}");
        assert_eq!(store.distance(log[99].position, log[250].position).await, Distance::Exact(151), "{engine}");
        assert_eq!(store.distance(head, Position::START).await, Distance::NONE, "{engine}");

        let between = store.read_up_to(log[99].position, log[250].position, 1_000).await.unwrap();
        assert_eq!(between, log[100..=250], "{engine}");
        assert_eq!(store.read_up_to(log[99].position, log[250].position, 7).await.unwrap(), log[100..107], "{engine}");
        assert_eq!(store.read_up_to(head, head, 7).await.unwrap(), [], "{engine}");
        let back = store.place_back(40).await.unwrap();
        assert_eq!(ids(&store.read_all(back, 1_000).await.unwrap()), (260..300).collect::<Vec<_>>(), "{engine}");
        assert_eq!(store.place_back(1_000).await.unwrap(), Position::START, "{engine}");
        assert_eq!(store.event_at(log[7].position).await.unwrap().as_ref(), Some(&log[7]), "{engine}");
        let mut backwards = log.clone();
        backwards.reverse();
        assert_eq!(store.read_back(None, 1_000).await.unwrap(), backwards, "{engine}");
        assert_eq!(store.read_back(None, 7).await.unwrap(), backwards[..7], "{engine}");
        let before = Some(log[100].position);
        assert_eq!(store.read_back(before, 30).await.unwrap(), backwards[200..230], "{engine}");
        assert_eq!(store.read_back(Some(log[0].position), 7).await.unwrap(), [], "{engine}");
        let nowhere: Position = "1-1".parse().unwrap();
        assert_eq!(store.event_at(nowhere).await.unwrap(), None, "{engine}");
        // Of these events none is of Sluice's families, so each is named.
        let newest = sample(&*store, 40, 0).await.unwrap();
        assert_eq!(newest.events, 40, "{engine}");

        append(&*store, 300..1_500).await;
        let head = store.head().await.unwrap();
        match (store.numbers(), store.distance(Position::START, head).await) {
            (Some(_), Distance::Exact(1_500)) => {}
            (None, Distance::Estimated(events)) => assert!((1_400..1_600).contains(&events), "{engine}: {events}"),
            (_, other) => panic!("{engine}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn others_events_are_not_counted_and_a_server_that_does_not_say_leaves_it_unknown() {
    let fixture = esdb::Fixture::start();
    let store = esdb::store(&fixture, Limits::default());
    append(&*store, 0..700).await;
    fixture.others_write(50_000);
    // Whoever looks for the newest event remembers what lies behind it.
    store.head().await.unwrap();
    append(&*store, 700..1_000).await;
    let head = store.head().await.unwrap();
    let Distance::Estimated(events) = store.distance(Position::START, head).await else { panic!("not counted") };
    assert!((900..1_100).contains(&events), "{events}");
    fixture.plan([Fault::ReadHangs]);
    assert_eq!(store.distance(Position::START, head).await, Distance::Unknown);
    fixture.assert_no_fault_left();
    assert_eq!(Distance::Unknown.events(), None);
    assert_eq!(Distance::Estimated(12).to_string(), "about 12 (estimated)");
    tokio::time::timeout(Duration::from_mins(1), store.head()).await.unwrap().unwrap();
}
