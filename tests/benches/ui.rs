//! Pages of the web interface in a fleet that reported, from a request with a session's cookie until the last byte of HTML.

use std::sync::Arc;
use std::time::Instant;

use sluice::app::{App, AppOptions};
use sluice::directory::{Role, UserDetails, Way};
use sluice::domain::ids::{UserId, slug_uuid};
use sluice::http::{ApiState, router};
use sluice::serve::Server;
use tokio_util::sync::CancellationToken;

use crate::report::{Table, median};
use crate::{Options, fleet, site, states};

/// Resources of the fleet.
const RESOURCES: usize = 10_000;

/// How often each page is asked for.
const TIMES: usize = 20;

/// The key of a session of somebody who sees everything.
async fn session(app: &App) -> String {
    let now = app.clock.now();
    let user: UserId = slug_uuid("user", "root").into();
    let details = UserDetails { id: user, username: "root".into(), email: None, full_name: String::new() };
    app.directory.put_user(&details, now).await.unwrap();
    app.directory.open_session(user, Role::Staff, Way::Link, now).await.unwrap()
}

pub async fn run(options: &Options) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let app = App::open(AppOptions { serving: true, ..AppOptions::at(folder.path().join("sluice.db")) }).await.unwrap();
    site::lay_out(&app, RESOURCES).await;
    fleet::bulk(&app, RESOURCES, 0).await;
    states::busy(&app).await;
    app.settle().await.unwrap();
    let cookie = format!("sluice_session={}", session(&app).await);
    let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", server.address());
    let stop = CancellationToken::new();
    let (service, signal) = (router(ApiState::new(Arc::clone(&app))), stop.clone());
    let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });
    let client = reqwest::Client::new();
    let table = Table::new(&["page", "bytes", "median ms", "slowest ms", "at most ms"]);
    let (one, policy) = (format!("/allocations/{}", site::resource(0)), format!("/policies/{}", site::policy()));
    let (tab, edit) = (format!("{one}?tab=evaluations"), format!("{policy}/edit"));
    let (statement, log) = (format!("{one}/statement"), format!("{policy}?tab=commands"));
    for (name, path, fragment, most) in [
        ("overview", "/overview", false, 200),
        ("overview, restricted", "/overview?tab=restricted", false, 200),
        ("allocations, page 3 by usage", "/allocations?sort=-usage&page=3", false, 200),
        ("an allocation with 2,000 reports", one.as_str(), false, 50),
        ("its statement", statement.as_str(), false, 50),
        ("its tab of evaluations, alone", tab.as_str(), true, 30),
        ("a policy", policy.as_str(), false, 200),
        ("its command history, alone", log.as_str(), true, 30),
        ("the form of a policy", edit.as_str(), false, 50),
    ] {
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let mut request =
                client.get(format!("{base}{path}")).header("accept", "text/html").header("cookie", &cookie);
            if fragment {
                request = request.header("hx-request", "true");
            }
            let asked = Instant::now();
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{path}");
            bytes = answer.bytes().await.unwrap().len();
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        let slowest = times.iter().copied().fold(0.0, f64::max);
        let cells = [
            name.to_owned(),
            bytes.to_string(),
            format!("{:.1}", median(times)),
            format!("{slowest:.1}"),
            most.to_string(),
        ];
        table.row(&cells);
    }
    stop.cancel();
    running.await.unwrap();
}
