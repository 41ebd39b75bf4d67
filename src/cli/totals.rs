//! `sluice evaluation_totals`: what retention keeps of the evaluation log, by resource and month.

use clap::Args;
use serde_json::{Map, Value, json};

use super::output::Out;
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use super::status::or_dash;
use crate::domain::decimal::number;
use crate::domain::period::Month;
use crate::projections::evaluation_log::{MonthlyTotal, TotalsFilter, monthly_totals};

/// Totals in a table.
const LISTED: u32 = 100;

/// Options of `evaluation_totals`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Of one resource, by id or slug
    #[arg(long, value_name = "U")]
    resource: Option<String>,
    /// Of the resources of one offering, by id or slug
    #[arg(long, value_name = "U")]
    offering: Option<String>,
    /// Of one month, such as 2026-03
    #[arg(long, value_name = "MONTH")]
    month: Option<Month>,
    #[command(flatten)]
    paging: Paging,
}

/// Lists them, newest month first.
pub(super) async fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    let resource = match &options.resource {
        Some(name) => Some(session.resource(name).await?),
        None => None,
    };
    let offering = options.offering.as_deref().map(|name| session.offering(name)).transpose()?;
    let filter = TotalsFilter { resource, offering, month: options.month, ..TotalsFilter::default() };
    let page = options.paging.page(LISTED, out);
    let found = monthly_totals(&session.app.read, &filter, page).await;
    let (totals, total) = found.map_err(|error| CliError::because("the read models cannot be read", error))?;
    let listed = Shown::new(page, totals.len(), total.max(0).unsigned_abs());
    let mut fields = Map::new();
    listed.beside(&mut fields);
    fields.insert("evaluation_totals".into(), totals.iter().map(document).collect());
    out.json(&fields);
    if listed.total == 0 {
        out.text("there are no such totals: nothing was pruned there, and nobody was restricted");
        return Ok(());
    }
    let row = |total: &MonthlyTotal| {
        [
            total.resource_name.clone(),
            total.month.to_string(),
            total.evaluations.to_string(),
            total.failures.to_string(),
            total.pauses.to_string(),
            total.downscales.to_string(),
            total.notices.to_string(),
            or_dash(total.peak_percentage),
            total.minutes_restricted.to_string(),
        ]
    };
    let header = ["resource", "month", "evaluations", "failed", "pause", "slow", "notify", "peak %", "restricted min"];
    out.table(header, totals.iter().map(row).collect());
    if !out.is_json() {
        listed.tell("older", out);
    }
    Ok(())
}

fn document(total: &MonthlyTotal) -> Value {
    json!({
        "resource_uuid": total.resource, "resource_name": total.resource_name, "month": total.month.to_string(),
        "evaluations": total.evaluations, "failures": total.failures, "pauses": total.pauses,
        "downscales": total.downscales, "notices": total.notices, "peak_percentage": total.peak_percentage.map(number),
        "minutes_restricted": total.minutes_restricted,
    })
}
