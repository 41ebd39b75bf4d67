//! Usage reports over HTTP, as an agent sends them: each is answered when it is durable, evaluated and shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sluice::app::{App, AppOptions};
use sluice::directory::{NewToken, Role, UserDetails};
use sluice::domain::ids::{UserId, slug_uuid};
use sluice::http::{ApiState, router};
use sluice::serve::Server;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::report::{Table, median};
use crate::{Options, site};

/// How long one measurement lasts.
const SPAN: Duration = Duration::from_secs(3);

/// Resources that are reported on in turn.
const RESOURCES: usize = 1_000;

/// A key of no secret.
pub const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

pub async fn run(options: &Options) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let app = App::open(AppOptions { serving: true, ..AppOptions::at(folder.path().join("sluice.db")) }).await.unwrap();
    site::lay_out(&app, RESOURCES).await;
    token(&app).await;
    let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/api/marketplace-component-usages/set_usage/", server.address());
    let stop = CancellationToken::new();
    let (service, signal) = (router(ApiState::new(Arc::clone(&app))), stop.clone());
    let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });
    let table = Table::new(&["at a time", "reports/s", "p50 ms", "p99 ms"]);
    let next = Arc::new(AtomicUsize::new(0));
    for clients in [1, 4, 16, 64] {
        let (mut rates, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..options.runs {
            let begun = Instant::now();
            let some = measure(&url, clients, &next, SPAN).await;
            rates.push(some.len() as f64 / begun.elapsed().as_secs_f64());
            waits.extend(some);
        }
        waits.sort_by(f64::total_cmp);
        let at = |percent: usize| format!("{:.2}", waits[(waits.len() - 1) * percent / 100]);
        table.row(&[clients.to_string(), format!("{:.0}", median(rates)), at(50), at(99)]);
    }
    stop.cancel();
    running.await.unwrap();
}

pub async fn token(app: &App) {
    let now = app.clock.now();
    let user: UserId = slug_uuid("user", "agent").into();
    let details = UserDetails { id: user, username: "agent".into(), email: None, full_name: String::new() };
    app.directory.put_user(&details, now).await.unwrap();
    let offering = Some(site::offering());
    let new = NewToken { user, role: Role::Agent, offering, label: None, expires_at: None, key: Some(KEY.into()) };
    app.directory.create_token(new, now).await.unwrap();
}

/// Reports by so many clients, each waiting for its answer; how long each took, ms.
pub async fn measure(url: &str, clients: usize, next: &Arc<AtomicUsize>, span: Duration) -> Vec<f64> {
    let client = reqwest::Client::new();
    let until = Instant::now() + span;
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (client, url, next) = (client.clone(), url.to_owned(), Arc::clone(next));
        tasks.spawn(async move {
            let mut waits = Vec::new();
            while Instant::now() < until {
                let number = next.fetch_add(1, Ordering::Relaxed);
                // A turn's totals are a little higher than those of the turn before: each is a fact of its own.
                let amount = format!("{}.{:02}", number / RESOURCES / 100, number / RESOURCES % 100);
                let body = json!({"resource": site::resource(number % RESOURCES).to_string(), "usages": [{"type": "node_hours", "amount": amount}]});
                let asked = Instant::now();
                let request = client.post(&url).header("authorization", format!("Token {KEY}"));
                let answer = request.header("content-type", "application/json").body(body.to_string()).send();
                assert_eq!(answer.await.unwrap().status().as_u16(), 201);
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            waits
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}
