//! `sluice report`: what happened in a period, each number with the events that it comes of.
//!
//! Like `replay` it opens the log alone, beside a running server or without one.

use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::Globals;
use super::output::{Out, count};
use super::replay::{Edge, edge, instant_text, named};
use super::session::{CliError, config_of};
use super::store_soundness::{open, options_of, unread};
use crate::domain::period::Period;
use crate::events::envelope::Position;
use crate::report::{Asked, Kind, ROWS_MAX, Report, Row, Span, Table, report};
use crate::store::EventStore;
use crate::store::guard::Guard;

/// Rows shown in a table.
const SHOWN: usize = 50;

/// Options of `report`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// What on
    #[arg(value_name = "REPORT", value_enum)]
    kind: Kind,
    /// Of this period at the site: 2026-03, 2026-Q3 or 2026
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["from", "to"])]
    period: Option<Period>,
    /// From this day at the site on, or from an instant, as in 2026-03-01T00:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = edge, requires = "to")]
    from: Option<Edge>,
    /// Before this day or instant
    #[arg(long, value_name = "WHEN", value_parser = edge, requires = "from")]
    to: Option<Edge>,
    /// Only of this allocation, by id or slug
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    /// Only by this policy, by id or slug
    #[arg(long, value_name = "U")]
    policy: Option<String>,
    /// As far as the log said up to this position
    #[arg(long, value_name = "POSITION", value_parser = Position::read_plain)]
    as_of: Option<Position>,
    /// Rows of a table at most
    #[arg(long, value_name = "NUMBER", default_value_t = ROWS_MAX)]
    rows: usize,
    /// Print lines of comma-separated values
    #[arg(long)]
    csv: bool,
}

pub(super) async fn run(globals: &Globals, options: &Options, out: &Out) -> Result<(), CliError> {
    let zone = config_of(globals, None)?.time_zone;
    let asked = Asked {
        kind: options.kind,
        span: span(options, zone)?,
        zone,
        resource: None,
        policy: None,
        as_of: options.as_of,
        rows_max: options.rows,
    };
    let (policy, resource) = named(globals, options.policy.as_deref(), options.resource.as_deref()).await?;
    let asked = Asked { resource, policy, ..asked };
    let app = options_of(globals)?;
    let log: Arc<dyn EventStore> = Arc::new(Guard::new(open(&app).await?, &app.limits, |_| ()));
    let head = log.head().await.map_err(unread)?;
    let bar = out.progress_over(log.distance(Position::START, head).await, "reading the log");
    let made = report(&log, &asked, |read| {
        bar.inc(read);
        true
    });
    let made = made.await;
    bar.finish_and_clear();
    let made = made.map_err(|error| CliError::because("the report cannot be made", error))?;
    if options.csv {
        out.raw(&made.csv());
    } else {
        out.json(&made.json());
        show(&made, out);
    }
    Ok(())
}

fn span(options: &Options, zone: chrono_tz::Tz) -> Result<Span, CliError> {
    let wrong = |text: &str| CliError::Usage(text.to_owned());
    match (options.period, options.from.map(|edge| edge.at(zone)), options.to.map(|edge| edge.at(zone))) {
        (Some(period), ..) => Span::of(period, zone)
            .ok_or_else(|| wrong("--period total has no edges; a period such as 2026-03, 2026-Q3 or 2026 is allowed")),
        (None, Some(from), Some(to)) if from < to => Ok(Span { from, to, period: None }),
        (None, Some(from), Some(to)) => {
            Err(wrong(&format!("--to {} must lie after --from {}", instant_text(to), instant_text(from))))
        }
        _ => Err(wrong("a report is of --period PERIOD, or of what lies between --from and --to")),
    }
}

/// The columns that a table on a terminal shows: those that say something in any row.
fn show(made: &Report, out: &Out) {
    let asked = &made.asked;
    let of = asked.span.period.map_or_else(
        || format!("{} to {}", super::output::time(asked.span.from), super::output::time(asked.span.to)),
        |period| period.to_string(),
    );
    out.text(format!("{}, {of}, log up to position {}", asked.kind.title(), made.through.plain()));
    for table in &made.tables {
        show_table(table, out);
    }
}

fn show_table(table: &Table, out: &Out) {
    out.text(format!("\n{}", table.name));
    if !table.rows.is_empty() {
        let filled = |at: usize| table.rows.iter().any(|row| !row[at].value.text().is_empty());
        let shown: Vec<usize> = (0..table.columns.len()).filter(|at| filled(*at)).collect();
        let header: Vec<String> =
            shown.iter().map(|at| table.columns[*at].replace('_', " ")).chain(["events".to_owned()]).collect();
        let row = |row: &Row| {
            let cells = shown.iter().map(|at| row[*at].value.text());
            cells.chain([table.events_of(row)]).collect()
        };
        out.wide_table(&header, &table.rows.iter().take(SHOWN).map(row).collect::<Vec<_>>());
        let unshown = table.rows.len().saturating_sub(SHOWN) as u64 + table.omitted;
        if unshown > 0 {
            let rows = count(usize::try_from(unshown).unwrap_or(usize::MAX), "more row", "more rows");
            out.text(format!("{rows}: --csv or --format json has them"));
        }
    }
    let totals =
        table.totals.iter().map(|(name, cell)| [name.replace('_', " "), cell.value.text(), cell.events.text()]);
    out.table(["total", "", "events"], totals.collect());
    table.notes.iter().for_each(|note| out.prose(note));
}

/// The words, as the help lists them.
impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.as_str()))
    }
}
