//! A log in `EventStoreDB` beside one in `SQLite`, in the same run: reports over HTTP, a fleet, a rebuild, a start after days
//! without a server, a log that moves, what waiting costs the server, and the loss of a leader. Against the fixture of the
//! tests, over loopback TCP, in this process: the client's side and the protocol are real, the server's disk is not.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sluice::app::{App, AppOptions};
use sluice::clock::real_now;
use sluice::events::envelope::{Position, StreamName};
use sluice::http::{ApiState, router};
use sluice::limits::Limits;
use sluice::serve::Server;
use sluice::store::address::Database;
use sluice::store::copy::{Place, copy};
use sluice::store::eventstoredb::EventStoreDb;
use sluice::store::{EventStore, ExpectedVersion};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::esdb::{Cluster, Fixture};
use crate::fleet::bulk;
use crate::report::{Table, median};
use crate::{Options, append, http, postgres, site};

/// Resources of the site that reports come for.
const RESOURCES: usize = 1_000;

/// Resources of the fleet, of the rebuild, and of the start after missed days.
const FLEET: usize = 10_000;

/// How long each count of clients reports.
const SPAN: Duration = Duration::from_secs(5);

/// How a cluster loses its leader.
type Loss = fn(&mut Cluster);

/// Days that nobody served.
const MISSED_DAYS: i64 = 90;

/// Events that others write.
const OTHERS: usize = 1_000_000;

/// Where the log is.
enum Log {
    Sqlite,
    Fixture(Box<Fixture>),
}

impl Log {
    fn both() -> [Self; 2] {
        [Self::Sqlite, Self::Fixture(Box::new(Fixture::start()))]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Fixture(_) => "eventstoredb",
        }
    }

    fn options(&self, folder: &TempDir) -> AppOptions {
        let mut options = AppOptions::at(folder.path().join("sluice.db"));
        if let Self::Fixture(fixture) = self {
            options.event_store = Some(fixture.address().parse().unwrap());
        }
        options
    }
}

pub async fn run(options: &Options) {
    reports(options).await;
    fleet(options).await;
    missed_days(options).await;
    moving(options).await;
    waiting().await;
    failover(options).await;
}

async fn reports(options: &Options) {
    let table = Table::new(&["log", "at a time", "reports/s", "p50 ms", "p99 ms"]);
    for log in Log::both() {
        let folder = tempfile::tempdir_in(&options.folder).unwrap();
        let app = App::open(AppOptions { serving: true, ..log.options(&folder) }).await.unwrap();
        site::lay_out(&app, RESOURCES).await;
        http::token(&app).await;
        let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/api/marketplace-component-usages/set_usage/", server.address());
        let stop = CancellationToken::new();
        let (service, signal) = (router(ApiState::new(Arc::clone(&app))), stop.clone());
        let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });
        let next = Arc::new(AtomicUsize::new(0));
        for clients in [1, 16, 64] {
            let (mut rates, mut waits) = (Vec::new(), Vec::new());
            for _ in 0..options.runs {
                let begun = Instant::now();
                let some = http::measure(&url, clients, &next, SPAN).await;
                rates.push(some.len() as f64 / begun.elapsed().as_secs_f64());
                waits.extend(some);
            }
            waits.sort_by(f64::total_cmp);
            let at = |percent: usize| format!("{:.2}", waits[(waits.len() - 1) * percent / 100]);
            table.row(&[log.name().into(), clients.to_string(), format!("{:.0}", median(rates)), at(50), at(99)]);
        }
        stop.cancel();
        running.await.unwrap();
    }
    println!();
}

async fn fleet(options: &Options) {
    let table = Table::new(&["log", "resources", "fleet s", "events", "rebuild s"]);
    for log in Log::both() {
        let folder = tempfile::tempdir_in(&options.folder).unwrap();
        let app = App::open(log.options(&folder)).await.unwrap();
        site::lay_out(&app, FLEET).await;
        app.settle().await.unwrap();
        let stop = CancellationToken::new();
        let mut tasks = app.start(&stop);
        let begun = Instant::now();
        bulk(&app, FLEET, 0).await;
        let head = app.store.head().await.unwrap();
        assert!(app.consumers.wait_for(head, &[], postgres::GIVE_UP).await, "the read models did not get there");
        let took = begun.elapsed().as_secs_f64();
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        postgres::close(app).await;
        std::fs::remove_file(folder.path().join("sluice-read.db")).unwrap();
        let app = App::open(log.options(&folder)).await.unwrap();
        let events = count(&app).await;
        let begun = Instant::now();
        app.consumers.settle().await.unwrap();
        let rebuild = begun.elapsed().as_secs_f64();
        table.row(&[
            log.name().into(),
            FLEET.to_string(),
            format!("{took:.2}"),
            events.to_string(),
            format!("{rebuild:.2}"),
        ]);
        postgres::close(app).await;
    }
    println!();
}

/// How many events the log holds.
async fn count(app: &App) -> usize {
    let (mut after, mut events) = (Position::START, 0);
    loop {
        let page = app.store.read_all(after, 1_000).await.unwrap();
        let Some(last) = page.last() else { return events };
        after = last.position;
        events += page.len();
    }
}

async fn missed_days(options: &Options) {
    let table = Table::new(&["log", "resources", "missed days", "start s"]);
    let first: DateTime<Utc> = "2026-01-15T12:00:00Z".parse().unwrap();
    for log in Log::both() {
        let folder = tempfile::tempdir_in(&options.folder).unwrap();
        let at = |now: DateTime<Utc>| AppOptions { serving: true, simulated_clock: Some(now), ..log.options(&folder) };
        let app = App::open(at(first)).await.unwrap();
        site::lay_out(&app, RESOURCES).await;
        bulk(&app, RESOURCES, 0).await;
        app.settle().await.unwrap();
        postgres::close(app).await;
        let begun = Instant::now();
        let app = App::open(at(first + chrono::TimeDelta::days(MISSED_DAYS))).await.unwrap();
        let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let took = begun.elapsed().as_secs_f64();
        table.row(&[log.name().into(), RESOURCES.to_string(), MISSED_DAYS.to_string(), format!("{took:.2}")]);
        drop(server);
        postgres::close(app).await;
    }
    println!();
}

/// A log of a fleet moves into an event store and out again: copied, and compared from beginning to end.
async fn moving(options: &Options) {
    let table = Table::new(&["copied", "events", "s", "events/s"]);
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let place = |name: &str| Place::from(Database::from(folder.path().join(name)));
    let (from, home, fixture) = (place("sluice.db"), place("home.db"), Fixture::start());
    let away = Place { event_store: Some(fixture.address().parse().unwrap()), ..place("beside.db") };
    let app = App::open(AppOptions::at(from.database.clone())).await.unwrap();
    site::lay_out(&app, FLEET).await;
    bulk(&app, FLEET, 0).await;
    app.settle().await.unwrap();
    postgres::close(app).await;
    for (name, from, to) in [("sqlite to eventstoredb", &from, &away), ("eventstoredb to sqlite", &away, &home)] {
        let begun = Instant::now();
        let events = copy(from, to, &Limits::default(), |_| ()).await.unwrap().events;
        let took = begun.elapsed().as_secs_f64();
        table.row(&[name.into(), events.to_string(), format!("{took:.1}"), format!("{:.0}", events as f64 / took)]);
    }
    println!();
}

/// What looking for something new costs the server while others write to it.
async fn waiting() {
    let table = Table::new(&["others' events", "looked at by the first look", "by the next hundred"]);
    let fixture = Fixture::start();
    let store = EventStoreDb::open(&fixture.address().parse().unwrap(), Arc::new(real_now), Limits::default()).unwrap();
    let stream = StreamName::new("bench-1").unwrap();
    let appended = store.append(&stream, ExpectedVersion::NoStream, vec![append::event("1")]).await.unwrap();
    for others in [0, OTHERS] {
        fixture.others_write(others);
        let look = async |times: usize| {
            let before = fixture.looked_at();
            for _ in 0..times {
                assert!(store.read_all(appended.position, 10).await.unwrap().is_empty());
                assert_eq!(store.head().await.unwrap(), appended.position);
            }
            (fixture.looked_at() - before).to_string()
        };
        table.row(&[others.to_string(), look(1).await, look(100).await]);
    }
    println!();
}

/// How long after the new leader accepts the first append is acknowledged.
async fn failover(options: &Options) {
    let table = Table::new(&["lost by", "s after the new leader accepts"]);
    let ways: [(&str, Loss); 3] =
        [("kill", Cluster::kill_leader), ("partition", Cluster::isolate_leader), ("freeze", Cluster::freeze_leader)];
    for (name, lose) in ways {
        let mut times = Vec::new();
        for _ in 0..options.runs {
            times.push(lost(lose).await);
        }
        table.row(&[name.into(), format!("{:.2}", median(times))]);
    }
}

async fn lost(lose: Loss) -> f64 {
    let mut cluster = Cluster::start();
    let address = cluster.address().parse().unwrap();
    let store = EventStoreDb::open(&address, Arc::new(real_now), Limits::default()).unwrap();
    let stream = StreamName::new("bench-1").unwrap();
    let mut version = 0;
    store.append(&stream, ExpectedVersion::Exact(version), vec![append::event("1")]).await.unwrap();
    version += 1;
    lose(&mut cluster);
    let election = tokio::task::spawn_blocking(move || {
        let since = cluster.elected();
        (since, cluster)
    });
    let next = vec![append::event("1")];
    loop {
        let asked = store.append(&stream, ExpectedVersion::Exact(version), next.clone()).await;
        if asked.is_ok() {
            let acknowledged = Instant::now();
            let (since, _cluster) = election.await.unwrap();
            return acknowledged.saturating_duration_since(since).as_secs_f64();
        }
    }
}
