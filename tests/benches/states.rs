//! How allocations stand, over HTTP: lists, numbers, what needs somebody and the series of one, in a fleet that reported.

use std::sync::Arc;
use std::time::Instant;

use rust_decimal::Decimal;
use sluice::app::{App, AppOptions};
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::directory::{NewToken, Role, UserDetails};
use sluice::domain::ids::{UserId, slug_uuid};
use sluice::domain::period::Month;
use sluice::http::{ApiState, router};
use sluice::serve::Server;
use tokio_util::sync::CancellationToken;

use crate::http::KEY;
use crate::report::{Table, median};
use crate::{Options, fleet, site};

/// Resources of the fleet.
const RESOURCES: usize = 10_000;

/// Reports of the one whose series is read: one every half hour for six weeks.
const REPORTS: i64 = 2_000;

/// How often each answer is asked for.
const TIMES: usize = 20;

pub async fn run(options: &Options) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let app = App::open(AppOptions { serving: true, ..AppOptions::at(folder.path().join("sluice.db")) }).await.unwrap();
    site::lay_out(&app, RESOURCES).await;
    fleet::bulk(&app, RESOURCES, 0).await;
    busy(&app).await;
    app.settle().await.unwrap();
    let now = app.clock.now();
    let user: UserId = slug_uuid("user", "root").into();
    let details = UserDetails { id: user, username: "root".into(), email: None, full_name: String::new() };
    app.directory.put_user(&details, now).await.unwrap();
    let new =
        NewToken { user, role: Role::Staff, offering: None, label: None, expires_at: None, key: Some(KEY.into()) };
    app.directory.create_token(new, now).await.unwrap();
    let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}/api/", server.address());
    let stop = CancellationToken::new();
    let (service, signal) = (router(ApiState::new(Arc::clone(&app))), stop.clone());
    let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });
    let client = reqwest::Client::new();
    let table = Table::new(&["answer", "bytes", "median ms", "slowest ms"]);
    let series = format!("marketplace-provider-resources/{}/usage-series/", site::resource(0));
    let one = format!("allocation-states/?resource_uuid={}", site::resource(0));
    for (name, path) in [
        ("50 rows, the next rung first", "allocation-states/?page_size=50"),
        ("50 rows at risk", "allocation-states/?page_size=50&at_risk=true&once=true"),
        ("50 rows by usage, second page", "allocation-states/?page_size=50&o=-usage&page=2"),
        ("rows with a text", "allocation-states/?page_size=50&q=alloc-77"),
        ("summary", "allocation-states/summary/"),
        ("what needs somebody", "allocation-states/attention/"),
        ("one allocation", one.as_str()),
        ("the series of one with 2,000 reports", series.as_str()),
    ] {
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let asked = Instant::now();
            let request = client.get(format!("{base}{path}")).header("authorization", format!("Token {KEY}"));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{path}");
            bytes = answer.bytes().await.unwrap().len();
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        let slowest = times.iter().copied().fold(0.0, f64::max);
        table.row(&[name.to_owned(), bytes.to_string(), format!("{:.1}", median(times)), format!("{slowest:.1}")]);
    }
    stop.cancel();
    running.await.unwrap();
}

/// Many reports on one allocation, each a little more than the last.
pub async fn busy(app: &App) {
    let month = Month::of_instant(app.clock.now(), app.allocations.rules().zone);
    for number in 1..=REPORTS {
        let amounts = [("node_hours".to_owned(), Decimal::new(50_000 + number * 10, 2))].into();
        let command = AllocationCommand::ReportUsage(UsageReport::new(month, amounts));
        app.allocations.execute(site::resource(0), &command, &site::meta()).await.unwrap();
    }
}
