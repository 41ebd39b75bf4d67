//! Pages of the evaluation log among millions of rows: the first pages of 100 rows and the total beside them, for each filter.
//!
//! The rows are made from those of a fleet that reported once, copied backwards in time straight in the tables, with the
//! counts that the read model keeps; nothing else is different from rows that came one by one.

use std::time::Instant;

use chrono::TimeDelta;
use sluice::app::{App, AppOptions};
use sluice::domain::evaluate::Verb;
use sluice::domain::period::{Month, Period, PeriodKind};
use sluice::projections::evaluation_log::{ActionFilter, EvaluationFilter, EvaluationOutcome, list};
use sluice::projections::{Page, Span};
use sluice::store::sqlite::DatabaseFiles;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};

use crate::report::{Table, median};
use crate::{Options, fleet, site};

/// Resources whose evaluations fill the log.
const RESOURCES: usize = 10_000;

/// Rows on a page.
const PAGE: u32 = 100;

/// How often each page is read.
const TIMES: usize = 100;

/// Microseconds over which the rows are spread.
const SPAN: i64 = 90 * 24 * 3_600 * 1_000_000;

pub async fn run(options: &Options) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let log = folder.path().join("sluice.db");
    let app = App::open(AppOptions::at(&log)).await.unwrap();
    site::lay_out(&app, RESOURCES).await;
    fleet::bulk(&app, RESOURCES, 0).await;
    app.settle().await.unwrap();
    let mut connection = SqliteConnectOptions::new()
        .filename(DatabaseFiles::of(&log).read)
        .pragma("synchronous", "OFF")
        .pragma("cache_size", "-1000000")
        .pragma("temp_store", "MEMORY")
        .connect()
        .await
        .unwrap();
    let begun = Instant::now();
    let rows = multiply(&mut connection, options.rows.unwrap_or(10_000_000)).await;
    connection.close().await.unwrap();
    eprintln!("({rows} rows made in {:.0} s)", begun.elapsed().as_secs_f64());

    let now = app.clock.now();
    let all = EvaluationFilter::default();
    let month = Month::of_instant(now, app.allocations.rules().zone);
    let days =
        |from: i64, to: i64| Span { from: Some(now - TimeDelta::days(from)), to: Some(now - TimeDelta::days(to)) };
    let policy = EvaluationFilter { policy: Some(site::policy()), ..all.clone() };
    let filters = [
        ("none", all.clone()),
        ("policy", policy.clone()),
        ("resource_uuid", EvaluationFilter { resource: Some(site::resource(77)), ..policy.clone() }),
        (
            "billing_period",
            EvaluationFilter { period: Some(Period::of_month(PeriodKind::Quarter, month)), ..policy.clone() },
        ),
        ("action=pause", EvaluationFilter { action: Some(ActionFilter::Verb(Verb::Pause)), ..policy.clone() }),
        ("action=notify", EvaluationFilter { action: Some(ActionFilter::Verb(Verb::Notify)), ..policy.clone() }),
        ("outcome=changed", EvaluationFilter { outcome: Some(EvaluationOutcome::Changed), ..policy.clone() }),
        ("from/to, a week", EvaluationFilter { span: days(37, 30), ..policy.clone() }),
        (
            "from/to and action",
            EvaluationFilter { span: days(37, 30), action: Some(ActionFilter::Verb(Verb::Pause)), ..policy },
        ),
    ];
    let table = Table::new(&["filter", "matching", "page 1 ms", "page 2 ms", "page 10 ms"]);
    for (name, filter) in filters {
        let mut cells = vec![name.to_owned(), String::new()];
        for number in [1, 2, 10] {
            let mut times = Vec::new();
            for _ in 0..TIMES {
                let asked = Instant::now();
                let (_, total) = list(&app.read, &filter, Page { number, size: PAGE }).await.unwrap();
                times.push(asked.elapsed().as_secs_f64() * 1e3);
                cells[1] = total.to_string();
            }
            cells.push(format!("{:.2}", median(times)));
        }
        table.row(&cells);
    }
    app.read.close().await;
}

/// Doubles the rows, each time further back, until there are so many; then counts them as the read model does.
pub async fn multiply(connection: &mut SqliteConnection, wanted: i64) -> i64 {
    let count = async |connection: &mut SqliteConnection| -> i64 {
        sqlx::query("SELECT max(no) FROM evaluation_log").fetch_one(connection).await.unwrap().get(0)
    };
    let first = count(connection).await;
    let step = SPAN / wanted.max(1);
    // What came within seconds is spread as evenly as what is copied from it.
    sqlx::query("UPDATE evaluation_log SET at = at - (SELECT max(no) FROM evaluation_log) * $1 + no * $1")
        .bind(step)
        .execute(&mut *connection)
        .await
        .unwrap();
    let mut rows = first;
    while rows < wanted {
        let copied = rows.min(wanted - rows);
        let copy = "INSERT INTO evaluation_log SELECT no + $1, randomblob(16), resource, class, at - $1 * $2, position_hi, \
                    position_lo, version, book, policy_version, cause, flags, percentage, grace, explanation, error, dispatch \
                    FROM evaluation_log WHERE no <= $3 ORDER BY no";
        sqlx::query(copy).bind(rows).bind(step).bind(copied).execute(&mut *connection).await.unwrap();
        rows = count(connection).await;
    }
    for statement in [
        "DELETE FROM evaluation_log_counts",
        "INSERT INTO evaluation_log_counts SELECT 0, class, 0, count(*) FROM evaluation_log GROUP BY class",
        "INSERT INTO evaluation_log_counts SELECT 1, class, at / 86400000000, count(*) FROM evaluation_log GROUP BY 2, 3",
        "INSERT INTO evaluation_log_counts SELECT 2, class, at / 3600000000, count(*) FROM evaluation_log GROUP BY 2, 3",
        "UPDATE evaluation_log_mark SET rows = (SELECT max(no) FROM evaluation_log)",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        sqlx::raw_sql(statement).execute(&mut *connection).await.unwrap();
    }
    rows
}
