//! The page of one allocation: its standing, the reasons, the forecast and its history. Users who only have their own
//! allocations get the same in a simpler form.

mod heading;
pub mod hold;
pub mod limit;
mod owner;
mod picture;
pub mod statement;
mod tabs;
mod why;

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;

use self::heading::Heading;
use self::picture::Picture;
use self::tabs::Tabs;
pub use self::tabs::{Flags, state_change};
use self::why::Why;
use super::frame::{Frame, Section};
use super::problem::Problem;
use super::read::AllocationState;
use super::standing::{self, Tone};
use super::visit::{Shown, Visit, page};
use super::words::{self, Moment};

/// How long after its last report an allocation counts as one of which nothing new is known.
const STALE: TimeDelta = TimeDelta::hours(36);

/// A value with its label and a line below.
pub struct Figure {
    /// What it is.
    pub label: String,
    /// The value.
    pub value: String,
    /// What stands beside it, smaller.
    pub beside: String,
    /// The line below.
    pub below: String,
    /// It is old: the line below says so in amber.
    pub stale: bool,
}

/// The page.
#[derive(Template)]
#[template(path = "allocation.html")]
struct AllocationPage {
    frame: Frame,
    state: Tone,
    since: Option<(Moment, String)>,
    project: String,
    customer: String,
    account: String,
    offering: String,
    policy: Option<(String, String, u64)>,
    /// Other policies that apply, each a link to the page under it.
    others: Vec<(String, String)>,
    figures: Vec<Figure>,
    picture: Option<Picture>,
    why: Option<Why>,
    heading: Option<Heading>,
    tabs: Tabs,
    may_change: bool,
    /// Where it can be evaluated.
    evaluate: Option<String>,
    href: String,
}

/// What the page reads of a resource.
#[derive(Deserialize)]
struct Resource {
    uuid: String,
    provider_uuid: String,
}

/// The organisation that offers it.
#[derive(Deserialize)]
struct Provider {
    owners: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    uuid: String,
}

/// The allocation of a short name or an id, as the API shows it to the caller.
async fn resource(visit: &Visit, key: &str) -> Result<Resource, Problem> {
    if key.len() >= 32
        && let Some(found) = visit.api.find(&format!("/api/marketplace-provider-resources/{}/", encoded(key))).await?
    {
        return Ok(found);
    }
    let path = format!("/api/marketplace-provider-resources/?slug={}&page_size=1", encoded(key));
    let found = visit.api.list::<Resource>(&path).await?;
    found.rows.into_iter().next().ok_or_else(Problem::not_found)
}

/// A text as part of an address.
pub fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// An instant at which the day after a date begins.
fn end_of(date: chrono::NaiveDate) -> DateTime<Utc> {
    date.and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(1)
}

/// What an effect makes of an allocation.
pub fn done(effect: &str) -> &'static str {
    match effect {
        "pause" => "paused",
        "downscale" => "slowed down",
        _ => "warned",
    }
}

fn figures(of: &AllocationState, now: DateTime<Utc>) -> Vec<Figure> {
    let unit = of.unit.as_deref().map(words::unit).unwrap_or_default();
    let mut figures = Vec::new();
    let mut add = |label: &str, value: String, beside: String, below: String| {
        figures.push(Figure { label: label.to_owned(), value, beside, below, stale: false });
    };
    if let (Some(used), Some(may)) = (of.used, of.may_use) {
        let reported =
            of.reported_at.map(|at| format!("reported {}, {} ago", Moment::of(at).short, words::duration(now - at)));
        let beside = format!("of {} {unit}", words::amount(may, 1));
        add("Used", words::amount(used, 1), beside, reported.unwrap_or_else(|| "nothing was reported yet".to_owned()));
    }
    if let Some(percentage) = of.usage_percentage {
        let next = of.ahead.first().map(|ahead| format!("next rung at {}", words::rung(ahead.percent)));
        let below =
            if of.rungs.is_empty() { "no limit".to_owned() } else { next.unwrap_or("every rung is reached".into()) };
        add("Usage", words::percent(percentage), String::new(), below);
    }
    if let Some(ahead) = of.ahead.first() {
        let label = format!("Left until {}", done(&ahead.effect));
        let below = format!("{} at {}", words::amount(ahead.amount, 1), words::rung(ahead.percent));
        add(&label, words::amount(ahead.left, 1), unit.clone(), below);
    }
    if let Some(pace) = &of.pace {
        let since = of.period_start.map(|first| format!(" since {}", words::day(first))).unwrap_or_default();
        let ideal = pace.ideal.map(|ideal| format!(" · ideal {}", words::amount(ideal, 1))).unwrap_or_default();
        let below = format!("{}{since}{ideal}", words::amount(pace.average, 1));
        add("Pace per day", words::amount(pace.last_7_days, 1), "last 7 d".to_owned(), below);
    }
    if let Some(last) = of.period_end {
        let end = end_of(last);
        add("Period ends", words::duration(end - now), String::new(), format!("{} UTC", Moment::of(end).short));
    }
    let agent = standing::agent(&of.agent_status);
    let qos = of.site.confirmed.as_ref().map(|qos| {
        let at = of.site.confirmed_at.map(|at| format!(", {}", Moment::of(at).short)).unwrap_or_default();
        format!("qos={qos}{at}")
    });
    add("At the site", agent.word.to_owned(), String::new(), qos.unwrap_or_else(|| "the site said nothing yet".into()));
    if let Some(first) = figures.first_mut()
        && of.reported_at.is_some_and(|at| now - at > STALE)
    {
        first.stale = true;
    }
    figures
}

/// The row of the policy that is asked for, else the one that matters most; and the others.
fn chosen(mut rows: Vec<AllocationState>, wanted: Option<&str>) -> Option<(AllocationState, Vec<AllocationState>)> {
    let wanted = wanted.and_then(|slug| rows.iter().position(|row| row.policy_slug.as_deref() == Some(slug)));
    if rows.is_empty() {
        return None;
    }
    let first = rows.remove(wanted.unwrap_or_default());
    Some((first, rows))
}

/// Whether the caller may change an allocation: staff, and owners of the organisation that offers it.
async fn may_change(visit: &Visit, of: &Resource) -> Result<bool, Problem> {
    if visit.is_staff() {
        return Ok(true);
    }
    if visit.session.role != crate::directory::Role::Owner {
        return Ok(false);
    }
    let found = visit.api.find::<Provider>(&format!("/api/customers/{}/", of.provider_uuid)).await?;
    let me = visit.session.user.to_string();
    Ok(found.is_some_and(|provider| provider.owners.iter().any(|owner| owner.uuid == me)))
}

/// The page of an allocation.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    let known = resource(&visit, &key).await?;
    let path = format!("/api/allocation-states/?resource_uuid={}&page_size=20", known.uuid);
    let found = visit.api.list::<AllocationState>(&path).await?;
    let (of, others) = chosen(found.rows, visit.query.get("policy")).ok_or_else(Problem::not_found)?;
    let picture = picture::of(&visit, &of).await?;
    let why = why::of(&visit, &of).await?;
    let heading = Heading::of(&of, visit.now);
    if visit.is_user() {
        return owner::page(&visit, &of, picture, heading, why).await;
    }
    let changes = may_change(&visit, &known).await?;
    let tabs = tabs::of(&visit, &of, changes).await?;
    if visit.fragment {
        return page(&tabs);
    }
    let frame =
        Frame::of(&visit, of.resource_name.clone(), Section::Allocations).await.under("/allocations", "Allocations");
    let policy = of.policy_slug.clone().zip(of.policy_uuid.clone());
    let evaluate = of.policy_uuid.as_ref().filter(|_| visit.is_staff());
    let evaluate = evaluate.map(|policy| format!("/policies/{policy}/evaluate?resource={}", known.uuid));
    let other = |row: AllocationState| {
        let slug = row.policy_slug.unwrap_or_default();
        (slug.clone(), format!("{}?policy={}", visit.path, encoded(&slug)))
    };
    page(&AllocationPage {
        state: standing::state(&of.state),
        since: of.state_since.map(|since| (Moment::of(since), words::duration(visit.now - since))),
        policy: policy.map(|(slug, uuid)| {
            let name = if slug.is_empty() { uuid.clone() } else { slug };
            (name.clone(), format!("/policies/{}", encoded(&name)), of.policy_version.unwrap_or_default())
        }),
        figures: figures(&of, visit.now),
        others: others.into_iter().map(other).collect(),
        project: of.project_name,
        customer: of.customer_name,
        account: of.backend_id,
        offering: of.offering_name,
        frame,
        picture,
        why,
        heading,
        tabs,
        may_change: changes,
        evaluate,
        href: visit.path.clone(),
    })
}

/// A share of an amount in percent, cut.
fn share(part: Decimal, of: Decimal) -> Option<Decimal> {
    (!of.is_zero()).then(|| part.saturating_mul(Decimal::ONE_HUNDRED) / of)
}
