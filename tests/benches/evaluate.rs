//! One evaluation and one decision, without input or output: what the rules themselves cost.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use rust_decimal::Decimal;
use sluice::app::{App, AppOptions};
use sluice::commands::allocation::{AllocationCommand, Book, DecideContext, SiteRules, decide};
use sluice::domain::evaluate::{EvaluationInputs, evaluate};
use sluice::events::allocation::WithdrawReason;

use crate::Options;
use crate::report::{Table, median};
use crate::site;

/// Repetitions of one measurement.
const TIMES: u32 = 20_000;

/// Nanoseconds of one call: the median of some measurements of many.
fn nanoseconds(runs: usize, mut call: impl FnMut()) -> f64 {
    let one = |_| {
        let begun = Instant::now();
        (0..TIMES).for_each(|_| call());
        begun.elapsed().as_nanos() as f64 / f64::from(TIMES)
    };
    median((0..runs.max(3)).map(one).collect())
}

/// A resource with a report, its policy, and a further report.
async fn example() -> (Arc<App>, Arc<Book>, AllocationCommand, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(AppOptions::at(folder.path().join("sluice.db"))).await.unwrap();
    site::lay_out(&app, 1).await;
    let first = site::report(&app, Decimal::from(40));
    let book = app.allocations.execute(site::resource(0), &first, &site::meta()).await.unwrap().book;
    let next = site::report(&app, Decimal::from(45));
    (app, book, next, folder)
}

pub fn run(options: &Options) {
    let (app, book, report, _folder) =
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(example()));
    let page = &book.policies[&site::policy()];
    let recorded = &page.basis.as_ref().unwrap().0;
    let inputs = EvaluationInputs {
        basis: &recorded.basis,
        allocation: &recorded.allocation,
        usage: book.usage.values().next_back().unwrap(),
        notices: &page.notices,
        held: page.held,
    };
    let table = Table::new(&["what", "ns", "per second"]);
    let show = |what: &str, ns: f64| table.row(&[what.into(), format!("{ns:.0}"), format!("{:.0}", 1e9 / ns)]);
    show(
        "evaluate: percentage, rungs, verbs, sentence",
        nanoseconds(options.runs, || drop(black_box(evaluate(black_box(&inputs))))),
    );
    show("allocate: carryover, weights", nanoseconds(options.runs, || drop(black_box(recorded.basis.allocate()))));
    let applicable = app.registry.applicable(site::offering(), book.facts.customer).unwrap();
    let rules = SiteRules::default();
    let ctx = DecideContext {
        now: app.clock.now(),
        offering: &applicable.offering,
        policies: &applicable.policies,
        withdrawn: &|_| WithdrawReason::Deleted,
        rules: &rules,
        ids: sluice::clock::IdSource,
        origin: sluice::events::envelope::Cause { event: None, correlation: uuid::Uuid::nil() },
    };
    show(
        "decide: a usage report with all that follows",
        nanoseconds(options.runs, || drop(black_box(decide(Book::clone(&book), &report, &ctx)))),
    );
    let decided = decide(Book::clone(&book), &report, &ctx).unwrap();
    show(
        "encode: the payloads of its events",
        nanoseconds(options.runs, || {
            decided.events.iter().for_each(|(_, event)| drop(black_box(event.payload())));
        }),
    );
    let stored: Vec<_> = decided.events.iter().map(|(_, event)| (event.event_type(), event.payload())).collect();
    show(
        "decode: the same",
        nanoseconds(options.runs, || {
            for (name, payload) in &stored {
                drop(black_box(sluice::events::allocation::AllocationEvent::decode(name, payload)));
            }
        }),
    );
    for (name, payload) in &stored {
        println!("  {name}: {} bytes", payload.len());
    }
}
