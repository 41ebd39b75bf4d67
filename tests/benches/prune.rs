//! Pruning beside writers: how long usage reports take while nothing is pruned, and while a million rows are, in one run.
//!
//! The rows are made as those of `pages` are. A report is done when it is durable, evaluated and shown, as over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sluice::app::{App, AppOptions};
use sluice::commands::execute::CommandMeta;
use sluice::http::{ApiState, router};
use sluice::serve::Server;
use sluice::site_settings::SiteSettings;
use sluice::store::sqlite::DatabaseFiles;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::report::Table;
use crate::{Options, fleet, http, pages, site};

/// Resources whose evaluations fill the log, and that are reported on.
const RESOURCES: usize = 1_000;

/// How long reports are measured while nothing is pruned, at least; and between two looks whether pruning is over.
const SPAN: Duration = Duration::from_secs(3);

/// Clients that report, each waiting for its answer.
const CLIENTS: usize = 4;

pub async fn run(options: &Options) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let log = folder.path().join("sluice.db");
    // The rows are spread over 90 days: nearly all of them are to go.
    let settings = SiteSettings { retention_days: 1, ..SiteSettings::default() };
    let open = async || {
        App::open(AppOptions { serving: true, settings: settings.clone(), ..AppOptions::at(&log) }).await.unwrap()
    };
    let app = open().await;
    site::lay_out(&app, RESOURCES).await;
    fleet::bulk(&app, RESOURCES, 0).await;
    app.settle().await.unwrap();
    http::token(&app).await;
    // Rows are about to come that its consumers know nothing of.
    app.directory.close().await;
    app.read.close().await;
    drop(app);
    let file = SqliteConnectOptions::new().filename(DatabaseFiles::of(&log).read);
    let mut connection = file.pragma("synchronous", "OFF").pragma("cache_size", "-1000000").connect().await.unwrap();
    let rows = pages::multiply(&mut connection, options.rows.unwrap_or(1_000_000)).await;
    connection.close().await.unwrap();
    let app = open().await;

    let server = Server::start(Arc::clone(&app), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/api/marketplace-component-usages/set_usage/", server.address());
    let stop = CancellationToken::new();
    let (service, signal) = (router(ApiState::new(Arc::clone(&app))), stop.clone());
    let running = tokio::spawn(async move { server.run(service, signal).await.unwrap() });

    let table = Table::new(&["", "reports", "reports/s", "p50 ms", "p99 ms", "longest ms"]);
    // A turn ahead of the reports that made the rows.
    let next = Arc::new(AtomicUsize::new(100 * RESOURCES));
    let begun = Instant::now();
    let before = http::measure(&url, CLIENTS, &next, SPAN).await;
    row(&table, "before", before, begun.elapsed());

    let over = Arc::new(AtomicBool::new(false));
    let (pruning, done) = (Arc::clone(&app), Arc::clone(&over));
    let begun = Instant::now();
    let prune = tokio::spawn(async move {
        let pruned = pruning.retention.clean_up(&CommandMeta::system(Uuid::nil()), |_| ()).await.unwrap();
        done.store(true, Ordering::Relaxed);
        (pruned, begun.elapsed())
    });
    let mut during = Vec::new();
    while !over.load(Ordering::Relaxed) {
        during.extend(http::measure(&url, CLIENTS, &next, SPAN / 10).await);
    }
    row(&table, "while pruning", during, begun.elapsed());
    let (pruned, took) = prune.await.unwrap();
    let begun = Instant::now();
    let after = http::measure(&url, CLIENTS, &next, SPAN).await;
    row(&table, "after", after, begun.elapsed());
    println!("\n{} of {rows} rows pruned in {:.1} s", pruned.evaluations, took.as_secs_f64());
    stop.cancel();
    running.await.unwrap();
}

fn row(table: &Table, name: &str, mut waits: Vec<f64>, took: Duration) {
    waits.sort_by(f64::total_cmp);
    let at = |percent: usize| format!("{:.2}", waits[(waits.len() - 1) * percent / 100]);
    let rate = format!("{:.0}", waits.len() as f64 / took.as_secs_f64());
    table.row(&[name.to_owned(), waits.len().to_string(), rate, at(50), at(99), at(100)]);
}
