//! The same measurements on `PostgreSQL`, on a server that is named: appends by one and by three processes' worth of appenders,
//! and the fleet run, beside the same rows put into the same tables by COPY and by INSERTs of many rows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sluice::app::{App, AppOptions};
use sluice::clock::real_now;
use sluice::limits::Limits;
use sluice::notify::MailTransportOptions;
use sluice::store::EventStore;
use sluice::store::address::Database;
use sluice::store::postgres::PostgresStore;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tokio_util::sync::CancellationToken;

use crate::fleet::bulk;
use crate::report::{Table, load, median, processor_seconds};
use crate::{Options, append, site};

/// Nobody waits longer than this for the read models.
pub const GIVE_UP: Duration = Duration::from_mins(10);

/// Rows of one INSERT.
const ROWS: usize = 500;

/// Tables that are not written per event.
const BESIDE: [&str; 4] = ["_sqlx_migrations", "meta", "leases", "log_head"];

/// A server, and databases on it that go when the measurement is over.
pub struct Server {
    url: String,
    made: Vec<String>,
}

impl Server {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), made: Vec::new() }
    }

    async fn run(&self, sql: String) {
        let mut connection = connect(&self.url).await;
        sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A database of this name; a copy of another one, if one is named.
    pub async fn database(&mut self, name: &str, of: Option<&str>) -> String {
        let name = format!("sluice_bench_{name}");
        self.run(format!("DROP DATABASE IF EXISTS {name}")).await;
        let template = of.map(|of| format!(" TEMPLATE sluice_bench_{of}")).unwrap_or_default();
        self.run(format!("CREATE DATABASE {name}{template}")).await;
        let url = format!("{}/{name}", self.url.rsplit_once('/').unwrap().0);
        self.made.push(name);
        url
    }

    pub async fn clear(self) {
        for name in &self.made {
            self.run(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
    }
}

pub async fn connect(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

/// Both measurements.
pub async fn run(options: &Options) {
    let Some(url) = options.server.clone() else {
        return println!("left out: name a server with --server postgres://user@host/database");
    };
    let mut server = Server::new(&url);
    let mut connection = connect(&server.url).await;
    let facts = "SELECT current_setting('server_version') || ', fsync ' || current_setting('fsync') || ', \
                 synchronous_commit ' || current_setting('synchronous_commit') || ', shared_buffers ' || \
                 current_setting('shared_buffers')";
    let facts: String = sqlx::query(facts).fetch_one(&mut connection).await.unwrap().get(0);
    println!("PostgreSQL {facts}\n");
    appends(options, &mut server).await;
    println!();
    fleets(options, &mut server).await;
    server.clear().await;
}

async fn appends(options: &Options, server: &mut Server) {
    let table = Table::new(&["appenders", "writers", "events each", "events/s", "p50 ms", "p99 ms", "of one"]);
    for (writers, batch) in [(1, 1), (16, 1), (256, 1), (1, 1_000), (16, 100)] {
        let mut alone = f64::NAN;
        for appenders in [1, 3] {
            let (mut rates, mut waits) = (Vec::new(), Vec::new());
            for _ in 0..options.runs {
                let url = server.database("append", None).await;
                let mut stores: Vec<Arc<dyn EventStore>> = Vec::new();
                let mut opened = Vec::new();
                for _ in 0..appenders {
                    let store = PostgresStore::open(&url, Arc::new(real_now), Limits::default()).await.unwrap();
                    let store = Arc::new(store);
                    opened.push(Arc::clone(&store));
                    stores.push(store);
                }
                let (rate, some) = append::measure_on(&stores, writers, batch).await;
                rates.push(rate);
                waits.extend(some);
                for store in opened {
                    store.close().await;
                }
            }
            waits.sort_by(f64::total_cmp);
            let at = |percent: usize| format!("{:.2}", waits[(waits.len() - 1) * percent / 100]);
            let rate = median(rates);
            if appenders == 1 {
                alone = rate;
            }
            let of_one = format!("{:.2}", rate / alone);
            let (p50, p99) = (at(50), at(99));
            table.row(&[
                appenders.to_string(),
                writers.to_string(),
                batch.to_string(),
                format!("{rate:.0}"),
                p50,
                p99,
                of_one,
            ]);
        }
    }
}

async fn fleets(options: &Options, server: &mut Server) {
    let table = Table::new(&[
        "resources",
        "commands s",
        "whole s",
        "us/resource",
        "cpu us/res.",
        "copy s",
        "inserts s",
        "copy/whole",
        "ins./whole",
        "rows",
        "load",
    ]);
    for size in &options.sizes {
        let url = server.database("site", None).await;
        let app = open(options, url).await;
        site::lay_out(&app, *size).await;
        app.settle().await.unwrap();
        close(app).await;
        let mut measured = Vec::new();
        for _ in 0..options.runs {
            measured.push(fleet(options, server, *size).await);
        }
        let of = |value: &dyn Fn(&Fleet) -> f64| median(measured.iter().map(value).collect());
        let (whole, copy, inserts) = (of(&|m| m.whole), of(&|m| m.copy), of(&|m| m.inserts));
        table.row(&[
            size.to_string(),
            format!("{:.3}", of(&|m| m.commands)),
            format!("{whole:.3}"),
            format!("{:.1}", whole / *size as f64 * 1e6),
            format!("{:.1}", of(&|m| m.processor) / *size as f64 * 1e6),
            format!("{copy:.3}"),
            format!("{inserts:.3}"),
            format!("{:.2}", copy / whole),
            format!("{:.2}", inserts / whole),
            measured[0].rows.to_string(),
            load().split(' ').next().unwrap_or_default().into(),
        ]);
    }
}

pub async fn open(options: &Options, url: String) -> Arc<App> {
    let mut with = AppOptions::at(Database::Postgres(url));
    with.notify.mail.transport = MailTransportOptions::Maildir(Some(options.folder.join("sluice-bench-mail")));
    App::open(with).await.unwrap()
}

pub async fn close(app: Arc<App>) {
    app.directory.close().await;
    app.read.close().await;
}

struct Fleet {
    commands: f64,
    whole: f64,
    /// Of this process; the server's is not in it.
    processor: f64,
    copy: f64,
    inserts: f64,
    rows: usize,
}

async fn fleet(options: &Options, server: &mut Server, size: usize) -> Fleet {
    server
        .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sluice_bench_site'".into())
        .await;
    let url = server.database("run", Some("site")).await;
    let app = open(options, url.clone()).await;
    let stop = CancellationToken::new();
    let mut tasks = app.start(&stop);
    let first = app.store.head().await.unwrap();
    assert!(app.visible(Some(first)).await, "the background tasks did not get going");
    let (begun, processor) = (Instant::now(), processor_seconds());
    bulk(&app, size, 0).await;
    let commands = begun.elapsed().as_secs_f64();
    let head = app.store.head().await.unwrap();
    assert!(app.consumers.wait_for(head, &[], GIVE_UP).await, "the read models did not get there");
    let (whole, processor) = (begun.elapsed().as_secs_f64(), processor_seconds() - processor);
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    close(app).await;
    let (mut copy, mut inserts, mut rows) = (f64::NAN, f64::NAN, 0);
    if options.with_raw {
        let before = format!("{}/sluice_bench_site", server.url.rsplit_once('/').unwrap().0);
        let added = added(&url, &before).await;
        rows = added.values().map(Vec::len).sum();
        copy = raw(&url, &added, true).await;
        inserts = raw(&url, &added, false).await;
    }
    Fleet { commands, whole, processor, copy, inserts, rows }
}

/// Lines of COPY by table, those that are in one database and not in the other.
async fn added(now: &str, before: &str) -> BTreeMap<String, Vec<String>> {
    let (mut now, mut before) = (lines(now).await, lines(before).await);
    for (table, lines) in &mut now {
        let known: HashSet<String> = before.remove(table).unwrap_or_default().into_iter().collect();
        lines.retain(|line| !known.contains(line));
    }
    now.retain(|_, lines| !lines.is_empty());
    now
}

async fn lines(url: &str) -> BTreeMap<String, Vec<String>> {
    let mut connection = connect(url).await;
    let tables = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname IN ('sluice', 'sluice_read') AND c.relkind IN ('r', 'p') AND NOT c.relispartition";
    let tables = sqlx::query(tables).fetch_all(&mut connection).await.unwrap();
    let mut found = BTreeMap::new();
    for table in tables.iter().map(|row| row.get::<String, _>(0)) {
        if BESIDE.iter().any(|beside| table.ends_with(&format!(".{beside}"))) {
            continue;
        }
        let copy = connection.copy_out_raw(&format!("COPY (SELECT * FROM {table}) TO STDOUT")).await;
        let chunks: Vec<_> = copy.unwrap().try_collect().await.unwrap();
        let text = String::from_utf8(chunks.concat()).unwrap();
        found.insert(table, text.lines().map(str::to_owned).collect());
    }
    found
}

/// Puts the rows into empty tables with the same columns and indexes, a table after the other; says how long that took.
async fn raw(url: &str, added: &BTreeMap<String, Vec<String>>, by_copy: bool) -> f64 {
    let mut connection = connect(url).await;
    let run = |sql: String| AssertSqlSafe(sql);
    sqlx::raw_sql(run("DROP SCHEMA IF EXISTS raw CASCADE; CREATE SCHEMA raw".into()))
        .execute(&mut connection)
        .await
        .unwrap();
    for table in added.keys() {
        let name = table.split_once('.').unwrap().1;
        let make = format!("CREATE TABLE raw.\"{name}\" (LIKE {table} INCLUDING ALL)");
        sqlx::raw_sql(run(make)).execute(&mut connection).await.unwrap();
    }
    let begun = Instant::now();
    for (table, lines) in added {
        let name = table.split_once('.').unwrap().1;
        if by_copy {
            let mut into = connection.copy_in_raw(&format!("COPY raw.\"{name}\" FROM STDIN")).await.unwrap();
            for some in lines.chunks(10_000) {
                into.send(format!("{}\n", some.join("\n")).into_bytes()).await.unwrap();
            }
            into.finish().await.unwrap();
        } else {
            for some in lines.chunks(ROWS) {
                let rows = some.iter().map(|line| row(line)).collect::<Vec<_>>().join(",");
                let insert = format!("INSERT INTO raw.\"{name}\" OVERRIDING SYSTEM VALUE VALUES {rows}");
                sqlx::raw_sql(run(insert)).execute(&mut connection).await.unwrap();
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    connection.close().await.unwrap();
    took
}

/// A line of COPY as a row of VALUES.
fn row(line: &str) -> String {
    let value = |field: &str| match field {
        "\\N" => "NULL".to_owned(),
        other => {
            let text = other.replace("\\t", "\t").replace("\\n", "\n").replace("\\\\", "\\").replace('\'', "''");
            format!("'{text}'")
        }
    };
    format!("({})", line.split('\t').map(value).collect::<Vec<_>>().join(","))
}
