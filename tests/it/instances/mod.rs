//! Several processes on one database, under load: killed at random, frozen past their lease and woken.
//!
//! Each resource has one reporter, which sends a total until somebody says that it has it, to any of the processes; so a
//! total that was acknowledged stands in the log once. Others have the same resources evaluated meanwhile.

mod check;
mod cluster;
mod dump;
pub mod proxy;
mod versions;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt;
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sluice::dispatch::stomp::{Command, Frame};
use sluice::domain::ids::{ResourceId, slug_uuid};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::cluster::{AGENT, Cluster, LEASE_SECONDS, RESOURCES, STAFF};
use self::proxy::Proxy;
use crate::dispatch::client::Client;
use crate::support::database::server;

/// How often a process is killed.
const ROUNDS: &str = "SLUICE_INSTANCES_ROUNDS";

/// How often every connection to the database is cut.
const CUTS: usize = 60;

/// Nothing takes this long, however busy the machine is.
const STANDSTILL: Duration = Duration::from_mins(2);

/// Reporters at a time.
const REPORTERS: usize = 8;

/// Every acknowledged total, in order.
type Acknowledged = Vec<(ResourceId, Decimal)>;

fn any(count: usize) -> usize {
    rand::rng().random_range(0..count)
}

/// A breath for a machine with few cores, and for processes that come up again.
async fn breath() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Reports totals of some resources until told to stop, each until it is acknowledged.
async fn report(cluster: Arc<Cluster>, first: usize, stop: CancellationToken, done: Arc<AtomicUsize>) -> Acknowledged {
    let mut acknowledged = Vec::new();
    let mut said = HashSet::new();
    let today = sluice::clock::real_now().date_naive().to_string();
    while !stop.is_cancelled() {
        let number = first + REPORTERS * any(RESOURCES / REPORTERS);
        let resource = ResourceId::from(slug_uuid("resource", &format!("r{number}")));
        let amount = Decimal::new(rand::rng().random_range(1..140_000), 2).normalize();
        if !said.insert((number, amount)) {
            continue;
        }
        let body = json!({
            "usages": [{"type": "node_hours", "amount": amount.to_string()}],
            "resource": resource.to_string(),
            "date": today,
        });
        loop {
            let path = "/api/marketplace-component-usages/set_usage/";
            match cluster.send(any(cluster.count()), AGENT, Method::POST, path, Some(&body)).await {
                Some((status, _)) if status == 201 => break,
                // The process is down, going down, or without its database; or others kept writing first.
                None => {}
                Some((status, _)) if status == 503 || status == 409 => {}
                Some((status, text)) => panic!("{status}: {text}"),
            }
            breath().await;
        }
        acknowledged.push((resource, amount));
        done.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

/// Has all resources evaluated, again and again, by any process.
async fn evaluate(cluster: Arc<Cluster>, stop: CancellationToken) {
    let policy = slug_uuid("policy", "monthly").simple();
    let path = format!("/api/marketplace-slurm-periodic-usage-policies/{policy}/evaluate/");
    while !stop.is_cancelled() {
        if let Some((status, text)) =
            cluster.send(any(cluster.count()), STAFF, Method::POST, &path, Some(&json!({}))).await
        {
            assert!(status.is_success() || status == 503 || status == 409, "{status}: {text}");
        }
        breath().await;
    }
}

/// Registers an agent's queue; answers with its name, virtual host and login.
async fn register_queue(cluster: &Cluster) -> [String; 3] {
    let post = async |path: &str, body: Value| -> Value {
        let (status, text) = cluster.send(0, AGENT, Method::POST, path, Some(&body)).await.unwrap();
        assert_eq!(status, 201, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let identities = "/api/marketplace-site-agent-identities/";
    let offering = slug_uuid("offering", "hpc1").simple().to_string();
    let agent = post(identities, json!({"offering": offering, "name": "agent"})).await;
    let queue = post(&format!("{identities}{}/register_queue/", agent["uuid"].as_str().unwrap()), json!({})).await;
    ["queue_name", "vhost", "rmq_username"].map(|key| queue[key].as_str().unwrap().to_owned())
}

/// The agent: reads its queue at any of the processes until told to stop, and says what it got, as often as it got it.
async fn read(cluster: Arc<Cluster>, queue: [String; 3], stop: CancellationToken) -> Vec<String> {
    let mut read = Vec::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = session(&cluster, &queue, &mut read) => breath().await,
        }
    }
    read
}

async fn session(cluster: &Cluster, [queue, vhost, login]: &[String; 3], read: &mut Vec<String>) {
    let Some(url) = cluster.url(any(cluster.count())) else { return };
    let place = format!("{}/rmqws-stomp", url.replacen("http", "ws", 1));
    let Some(mut client) = Client::try_open_at(&place).await else { return };
    client.send(&Client::hello(vhost, login, AGENT)).await;
    if client.frame().await.is_none_or(|answer| answer.command != Command::Connected) {
        return;
    }
    let subscribe = Frame::new(Command::Subscribe).with("id", "0").with("ack", "client-individual");
    client.send(&subscribe.with("destination", format!("/amq/queue/{queue}"))).await;
    while let Some(frame) = client.frame().await {
        if frame.command == Command::Message {
            client.send(&Frame::new(Command::Ack).with("id", frame.header("ack").unwrap())).await;
            read.push(frame.header("message-id").unwrap().to_owned());
        }
    }
}

/// Waits until somebody leads; says who.
async fn leader(cluster: &Cluster) -> usize {
    loop {
        if let Some(number) = cluster.leader().await {
            return number;
        }
        breath().await;
    }
}

/// Load goes on for some more reports. Whoever reports and is refused ends with a panic of its own; this says so at last.
async fn progress(done: &AtomicUsize, reports: usize) {
    let wanted = done.load(Ordering::Relaxed) + reports;
    let going_on = async {
        while done.load(Ordering::Relaxed) < wanted {
            breath().await;
        }
    };
    let here = done.load(Ordering::Relaxed);
    assert!(tokio::time::timeout(STANDSTILL, going_on).await.is_ok(), "no more than {here} reports were acknowledged");
}

/// The one that leads is frozen past its lease, while the others go on, and woken.
async fn freeze(cluster: &Cluster, done: &AtomicUsize) {
    let frozen = leader(cluster).await;
    cluster.signal(frozen, "STOP");
    tokio::time::sleep(Duration::from_secs(LEASE_SECONDS + 1)).await;
    let next = loop {
        match next_leader(cluster, frozen).await {
            Some(next) => break next,
            None => breath().await,
        }
    };
    assert_ne!(next, frozen);
    progress(done, 10).await;
    cluster.signal(frozen, "CONT");
    progress(done, 20).await;
}

/// The leader among those that are not frozen: whoever is does not answer.
async fn next_leader(cluster: &Cluster, frozen: usize) -> Option<usize> {
    for number in (0..3).filter(|number| *number != frozen) {
        let answer = cluster.send(number, STAFF, Method::GET, "/metrics", None).await;
        if answer.is_some_and(|(_, text)| text.lines().any(|line| line == "sluice_leader 1")) {
            return Some(number);
        }
    }
    None
}

/// Reporters, somebody who has everything evaluated, and an agent.
struct Load {
    stop: CancellationToken,
    done: Arc<AtomicUsize>,
    reporters: JoinSet<Acknowledged>,
    evaluating: JoinHandle<()>,
    reading: (CancellationToken, JoinHandle<Vec<String>>),
}

impl Load {
    async fn on(cluster: &Arc<Cluster>) -> Self {
        let queue = register_queue(cluster).await;
        let (stop, done) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
        let mut reporters = JoinSet::new();
        for first in 0..REPORTERS {
            reporters.spawn(report(Arc::clone(cluster), first, stop.clone(), Arc::clone(&done)));
        }
        let evaluating = tokio::spawn(evaluate(Arc::clone(cluster), stop.clone()));
        let over = CancellationToken::new();
        let reading = tokio::spawn(read(Arc::clone(cluster), queue, over.clone()));
        Self { stop, done, reporters, evaluating, reading: (over, reading) }
    }

    /// Ends it, lets everything come to rest, ends the processes, and looks at what is there.
    async fn check(mut self, cluster: &Cluster) -> Acknowledged {
        self.stop.cancel();
        self.evaluating.await.unwrap();
        let mut acknowledged = Acknowledged::new();
        while let Some(some) = self.reporters.join_next().await {
            acknowledged.extend(some.unwrap());
        }
        settled(cluster).await;
        let (over, reading) = self.reading;
        check::everything_read(cluster).await;
        over.cancel();
        let read = reading.await.unwrap();
        cluster.stop();
        let app = check::open(&cluster.database).await;
        check::log(&app, &acknowledged, &read).await;
        app.read.close().await;
        app.directory.close().await;
        drop(app);
        check::same_as_rebuilt(&cluster.database).await;
        acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the PostgreSQL of a full run"]
async fn processes_die_and_freeze_and_nothing_is_lost_repeated_or_decided_on_old_usage() {
    let rounds: usize = std::env::var(ROUNDS).map_or(6, |rounds| rounds.parse().unwrap());
    let cluster = Cluster::start(3, str::to_owned);
    let load = Load::on(&cluster).await;
    for round in 0..rounds {
        progress(&load.done, 20).await;
        if round == rounds / 2 {
            freeze(&cluster, &load.done).await;
        }
        // Every second time it is the one that leads.
        let victim = if round % 2 == 0 { leader(&cluster).await } else { any(3) };
        cluster.kill(victim);
        progress(&load.done, 20).await;
        let (starting, number) = (Arc::clone(&cluster), victim);
        tokio::task::spawn_blocking(move || starting.serve(number)).await.unwrap();
    }
    let acknowledged = load.check(&cluster).await;
    assert!(acknowledged.len() >= rounds * 40, "{} reports", acknowledged.len());
    let app = check::open(&cluster.database).await;
    let leases = app.leases.as_ref().unwrap().all().await.unwrap();
    assert!(leases.len() == 1 && leases[0].epoch > 3 && !leases[0].holds, "the lease went round: {leases:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the PostgreSQL of a full run"]
async fn connections_break_in_the_middle_of_anything_and_an_outage_is_said_and_passes() {
    let proxy = Proxy::before(&server().expect("SLUICE_TEST_POSTGRES names a server")).await;
    let cluster = Cluster::start(2, |url| proxy.url(url));
    let load = Load::on(&cluster).await;
    for _ in 0..CUTS {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(5..60))).await;
        proxy.cut();
        progress(&load.done, 1).await;
    }
    proxy.close(true);
    let status = async |number, path: &str| {
        let answer = cluster.send(number, STAFF, Method::GET, path, None).await;
        answer.expect("it answers without its database too")
    };
    for number in 0..2 {
        let (ready, text) = status(number, "/health/ready").await;
        assert_eq!(ready, 503, "{text}");
        let (answer, text) = status(number, "/api/customers/").await;
        let said: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer, 503, "{text}");
        assert_eq!(said["detail"], "The service is not available at the moment; try again.");
        assert_eq!(status(number, "/health/live").await.0, 200);
    }
    proxy.close(false);
    progress(&load.done, 20).await;
    let acknowledged = load.check(&cluster).await;
    assert!(acknowledged.len() >= CUTS + 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the PostgreSQL of a full run"]
async fn a_database_that_says_nothing_is_not_ready_and_whoever_asks_is_told() {
    let proxy = Proxy::before(&server().expect("SLUICE_TEST_POSTGRES names a server")).await;
    let cluster = Cluster::start(2, |url| proxy.url(url));
    ready(&cluster).await;
    proxy.hold(true);
    for number in 0..2 {
        let answer = cluster.send(number, STAFF, Method::GET, "/health/ready", None).await;
        let (status, text) = answer.expect("it answers without its database too");
        let said: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 503, "{text}");
        assert_eq!((&said["event_store"], &said["read_models"]), (&json!(false), &json!(false)), "{text}");
    }
    proxy.hold(false);
    ready(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the PostgreSQL of a full run"]
async fn a_report_that_is_repeated_while_nobody_leads_is_answered_when_reads_show_it() {
    let cluster = Cluster::start(2, str::to_owned);
    ready(&cluster).await;
    let frozen = leader(&cluster).await;
    let number = 1 - frozen;
    cluster.signal(frozen, "STOP");
    let resource = ResourceId::from(slug_uuid("resource", "r0")).to_string();
    let body = json!({"resource": resource, "usages": [{"type": "node_hours", "amount": "12.5"}]});
    let report = async || {
        let path = "/api/marketplace-component-usages/set_usage/";
        let (status, text) = cluster.send(number, AGENT, Method::POST, path, Some(&body)).await.unwrap();
        assert_eq!(status, 201, "{text}");
    };
    let get = async |path: String| -> Value {
        let (status, text) = cluster.send(number, STAFF, Method::GET, &path, None).await.unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let again = async {
        while get(format!("/api/events/?type=usage_reported&resource_uuid={resource}")).await == json!([]) {
            breath().await;
        }
        report().await;
        get(format!("/api/marketplace-component-usages/?resource_uuid={resource}&field=usage")).await
    };
    let ((), shown) = tokio::join!(report(), again);
    assert_eq!(shown, json!([{"usage": 12.5}]));
    cluster.signal(frozen, "CONT");
}

/// Waits until every process says that it is ready.
async fn ready(cluster: &Cluster) {
    for number in 0..cluster.count() {
        while cluster
            .send(number, STAFF, Method::GET, "/health/ready", None)
            .await
            .is_none_or(|(status, _)| status != 200)
        {
            breath().await;
        }
    }
}

/// Waits until every process says that it is ready, and nothing waits to be handed over.
async fn settled(cluster: &Cluster) {
    for number in 0..cluster.count() {
        loop {
            let ready = cluster.send(number, STAFF, Method::GET, "/health/ready", None).await;
            let metrics = cluster.send(number, STAFF, Method::GET, "/metrics", None).await;
            let idle = |text: &str| {
                ["sluice_outbox{state=\"queued\"} 0", "sluice_reactions_pending 0"]
                    .iter()
                    .all(|wanted| text.lines().any(|line| line == *wanted))
                    && text
                        .lines()
                        .filter(|line| line.starts_with("sluice_consumer_lag_events{"))
                        .all(|line| line.ends_with(" 0"))
            };
            if ready.is_some_and(|(status, _)| status == 200) && metrics.is_some_and(|(_, text)| idle(&text)) {
                break;
            }
            breath().await;
        }
    }
}
