//! Reports over a simulated stretch of several quarters: they agree with the read models and with the API, every number leads
//! to events that are there, and each report reads as its golden file.

mod agrees;
mod golden;
pub(crate) mod scene;

use std::sync::Arc;

use sluice::app::App;
use sluice::report::{Asked, Kind, ROWS_MAX, Report, Span, Value, report};

/// The three quarters.
const YEAR: &str = "2026";

pub(crate) async fn made(app: &App, kind: Kind, period: &str) -> Report {
    let span = Span::of(period.parse().unwrap(), chrono_tz::Tz::UTC).unwrap();
    let asked =
        Asked { kind, span, zone: chrono_tz::Tz::UTC, resource: None, policy: None, as_of: None, rows_max: ROWS_MAX };
    report(&Arc::clone(&app.store), &asked, |_| true).await.unwrap()
}

/// A total of the first table.
fn total(report: &Report, name: &str) -> u64 {
    let (_, cell) = report.tables[0].totals.iter().find(|(known, _)| *known == name).unwrap();
    match cell.value {
        Value::Count(count) => count,
        ref other => panic!("{name} is {other:?}"),
    }
}
