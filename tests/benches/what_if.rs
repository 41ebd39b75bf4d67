//! What if: a year of daily reports on every resource, lived again under another grace, and with the rules unchanged.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Datelike, Days, TimeDelta, Utc};
use rust_decimal::Decimal;
use sluice::app::{App, AppOptions};
use sluice::commands::allocation::{AllocationCommand, SiteRules, UsageReport};
use sluice::domain::period::Month;
use sluice::domain::policy::PolicyTerms;
use sluice::replay::what_if::{Asked, Rules, what_if};
use sluice::store::EventStore;

use crate::Options;
use crate::report::{Table, median};
use crate::site;

/// Resources, unless asked otherwise.
const SIZE: usize = 1_000;

/// Days of daily reports.
const DAYS: u64 = 365;

/// Reports of one call.
const BULK: usize = 500;

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default()
}

/// The month-to-date totals of a resource on a day: each at a pace of its own, most of them below the limit, with weeks of
/// more and of less.
fn command(number: usize, today: DateTime<Utc>) -> AllocationCommand {
    let pace = 6 + number % 7;
    let days = (1..=today.day()).map(|day| {
        let week = (today.ordinal() - today.day() + day) / 7;
        pace + (week as usize * 3 + number) % 5
    });
    let used: usize = days.sum();
    let amount = |limit: i64| Decimal::from(used) * Decimal::from(limit) / Decimal::from(1_000);
    let amounts = site::COMPONENTS.into_iter().map(|(name, _, limit)| (name.to_owned(), amount(limit))).collect();
    AllocationCommand::ReportUsage(UsageReport::new(Month::of(today.date_naive()), amounts))
}

async fn year(app: &Arc<App>, size: usize) {
    for day in 0..DAYS {
        let now = start() + Days::new(day) + TimeDelta::hours(12);
        app.advance_clock(now).await.unwrap();
        for first in (0..size).step_by(BULK) {
            let some = first..(first + BULK).min(size);
            let commands: Vec<_> = some.map(|number| (site::resource(number), command(number, now))).collect();
            for outcome in app.allocations.execute_many(&commands, &site::meta()).await {
                outcome.unwrap();
            }
        }
    }
    app.settle().await.unwrap();
}

pub async fn run(options: &Options) {
    let size = options.sizes.iter().copied().filter(|size| *size <= 10_000).max().unwrap_or(SIZE);
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let mut at = AppOptions::at(folder.path().join("sluice.db"));
    at.simulated_clock = Some(start());
    let app = App::open(at).await.unwrap();
    site::lay_out(&app, size).await;
    year(&app, size).await;
    let log: Arc<dyn EventStore> = Arc::clone(&app.store);
    let table = Table::new(&["rules", "resources", "events", "decisions", "differing", "s", "events/s", "reading s"]);
    let milder: Rules =
        Arc::new(|terms: &PolicyTerms| PolicyTerms { grace_ratio: Decimal::new(3, 1), ..terms.clone() });
    for (name, rules) in [("unchanged", None), ("grace_ratio 0.3", Some(milder))] {
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            let asked = Asked {
                policy: site::policy(),
                rules: rules.clone(),
                from: start(),
                to: start() + Days::new(DAYS),
                resource: None,
                site: SiteRules::default(),
                workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
                decisions_max: 20,
            };
            let begun = Instant::now();
            let lived = what_if(&log, asked, |_| true).await.unwrap();
            runs.push((begun.elapsed().as_secs_f64(), lived));
        }
        let seconds = median(runs.iter().map(|run| run.0).collect());
        let reading = median(runs.iter().map(|run| run.1.reading.as_secs_f64()).collect());
        let (events, total) = (runs[0].1.events, &runs[0].1.total);
        assert!(rules.is_some() || (total.differing, total.in_words) == (0, 0), "the year is the recorded one");
        table.row(&[
            name.to_owned(),
            total.allocations.to_string(),
            events.to_string(),
            total.decisions.to_string(),
            total.differing.to_string(),
            format!("{seconds:.2}"),
            format!("{:.0}", events as f64 / seconds),
            format!("{reading:.2}"),
        ]);
    }
}
