//! Messages to an agent: settings of many resources handed to the queue of the built-in broker, and there and back again
//! over WebSocket and HTTP with an agent that answers at once.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use sluice::app::{App, AppOptions};
use sluice::dispatch::{AgentQueue, Depth};
use sluice::domain::ids::{UserId, slug_uuid};
use sluice::http::{ApiState, router};
use sluice::serve::Server;
use sluice::site_settings::SiteSettings;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::Client;
use crate::report::{Table, load, median, processor_seconds};
use crate::{Options, http, site};

fn queue() -> AgentQueue {
    let (owner, consumer) = (slug_uuid("user", "agent"), Uuid::from_u128(1));
    AgentQueue {
        consumer,
        queue: format!("consumer_{}", consumer.as_simple()),
        vhost: owner.as_simple().to_string(),
        login: Uuid::from_u128(2).as_simple().to_string(),
        offering: site::offering(),
        owner: UserId::from(owner),
        object_types: None,
    }
}

/// A site whose resources all have settings to be told, and no agent yet.
async fn site_of(options: &Options, folder: &std::path::Path, window: u32) -> Arc<App> {
    let settings = SiteSettings { dispatch_window: window, ..SiteSettings::default() };
    let mut opened = AppOptions { serving: true, settings, ..AppOptions::at(folder.join("sluice.db")) };
    opened.dispatch.publishes = true;
    let app = App::open(opened).await.unwrap();
    site::lay_out(&app, options.messages).await;
    http::token(&app).await;
    app.settle().await.unwrap();
    assert_eq!(app.publisher.depth().await.unwrap().queued, options.messages as u64);
    app
}

pub async fn run(options: &Options) {
    let table = Table::new(&["messages", "what", "s", "messages/s", "processor µs each", "load"]);
    let row = |what: &str, times: Vec<(f64, f64)>| {
        let (seconds, processor) =
            (median(times.iter().map(|t| t.0).collect()), median(times.iter().map(|t| t.1).collect()));
        let many = options.messages as f64;
        table.row(&[
            options.messages.to_string(),
            what.to_owned(),
            format!("{seconds:.2}"),
            format!("{:.0}", many / seconds),
            format!("{:.0}", processor / many * 1e6),
            load(),
        ]);
    };
    let mut times = Vec::new();
    for _ in 0..options.runs {
        times.push(handed_over(options).await);
    }
    row("handed to the queue", times);
    for at_once in [1, 16] {
        let mut times = Vec::new();
        for _ in 0..options.runs {
            times.push(there_and_back(options, at_once).await);
        }
        row(&format!("there and back, {at_once} at a time"), times);
    }
}

/// Everything in the queue, and in the log as sent; nobody reads it.
async fn handed_over(options: &Options) -> (f64, f64) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let app = site_of(options, folder.path(), u32::try_from(options.messages).unwrap()).await;
    app.agent_queues.put(queue());
    let (begun, processor) = (Instant::now(), processor_seconds());
    app.settle().await.unwrap();
    let took = (begun.elapsed().as_secs_f64(), processor_seconds() - processor);
    let depth = app.publisher.depth().await.unwrap();
    assert_eq!((depth.queued, depth.unanswered), (0, options.messages as u64));
    app.read.close().await;
    took
}

/// A server, and an agent that answers so many messages at a time: until nothing is owed any more. The window is the
/// default one.
async fn there_and_back(options: &Options, at_once: usize) -> (f64, f64) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let app = site_of(options, folder.path(), SiteSettings::default().dispatch_window).await;
    let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    let (service, signal) = (router(ApiState::new(Arc::clone(&app))), stop.clone());
    let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });
    let queue = queue();
    app.agent_queues.put(queue.clone());
    let (begun, processor) = (Instant::now(), processor_seconds());
    app.publisher.wake();
    let mut agent = Client::connect(address, &queue.vhost, &queue.login, http::KEY).await;
    agent.subscribe(&queue.queue, "auto").await;
    let (client, room, mut tasks) = (reqwest::Client::new(), Arc::new(Semaphore::new(at_once)), JoinSet::new());
    for _ in 0..options.messages {
        let (_, message) = agent.message().await;
        let (client, permit) = (client.clone(), Arc::clone(&room).acquire_owned().await.unwrap());
        tasks.spawn(async move {
            answer(&client, address, &message).await;
            drop(permit);
        });
    }
    tasks.join_all().await;
    let took = (begun.elapsed().as_secs_f64(), processor_seconds() - processor);
    app.settle().await.unwrap();
    let depth = app.publisher.depth().await.unwrap();
    assert!(
        depth == Depth::default(),
        "{depth:?} after the last answer; its database is kept: {}",
        folder.keep().display()
    );
    stop.cancel();
    running.await.unwrap();
    took
}

async fn answer(client: &reqwest::Client, address: std::net::SocketAddr, message: &Value) {
    let (account, policy) = (message["backend_id"].as_str().unwrap(), message["policy_uuid"].as_str().unwrap());
    let reset = message["settings"]["reset_raw_usage"] == true;
    let ran = if reset { "RawUsage=0".to_owned() } else { format!("fairshare={}", message["settings"]["fairshare"]) };
    let body = json!({"resource_uuid": message["resource_uuid"], "success": true, "mode": "production",
        "commands_executed": [format!("sacctmgr --immediate modify account {account} set {ran}")]});
    let url = format!("http://{address}/api/marketplace-slurm-periodic-usage-policies/{policy}/report-command-result/");
    let request = client.post(url).header("authorization", format!("Token {}", http::KEY));
    let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}
