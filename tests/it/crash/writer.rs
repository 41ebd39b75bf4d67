//! The process that gets killed: background tasks, single and bulk writers on the same resources, and policy changes.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use rust_decimal::Decimal;
use sluice::app::App;
use sluice::commands::execute::Executed;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::witness;
use crate::support::fleet;

/// Resources of the site.
pub const RESOURCES: usize = 40;

/// Writers of single commands.
const WRITERS: usize = 8;

/// Said when the process begins to open the database.
pub const READY: &str = "ready";

/// What a line of acknowledged facts begins with, and ends with if it is whole.
pub const ACKNOWLEDGED: &str = "acknowledged ";
pub const END: &str = " end";

/// Writes one line, whole, in one piece.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

fn acknowledge(executed: &Executed) {
    let ids: Vec<String> = executed.events.iter().map(|(id, _)| id.to_string()).collect();
    if !ids.is_empty() {
        say(&format!("{ACKNOWLEDGED}{}{END}", ids.join(" ")));
    }
}

/// A report of something between nothing and more than the policy bears.
fn any_report(app: &App) -> sluice::commands::allocation::AllocationCommand {
    fleet::report(app, Decimal::new(rand::rng().random_range(0..14_000), 2))
}

/// Never comes to an end by itself.
pub async fn write_until_killed(folder: &Path) {
    say(""); // the test harness has begun a line
    say(READY);
    let app = App::open(crate::support::database::options(folder)).await.unwrap();
    fleet::lay_out(&app, RESOURCES).await;
    let stop = CancellationToken::new();
    let mut tasks: JoinSet<()> = app.start(&stop);
    let witness = witness::consumers(&app, folder).await;
    tasks.spawn(async move { witness.run(stop).await });
    for _ in 0..WRITERS {
        let app = Arc::clone(&app);
        tasks.spawn(async move {
            loop {
                let resource = fleet::resource(rand::rng().random_range(0..RESOURCES));
                acknowledge(&app.allocations.execute(resource, &any_report(&app), &fleet::meta()).await.unwrap());
            }
        });
    }
    let bulk = Arc::clone(&app);
    tasks.spawn(async move {
        loop {
            let commands: Vec<_> = (0..RESOURCES).map(|n| (fleet::resource(n), any_report(&bulk))).collect();
            for executed in bulk.allocations.execute_many(&commands, &fleet::meta()).await {
                acknowledge(&executed.unwrap());
            }
        }
    });
    tasks.spawn(async move {
        loop {
            let mut terms = fleet::terms();
            terms.notification_thresholds = vec![Decimal::from(rand::rng().random_range(1..100))];
            fleet::put_policy(&app, &terms).await.unwrap();
            // The next change waits until somebody has begun to draw the consequences of this one.
            app.settle().await.unwrap();
        }
    });
    let ended = tasks.join_next().await;
    panic!("a task that never ends has ended: {ended:?}");
}
