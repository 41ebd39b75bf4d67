//! The page for an allocation's own people: what its state means for them, when it ends, and what they can do.

use askama::Template;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::end_of;
use super::heading::Heading;
use super::picture::Picture;
use super::tabs::{self, Line, TimelineEntry, User};
use super::why::Why;
use crate::ui::frame::{Frame, Section};
use crate::ui::read::AllocationState;
use crate::ui::rows::px;
use crate::ui::standing::{self, Tone};
use crate::ui::visit::{Shown, Visit};
use crate::ui::words::{self, Moment};

/// Lines of what happened.
const LINES: usize = 12;

/// People who are named; the others are counted.
const PEOPLE: usize = 5;

/// A rung on the meter.
struct MeterRung {
    x: String,
    class: &'static str,
    word: &'static str,
    amount: String,
}

/// Usage as a meter, with the rungs in amounts, in one of its two renderings.
struct Meter {
    /// `wide` or `narrow`.
    form: &'static str,
    /// The width of the picture.
    whole: f64,
    width: String,
    class: &'static str,
    rungs: Vec<MeterRung>,
    used: String,
    used_x: String,
}

/// What was used, in parts: its numbers are set off from the words around them.
struct Used {
    amounts: String,
    unit: String,
    percent: String,
}

/// What ends, and when.
struct End {
    title: &'static str,
    day: String,
    away: String,
    then: String,
}

/// What could happen before.
struct Before {
    tone: Tone,
    what: String,
    left: String,
    when: String,
}

/// The page.
#[derive(Template)]
#[template(path = "owner.html")]
struct OwnerPage {
    frame: Frame,
    name: String,
    offering: String,
    state: Tone,
    used: Option<Used>,
    sentence: String,
    meters: Vec<Meter>,
    period: String,
    end: Option<End>,
    before: Option<Before>,
    advice: Vec<(&'static str, String)>,
    holds: Vec<String>,
    picture: Option<Picture>,
    people: Vec<User>,
    others: Option<(String, String)>,
    lines: Vec<Line>,
    reported: Option<(Moment, String)>,
    why: Option<Why>,
    /// Where the statement to print is.
    statement: String,
}

/// The widths of the meter's two renderings.
const METERS: [(&str, f64); 2] = [("wide", 640.0), ("narrow", 360.0)];

/// The width of a letter of the meter's words.
const LETTER: f64 = 6.0;

/// The rungs of a meter. Where words would overlap, the rung with the gravest effect keeps its own: the lines stay.
fn meter_rungs(of: &AllocationState, at: impl Fn(Decimal) -> f64) -> Vec<MeterRung> {
    let rank = |effect: &str| ["notify", "downscale", "pause"].iter().position(|known| *known == effect);
    let mut order: Vec<usize> = (0..of.rungs.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(rank(&of.rungs[*index].effect)));
    let mut taken: Vec<(f64, f64)> = Vec::new();
    let mut worded = vec![false; of.rungs.len()];
    for index in order {
        let rung = &of.rungs[index];
        let letters = standing::effect(&rung.effect).word.len().max(words::amount(rung.amount, 0).len());
        let half = letters.to_f64().unwrap_or_default() * LETTER / 2.0 + 2.0;
        let (left, right) = (at(rung.amount) - half, at(rung.amount) + half);
        worded[index] = taken.iter().all(|(from, to)| right <= *from || left >= *to);
        if worded[index] {
            taken.push((left, right));
        }
    }
    let rung = |(index, rung): (usize, &crate::ui::read::Rung)| {
        let (tone, word) = (standing::effect(&rung.effect), worded[index]);
        let amount = if word { words::amount(rung.amount, 0) } else { String::new() };
        MeterRung { x: px(at(rung.amount)), class: tone.class, word: if word { tone.word } else { "" }, amount }
    };
    of.rungs.iter().enumerate().map(rung).collect()
}

fn meter(of: &AllocationState, form: &'static str, whole: f64) -> Option<Meter> {
    let (used, may) = (of.used?, of.may_use.filter(|may| !may.is_zero() && !of.rungs.is_empty())?);
    let highest = of.rungs.iter().map(|rung| rung.amount).max()?.max(used).max(may);
    let most = highest.to_f64()? * 1.1;
    let at = |amount: Decimal| (amount.to_f64().unwrap_or_default() / most * whole).clamp(0.0, whole);
    Some(Meter {
        form,
        whole,
        width: px(at(used)),
        class: if of.state == "normal" { "" } else { standing::state(&of.state).class },
        rungs: meter_rungs(of, at),
        used: format!("{} used", words::amount(used, 1)),
        used_x: px(at(used).clamp(40.0, whole - 40.0)),
    })
}

/// The period in a word: `this quarter`.
fn period_word(of: &AllocationState) -> &'static str {
    let days = of.period_start.zip(of.period_end).map_or(0, |(first, last)| (last - first).num_days());
    match days {
        27..=31 => "this month",
        80..=100 => "this quarter",
        300.. => "this year",
        _ => "so far",
    }
}

fn unit(of: &AllocationState) -> String {
    of.unit.as_deref().map_or_else(|| "units".to_owned(), words::unit)
}

fn used(of: &AllocationState) -> Option<Used> {
    let (used, may) = of.used.zip(of.may_use)?;
    Some(Used {
        amounts: format!("{} of {}", words::amount(used, 1), words::amount(may, 1)),
        unit: format!("{} {}", unit(of), period_word(of)),
        percent: of.usage_percentage.map(words::percent).unwrap_or_default(),
    })
}

/// What the state means, behind what was used.
fn sentence(of: &AllocationState, heading: Option<&Heading>) -> String {
    if of.used.zip(of.may_use).is_none() {
        return "Nothing has been evaluated yet: the site has not reported what this allocation used.".to_owned();
    }
    let since = of
        .state_since
        .map(|at| format!(" That happened on {}, {} UTC.", words::long_day(at.date_naive()), at.format("%H:%M")));
    let reached = of.rungs.iter().rfind(|rung| rung.reached).map(|rung| words::rung(rung.percent)).unwrap_or_default();
    match of.state.as_str() {
        "paused" => format!("At {reached} the site pauses an account.{}", since.unwrap_or_default()),
        "slowed_down" => {
            format!("At {reached} the site slows an account down.{}", since.unwrap_or_default())
        }
        "warned" => format!("At {reached} its owners are told. Nothing is restricted."),
        "on_hold" => "The site holds the account, whatever was used.".to_owned(),
        "exempt" => "The site exempts the account from every restriction.".to_owned(),
        _ => match heading.and_then(|heading| heading.range_percent.as_ref()) {
            Some(percent) => {
                format!("Nothing is restricted. At this pace it comes to {percent} at the end.")
            }
            None => "Nothing is restricted.".to_owned(),
        },
    }
}

fn end(of: &AllocationState, now: DateTime<Utc>) -> Option<End> {
    let end = end_of(of.period_end?);
    let title = match of.state.as_str() {
        "paused" | "slowed_down" | "warned" => "When it ends",
        "on_hold" | "exempt" => return held_until(of, now),
        _ => "When the period ends",
    };
    Some(End {
        title,
        day: format!("{}, {} UTC", words::long_day(end.date_naive()), end.format("%H:%M")),
        away: format!("in {}", words::duration_in_words(end - now)),
        then: format!(
            "Then {} begins, and what counts as used starts at 0 again.",
            of.billing_period.as_deref().and_then(words::next_period).unwrap_or_else(|| "a new period".to_owned())
        ),
    })
}

fn held_until(of: &AllocationState, now: DateTime<Utc>) -> Option<End> {
    let end = of.manual_holds.iter().filter_map(|hold| hold.expires_at).max()?;
    Some(End {
        title: "When it ends",
        day: format!("{}, {} UTC", words::long_day(end.date_naive()), end.format("%H:%M")),
        away: format!("in {}", words::duration_in_words(end - now)),
        then: "Then the policy decides again.".to_owned(),
    })
}

fn before(of: &AllocationState) -> Option<Before> {
    let ahead = of.ahead.first()?;
    let tone = standing::effect(&ahead.effect);
    let what = match ahead.effect.as_str() {
        "pause" => "the account is paused: no new jobs start.",
        "downscale" => "the account is slowed down: jobs run at low priority.",
        _ => "the owners are told. Nothing is restricted.",
    };
    let pace = of.pace.as_ref()?;
    let (recent, average) = (words::amount(pace.last_7_days, 1), words::amount(pace.average, 1));
    let when = |forecast: &crate::ui::read::Forecast| match forecast.date.filter(|_| forecast.in_period) {
        Some(date) => format!("that is on {}", words::full_day(date)),
        None => "it does not come in this period".to_owned(),
    };
    let since = of.period_start.map(|first| format!(" since {}", words::full_day(first))).unwrap_or_default();
    Some(Before {
        tone,
        what: format!("At {} {} {what}", words::amount(ahead.amount, 1), unit(of)),
        left: format!("{} are left.", words::amount(ahead.left, 1)),
        when: format!(
            "At the pace of your last 7 days ({recent} a day) {}. At your average{since} ({average} a day) {}.",
            when(&ahead.at_last_7_days),
            when(&ahead.at_average)
        ),
    })
}

/// What somebody can do about it.
fn advice(of: &AllocationState) -> Vec<(&'static str, String)> {
    let used = of.used.map(|used| words::amount(used, 1)).unwrap_or_default();
    let end = of.period_end.map(|last| words::full_day(end_of(last).date_naive())).unwrap_or_default();
    let more = format!(
        "it ends at once when the allocation is raised above what was used, {used} {}. Ask whoever grants allocations at your site.",
        unit(of)
    );
    match of.state.as_str() {
        "paused" => vec![
            ("No new jobs start.", "Jobs that run go on to their end.".to_owned()),
            ("Ask for more:", more),
            ("Wait:", format!("new jobs start again on {end}.")),
        ],
        "slowed_down" => vec![
            ("Jobs still run,", format!("at low priority{}.", qos(of))),
            ("Ask for more:", more),
            ("Use less:", format!("hold jobs that can wait until {end}.")),
        ],
        "on_hold" => vec![("Ask the site:", "only an operator can end a hold.".to_owned())],
        "warned" => vec![
            ("Jobs run as usual.", "Only the owners were told.".to_owned()),
            ("Use less,", format!("or hold jobs that can wait until {end}, to stay below the next rung.")),
        ],
        _ => Vec::new(),
    }
}

fn qos(of: &AllocationState) -> String {
    of.site.confirmed.as_ref().map(|qos| format!(" (class of service {qos})")).unwrap_or_default()
}

/// The page of an allocation for its people.
pub async fn page(
    visit: &Visit,
    of: &AllocationState,
    picture: Option<Picture>,
    heading: Option<Heading>,
    why: Option<Why>,
) -> Shown {
    let path = format!("/api/marketplace-provider-resources/{}/timeline/?page_size=50", of.resource_uuid);
    let found = visit.api.list::<TimelineEntry>(&path).await?;
    let lines = found.rows.iter().map(tabs::entry_line).filter(|line| !line.head.is_empty()).collect();
    let lines = tabs::told_apart(lines);
    let (mut people, _) = tabs::users(visit, of).await?;
    let rest = people.split_off(people.len().min(PEOPLE));
    let others = (!rest.is_empty()).then(|| (words::count(rest.len() as u64, "other"), String::new()));
    let frame = Frame::of(visit, of.resource_name.clone(), Section::Allocations).await;
    let reason = |hold: &crate::ui::read::Hold| hold.reason.clone();
    super::super::visit::page(&OwnerPage {
        name: of.resource_name.clone(),
        offering: of.offering_name.clone(),
        state: standing::state(&of.state),
        used: used(of),
        sentence: sentence(of, heading.as_ref()),
        meters: METERS.iter().filter_map(|(form, whole)| meter(of, form, *whole)).collect(),
        period: crate::ui::rows::capitalized(period_word(of)),
        end: end(of, visit.now),
        before: before(of),
        advice: advice(of),
        holds: of.manual_holds.iter().filter_map(reason).collect(),
        lines: lines.into_iter().take(LINES).collect(),
        reported: of.reported_at.map(|at| (Moment::of(at), words::duration_in_words(visit.now - at))),
        frame,
        picture,
        people,
        others,
        why,
        statement: format!("{}/statement", visit.path),
    })
}
