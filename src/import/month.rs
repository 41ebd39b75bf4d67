//! Calendar months, their edges in a time zone, and the window of days that an import counts.

use std::fmt;

use chrono::offset::LocalResult;
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

/// A calendar month, printed as `2026-03`.
///
/// The importer is independent of the domain and has its own type; callers that report the totals convert with
/// [`MonthKey::year`] and [`MonthKey::number`] to the domain's month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonthKey {
    year: i32,
    month: u32,
}

impl MonthKey {
    /// The month with this number (1 to 12) of a year; `None` for other numbers or years beyond the calendar.
    pub fn new(year: i32, month: u32) -> Option<Self> {
        NaiveDate::from_ymd_opt(year, month, 1).map(Self::of)
    }

    /// The month of a day.
    pub fn of(day: NaiveDate) -> Self {
        Self { year: day.year(), month: day.month() }
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.year
    }

    /// The month's number, January is 1.
    pub fn number(self) -> u32 {
        self.month
    }

    /// The month after this one.
    #[must_use]
    pub fn next(self) -> Self {
        if self.month == 12 {
            Self { year: self.year + 1, month: 1 }
        } else {
            Self { year: self.year, month: self.month + 1 }
        }
    }

    fn first_day(self) -> NaiveDate {
        NaiveDate::from_ymd_opt(self.year, self.month, 1).expect("a month key holds a month of the calendar")
    }

    /// The month in which an instant (seconds since 1970 in UTC) lies.
    ///
    /// # Panics
    /// Beyond the years that a row can have.
    pub fn of_epoch(epoch_s: i64, zone: Tz) -> Self {
        let day = DateTime::from_timestamp(epoch_s, 0)
            .expect("row times are checked to be between 1970 and 2199, plus at most 137 years")
            .with_timezone(&zone)
            .date_naive();
        Self::of(day)
    }

    /// The instant at which the month begins in a zone, in seconds since 1970.
    pub fn starts_at(self, zone: Tz) -> i64 {
        midnight(self.first_day(), zone)
    }
}

impl fmt::Display for MonthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// The first instant of a day in a zone: the earlier one where midnight happens twice, the first after the gap where
/// the clocks skip it.
fn midnight(day: NaiveDate, zone: Tz) -> i64 {
    let mut local: NaiveDateTime = day.and_time(NaiveTime::MIN);
    loop {
        match zone.from_local_datetime(&local) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => return instant.timestamp(),
            // Every gap in the zone database since 1970 ends on a whole minute.
            LocalResult::None => local += TimeDelta::minutes(1),
        }
    }
}

/// Days to count, both inclusive, in the zone of the months. A side without a day is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// First day (`--from`).
    pub from: Option<NaiveDate>,
    /// Last day (`--to`).
    pub to: Option<NaiveDate>,
}

impl Window {
    /// The instants `[begin, end)` that the window lets through.
    pub fn instants(self, zone: Tz) -> (i64, i64) {
        let begin = self.from.map_or(i64::MIN, |day| midnight(day, zone));
        let end =
            self.to.and_then(|day| day.checked_add_days(Days::new(1))).map_or(i64::MAX, |day| midnight(day, zone));
        (begin, end)
    }

    /// Every month of a window with both ends; `None` if it is open. Empty if the last day precedes the first.
    pub fn months(self) -> Option<Vec<MonthKey>> {
        let (first, last) = (MonthKey::of(self.from?), MonthKey::of(self.to?));
        if self.from > self.to {
            return Some(Vec::new());
        }
        Some(
            std::iter::successors(Some(first), |month| Some(month.next())).take_while(|month| *month <= last).collect(),
        )
    }

    /// The days of some months.
    pub fn of_months(first: MonthKey, last: MonthKey) -> Self {
        Self { from: Some(first.first_day()), to: last.next().first_day().pred_opt() }
    }

    /// Whether the window lets all of a month through, as far as it had come at an instant.
    pub fn covers(self, month: MonthKey, until_s: i64, zone: Tz) -> bool {
        let (begin, end) = self.instants(zone);
        begin <= month.starts_at(zone) && end >= month.next().starts_at(zone).min(until_s)
    }

    /// The flags that say it.
    pub fn flags(self) -> String {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && Self::of_months(MonthKey::of(from), MonthKey::of(from)) == self
            && MonthKey::of(from) == MonthKey::of(to)
        {
            return format!("--month {}", MonthKey::of(from));
        }
        let flag = |name, day: Option<NaiveDate>| day.map(|day| format!("--{name} {day}"));
        [flag("from", self.from), flag("to", self.to)].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use chrono_tz::Tz;

    use super::{MonthKey, Window, midnight};

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).expect("a day of the calendar")
    }

    #[test]
    fn months_follow_each_other_over_the_year() {
        let december = MonthKey::new(2025, 12).expect("a month");
        assert_eq!(december.next().to_string(), "2026-01");
        assert_eq!(MonthKey::new(2026, 13), None);
    }

    #[test]
    fn a_midnight_that_the_clocks_skip_is_the_first_instant_after_it() {
        // Cairo, 2026-04-24: the clocks go from 00:00 to 01:00, that is at 22:00 UTC of the day before.
        assert_eq!(midnight(day(2026, 4, 24), Tz::Africa__Cairo), 1_776_981_600);
    }

    #[test]
    fn a_midnight_that_happens_twice_is_the_earlier() {
        // Havana, 2026-11-01: 01:00 goes back to 00:00, so 00:00 is at 04:00 and at 05:00 UTC.
        assert_eq!(midnight(day(2026, 11, 1), Tz::America__Havana), 1_793_505_600);
    }

    #[test]
    fn a_window_names_its_months_and_what_it_covers() {
        let window = Window { from: Some(day(2025, 12, 10)), to: Some(day(2026, 2, 28)) };
        let names: Vec<_> = window.months().expect("both ends").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["2025-12", "2026-01", "2026-02"]);
        assert_eq!(Window { to: None, ..window }.months(), None);
        let month = |year, number| MonthKey::new(year, number).expect("a month");
        let covered = |window: Window, month: MonthKey| window.covers(month, i64::MAX, Tz::Europe__Berlin);
        assert!(!covered(window, month(2025, 12)) && covered(window, month(2026, 2)));
        assert!(!covered(Window { to: Some(day(2026, 2, 27)), ..window }, month(2026, 2)));
        // As far as the month had come on the 20th.
        let until_s = midnight(day(2026, 2, 20), Tz::Europe__Berlin);
        assert!(Window { to: Some(day(2026, 2, 19)), ..window }.covers(month(2026, 2), until_s, Tz::Europe__Berlin));
        assert!(!Window { to: Some(day(2026, 2, 18)), ..window }.covers(month(2026, 2), until_s, Tz::Europe__Berlin));
    }

    #[test]
    fn a_window_is_said_in_flags() {
        let leap = MonthKey::new(2028, 2).expect("a month");
        assert_eq!(Window::of_months(leap, leap), Window { from: Some(day(2028, 2, 1)), to: Some(day(2028, 2, 29)) });
        assert_eq!(Window::of_months(leap, leap).flags(), "--month 2028-02");
        assert_eq!(Window::of_months(leap, leap.next()).flags(), "--from 2028-02-01 --to 2028-03-31");
        assert_eq!(Window { from: Some(day(2028, 2, 2)), to: None }.flags(), "--from 2028-02-02");
    }
}
