//! A re-evaluation of many resources, killed in the middle: it goes on where it was, and says so meanwhile.
//!
//! The process that gets killed is this test binary again, as in the test beside this one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rust_decimal::Decimal;
use sluice::app::App;
use sluice::domain::evaluate::Trigger;
use sluice::events::Event;
use sluice::events::allocation::AllocationEvent;
use sluice::events::envelope::Position;
use tokio_util::sync::CancellationToken;

use crate::support::fleet;

/// Names the folder in which the process that gets killed finds the database.
const FOLDER: &str = "SLUICE_BULK_FOLDER";

const TEST: &str = "bulk::a_re_evaluation_that_was_killed_goes_on_where_it_was";

/// Two batches and a half.
const RESOURCES: usize = 1_250;
const BATCH: usize = 500;

/// What the process says when it has done a batch.
const MIDDLE: &str = "in the middle";

async fn open(folder: &Path) -> Arc<App> {
    App::open(crate::support::database::options(folder)).await.unwrap()
}

/// Changes nothing more, evaluates what a change calls for, and says when the first batch is done.
async fn work_until_killed(folder: &Path) {
    let app = open(folder).await;
    app.consumers.settle().await.unwrap();
    let worker = Arc::clone(&app);
    let work = tokio::spawn(async move { worker.reactions.work(&CancellationToken::new()).await });
    let mut said = false;
    while !work.is_finished() {
        let pending = app.reactions.pending().await.unwrap();
        if !said && pending.first().is_some_and(|task| task.done > 0) {
            let mut output = std::io::stdout().lock();
            output.write_all(format!("\n{MIDDLE}\n").as_bytes()).unwrap();
            output.flush().unwrap();
            said = true;
        }
        tokio::task::yield_now().await;
    }
}

/// Runs the worker until it has done a batch, and kills it.
fn work_and_kill(folder: &Path) {
    let path = module_path!().split_once("::").map_or("", |(_, path)| path);
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("{}::{TEST}", path.trim_end_matches("::bulk"))])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(worker.stdout.take().unwrap());
    let middle = output.lines().any(|line| line.unwrap() == MIDDLE);
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(middle, "the worker ended before it had begun");
}

/// Evaluations after a change to this version of the policy, and resets, by the stream of the resource.
async fn evaluations(app: &App, version: u64) -> BTreeMap<String, (usize, usize)> {
    let mut found: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut after = Position::START;
    loop {
        let page = app.store.read_all(after, 1_000).await.unwrap();
        let Some(last) = page.last() else { return found };
        after = last.position;
        for recorded in &page {
            let counted = found.entry(recorded.stream.to_string());
            match Event::decode(recorded).unwrap() {
                Event::Allocation(AllocationEvent::PolicyEvaluated(e))
                    if e.trigger == Trigger::PolicyChanged && e.policy_version == version =>
                {
                    counted.or_default().0 += 1;
                }
                Event::Allocation(AllocationEvent::SettingsCommanded(told)) if told.reset.is_some() => {
                    counted.or_default().1 += 1;
                }
                _ => {}
            }
        }
    }
}

/// One change, one kill. False: the worker was done before the kill reached it.
async fn change_and_kill(folder: &Path, threshold: i64) -> bool {
    let version = {
        let app = open(folder).await;
        let mut terms = fleet::terms();
        terms.notification_thresholds = vec![Decimal::from(threshold)];
        fleet::put_policy(&app, &terms).await.unwrap()
    };
    let place = folder.to_owned();
    tokio::task::spawn_blocking(move || work_and_kill(&place)).await.unwrap();
    let app = open(folder).await;
    app.consumers.settle().await.unwrap();
    let pending = app.reactions.pending().await.unwrap();
    let Some(task) = pending.first() else { return false };
    let done = usize::try_from(task.done).unwrap();
    assert!((BATCH..RESOURCES).contains(&done) && done % BATCH == 0, "{task:?}");
    assert_eq!((task.kind.as_str(), task.total), ("policy", Some(1_250)));
    app.settle().await.unwrap();
    assert_eq!(app.reactions.pending().await.unwrap(), []);
    let counted = evaluations(&app, version).await;
    let counts: Vec<usize> = counted.values().map(|(evaluated, _)| *evaluated).filter(|n| *n > 0).collect();
    assert_eq!(counts.len(), RESOURCES, "everybody was evaluated");
    // What was recorded by the batch under way when the kill came is recorded once more, and no more than that.
    let again = counts.iter().filter(|n| **n > 1).count();
    assert!(counts.iter().all(|n| *n <= 2) && again <= BATCH, "{again} twice");
    assert!(counted.values().all(|(_, resets)| *resets <= 1), "a reset was decided twice");
    true
}

#[test]
fn a_re_evaluation_that_was_killed_goes_on_where_it_was() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(folder) = std::env::var_os(FOLDER) {
        return runtime.block_on(work_until_killed(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let app = open(folder.path()).await;
        fleet::lay_out(&app, RESOURCES).await;
        app.settle().await.unwrap();
        drop(app);
        for threshold in [60, 61, 62, 63, 64] {
            if change_and_kill(folder.path(), threshold).await {
                return;
            }
        }
        panic!("the worker was always done before it could be killed");
    });
}
