//! Anonymous memory of a server with many resources: a process of its own, which opens the database, starts the background
//! tasks, and says what it holds after the start, after a report of every resource, and at rest again.

use std::path::Path;
use std::process::Command;

use sluice::app::{App, AppOptions};
use tokio_util::sync::CancellationToken;

use crate::report::{Table, anonymous_kib};
use crate::{Options, fleet, site};

/// The argument that makes this program the process that is looked at.
pub const CHILD: &str = "measure-own-memory";

pub async fn run(options: &Options) {
    let table = Table::new(&["resources", "started MiB", "under load MiB", "at rest MiB"]);
    let size = options.sizes.iter().copied().max().unwrap_or(100_000);
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let log = folder.path().join("sluice.db");
    {
        let app = App::open(AppOptions::at(&log)).await.unwrap();
        site::lay_out(&app, size).await;
        fleet::bulk(&app, size, 0).await;
        app.settle().await.unwrap();
        app.read.close().await;
    }
    let child = Command::new(std::env::current_exe().unwrap()).arg(CHILD).arg(&log).output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let said = String::from_utf8(child.stdout).unwrap();
    let cells: Vec<String> =
        std::iter::once(size.to_string()).chain(said.split_whitespace().map(String::from)).collect();
    table.row(&cells);
}

fn say_memory() {
    println!("{:.1}", anonymous_kib("self") as f64 / 1024.0);
}

/// The process that is looked at.
pub async fn child(log: &Path) {
    let app = App::open(AppOptions::at(log)).await.unwrap();
    let stop = CancellationToken::new();
    let mut tasks = app.start(&stop);
    app.settle().await.unwrap();
    say_memory();
    let size = app.registry.read().resources().count();
    fleet::bulk(&app, size, 1).await;
    say_memory();
    let head = app.store.head().await.unwrap();
    app.consumers.wait_for(head, &[], std::time::Duration::from_mins(10)).await;
    // What the server does by itself once no command has come for some minutes, and a moment for the memory to go back.
    app.rest().await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    say_memory();
    stop.cancel();
    while tasks.join_next().await.is_some() {}
}
