//! Converts instants and amounts to pixels.

use chrono::{DateTime, Datelike, Months, NaiveTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Where the plot lies in the picture.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
}

/// Time along x, amounts along y.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    area: Area,
    start: DateTime<Utc>,
    seconds: f64,
    /// The largest amount that is drawn.
    pub most: f64,
    /// Between two horizontal lines.
    pub step: f64,
}

fn number(amount: Decimal) -> f64 {
    amount.to_f64().unwrap_or_default()
}

/// A step for about four lines up to `most`: 1, 2, 2.5 or 5 times a power of ten.
fn step_for(most: f64) -> f64 {
    let rough = (most / 4.0).max(1e-6);
    let power = 10_f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|nice| nice * power >= rough);
    nice.unwrap_or(10.0) * power
}

impl Scale {
    /// A scale on which `highest` has a tenth of room above it.
    pub fn new(area: Area, (start, end): (DateTime<Utc>, DateTime<Utc>), highest: Decimal) -> Self {
        let wanted = (number(highest) * 1.1).max(1e-6);
        let step = step_for(wanted);
        let most = (wanted / step).ceil() * step;
        let seconds = (end - start).num_seconds().to_f64().unwrap_or(1.0).max(1.0);
        Self { area, start, seconds, most, step }
    }

    /// Where an instant is; what lies outside is at the edge.
    pub fn x(&self, at: DateTime<Utc>) -> f64 {
        let passed = (at - self.start).num_seconds().to_f64().unwrap_or_default();
        let share = (passed / self.seconds).clamp(0.0, 1.0);
        self.area.left + share * (self.area.right - self.area.left)
    }

    /// Where an amount is.
    pub fn y(&self, amount: Decimal) -> f64 {
        self.y_of(number(amount))
    }

    /// The same of a number.
    pub fn y_of(&self, amount: f64) -> f64 {
        self.area.bottom - (amount / self.most).clamp(0.0, 1.0) * (self.area.bottom - self.area.top)
    }

    /// Amounts at which lines are drawn.
    pub fn lines(&self) -> Vec<f64> {
        let mut lines = Vec::new();
        let mut amount = 0.0;
        while amount <= self.most + self.step / 2.0 {
            lines.push(amount);
            amount += self.step;
        }
        lines
    }

    /// Days that are labelled on the axis: the first of months, and weeks of a period of up to four months. Each with
    /// whether it is the first of a month.
    pub fn days(&self, narrow: bool) -> Vec<(DateTime<Utc>, bool)> {
        let end = self.start + TimeDelta::seconds(self.seconds.to_i64().unwrap_or(i64::MAX));
        let mut days = vec![(self.start, true)];
        let long = (end - self.start).num_days() > 130;
        let mut month = self.start.date_naive();
        loop {
            let first = month.with_day(1).unwrap_or(month);
            if !long {
                let within: &[u32] = if narrow { &[15] } else { &[8, 15, 22] };
                let at = within.iter().filter_map(|day| first.with_day(*day));
                days.extend(at.map(|day| (day.and_time(NaiveTime::MIN).and_utc(), false)));
            }
            let Some(next) = first.checked_add_months(Months::new(1)) else { break };
            let at = next.and_time(NaiveTime::MIN).and_utc();
            if at > end {
                break;
            }
            days.push((at, true));
            month = next;
        }
        days.retain(|(at, _)| *at >= self.start && *at <= end);
        days.sort_unstable();
        days.dedup_by_key(|(at, _)| *at);
        days
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_highest_amount_has_room_above_it_and_lines_are_round() {
        let area = Area { left: 0.0, right: 90.0, top: 0.0, bottom: 100.0 };
        let span = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
        let scale = Scale::new(area, span, Decimal::from(1_800));
        assert!((scale.most - 2_000.0).abs() < 1e-9 && (scale.step - 500.0).abs() < 1e-9);
        assert_eq!(scale.lines(), [0.0, 500.0, 1_000.0, 1_500.0, 2_000.0]);
        assert!((scale.x(at("2026-01-31T00:00:00Z")) - 30.0).abs() < 1e-9);
        assert!((scale.y(Decimal::from(500)) - 75.0).abs() < 1e-9);
        let nothing = Scale::new(area, span, Decimal::ZERO);
        assert!(nothing.most > 0.0);
    }

    #[test]
    fn a_quarter_has_months_and_weeks_and_a_year_months_only() {
        let area = Area { left: 0.0, right: 1.0, top: 0.0, bottom: 1.0 };
        let quarter = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
        let days = Scale::new(area, quarter, Decimal::ONE).days(false);
        assert_eq!((days.len(), days.iter().filter(|(_, month)| *month).count()), (13, 4));
        let year = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        assert_eq!(Scale::new(area, year, Decimal::ONE).days(false).len(), 13);
    }
}
