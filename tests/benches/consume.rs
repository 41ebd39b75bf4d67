//! The consumer loop: a log that is there already, folded into empty tables by all read models together.

use std::time::Instant;

use sluice::app::{App, AppOptions};
use sluice::store::sqlite::DatabaseFiles;

use crate::Options;
use crate::report::{Table, median};
use crate::{fleet, raw, site};

pub async fn run(options: &Options) {
    let size = options.sizes.iter().copied().max().unwrap_or(10_000);
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let log = folder.path().join("sluice.db");
    {
        let app = App::open(AppOptions::at(&log)).await.unwrap();
        site::lay_out(&app, size).await;
        fleet::bulk(&app, size, 0).await;
        app.settle().await.unwrap();
        app.read.close().await;
    }
    let table = Table::new(&["events", "s", "events/s"]);
    let mut times = Vec::new();
    let mut events = 0;
    for run in 0..options.runs {
        let copy = raw::copy(&log, &folder.path().join(format!("copy-{run}"))).await;
        std::fs::remove_file(DatabaseFiles::of(&copy).read).unwrap();
        let app = App::open(AppOptions::at(&copy)).await.unwrap();
        events = app.store.numbers().unwrap().of(app.store.head().await.unwrap());
        let begun = Instant::now();
        app.consumers.settle().await.unwrap();
        times.push(begun.elapsed().as_secs_f64());
        app.read.close().await;
    }
    let seconds = median(times);
    table.row(&[events.to_string(), format!("{seconds:.2}"), format!("{:.0}", events as f64 / seconds)]);
}
