//! `/api/reports/{kind}/`: reports on a period, made of the log in one pass. Each number names the events that it comes of.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::context::Context;
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::policies::span;
use crate::domain::period::Period;
use crate::domain::validation::FieldErrors;
use crate::events::envelope::Position;
use crate::report::{Asked, Kind, Report, ReportError, Span, Table, report};

/// Rows of a table; what is more is counted.
const ROWS: usize = 10_000;

/// Reports are made one after the other: each reads the whole log.
static ONE: Semaphore = Semaphore::const_new(1);

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Support, routes!(show))
}

/// A table of a report.
#[derive(Debug, Serialize, ToSchema)]
struct ReportTable {
    name: &'static str,
    /// The names of the cells, in their order.
    columns: Vec<&'static str>,
    /// Cells by name, and under `events` for each that has some: how many events it comes of, and the first twenty of them with
    /// position and id.
    rows: Vec<serde_json::Value>,
    /// Rows that were left out because there are too many.
    omitted: u64,
    /// Sums by name, over the rows that were left out too, with `events` as in a row.
    totals: serde_json::Value,
    /// What has to be known to read it.
    notes: Vec<String>,
}

/// A report on a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeriodReport {
    /// Which one.
    report: &'static str,
    title: &'static str,
    /// The period, if it was asked for as one.
    period: Option<String>,
    from: chrono::DateTime<chrono::Utc>,
    /// The first instant that no longer belongs to it.
    to: chrono::DateTime<chrono::Utc>,
    /// The log was read up to here. With `as_of` and this position the same report comes again.
    through: String,
    tables: Vec<ReportTable>,
}

impl From<&Table> for ReportTable {
    fn from(table: &Table) -> Self {
        let mut whole = table.json();
        let rows = match whole["rows"].take() {
            serde_json::Value::Array(rows) => rows,
            _ => Vec::new(),
        };
        Self {
            name: table.name,
            columns: table.columns.to_vec(),
            rows,
            omitted: table.omitted,
            totals: whole["totals"].take(),
            notes: table.notes.clone(),
        }
    }
}

impl From<&Report> for PeriodReport {
    fn from(report: &Report) -> Self {
        let asked = &report.asked;
        Self {
            report: asked.kind.as_str(),
            title: asked.kind.title(),
            period: asked.span.period.map(|period| period.to_string()),
            from: asked.span.from,
            to: asked.span.to,
            through: report.through.plain(),
            tables: report.tables.iter().map(ReportTable::from).collect(),
        }
    }
}

/// What is asked for.
fn asked(ctx: &Context, kind: Kind) -> Result<Asked, ApiError> {
    let zone = ctx.app.allocations.rules().zone;
    let of_period = |text: &str| text.parse::<Period>().ok().and_then(|period| Span::of(period, zone));
    let period = ctx.query.read("period", "a period such as 2026-03, 2026-Q3 or 2026", of_period)?;
    let given = span(ctx)?;
    let span = match (period, given.from, given.to) {
        (Some(period), None, None) => period,
        (None, Some(from), Some(to)) if from < to => Span { from, to, period: None },
        (None, Some(_), Some(_)) => {
            return Err(ApiError::Invalid(FieldErrors::one("to", "It must lie after `from`.")));
        }
        _ => {
            let allowed =
                "Either a period such as 2026-Q3, or both `from` and `to` are allowed, and one of them is needed.";
            return Err(ApiError::Invalid(FieldErrors::one("period", allowed)));
        }
    };
    let position = |text: &str| Position::read_plain(text).ok();
    Ok(Asked {
        kind,
        span,
        zone,
        resource: ctx.query.uuid("resource_uuid")?,
        policy: ctx.query.uuid("policy_uuid")?,
        as_of: ctx.query.read("as_of", "a position of the log", position)?,
        rows_max: ROWS,
    })
}

/// A report on a period: `enforcement-register`, `statement`, `policy-changes`, `notices`, `agent-reliability`, `exceptions`,
/// `drift` or `fairness`.
#[utoipa::path(get, path = "/api/reports/{kind}/", tag = "Reports",
    params(("kind" = String, Path, description = "Which report"),
        ("period" = Option<String>, Query, description = "Such as `2026-03`, `2026-Q3` or `2026`"),
        ("from" = Option<String>, Query, description = "An instant or a date, with `to`, in place of a period"),
        ("to" = Option<String>, Query, description = "The last instant or date"),
        ("resource_uuid" = Option<String>, Query), ("policy_uuid" = Option<String>, Query),
        ("as_of" = Option<String>, Query, description = "As far as the log said up to this position"),
        ("output" = Option<String>, Query, description = "`json`, or `csv` for lines of comma-separated values")),
    responses((status = 200, body = PeriodReport), (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail),
        (status = 404, body = ErrorDetail)))]
async fn show(ctx: Context, Path(kind): Path<String>) -> ApiResult {
    let kind = Kind::parse(&kind).ok_or(ApiError::NotFound)?;
    let asked = asked(&ctx, kind)?;
    let words = |text: &str| match text {
        "json" => Some(false),
        "csv" => Some(true),
        _ => None,
    };
    let csv = ctx.query.read("output", "json, csv", words)?.unwrap_or_default();
    let _one = ONE.acquire().await.map_err(ApiError::internal)?;
    let made = report(&ctx.app.store, &asked, |_| true).await.map_err(failed)?;
    if csv {
        return Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], made.csv()).into_response());
    }
    ctx.one(StatusCode::OK, &PeriodReport::from(&made))
}

fn failed(error: ReportError) -> ApiError {
    match error {
        ReportError::Store(error) => error.into(),
        error => ApiError::internal(error),
    }
}
