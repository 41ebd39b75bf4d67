//! Which store for which site: the same few measurements on each, one after the other in one run.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sluice::app::{App, AppOptions};
use sluice::clock::real_now;
use sluice::limits::Limits;
use sluice::store::postgres::PostgresStore;
use sluice::store::sqlite::{DatabaseFiles, SqliteStore};
use sqlx::{Connection, Row};
use tokio_util::sync::CancellationToken;

use crate::fleet::bulk;
use crate::postgres::{Server, close, connect, open};
use crate::report::{Table, median};
use crate::{Options, append, raw, site};

/// Writers of the log at a time, and events of each append.
const APPENDS: [(usize, usize); 3] = [(1, 1), (256, 1), (16, 100)];

/// Rounds of reports that the log holds, after the one that lays the site out.
const ROUNDS: usize = 4;

/// One store's figures.
#[derive(Default)]
struct Figures {
    /// Events per second for each of [`APPENDS`].
    appends: Vec<f64>,
    /// Seconds of one round of reports.
    round: f64,
    events: u64,
    /// Seconds in which all read models are made again.
    replay: f64,
    log_bytes: u64,
    read_bytes: u64,
}

pub async fn run(options: &Options) {
    let size = options.sizes.iter().copied().max().unwrap_or(10_000);
    let table = Table::new(&[
        "store",
        "1 writer, events/s",
        "256 writers",
        "16 with 100 each",
        "resources",
        "a round of reports, s",
        "events",
        "replay, events/s",
        "log, MB per million events",
        "read models, MB per million",
    ]);
    let show = |name: &str, figures: &Figures| {
        let mut cells = vec![name.to_owned()];
        cells.extend(figures.appends.iter().map(|rate| format!("{rate:.0}")));
        // Bytes per event are megabytes per million events.
        let per_million = |bytes: u64| format!("{:.0}", bytes as f64 / figures.events as f64);
        cells.extend([
            size.to_string(),
            format!("{:.2}", figures.round),
            figures.events.to_string(),
            format!("{:.0}", figures.events as f64 / figures.replay),
            per_million(figures.log_bytes),
            per_million(figures.read_bytes),
        ]);
        table.row(&cells);
    };
    show("SQLite", &on_sqlite(options, size).await);
    match &options.server {
        Some(url) => show("PostgreSQL", &on_postgres(options, url, size).await),
        None => println!("PostgreSQL is left out: name a server with --server postgres://user@host/database"),
    }
}

/// Lays the site out and has every resource report a few times; the median of the rounds.
async fn rounds(app: &Arc<App>, size: usize) -> f64 {
    site::lay_out(app, size).await;
    app.settle().await.unwrap();
    let stop = CancellationToken::new();
    let mut tasks = app.start(&stop);
    let first = app.store.head().await.unwrap();
    assert!(app.visible(Some(first)).await, "the background tasks did not get going");
    let mut took = Vec::new();
    for turn in 0..ROUNDS {
        let begun = Instant::now();
        bulk(app, size, turn).await;
        let head = app.store.head().await.unwrap();
        assert!(app.consumers.wait_for(head, &[], crate::postgres::GIVE_UP).await, "the read models did not get there");
        took.push(begun.elapsed().as_secs_f64());
    }
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    median(took)
}

/// Folds the log into read models that are empty; how many events, and how long it took.
async fn replay(app: &App) -> (u64, f64) {
    let events = app.store.numbers().unwrap().of(app.store.head().await.unwrap());
    let begun = Instant::now();
    app.consumers.settle().await.unwrap();
    (events, begun.elapsed().as_secs_f64())
}

async fn on_sqlite(options: &Options, size: usize) -> Figures {
    let mut figures = Figures::default();
    for (writers, batch) in APPENDS {
        let folder = tempfile::tempdir_in(&options.folder).unwrap();
        let log = folder.path().join("log.db");
        let store = Arc::new(SqliteStore::open(&log, Arc::new(real_now), Limits::default()).await.unwrap());
        figures.appends.push(append::measure_on(&[Arc::clone(&store) as _], writers, batch).await.0);
        store.close().await;
    }
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let log = folder.path().join("sluice.db");
    let app = App::open(AppOptions::at(&log)).await.unwrap();
    figures.round = rounds(&app, size).await;
    close(app).await;
    let copy = raw::copy(&log, &folder.path().join("copy")).await;
    let files = DatabaseFiles::of(&copy);
    (figures.log_bytes, figures.read_bytes) = (bytes(&files.log), bytes(&files.read));
    std::fs::remove_file(files.read).unwrap();
    let app = App::open(AppOptions::at(&copy)).await.unwrap();
    (figures.events, figures.replay) = replay(&app).await;
    close(app).await;
    figures
}

fn bytes(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

async fn on_postgres(options: &Options, url: &str, size: usize) -> Figures {
    let mut server = Server::new(url);
    let mut figures = Figures::default();
    for (writers, batch) in APPENDS {
        let url = server.database("append", None).await;
        let store = Arc::new(PostgresStore::open(&url, Arc::new(real_now), Limits::default()).await.unwrap());
        figures.appends.push(append::measure_on(&[Arc::clone(&store) as _], writers, batch).await.0);
        store.close().await;
    }
    let url = server.database("site", None).await;
    let app = open(options, url.clone()).await;
    figures.round = rounds(&app, size).await;
    close(app).await;
    let mut connection = connect(&url).await;
    sqlx::raw_sql("VACUUM").execute(&mut connection).await.unwrap();
    let on_disk = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'";
    for (schema, of) in [("sluice", &mut figures.log_bytes), ("sluice_read", &mut figures.read_bytes)] {
        let row = sqlx::query(on_disk).bind(schema).fetch_one(&mut connection).await.unwrap();
        *of = row.get::<i64, _>(0).unsigned_abs();
    }
    sqlx::raw_sql("DROP SCHEMA sluice_read CASCADE").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let app = open(options, url).await;
    (figures.events, figures.replay) = replay(&app).await;
    close(app).await;
    server.clear().await;
    figures
}
