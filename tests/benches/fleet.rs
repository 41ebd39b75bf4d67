//! The fleet run: every resource of a site reports its usage once. Measured from the first command until the log is durable
//! and every read model shows all of it, beside raw inserts of the same rows into the same tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rust_decimal::Decimal;
use sluice::app::{App, AppOptions};
use sluice::commands::allocation::AllocationCommand;
use sluice::domain::ids::ResourceId;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::report::{Table, load, median, processor_seconds};
use crate::{Options, raw, site};

/// Commands of one bulk, and bulks under way at a time.
const BULK: usize = 500;
const BULKS_AT_ONCE: usize = 4;

/// Single commands under way at a time, as so many HTTP requests.
const SINGLES_AT_ONCE: usize = 256;

/// Nobody waits longer than this for the read models.
const GIVE_UP: Duration = Duration::from_mins(10);

/// How the commands come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Bulk,
    Single,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Single => "single",
        }
    }
}

/// The report of a resource in a turn. Of a hundred resources 88 stay below every threshold, 6 pass one that is told,
/// 4 are slowed down and 2 paused.
fn command(app: &App, number: usize, turn: usize) -> (ResourceId, AllocationCommand) {
    let percent = match number % 100 {
        0..2 => 121,
        2..6 => 105,
        6..12 => 85,
        other => other % 45,
    };
    let fraction = Decimal::new(i64::try_from(number / 100 % 1_000 + 1_000 * turn).unwrap_or(i64::MAX), 5);
    (site::resource(number), site::report(app, Decimal::from(percent) + fraction))
}

/// All reports of a turn, in bulks.
pub async fn bulk(app: &Arc<App>, size: usize, turn: usize) {
    let bulks = (0..size).step_by(BULK).map(|first| {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            let commands: Vec<_> = (first..size.min(first + BULK)).map(|n| command(&app, n, turn)).collect();
            for outcome in app.allocations.execute_many(&commands, &site::meta()).await {
                assert!(!outcome.unwrap().already_applied());
            }
        })
    });
    futures::stream::iter(bulks).buffer_unordered(BULKS_AT_ONCE).for_each(async |done| done.unwrap()).await;
}

/// All reports of a turn, one by one.
async fn single(app: &Arc<App>, size: usize, turn: usize) {
    let singles = (0..size).map(|number| {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            let (resource, report) = command(&app, number, turn);
            let executed = app.allocations.execute(resource, &report, &site::meta()).await.unwrap();
            assert!(!executed.already_applied());
        })
    });
    futures::stream::iter(singles).buffer_unordered(SINGLES_AT_ONCE).for_each(async |done| done.unwrap()).await;
}

/// What one run took.
struct Measured {
    commands: f64,
    whole: f64,
    processor: f64,
    events: u64,
    raw: Option<raw::RawTimes>,
    rows: (usize, usize),
}

/// A site of a size, laid out and at rest. Each run begins with a copy of it, and with a server that has just started.
struct Site {
    folder: TempDir,
    size: usize,
}

impl Site {
    async fn new(options: &Options, size: usize) -> Self {
        let folder = tempfile::tempdir_in(&options.folder).unwrap();
        let app = App::open(AppOptions::at(folder.path().join("sluice.db"))).await.unwrap();
        site::lay_out(&app, size).await;
        app.settle().await.unwrap();
        app.directory.close().await;
        app.read.close().await;
        Self { folder, size }
    }

    async fn measure(&self, way: Way, with_raw: bool) -> Measured {
        let before = self.folder.path().join("sluice.db");
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let log = raw::copy(&before, &folder.path().join("run")).await;
        let app = App::open(AppOptions::at(&log)).await.unwrap();
        let stop = CancellationToken::new();
        let mut tasks = app.start(&stop);
        let first = app.store.head().await.unwrap();
        assert!(app.visible(Some(first)).await, "the background tasks did not get going");
        let (begun, processor) = (Instant::now(), processor_seconds());
        match way {
            Way::Bulk => bulk(&app, self.size, 0).await,
            Way::Single => single(&app, self.size, 0).await,
        }
        let commands = begun.elapsed().as_secs_f64();
        let head = app.store.head().await.unwrap();
        let numbers = app.store.numbers().unwrap();
        assert!(app.consumers.wait_for(head, &[], GIVE_UP).await, "the read models did not get there");
        let whole = begun.elapsed().as_secs_f64();
        let processor = processor_seconds() - processor;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        app.directory.close().await;
        app.read.close().await;
        let (mut raw, mut rows) = (None, (0, 0));
        if with_raw {
            let added = raw::added(&log, &before).await;
            rows = added.count();
            raw = Some(raw::insert(&added, &before, folder.path()).await);
            if std::env::var_os("SLUICE_BENCH_TABLES").is_some() {
                println!("  {:?}", added.by_table());
            }
        }
        Measured { commands, whole, processor, events: numbers.of(head) - numbers.of(first), raw, rows }
    }
}

pub async fn run(options: &Options) {
    let table = Table::new(&[
        "resources",
        "way",
        "commands s",
        "whole s",
        "us/resource",
        "cpu us/res.",
        "events/s",
        "raw 1+1 s",
        "raw 2x s",
        "ratio 1+1",
        "ratio 2x",
        "rows",
        "load",
    ]);
    let mut costs: BTreeMap<(Way, usize), f64> = BTreeMap::new();
    for size in &options.sizes {
        let site = Site::new(options, *size).await;
        for way in options.ways.iter().copied() {
            // A short run says little: it is repeated until it has done as much as a longer one.
            let runs = options.runs.max((20_000 / size).min(20));
            let mut measured = Vec::new();
            for run in 0..runs {
                measured.push(site.measure(way, options.with_raw && run < options.runs).await);
            }
            let of = |value: &dyn Fn(&Measured) -> Option<f64>| median(measured.iter().filter_map(value).collect());
            let whole = of(&|m| Some(m.whole));
            let apart = of(&|m| m.raw.as_ref().map(|raw| raw.one_after_the_other.as_secs_f64()));
            let together = of(&|m| m.raw.as_ref().map(|raw| raw.side_by_side.as_secs_f64()));
            let (events, rows) = (measured[0].events, measured[0].rows);
            costs.insert((way, *size), whole / *size as f64);
            table.row(&[
                size.to_string(),
                way.name().into(),
                format!("{:.3}", of(&|m| Some(m.commands))),
                format!("{whole:.3}"),
                format!("{:.1}", whole / *size as f64 * 1e6),
                format!("{:.1}", of(&|m| Some(m.processor)) / *size as f64 * 1e6),
                format!("{:.0}", events as f64 / whole),
                format!("{apart:.3}"),
                format!("{together:.3}"),
                format!("{:.2}", apart / whole),
                format!("{:.2}", together / whole),
                format!("{}+{}", rows.0, rows.1),
                load().split(' ').next().unwrap_or_default().into(),
            ]);
        }
    }
    let (Some(small), Some(large)) = (options.sizes.iter().min(), options.sizes.iter().max()) else { return };
    for way in options.ways.iter().copied() {
        let change = costs[&(way, *large)] / costs[&(way, *small)] - 1.0;
        println!("{}: cost per resource at {large} against {small}: {:+.0} %", way.name(), change * 100.0);
    }
}
