//! The forecast of an allocation: each coming rung, at both paces, and what the end of the period brings.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::{done, end_of, share};
use crate::ui::read::{Ahead, AllocationState, Forecast};
use crate::ui::rows::away;
use crate::ui::standing::{self, Tone};
use crate::ui::words::{self, Moment};

/// A rung that comes.
pub struct Coming {
    /// What happens there.
    pub tone: Tone,
    /// `Paused on 31 Mar`.
    pub what: String,
    /// `at the pace of the last 7 days`.
    pub pace: String,
    /// How far away it is.
    pub away: String,
    /// What the other pace comes to.
    pub other: String,
}

/// What comes.
pub struct Heading {
    /// Rungs, the next one first.
    pub coming: Vec<Coming>,
    /// `By 1 April 1,664 to 1,827 node-hours`.
    pub range: Option<String>,
    /// `110.9 to 121.8 % of 1,500`.
    pub range_percent: Option<String>,
    /// What the new period brings.
    pub turn: Option<(String, Moment, String)>,
}

/// A pace that takes an allocation to a rung within the period.
fn within(forecast: &Forecast) -> Option<chrono::NaiveDate> {
    forecast.date.filter(|_| forecast.in_period)
}

impl Coming {
    fn of(ahead: &Ahead, of: &AllocationState, today: chrono::NaiveDate) -> Self {
        let tone = standing::effect(&ahead.effect);
        let since = of.period_start.map(|first| format!(" since {}", words::day(first))).unwrap_or_default();
        let average = format!("at the average{since}");
        let recent = "at the pace of the last 7 days".to_owned();
        let state = crate::ui::rows::capitalized(done(&ahead.effect));
        let on = |date: chrono::NaiveDate| format!("{state} {}", on_day(date, today));
        let (what, pace, away, other) = match (within(&ahead.at_last_7_days), within(&ahead.at_average)) {
            (Some(soon), Some(late)) if soon <= late => {
                (on(soon), recent, away(soon, today), format!("{} {average}", on_day(late, today)))
            }
            (Some(late), Some(soon)) => {
                (on(soon), average, away(soon, today), format!("{} {recent}", on_day(late, today)))
            }
            (Some(date), None) => (on(date), recent, away(date, today), format!("not in this period {average}")),
            (None, Some(date)) => (on(date), average, away(date, today), format!("not in this period {recent}")),
            (None, None) => {
                let what = format!("{} at {}", tone.word, words::rung(ahead.percent));
                (
                    what,
                    "not in this period".to_owned(),
                    String::new(),
                    format!("{} are left", words::amount(ahead.left, 1)),
                )
            }
        };
        Self { tone, what, pace, away, other }
    }
}

fn on_day(date: chrono::NaiveDate, today: chrono::NaiveDate) -> String {
    if date <= today { "today".to_owned() } else { format!("on {}", words::day(date)) }
}

impl Heading {
    /// Where an allocation is heading; nothing where no policy applies.
    pub fn of(of: &AllocationState, now: DateTime<Utc>) -> Option<Self> {
        let pace = of.pace.as_ref()?;
        let today = now.date_naive();
        let unit = of.unit.as_deref().map(words::unit).unwrap_or_default();
        let ends = pace.at_period_end_average.zip(pace.at_period_end_last_7_days);
        let (mut range, mut range_percent) = (None, None);
        if let (Some((a, b)), Some(last), Some(may)) = (ends, of.period_end, of.may_use) {
            let (least, most) = (a.min(b), a.max(b));
            let by = words::day(end_of(last).date_naive());
            range = Some(format!("By {by} {} {unit}", between(least, most, |n| words::amount(n, 0))));
            let percents = share(least, may).zip(share(most, may));
            range_percent = percents.map(|(least, most)| {
                let cut = |n: Decimal| words::percent(n).trim_end_matches(['%', words::NBSP]).to_owned();
                format!("{}{}% of {}", between(least, most, cut), words::NBSP, words::amount(may, 1))
            });
        }
        let turn = of.period_end.map(|last| {
            let restricted = matches!(of.state.as_str(), "paused" | "slowed_down" | "warned");
            let what =
                if restricted { "A new period begins, what this one restricts ends" } else { "A new period begins" };
            (what.to_owned(), Moment::of(end_of(last)), "used starts at 0 again".to_owned())
        });
        Some(Self {
            coming: of.ahead.iter().map(|ahead| Coming::of(ahead, of, today)).collect(),
            range,
            range_percent,
            turn,
        })
    }
}

/// `1,664 to 1,827`, or one of them where both are the same.
fn between(least: Decimal, most: Decimal, shown: impl Fn(Decimal) -> String) -> String {
    let (low, high) = (shown(least), shown(most));
    if low == high { low } else { format!("{low} to {high}") }
}
