//! Retention: how long rows of the logs are kept, when the last were pruned, and what is left of them.

use askama::Template;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::settings::{RETENTION_DAYS, in_force};
use super::{System, Tab, reads};
use crate::ui::allocation::encoded;
use crate::ui::frame::Frame;
use crate::ui::sheet::{self, ROWS, Sheet};
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

#[derive(Deserialize)]
struct TotalRead {
    resource_uuid: String,
    resource_name: String,
    month: String,
    evaluations: u64,
    failures: u64,
    pauses: u64,
    downscales: u64,
    notices: u64,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    peak_percentage: Option<Decimal>,
    minutes_restricted: i64,
}

#[derive(Deserialize)]
struct RunRead {
    started: DateTime<Utc>,
    state: String,
    counts: Map<String, Value>,
}

struct Row {
    allocation: String,
    name: String,
    month: String,
    evaluations: String,
    failures: String,
    decisions: String,
    peak: String,
    restricted: String,
}

/// The page.
#[derive(Template)]
#[template(path = "system_retention.html")]
struct RetentionPage {
    frame: Frame,
    tabs: Vec<Tab>,
    path: String,
    may_change: bool,
    days: String,
    setting: String,
    runs: Vec<(Moment, String, String)>,
    list: Sheet,
    rows: Vec<Row>,
}

/// The page of retention.
pub async fn show(visit: Visit) -> Shown {
    reads(&visit)?;
    let asked = sheet::asked(&visit, &[("month", "month"), ("allocation", "resource_uuid")]);
    let path = format!("/api/evaluation-totals/?{asked}&page={}&page_size={ROWS}", visit.page()?);
    let found = visit.api.list::<TotalRead>(&path).await?;
    let runs = visit.api.list::<RunRead>("/api/scheduler-runs/?job=retention&page_size=5").await?;
    let days = in_force(&visit).await?.into_iter().find(|setting| setting.name == RETENTION_DAYS);
    let run = |run: RunRead| {
        let counts = run.counts.iter().filter(|(_, n)| n.as_u64() != Some(0));
        let counts: Vec<String> = counts.map(|(name, n)| format!("{n} {}", name.replace('_', " "))).collect();
        let counts = if counts.is_empty() { "nothing to prune".to_owned() } else { counts.join(", ") };
        (Moment::of(run.started), run.state, counts)
    };
    let row = |read: &TotalRead| Row {
        allocation: format!("/allocations/{}", encoded(&read.resource_uuid)),
        name: read.resource_name.clone(),
        month: read.month.clone(),
        evaluations: words::whole(read.evaluations),
        failures: words::whole(read.failures),
        decisions: format!("{} · {} · {}", read.pauses, read.downscales, read.notices),
        peak: read.peak_percentage.map(words::percent).unwrap_or_default(),
        restricted: words::duration(chrono::TimeDelta::minutes(read.minutes_restricted)),
    };
    let mut filters = Vec::new();
    for (name, key) in [("Month", "month"), ("Allocation", "allocation")] {
        if let Some(set) = visit.query.get(key) {
            filters.push(sheet::fixed(&visit, name, key, Some(set.chars().take(12).collect())));
        }
    }
    let list = Sheet::plain(&visit, found.rows.len(), found.total)?;
    let system = System::of(&visit, "Retention", "/system/retention").await;
    page(&RetentionPage {
        frame: system.frame,
        tabs: system.tabs,
        path: system.path,
        may_change: system.may_change,
        days: days.map(|setting| setting.value).unwrap_or_default(),
        setting: format!("/system/settings/{RETENTION_DAYS}"),
        runs: runs.rows.into_iter().map(run).collect(),
        list: list.filtered(&visit, filters, None, &[]),
        rows: found.rows.iter().map(row).collect(),
    })
}
