//! Benchmarks: `cargo bench --bench sluice -- [NAME]… [OPTION]…`, described in docs/BENCHMARKS.md.
//!
//! A plain program: each benchmark prints a table of what it measured beside what it is to be compared with, both in the
//! same run of the same process.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by failing")]
#![expect(clippy::cast_precision_loss, reason = "counts and times are shown, not computed with")]

mod append;
#[path = "../it/dispatch/client.rs"]
#[expect(dead_code, reason = "the agent of the tests can do more than is measured")]
mod client;
mod consume;
mod dispatch;
mod esdb;
mod evaluate;
mod eventstore;
mod fleet;
mod http;
mod idle;
mod notary;
mod pages;
mod postgres;
mod prune;
mod raw;
mod replay;
mod report;
#[path = "../it/support/fleet.rs"]
mod site;
mod sizing;
mod states;
mod ui;
mod what_if;

use std::path::{Path, PathBuf};
use std::time::Instant;

/// As in `src/main.rs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What was asked for.
pub struct Options {
    /// Benchmarks, in the order asked for.
    names: Vec<String>,
    /// Resources of the fleet.
    sizes: Vec<usize>,
    /// Messages of `dispatch`.
    messages: usize,
    /// Rows of the evaluation log of `pages` and `prune`.
    rows: Option<i64>,
    /// How often each is repeated; the median counts.
    runs: usize,
    /// Ways of the fleet run.
    ways: Vec<fleet::Way>,
    /// Whether the fleet run is compared with raw inserts.
    with_raw: bool,
    /// Where databases are made.
    folder: PathBuf,
    /// The server of `postgres`.
    server: Option<String>,
}

const HELP: &str = "cargo bench --bench sluice -- [NAME]... [--sizes N,N,...] [--runs N] [--folder FOLDER]
                                          [--way bulk|single] [--no-raw] [--rows N] [--messages N] [--server URL]

  evaluate   one evaluation and one decision, without any input or output
  append     the event log: single, batched and concurrent appends
  consume    the consumer loop with all read models, over a log that is there already
  fleet      N resources, one usage report each: commands, log and read models, beside raw inserts of the same rows
  http       usage reports over HTTP, each answered when it is durable, evaluated and shown
  dispatch   --messages settings messages (10000): handed to an agent's queue, and there and back with one that answers at once
  replay     recorded decisions made again, after 5 reports of each of N resources
  notary     a checkpoint over such a log, its verification, and proofs
  what_if    a year of daily reports of each of N resources (up to 10000), lived again under other rules
  idle       anonymous memory of a server with N resources
  pages      pages of the evaluation log among --rows rows (10000000, which takes some minutes to make and some GB)
  prune      usage reports over HTTP before, while and after --rows rows (1000000) of the evaluation log are pruned
  eventstore reports, fleet, rebuild, a start after 90 missed days, a copy of a log there and back, what waiting costs the
             server and the loss of a leader with the log in EventStoreDB (the fixture of the tests), beside SQLite
  postgres   append (by one appender and by three at once) and fleet on the server named by --server postgres://user@host/name,
             in databases of its own, beside COPY and INSERTs of many rows
  states     how allocations stand over HTTP, in a fleet of 10000: lists, numbers, what needs somebody, the series of one
  ui         pages of the web interface in a fleet of 10000, as whole pages and as parts of them
  sizing     append, a round of reports, replay and disk for SQLite and for the server of --server, side by side

Without a name all of them run but pages, prune, eventstore, postgres, states, ui, sizing, replay, notary and what_if. --sizes are the N of fleet (1000,10000,100000), the largest is that of consume, idle, sizing, replay and notary.";

fn options() -> Result<Options, String> {
    let mut options = Options {
        names: Vec::new(),
        sizes: vec![1_000, 10_000, 100_000],
        runs: 3,
        messages: 10_000,
        rows: None,
        ways: vec![fleet::Way::Bulk, fleet::Way::Single],
        with_raw: true,
        folder: std::env::temp_dir(),
        server: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {} // cargo says so to every benchmark
            "--sizes" => {
                let sizes = value()?.split(',').map(str::parse).collect::<Result<_, _>>();
                options.sizes = sizes.map_err(|error| format!("--sizes: {error}"))?;
            }
            "--rows" => options.rows = Some(value()?.parse().map_err(|error| format!("--rows: {error}"))?),
            "--messages" => {
                options.messages = value()?.parse().map_err(|error| format!("--messages: {error}"))?;
            }
            "--runs" => options.runs = value()?.parse().map_err(|error| format!("--runs: {error}"))?,
            "--way" => options.ways.retain({
                let way = value()?;
                move |known| known.name() == way
            }),
            "--no-raw" => options.with_raw = false,
            "--folder" => options.folder = value()?.into(),
            "--server" => options.server = Some(value()?),
            "evaluate" | "append" | "consume" | "fleet" | "http" | "dispatch" | "idle" | "pages" | "prune"
            | "eventstore" | "postgres" | "sizing" | "states" | "ui" | "replay" | "notary" | "what_if" => {
                options.names.push(argument);
            }
            other => return Err(format!("{other} is not known\n\n{HELP}")),
        }
    }
    if options.names.is_empty() {
        options.names = ["evaluate", "append", "consume", "fleet", "http", "dispatch", "idle"].map(String::from).into();
    }
    Ok(options)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--help") {
        return println!("{HELP}");
    }
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [_, command, log] = &arguments[..]
        && command == idle::CHILD
    {
        return runtime().block_on(idle::child(Path::new(log)));
    }
    let options = match options() {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}");
            std::process::exit(2);
        }
    };
    report::conditions();
    for name in &options.names {
        let begun = Instant::now();
        println!("\n## {name}\n");
        runtime().block_on(async {
            match name.as_str() {
                "evaluate" => evaluate::run(&options),
                "append" => append::run(&options).await,
                "consume" => consume::run(&options).await,
                "fleet" => fleet::run(&options).await,
                "http" => http::run(&options).await,
                "dispatch" => dispatch::run(&options).await,
                "pages" => pages::run(&options).await,
                "prune" => prune::run(&options).await,
                "eventstore" => eventstore::run(&options).await,
                "postgres" => postgres::run(&options).await,
                "sizing" => sizing::run(&options).await,
                "states" => states::run(&options).await,
                "ui" => ui::run(&options).await,
                "replay" => replay::run(&options).await,
                "notary" => notary::run(&options).await,
                "what_if" => what_if::run(&options).await,
                _ => idle::run(&options).await,
            }
        });
        eprintln!("({name} took {:.0} s in all)", begun.elapsed().as_secs_f64());
    }
}
