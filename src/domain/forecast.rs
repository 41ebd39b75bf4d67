//! The forecast of usage at two paces, the average since the period began and that of the last seven days, and when
//! each reaches the remaining rungs.
//!
//! A date after the last day of the period is marked: usage starts again from zero by then. Days that have begun count
//! as whole days. The last seven days are UTC days, like the trail from which they are read.

use std::fmt::Write as _;

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;

use super::decimal::HUNDRED;
use super::period::Period;
use super::preview::{Projection, ProjectionStatus, daily_rate, projection};
use super::threshold::Rung;

/// Days of the shorter pace.
pub const RECENT_DAYS: u64 = 7;

/// What had been used in the period at the end of each day on which it was evaluated, as far back as the shorter pace looks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trail(Vec<(NaiveDate, Decimal)>);

impl Trail {
    /// Notes what is used on a day; the last word on a day counts. Days that no pace looks at any more are forgotten.
    pub fn note(&mut self, day: NaiveDate, used: Decimal) {
        match self.0.last_mut() {
            Some((last, amount)) if *last >= day => *amount = used,
            _ => self.0.push((day, used)),
        }
        let Some(first) = day.checked_sub_days(Days::new(RECENT_DAYS)) else { return };
        // Of the days before the last seven, the newest is where they begin.
        let before = self.0.iter().take_while(|(of, _)| *of <= first).count();
        self.0.drain(..before.saturating_sub(1));
    }

    /// What had been used when a day was over; nothing if none of it is known.
    pub fn used_by(&self, day: NaiveDate) -> Option<Decimal> {
        self.0.iter().rev().find(|(of, _)| *of <= day).map(|(_, used)| *used)
    }

    /// The trail as a text: `20260301:12.5,20260302:14`.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.0.len() * 18);
        for (day, used) in &self.0 {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{}:{}", day.format("%Y%m%d"), used.normalize());
        }
        text
    }

    /// Parses the trail from such a text; invalid parts are ignored.
    pub fn read(text: &str) -> Self {
        let part = |part: &str| {
            let (day, used) = part.split_once(':')?;
            let number = |from: usize, to: usize| day.get(from..to)?.parse::<u32>().ok();
            let year = i32::try_from(number(0, 4)?).ok()?;
            Some((NaiveDate::from_ymd_opt(year, number(4, 6)?, number(6, 8)?)?, used.parse().ok()?))
        };
        Self(text.split(',').filter_map(part).collect())
    }
}

/// How usage stands in its period, as far as a forecast looks at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage<'a> {
    /// Used in the period.
    pub used: Decimal,
    /// What may be used in it.
    pub may_use: Decimal,
    /// The period.
    pub period: Period,
    /// The day from which usage counts: the first of the period, or of the allocation's life where the period has none.
    pub since: NaiveDate,
    /// The day it is.
    pub today: NaiveDate,
    /// What had been used at the end of the last days.
    pub trail: &'a Trail,
}

/// What is used in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paces {
    /// On average since the period began.
    pub average: Decimal,
    /// In the last seven days; or since the period began, or since the first day that is known, if that is less. Never below
    /// zero.
    pub recent: Decimal,
    /// What would use up all of it on the last day of the period; none where the period has no end.
    pub ideal: Option<Decimal>,
}

/// When a pace leads to an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// When, if ever.
    pub projection: Projection,
    /// Whether that is in the period; a later date never comes, since usage starts again from zero.
    pub in_period: bool,
}

/// A rung that is still ahead.
#[derive(Debug, Clone, PartialEq)]
pub struct Ahead<'a> {
    /// The rung.
    pub rung: &'a Rung,
    /// The amount at which it is reached.
    pub amount: Decimal,
    /// When, at the average pace.
    pub average: Reach,
    /// When, at the pace of the last seven days.
    pub recent: Reach,
}

impl Ahead<'_> {
    /// The earlier of both days, of those in the period.
    pub fn soonest(&self) -> Option<NaiveDate> {
        let days = [self.average, self.recent].into_iter().filter(|reach| reach.in_period);
        days.filter_map(|reach| reach.projection.date).min()
    }
}

/// When usage that goes on at a pace reaches an amount, and whether the period lasts that long.
pub fn reach(used: Decimal, pace: Decimal, amount: Decimal, today: NaiveDate, period: Period) -> Reach {
    let projection = projection(used, pace, amount, today);
    let last = period.end();
    let in_period = match projection.status {
        ProjectionStatus::Exceeded => true,
        ProjectionStatus::Never => false,
        ProjectionStatus::Projected => projection.date.is_some_and(|date| last.is_none_or(|last| date <= last)),
    };
    Reach { projection, in_period }
}

/// The amount of a rung.
pub fn amount_of(rung: &Rung, may_use: Decimal) -> Decimal {
    (may_use.saturating_mul(rung.percent) / HUNDRED).normalize()
}

impl Usage<'_> {
    /// The paces.
    pub fn paces(&self) -> Paces {
        let begun = (self.today - self.since).num_days() + 1;
        let recent_days = i64::try_from(RECENT_DAYS).unwrap_or(i64::MAX);
        let recent = if begun <= recent_days {
            self.used / Decimal::from(begun.max(1))
        } else {
            self.recently().unwrap_or_else(|| daily_rate(self.used, self.since, self.today))
        };
        Paces {
            average: daily_rate(self.used, self.since, self.today),
            recent: recent.max(Decimal::ZERO),
            ideal: self.days().map(|days| self.may_use / Decimal::from(days)),
        }
    }

    /// What was used in a day since seven days ago, or since the first day that is known, if that is later; none if that is
    /// today.
    fn recently(&self) -> Option<Decimal> {
        let begins = self.today.checked_sub_days(Days::new(RECENT_DAYS))?;
        let known = self.trail.used_by(begins).map(|used| (begins, used));
        let (from, used) = known.or_else(|| self.trail.0.first().copied()).filter(|(day, _)| *day < self.today)?;
        Some((self.used - used) / Decimal::from((self.today - from).num_days()))
    }

    /// The days of the period.
    fn days(&self) -> Option<i64> {
        let (first, last) = self.period.start().zip(self.period.end())?;
        Some((last - first).num_days() + 1)
    }

    /// How many percent of the period have begun; none where it has no end.
    pub fn elapsed_percent(&self) -> Option<Decimal> {
        let days = self.days()?;
        let begun = (self.today - self.period.start()?).num_days() + 1;
        Some(Decimal::from(begun.clamp(0, days)) * HUNDRED / Decimal::from(days))
    }

    /// What will have been used when the period ends, at a pace; none where it has no end, or is over.
    pub fn at_end(&self, pace: Decimal) -> Option<Decimal> {
        let left = (self.period.end()? - self.today).num_days();
        (left >= 0).then(|| self.used.saturating_add(pace.saturating_mul(Decimal::from(left))))
    }

    /// The rungs that `percentage` has not reached, lowest first; none where nothing may be used, or nothing is limited.
    pub fn ahead<'a>(&self, ladder: &'a [Rung], percentage: Decimal, paces: &Paces) -> Vec<Ahead<'a>> {
        let rungs = ladder.iter().filter(|rung| self.may_use > Decimal::ZERO && !rung.is_reached_by(percentage));
        let ahead = |rung: &'a Rung| {
            let amount = amount_of(rung, self.may_use);
            let reach = |pace| reach(self.used, pace, amount, self.today, self.period);
            Ahead { rung, amount, average: reach(paces.average), recent: reach(paces.recent) }
        };
        rungs.map(ahead).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::threshold::Effect;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn usage<'a>(used: &str, today: &str, trail: &'a Trail) -> Usage<'a> {
        Usage {
            used: dec(used),
            may_use: dec("900"),
            period: "2026-Q1".parse().unwrap(),
            since: day("2026-01-01"),
            today: day(today),
            trail,
        }
    }

    #[test]
    fn a_trail_keeps_the_last_word_on_each_day_and_where_the_last_week_begins() {
        let mut trail = Trail::default();
        for (of, used) in [("2026-03-01", "10"), ("2026-03-02", "11"), ("2026-03-02", "12.50"), ("2026-03-05", "20")] {
            trail.note(day(of), dec(used));
        }
        assert_eq!(trail.text(), "20260301:10,20260302:12.5,20260305:20");
        assert_eq!(Trail::read(&trail.text()), trail);
        assert_eq!(trail.used_by(day("2026-02-28")), None);
        assert_eq!(trail.used_by(day("2026-03-04")), Some(dec("12.5")));
        trail.note(day("2026-03-12"), dec("30"));
        assert_eq!(trail.text(), "20260305:20,20260312:30", "what was used by 5 March is where the week begins");
        assert_eq!(Trail::read("nonsense,20261301:1,:,20260301:2").text(), "20260301:2");
    }

    #[test]
    fn the_recent_pace_is_that_of_seven_days_or_of_the_period_if_that_is_younger() {
        let mut trail = Trail::default();
        trail.note(day("2026-02-20"), dec("100"));
        trail.note(day("2026-02-28"), dec("240"));
        let paces = usage("240", "2026-02-28", &trail).paces();
        assert_eq!((paces.recent, paces.ideal), (dec("20"), Some(dec("10"))), "240 less 100, in seven days; 900 in 90");
        assert_eq!(paces.average, dec("240") / dec("59"));
        let young = usage("30", "2026-01-03", &trail).paces();
        assert_eq!((young.recent, young.average), (dec("10"), dec("10")));
        assert_eq!(usage("90", "2026-02-28", &trail).paces().recent, Decimal::ZERO, "a correction is no pace");
        // A policy that is new counts what was used before it, but not as if that were used in a week.
        let mut new = Trail::default();
        new.note(day("2026-02-24"), dec("200"));
        assert_eq!(usage("240", "2026-02-28", &new).paces().recent, dec("10"));
        let unknown = usage("240", "2026-02-24", &Trail::default()).paces();
        assert_eq!(unknown.recent, unknown.average);
    }

    #[test]
    fn a_rung_behind_the_end_of_the_period_is_marked_so() {
        let rung = |percent, effect| Rung { percent: dec(percent), effect, qos: None };
        let ladder = [rung("50", Effect::Notify), rung("100", Effect::Downscale), rung("120", Effect::Pause)];
        let mut trail = Trail::default();
        trail.note(day("2026-03-15"), dec("460"));
        trail.note(day("2026-03-22"), dec("810"));
        let usage = usage("810", "2026-03-22", &trail);
        let paces = usage.paces();
        assert_eq!((paces.average, paces.recent), (dec("10"), dec("50")));
        let ahead = usage.ahead(&ladder, dec("90"), &paces);
        let shown: Vec<_> = ahead
            .iter()
            .map(|a| (a.amount, a.average.projection.date, a.average.in_period, a.recent.in_period, a.soonest()))
            .collect();
        assert_eq!(
            shown,
            [
                (dec("900"), Some(day("2026-03-31")), true, true, Some(day("2026-03-23"))),
                (dec("1080"), Some(day("2026-04-18")), false, true, Some(day("2026-03-27"))),
            ]
        );
        assert_eq!((usage.at_end(paces.average), usage.at_end(paces.recent)), (Some(dec("900")), Some(dec("1260"))));
        assert_eq!(usage.elapsed_percent(), Some(dec("90")));
    }

    #[test]
    fn where_nothing_is_limited_nothing_is_ahead_and_a_total_has_no_end() {
        let rung = [Rung { percent: dec("100"), effect: Effect::Pause, qos: None }];
        let trail = Trail::default();
        let free = Usage { may_use: Decimal::ZERO, ..usage("5", "2026-02-01", &trail) };
        assert!(free.ahead(&rung, Decimal::ZERO, &free.paces()).is_empty());
        let total = Usage { period: Period::Total, ..usage("90", "2026-03-31", &trail) };
        let paces = total.paces();
        assert_eq!((paces.ideal, total.at_end(paces.average), total.elapsed_percent()), (None, None, None));
        let ahead = total.ahead(&rung, dec("10"), &paces);
        assert_eq!(ahead[0].soonest(), Some(day("2026-03-31") + Days::new(810)), "810 are left, one a day");
        let over = usage("90", "2026-04-02", &trail);
        assert_eq!((over.at_end(dec("1")), over.elapsed_percent()), (None, Some(dec("100"))));
    }
}
