//! The overview: counts by state, what needs attention, and which allocations will be restricted next.

use askama::Template;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::frame::{Frame, Section};
use super::listing::{Listing, Which};
use super::problem::Problem;
use super::read::AllocationState;
use super::standing::{self, STATES, Tone};
use super::visit::{Shown, Visit, go, page};
use super::words::{self, NBSP};

#[derive(Deserialize)]
struct PolicyTotals {
    billing_period: String,
    period_start: Option<NaiveDate>,
    period_end: Option<NaiveDate>,
    policy_slug: String,
    policy_uuid: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    used: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    may_use: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    percentage: Decimal,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    points_from_ideal: Option<Decimal>,
}

#[derive(Deserialize)]
struct Summary {
    allocations: u64,
    states: BTreeMap<String, u64>,
    at_risk: u64,
    since: DateTime<Utc>,
    changed_count: u64,
    changed: Vec<AllocationState>,
    together: Vec<PolicyTotals>,
}

/// Allocations in one state.
struct Count {
    tone: Tone,
    count: String,
    href: String,
    /// Its part of the bar: left edge and width, of 1000.
    x: String,
    width: String,
}

/// An allocation whose state has changed.
struct Changed {
    href: String,
    name: String,
    tone: Tone,
    at: words::Moment,
}

/// What allocations under one policy have used together.
struct TotalsView {
    policy: String,
    amounts: String,
    percent: String,
    ideal: Option<String>,
}

#[derive(Deserialize)]
struct AttentionItem {
    kind: String,
    cause: String,
    age_seconds: Option<i64>,
    resource_uuid: Option<String>,
    resource_name: Option<String>,
    #[serde(default)]
    dispatch_uuid: Option<String>,
}

#[derive(Deserialize)]
struct Attention {
    counts: BTreeMap<String, u64>,
    items: Vec<AttentionItem>,
}

/// Items that are shown; the count says how many there are.
const NEEDS: usize = 6;

/// What needs somebody.
struct Need {
    icon: &'static str,
    class: &'static str,
    what: &'static str,
    href: String,
    name: String,
    cause: String,
    age: String,
}

impl Need {
    fn of(item: &AttentionItem) -> Self {
        let (icon, class, what, tab) = match item.kind.as_str() {
            "stalled" => ("triangle-alert", "pause", "Stalled", ""),
            "command_failed" => ("circle-x", "pause", "Command failed", "?tab=commands"),
            "no_answer" => ("circle-question-mark", "warn", "No answer", "?tab=commands"),
            "not_confirmed" => ("unlink", "slow", "Not confirmed", "?tab=commands"),
            "notice_given_up" => ("mail", "pause", "Notice given up", ""),
            _ => ("calendar-clock", "hold", "Hold ends", "?tab=holds"),
        };
        let age = item.age_seconds.map(TimeDelta::seconds);
        let allocation = item.resource_uuid.as_ref().map(|id| format!("/allocations/{id}{tab}"));
        let href = match (item.kind.as_str(), &item.dispatch_uuid) {
            ("stalled", _) => "/system/consumers".to_owned(),
            ("notice_given_up", _) => "/system/notices?state=failed".to_owned(),
            (_, Some(dispatch)) => format!("/commands/{dispatch}"),
            _ => allocation.unwrap_or_default(),
        };
        Self {
            icon,
            class,
            what,
            href,
            name: item
                .resource_name
                .clone()
                .unwrap_or_else(|| if item.kind == "stalled" { "consumers" } else { "notices" }.to_owned()),
            cause: item.cause.clone(),
            age: match age {
                Some(age) if age < TimeDelta::zero() => format!("in {}", words::duration(-age)),
                Some(age) => words::duration(age),
                None => String::new(),
            },
        }
    }
}

/// A tab of the table.
struct Tab {
    name: &'static str,
    count: Option<String>,
    href: &'static str,
    current: bool,
}

/// The overview.
#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    period: Option<String>,
    period_name: String,
    allocations: String,
    counts: Vec<Count>,
    since: words::Moment,
    changed: Vec<Changed>,
    more_changed: u64,
    together: Vec<TotalsView>,
    needs: Vec<Need>,
    needs_count: u64,
    tabs: Vec<Tab>,
    list: Listing,
    may_evaluate: bool,
}

/// Only the table of the overview.
#[derive(Template)]
#[template(path = "allocation_table.html")]
struct TableOnly {
    frame: Frame,
    list: Listing,
}

fn counts(summary: &Summary) -> Vec<Count> {
    let mut left = 0.0;
    let all = summary.allocations.max(1).to_f64().unwrap_or(1.0);
    let count = |(key, tone): &(&'static str, Tone)| {
        let n = summary.states.get(*key).copied().unwrap_or_default();
        let width = n.to_f64().unwrap_or_default() / all * 1000.0;
        let x = left;
        left += width;
        Count {
            tone: *tone,
            count: words::whole(n),
            href: format!("/allocations?state={key}"),
            x: super::rows::px(x),
            width: super::rows::px((width - 2.0).max(0.0)),
        }
    };
    STATES.iter().map(count).collect()
}

/// What an allocation under a policy is counted in: all of a policy are counted in the same.
#[derive(Deserialize)]
struct Counted {
    unit: Option<String>,
}

/// The unit of the totals of a policy; nothing where nobody says.
async fn unit(visit: &Visit, of: &PolicyTotals) -> Result<String, Problem> {
    let path = format!("/api/allocation-states/?policy_uuid={}&page_size=1&field=unit", of.policy_uuid);
    let found = visit.api.list::<Counted>(&path).await?;
    let unit = found.rows.into_iter().find_map(|counted| counted.unit);
    Ok(unit.map(|unit| format!(" {}", words::unit(&unit))).unwrap_or_default())
}

fn together(of: &PolicyTotals, unit: &str, several: bool) -> TotalsView {
    let ideal = of.points_from_ideal.map(|points| {
        let side = if points < Decimal::ZERO { "below" } else { "above" };
        format!(
            "{} points {side} the ideal pace of {}",
            words::amount(points.abs(), 1),
            words::percent(of.percentage - points)
        )
    });
    TotalsView {
        policy: if several { of.policy_slug.clone() } else { String::new() },
        amounts: format!("{} of {}{unit}", words::amount(of.used, 0), words::amount(of.may_use, 0)),
        percent: words::percent(of.percentage),
        ideal,
    }
}

/// The period that most policies are in: its name, its day and what is left of it.
fn period(of: &PolicyTotals, now: DateTime<Utc>) -> Option<String> {
    let (first, last) = (of.period_start?, of.period_end?);
    let (day, days) = ((now.date_naive() - first).num_days() + 1, (last - first).num_days() + 1);
    let end = last.and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(1);
    Some(format!("day {day} of {days}, ends in {}", words::duration(end - now)))
}

/// What the API says needs somebody, the most pressing first.
async fn needs(visit: &Visit) -> Result<(Vec<Need>, u64), Problem> {
    let found = visit.api.get::<Attention>("/api/allocation-states/attention/").await?;
    let total = found.counts.values().sum();
    Ok((found.items.iter().take(NEEDS).map(Need::of).collect(), total))
}

async fn tabs(visit: &Visit, which: Which, summary: &Summary) -> Result<Vec<Tab>, Problem> {
    let sum = |keys: &[&str]| keys.iter().filter_map(|key| summary.states.get(*key)).sum::<u64>();
    let drift: Vec<String> = Which::Drift.asked().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = format!("/api/allocation-states/?once=true&page_size=1&{}", drift.join("&"));
    let drift = visit.api.list::<serde::de::IgnoredAny>(&path).await?.total;
    let tab = |name, count, href, of| Tab { name, count: Some(words::whole(count)), href, current: which == of };
    Ok(vec![
        tab("At risk", summary.at_risk, "/", Which::AtRisk),
        tab("Restricted", sum(&["paused", "slowed_down", "on_hold"]), "/?tab=restricted", Which::Restricted),
        tab("Not confirmed", drift, "/?tab=drift", Which::Drift),
        tab("All", summary.allocations, "/?tab=all", Which::All),
        Tab { name: "State timeline", count: None, href: "/timeline", current: false },
    ])
}

/// The overview; for those who only have allocations of their own, those.
pub async fn show(visit: Visit) -> Shown {
    if visit.is_user() {
        return own(&visit).await;
    }
    let which = Which::of_tab(visit.query.get("tab"));
    let list = Listing::of(&visit, which).await?;
    let frame = Frame::of(&visit, "Overview", Section::Overview).await;
    if visit.fragment {
        return page(&TableOnly { frame, list });
    }
    let summary = visit.api.get::<Summary>("/api/allocation-states/summary/").await?;
    let (needs, needs_count) = needs(&visit).await?;
    let tabs = tabs(&visit, which, &summary).await?;
    let several = summary.together.len() > 1;
    let mut totals = Vec::new();
    for of in summary.together.iter().take(3) {
        totals.push(together(of, &unit(&visit, of).await?, several));
    }
    let main = summary.together.iter().max_by_key(|together| together.period_end);
    page(&OverviewPage {
        frame,
        period: main.and_then(|together| period(together, visit.now)),
        period_name: main.map(|together| together.billing_period.clone()).unwrap_or_default(),
        allocations: words::count(summary.allocations, "allocation"),
        counts: counts(&summary),
        since: words::Moment::of(summary.since),
        more_changed: summary.changed_count.saturating_sub(6.min(summary.changed.len() as u64)),
        changed: summary.changed.iter().take(6).map(changed).collect(),
        together: totals,
        needs,
        needs_count,
        tabs,
        list,
        may_evaluate: visit.is_staff(),
    })
}

fn changed(row: &AllocationState) -> Changed {
    Changed {
        href: format!("/allocations/{}", row.key()),
        name: row.resource_name.clone(),
        tone: standing::state(&row.state),
        at: words::Moment::of(row.state_since.unwrap_or_default()),
    }
}

/// One's own allocations, as cards.
#[derive(Template)]
#[template(path = "own.html")]
struct OwnPage {
    frame: Frame,
    list: Listing,
}

/// Leads to the one allocation that somebody has, or shows them all.
async fn own(visit: &Visit) -> Shown {
    let path = "/api/allocation-states/?once=true&page_size=2";
    let found = visit.api.list::<AllocationState>(path).await?;
    if let ([only], 1) = (found.rows.as_slice(), found.total) {
        return Ok(go(&format!("/allocations/{}", only.key())));
    }
    let list = Listing::of(visit, Which::All).await?;
    let title = format!("My allocations{NBSP}");
    page(&OwnPage { frame: Frame::of(visit, title.trim(), Section::Overview).await, list })
}
