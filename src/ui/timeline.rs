//! The state timeline: a row for each allocation, how it stood over time as a strip of levels, all on one axis.

use askama::Template;
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use rust_decimal::prelude::ToPrimitive;
use serde::Deserialize;

use super::frame::{Frame, Section};
use super::listing::line;
use super::problem::Problem;
use super::read::AllocationState;
use super::rows::px;
use super::sheet::{self, Sheet};
use super::standing::{self, STATES, Tone};
use super::visit::{Shown, Visit, page};
use super::words::{self, Moment};

/// Rows of a page: each is a look at the allocation's books.
const ROWS: u64 = 25;

/// How wide a strip is.
const WIDTH: f64 = 700.0;

/// How high the highest level is.
const HEIGHT: u32 = 16;

#[derive(Deserialize)]
struct BandRead {
    state: String,
    from: DateTime<Utc>,
    to: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct SeriesRead {
    bands: Vec<BandRead>,
}

/// A stretch of a strip.
struct Level {
    x: String,
    width: String,
    y: u32,
    height: u32,
    class: &'static str,
    /// In words.
    title: String,
}

struct Row {
    href: String,
    name: String,
    customer: String,
    state: Tone,
    levels: Vec<Level>,
    /// The whole strip in words.
    says: String,
    restricted: TimeDelta,
    for_long: String,
}

/// The page.
#[derive(Template)]
#[template(path = "timeline.html")]
struct TimelinePage {
    frame: Frame,
    path: String,
    list: Sheet,
    rows: Vec<Row>,
    from: String,
    to: String,
    months: Vec<(String, String)>,
    now: Option<String>,
    legend: Vec<Tone>,
}

/// The time that the axis covers.
#[derive(Clone, Copy)]
struct Axis {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    now: DateTime<Utc>,
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

impl Axis {
    fn x(self, at: DateTime<Utc>) -> f64 {
        let seconds = |length: TimeDelta| length.num_seconds().to_f64().unwrap_or_default();
        (seconds(at - self.from) / seconds(self.to - self.from).max(1.0) * WIDTH).clamp(0.0, WIDTH)
    }

    /// The time that is asked for, else the period that the allocations are in.
    fn of(visit: &Visit, rows: &[AllocationState]) -> Result<Self, Problem> {
        let day = |name: &str| {
            let Some(text) = visit.query.get(name) else { return Ok(None) };
            let sentence = format!("{name}: {text:?} is not valid. Allowed: a date YYYY-MM-DD.");
            let read = NaiveDate::parse_from_str(text, "%Y-%m-%d");
            read.map(Some).map_err(|_| Problem::new(axum::http::StatusCode::BAD_REQUEST, sentence))
        };
        let first = rows.iter().filter_map(|row| row.period_start).min();
        let last = rows.iter().filter_map(|row| row.period_end).max();
        let today = visit.now.date_naive();
        let from = day("from")?.or(first).unwrap_or(today - TimeDelta::days(90));
        let to = day("to")?.or(last).unwrap_or(today).max(from);
        Ok(Self { from: midnight(from), to: midnight(to) + TimeDelta::days(1), now: visit.now })
    }

    /// Where months begin, each with its name.
    fn months(self) -> Vec<(String, String)> {
        let first = self.from.date_naive().with_day(1).unwrap_or(self.from.date_naive());
        let begins = (0..60).filter_map(|n| first.checked_add_months(Months::new(n))).map(|day| (day, midnight(day)));
        let shown = begins.take_while(|(_, at)| *at < self.to).filter(|(_, at)| *at >= self.from);
        shown.map(|(day, at)| (px(self.x(at)), day.format("%b").to_string())).collect()
    }
}

fn is_restricted(state: &str) -> bool {
    matches!(state, "paused" | "slowed_down" | "on_hold")
}

fn row(of: &AllocationState, bands: &[BandRead], axis: Axis) -> Row {
    let mut restricted = TimeDelta::zero();
    let mut levels = Vec::new();
    let mut says = Vec::new();
    for band in bands {
        let (from, to) = (band.from.max(axis.from), band.to.unwrap_or(axis.now).min(axis.to));
        if to <= from {
            continue;
        }
        if is_restricted(&band.state) {
            restricted += to - from;
        }
        let (tone, height) = (standing::state(&band.state), standing::level(&band.state));
        let until = band.to.map_or_else(|| "now".to_owned(), |to| Moment::of(to).short);
        let title = format!("{} from {} to {until}", tone.word, Moment::of(from).short);
        says.push(title.clone());
        let (left, right) = (axis.x(from), axis.x(to));
        levels.push(Level {
            x: px(left),
            width: px((right - left).max(1.0)),
            y: HEIGHT + 1 - height,
            height,
            class: tone.class,
            title,
        });
    }
    Row {
        href: format!("/allocations/{}", of.key()),
        name: of.resource_name.clone(),
        customer: of.customer_name.clone(),
        state: standing::state(&of.state),
        levels,
        says: if says.is_empty() { "normal all the time".to_owned() } else { says.join("; ") },
        restricted,
        for_long: if restricted.is_zero() { String::new() } else { words::duration(restricted) },
    }
}

async fn bands(visit: &Visit, of: &AllocationState, axis: Axis) -> Result<Vec<BandRead>, Problem> {
    let Some(policy) = &of.policy_uuid else { return Ok(Vec::new()) };
    let path = format!(
        "/api/marketplace-provider-resources/{}/usage-series/?policy_uuid={policy}&steps=2&from={}&to={}",
        of.resource_uuid,
        axis.from.format("%Y-%m-%dT%H:%M:%SZ"),
        axis.to.format("%Y-%m-%dT%H:%M:%SZ")
    );
    Ok(visit.api.find::<SeriesRead>(&path).await?.map(|series| series.bands).unwrap_or_default())
}

/// The state timeline.
pub async fn show(visit: Visit) -> Shown {
    if visit.is_user() {
        return Err(Problem::not_found());
    }
    let number = visit.page()?;
    let asked =
        sheet::asked(&visit, &[("state", "state"), ("org", "customer_uuid"), ("q", "q"), ("policy", "policy_uuid")]);
    let path = format!("/api/allocation-states/?once=true&o=state&{asked}&page={number}&page_size={ROWS}");
    let found = visit.api.list::<AllocationState>(&path).await?;
    let axis = Axis::of(&visit, &found.rows)?;
    let mut rows = Vec::with_capacity(found.rows.len());
    for of in &found.rows {
        rows.push(row(of, &bands(&visit, of, axis).await?, axis));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.restricted));
    let states: Vec<(&str, &str)> = STATES.iter().map(|(key, tone)| (*key, tone.word)).collect();
    let mut filters = vec![sheet::filter(&visit, "State", "state", &states)];
    filters.push(sheet::of_objects(&visit, "Organisation", "org", "/api/customers/?page_size=100").await?);
    filters.retain(|filter| filter.value.is_some() || filter.choices.len() > 1);
    let mut list = Sheet::plain(&visit, rows.len(), found.total)?;
    list.line = line(number, ROWS, rows.len() as u64, found.total);
    list.next = (number * ROWS < found.total).then(|| visit.at_page(number + 1));
    let frame = Frame::of(&visit, "State timeline", Section::Overview).await.under("/", "Overview");
    page(&TimelinePage {
        frame,
        path: visit.path.clone(),
        list: list.filtered(&visit, filters, Some(sheet::range(&visit)), &[]),
        rows,
        from: words::day(axis.from.date_naive()),
        to: words::day((axis.to - TimeDelta::days(1)).date_naive()),
        months: axis.months(),
        now: (axis.from..axis.to).contains(&axis.now).then(|| px(axis.x(axis.now))),
        legend: STATES.iter().skip(1).map(|(_, tone)| *tone).collect(),
    })
}
