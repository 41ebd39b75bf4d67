//! A row of a list of allocations: its texts, its usage bar and its strip.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::read::{Ahead, AllocationState};
use super::standing::{self, Tone};
use super::words;

/// Percent at which a usage bar ends.
const BAR_END: f64 = 130.0;

/// How wide a usage bar and a strip are, in pixels.
const BAR_WIDTH: f64 = 96.0;
const STRIP_WIDTH: f64 = 148.0;

/// A mark on a bar.
pub struct Tick {
    /// Where.
    pub x: String,
    /// `tick`, or `tick next` for the rung that comes.
    pub class: &'static str,
}

/// Usage as a bar, with the policy's own rungs.
pub struct Bar {
    /// How far it is filled, in pixels.
    pub width: String,
    /// The class of its colour: grey where nobody is warned or restricted.
    pub class: &'static str,
    /// The rungs.
    pub ticks: Vec<Tick>,
    /// It goes on beyond the end.
    pub over: bool,
}

/// The period as a strip: since when the state holds, where now is, what comes.
pub struct Strip {
    /// The present state: left edge, width, height and class.
    pub state: Option<(String, String, u32, &'static str)>,
    /// Where the period's months begin.
    pub months: Vec<String>,
    /// Where now is.
    pub now: String,
    /// The rung that comes: left edge, width, height and class.
    pub next: Option<(String, String, u32, &'static str)>,
    /// The same in words.
    pub title: String,
}

/// What comes next, and when.
pub struct Next {
    /// What happens there.
    pub tone: Tone,
    /// `tomorrow`, `in 2 d`.
    pub when: String,
    /// `27 Mar`.
    pub date: String,
}

/// A row.
pub struct Row {
    /// The page of the allocation.
    pub href: String,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// Its organisation.
    pub customer: String,
    /// How it stands.
    pub state: Tone,
    /// Used of what may be used, as a bar; none without a limit.
    pub bar: Option<Bar>,
    /// The percentage, or that there is none.
    pub percent: String,
    /// `1,561.2 of 1,500 node-hours`.
    pub amounts: String,
    /// The period.
    pub strip: Option<Strip>,
    /// The rung that comes, if one does in the period.
    pub next: Option<Next>,
    /// The last seven days as a multiple of the ideal pace, and an arrow.
    pub pace: Option<(String, &'static str)>,
    /// What the agent made of it.
    pub agent: Tone,
    /// The class of service that is meant, and the one that the site said last.
    pub meant: String,
    /// See above.
    pub said: String,
    /// How long the state has lasted.
    pub age: String,
}

/// A number with one decimal, as SVG has them.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn share(percent: Decimal) -> f64 {
    percent.to_f64().unwrap_or_default()
}

impl Bar {
    fn of(of: &AllocationState) -> Option<Self> {
        let percent = share(of.usage_percentage.filter(|_| !of.rungs.is_empty())?);
        let at = |percent: f64| (percent / BAR_END * BAR_WIDTH).clamp(0.0, BAR_WIDTH);
        let next = of.ahead.first().map(|ahead| ahead.percent);
        let tick = |percent: Decimal| Tick {
            x: px(at(share(percent))),
            class: if next == Some(percent) { "tick next" } else { "tick" },
        };
        let class = if of.state == "normal" { "" } else { standing::state(&of.state).class };
        Some(Self {
            width: px(at(percent)),
            class,
            ticks: of
                .rungs
                .iter()
                .filter(|rung| share(rung.percent) <= BAR_END)
                .map(|rung| tick(rung.percent))
                .collect(),
            over: percent > BAR_END,
        })
    }
}

/// The rung that comes within the period, earliest first: the first one that is ahead has the earliest date.
fn next_of(of: &AllocationState) -> Option<(&Ahead, NaiveDate)> {
    of.ahead.iter().find_map(|ahead| Some((ahead, ahead.soonest?)))
}

/// How far away a day is, in a word.
pub fn away(day: NaiveDate, today: NaiveDate) -> String {
    match (day - today).num_days() {
        ..=0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        days => format!("in {days}{}d", words::NBSP),
    }
}

impl Strip {
    fn of(of: &AllocationState, now: DateTime<Utc>) -> Option<Self> {
        let (first, last) = (of.period_start?, of.period_end?);
        let seconds = |from: NaiveDate, to: DateTime<Utc>| {
            let start = from.and_time(chrono::NaiveTime::MIN).and_utc();
            (to - start).num_seconds().to_f64().unwrap_or_default()
        };
        let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
        let whole = seconds(first, midnight(last) + TimeDelta::days(1));
        let x = |at: DateTime<Utc>| (seconds(first, at) / whole * STRIP_WIDTH).clamp(0.0, STRIP_WIDTH);
        let tone = standing::state(&of.state);
        let here = x(now);
        let state = of.state_since.map(|since| {
            let left = x(since);
            (px(left), px((here - left).max(1.0)), standing::level(&of.state), tone.class)
        });
        let next = next_of(of).map(|(ahead, date)| {
            let name = match ahead.effect.as_str() {
                "pause" => "paused",
                "downscale" => "slowed_down",
                _ => "warned",
            };
            let left = x(midnight(date)).max(here + 2.0);
            (px(left), px((STRIP_WIDTH - left).max(3.0)), standing::level(name), standing::effect(&ahead.effect).class)
        });
        let months = (1..12).filter_map(|n| first.checked_add_months(chrono::Months::new(n)));
        let since =
            of.state_since.map(|since| format!(" since {}", words::Moment::of(since).short)).unwrap_or_default();
        Some(Self {
            state,
            months: months.take_while(|month| *month <= last).map(|month| px(x(midnight(month)))).collect(),
            now: px(here),
            next,
            title: format!("{}{since}", tone.word),
        })
    }
}

impl Row {
    /// The row of an allocation, as it stands at `now`.
    pub fn of(of: &AllocationState, now: DateTime<Utc>) -> Self {
        let today = now.date_naive();
        let unit = of.unit.as_deref().map(words::unit).unwrap_or_default();
        let pace = of.pace.as_ref().and_then(|pace| {
            let arrow = match (pace.last_7_days, pace.average) {
                (recent, average) if recent > average * Decimal::new(11, 1) => "arrow-up",
                (recent, average) if recent < average * Decimal::new(9, 1) => "arrow-down",
                _ => "arrow-right",
            };
            Some((format!("{:.1}\u{d7}", pace.multiple_of_ideal?.round_dp(1)), arrow))
        });
        Self {
            href: format!("/allocations/{}", of.key()),
            name: of.resource_name.clone(),
            project: of.project_name.clone(),
            customer: of.customer_name.clone(),
            state: standing::state(&of.state),
            bar: Bar::of(of),
            percent: match of.usage_percentage {
                None => "not evaluated".to_owned(),
                Some(_) if of.rungs.is_empty() => "no limit".to_owned(),
                Some(percent) => words::percent(percent),
            },
            amounts: match (of.used, of.may_use) {
                (Some(used), Some(may)) => {
                    format!("{} of {} {unit}", words::amount(used, 1), words::amount(may, 1)).trim_end().to_owned()
                }
                _ => String::new(),
            },
            strip: Strip::of(of, now),
            next: next_of(of).map(|(ahead, date)| Next {
                tone: standing::effect(&ahead.effect),
                when: away(date, today),
                date: words::day(date),
            }),
            pace,
            agent: standing::agent(&of.agent_status),
            meant: of.site.expected.clone().unwrap_or_default(),
            said: of.site.confirmed.clone().unwrap_or_else(|| "nothing yet".to_owned()),
            age: of.state_since.map(|since| words::duration(now - since)).unwrap_or_default(),
        }
    }
}

/// The same text with a capital letter in front.
pub fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
