//! Recorded decisions made again: how many a second, and how much of the time goes into reading, decoding and deciding.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use sluice::app::{App, AppOptions};
use sluice::replay::{Effort, Pass, Report, Wanted};

use crate::Options;
use crate::report::{Table, median};
use crate::{fleet, site};

/// Reports of each resource.
const ROUNDS: usize = 5;

pub async fn run(options: &Options) {
    let size = options.sizes.iter().copied().max().unwrap_or(10_000);
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let app = App::open(AppOptions::at(folder.path().join("sluice.db"))).await.unwrap();
    site::lay_out(&app, size).await;
    for round in 0..ROUNDS {
        fleet::bulk(&app, size, round).await;
    }
    let table = Table::new(&[
        "workers",
        "books",
        "events",
        "decisions",
        "s",
        "decisions/s",
        "reading s",
        "decoding s",
        "deciding s",
    ]);
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let few = NonZeroUsize::new(size / 8).unwrap_or(NonZeroUsize::MIN);
    let many = NonZeroUsize::new(131_072).unwrap_or(NonZeroUsize::MIN);
    for (workers, books_max) in [(NonZeroUsize::MIN, many), (cores, many), (cores, few)] {
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            let (log, effort) = (Arc::clone(app.guard.log()), Effort { workers, books_max });
            let head = log.head().await.unwrap();
            let begun = Instant::now();
            let mut pass = Pass::begin(log, Wanted::default(), (Report::default(), head), effort).await.unwrap();
            while pass.step().await.unwrap() {}
            runs.push((begun.elapsed().as_secs_f64(), pass.spent(), pass.into_report()));
        }
        let seconds = median(runs.iter().map(|run| run.0).collect());
        let of = |part: fn(&sluice::replay::Spent) -> f64| median(runs.iter().map(|run| part(&run.1)).collect());
        let report = &runs[0].2;
        assert!(report.agrees(), "{:?}", report.complaint());
        let decisions = report.total().same;
        table.row(&[
            workers.to_string(),
            books_max.to_string(),
            report.events.to_string(),
            decisions.to_string(),
            format!("{seconds:.2}"),
            format!("{:.0}", decisions as f64 / seconds),
            format!("{:.2}", of(|spent| spent.reading.as_secs_f64())),
            format!("{:.2}", of(|spent| spent.decoding.as_secs_f64())),
            format!("{:.2}", of(|spent| spent.deciding.as_secs_f64())),
        ]);
    }
}
