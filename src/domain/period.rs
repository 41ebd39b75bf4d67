//! Calendar months and the periods built from them: month, quarter, year and `total`.
//!
//! Periods are calendar dates, first to last day inclusive, in the site's time zone; an instant belongs to the period
//! of its local date. Only the edges are instants, and only they are affected by daylight saving.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that names no period, month or kind of period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct PeriodError {
    text: String,
    expected: &'static str,
}

impl PeriodError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(64).collect(), expected }
    }
}

/// The local calendar date of an instant at the site.
pub fn site_date(instant: DateTime<Utc>, zone: Tz) -> NaiveDate {
    instant.with_timezone(&zone).date_naive()
}

/// The instant at which a local date begins at the site.
///
/// Where clocks skip local midnight it is the first instant after the gap; where they show it twice, the earlier one.
pub fn day_starts_at(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(NaiveTime::MIN);
    let shown = zone.from_local_datetime(&midnight).earliest();
    shown.map_or_else(|| first_instant_past(midnight, zone), |instant| instant.with_timezone(&Utc))
}

/// The first instant whose local time is not before `local`, found by halving the two days on either side of it.
fn first_instant_past(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    let reached = |seconds: i64| {
        let instant = local.and_utc() + TimeDelta::seconds(seconds);
        instant.with_timezone(&zone).naive_local() >= local
    };
    let two_days = TimeDelta::days(2).num_seconds();
    let (mut before, mut after) = (-two_days, two_days);
    while after - before > 1 {
        let middle = before.midpoint(after);
        if reached(middle) {
            after = middle;
        } else {
            before = middle;
        }
    }
    local.and_utc() + TimeDelta::seconds(after)
}

/// The first day that may be entered, and the last; beyond them lie slips of the pen, and months that no four digits name.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).expect("the calendar has it");
const LAST_DAY: NaiveDate = NaiveDate::from_ymd_opt(9998, 12, 31).expect("the calendar has it");

/// Says in words what is wrong with an entered day, or nothing when Sluice counts it: 1970-01-01 to 9998-12-31.
pub fn day_complaint(day: NaiveDate) -> Option<String> {
    (!(FIRST_DAY..=LAST_DAY).contains(&day))
        .then(|| format!("{day} is out of range: a date from {FIRST_DAY} to {LAST_DAY} is allowed."))
}

/// The same of an entered instant, by its date in its own zone and in UTC.
pub fn instant_complaint<Z: TimeZone>(instant: &DateTime<Z>) -> Option<String> {
    day_complaint(instant.date_naive()).or_else(|| day_complaint(instant.to_utc().date_naive()))
}

/// The instant that lies a span of time after another.
///
/// # Errors
/// What is wrong with it, in words: Sluice does not count that day.
pub fn counted(from: DateTime<Utc>, span: TimeDelta) -> Result<DateTime<Utc>, String> {
    let days = span.num_days();
    let then = from.checked_add_signed(span);
    let then =
        then.ok_or_else(|| format!("{days} days from now is beyond the last day that is allowed, {LAST_DAY}."))?;
    instant_complaint(&then).map_or(Ok(then), Err)
}

/// One calendar month, printed as `2026-03`.
///
/// What is entered is a month of 1970 to 9998 ([`Month::new`], and reading text). What stands in a log is read whatever its
/// year ([`Month::recorded`], and deserializing): older versions let any year in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// The month of a year, as it is entered; nothing when the year is not 1970 to 9998 or the month not 1 to 12.
    pub fn new(year: i32, month: u32) -> Option<Self> {
        Self::recorded(year, month).filter(|_| (1970..=9998).contains(&year))
    }

    /// The month of a year, as it is stored; nothing when the year is not 0 to 9999 or the month not 1 to 12.
    pub fn recorded(year: i32, month: u32) -> Option<Self> {
        ((0..=9999).contains(&year) && (1..=12).contains(&month)).then_some(Self { year, month })
    }

    /// Reads the name of a month as it is stored.
    pub fn read_recorded(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        Self::recorded(digits(year, 4)?, digits(month, 2)?)
    }

    /// The month a date falls into.
    pub fn of(date: NaiveDate) -> Self {
        Self { year: date.year(), month: date.month() }
    }

    /// The month an instant falls into at the site.
    pub fn of_instant(instant: DateTime<Utc>, zone: Tz) -> Self {
        Self::of(site_date(instant, zone))
    }

    /// The first day.
    ///
    /// # Panics
    /// Beyond the last month that the calendar has, a quarter of a million years from now.
    pub fn first_day(self) -> NaiveDate {
        NaiveDate::from_ymd_opt(self.year, self.month, 1).expect("a month is 1 to 12 of a year the calendar has")
    }

    /// The last day.
    pub fn last_day(self) -> NaiveDate {
        self.next().first_day() - Days::new(1)
    }

    /// The month after.
    #[must_use]
    pub fn next(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }

    /// The month before.
    #[must_use]
    pub fn previous(self) -> Self {
        if self.month == 1 { Self { year: self.year - 1, month: 12 } } else { Self { month: self.month - 1, ..self } }
    }

    /// The month so many months before; nothing before the year 1.
    pub fn minus(self, months: u32) -> Option<Self> {
        let index = i64::from(self.year) * 12 + i64::from(self.month) - 1 - i64::from(months);
        Self::new(i32::try_from(index.div_euclid(12)).ok()?, u32::try_from(index.rem_euclid(12) + 1).ok()?)
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.year
    }

    /// The number within the year, 1 to 12.
    pub fn number(self) -> u32 {
        self.month
    }

    /// The number of the quarter the month is in, 1 to 4.
    pub fn quarter(self) -> u32 {
        self.month.div_ceil(3)
    }

    /// The instant at which the month begins at the site.
    pub fn starts_at(self, zone: Tz) -> DateTime<Utc> {
        day_starts_at(self.first_day(), zone)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let entered = Self::read_recorded(text).and_then(|month| Self::new(month.year, month.month));
        entered.ok_or_else(|| PeriodError::new(text, "a month such as 2026-03, of 1970 to 9998"))
    }
}

/// Exactly `count` ASCII digits as a number.
fn digits<T: FromStr>(text: &str, count: usize) -> Option<T> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// How long a policy counts before it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodKind {
    /// For ever: one period without an end.
    Total,
    /// A calendar month.
    Month,
    /// A calendar quarter; the default.
    #[default]
    Quarter,
    /// A calendar year.
    Year,
}

impl PeriodKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Total, Self::Month, Self::Quarter, Self::Year];

    /// The number the API uses, 1 to 4.
    pub fn code(self) -> u8 {
        match self {
            Self::Total => 1,
            Self::Month => 2,
            Self::Quarter => 3,
            Self::Year => 4,
        }
    }

    /// The kind with this API number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(kind.code()) == code)
    }

    /// The name Waldur shows for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Total => "Total",
            Self::Month => "1 month",
            Self::Quarter => "3 month",
            Self::Year => "12 month",
        }
    }

    /// The word for it in a site file and in events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    /// The kind with this word (`total`, `month`, `quarter`, `year`).
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The kind that an offering component's `limit_period` stands for.
    pub fn from_limit_period(limit_period: &str) -> Option<Self> {
        match limit_period {
            "month" => Some(Self::Month),
            "quarterly" => Some(Self::Quarter),
            "annual" => Some(Self::Year),
            "total" => Some(Self::Total),
            _ => None,
        }
    }

    /// The days a period counts as in the carryover formulas, whatever the calendar says.
    pub fn nominal_days(self) -> Option<u32> {
        match self {
            Self::Total => None,
            Self::Month => Some(30),
            Self::Quarter => Some(90),
            Self::Year => Some(365),
        }
    }
}

/// One period: `2026-03`, `2026-Q1`, `2026` or `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// All time.
    Total,
    /// A month.
    Month(Month),
    /// A quarter, 1 to 4, of a year.
    Quarter {
        /// The year.
        year: i32,
        /// 1 to 4.
        quarter: u32,
    },
    /// A year.
    Year(i32),
}

impl Period {
    /// What kind of period it is.
    pub fn kind(self) -> PeriodKind {
        match self {
            Self::Total => PeriodKind::Total,
            Self::Month(_) => PeriodKind::Month,
            Self::Quarter { .. } => PeriodKind::Quarter,
            Self::Year(_) => PeriodKind::Year,
        }
    }

    /// The period of this kind that holds the date.
    pub fn containing(kind: PeriodKind, date: NaiveDate) -> Self {
        Self::of_month(kind, Month::of(date))
    }

    /// The period of this kind that holds the month.
    pub fn of_month(kind: PeriodKind, month: Month) -> Self {
        match kind {
            PeriodKind::Total => Self::Total,
            PeriodKind::Month => Self::Month(month),
            PeriodKind::Quarter => Self::Quarter { year: month.year, quarter: month.quarter() },
            PeriodKind::Year => Self::Year(month.year),
        }
    }

    /// The first and the last month; `total` has neither.
    fn edges(self) -> Option<(Month, Month)> {
        let within = |year, first, last| Some((Month { year, month: first }, Month { year, month: last }));
        match self {
            Self::Total => None,
            Self::Month(month) => Some((month, month)),
            Self::Quarter { year, quarter } => within(year, quarter * 3 - 2, quarter * 3),
            Self::Year(year) => within(year, 1, 12),
        }
    }

    /// The first day; `total` has none.
    pub fn start(self) -> Option<NaiveDate> {
        self.edges().map(|(first, _)| first.first_day())
    }

    /// The last day; `total` has none.
    pub fn end(self) -> Option<NaiveDate> {
        self.edges().map(|(_, last)| last.last_day())
    }

    /// The period of the same kind right before; `total` has none.
    pub fn previous(self) -> Option<Self> {
        self.edges().map(|(first, _)| Self::of_month(self.kind(), first.previous()))
    }

    /// The period of the same kind right after; `total` has none.
    pub fn next(self) -> Option<Self> {
        self.edges().map(|(_, last)| Self::of_month(self.kind(), last.next()))
    }

    /// Whether the month is part of it; every month is part of `total`.
    pub fn contains(self, month: Month) -> bool {
        self.edges().is_none_or(|(first, last)| (first..=last).contains(&month))
    }

    /// Its months in order; `total` has no list of them.
    pub fn months(self) -> Option<Vec<Month>> {
        self.edges().map(|(first, last)| {
            std::iter::successors(Some(first), |month| Some(month.next())).take_while(|month| *month <= last).collect()
        })
    }

    /// The instant at which it begins at the site; `total` has none.
    pub fn starts_at(self, zone: Tz) -> Option<DateTime<Utc>> {
        self.start().map(|day| day_starts_at(day, zone))
    }

    /// The instant at which the next one begins, that is the first that is no longer part of it; `total` has none.
    pub fn ends_before(self, zone: Tz) -> Option<DateTime<Utc>> {
        self.next().and_then(|next| next.starts_at(zone))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total => f.write_str("total"),
            Self::Month(month) => month.fmt(f),
            Self::Quarter { year, quarter } => write!(f, "{year:04}-Q{quarter}"),
            Self::Year(year) => write!(f, "{year:04}"),
        }
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let year = |text: &str| digits::<i32>(text, 4);
        let quarter =
            |text: &str| digits::<u32>(text.strip_prefix('Q')?, 1).filter(|quarter| (1..=4).contains(quarter));
        let parsed = match text.split_once('-') {
            None if text == "total" => Some(Self::Total),
            None => year(text).map(Self::Year),
            Some((left, right)) if right.starts_with('Q') => {
                year(left).zip(quarter(right)).map(|(year, quarter)| Self::Quarter { year, quarter })
            }
            Some(_) => Month::read_recorded(text).map(Self::Month),
        };
        parsed.ok_or_else(|| PeriodError::new(text, "a period such as 2026-03, 2026-Q1, 2026 or total"))
    }
}

macro_rules! serde_as_text {
    ($($name:ty: $read:expr),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                $read(&text).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

serde_as_text!(
    Month: |text: &str| Month::read_recorded(text).ok_or_else(|| PeriodError::new(text, "a month such as 2026-03")),
    Period: str::parse::<Period>
);

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn kinds_have_the_codes_and_names_of_the_api() {
        for (kind, code, name, word, limit_period, days) in [
            (PeriodKind::Total, 1, "Total", "total", "total", None),
            (PeriodKind::Month, 2, "1 month", "month", "month", Some(30)),
            (PeriodKind::Quarter, 3, "3 month", "quarter", "quarterly", Some(90)),
            (PeriodKind::Year, 4, "12 month", "year", "annual", Some(365)),
        ] {
            assert_eq!((kind.code(), kind.name(), kind.word(), kind.nominal_days()), (code, name, word, days));
            assert_eq!(PeriodKind::from_code(code.into()), Some(kind));
            assert_eq!(PeriodKind::from_name(word), Some(kind));
            assert_eq!(PeriodKind::from_limit_period(limit_period), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{word}\""));
        }
        assert_eq!(PeriodKind::from_code(5), None);
        assert_eq!(PeriodKind::from_name("quarterly"), None);
        assert_eq!(PeriodKind::from_limit_period("quarter"), None);
        assert_eq!(PeriodKind::default(), PeriodKind::Quarter);
    }

    #[test]
    fn names_of_periods_are_read_and_written_alike() {
        for name in ["2026-03", "2026-Q1", "2026", "total", "0001-12", "9999-Q4", "0000", "0000-01"] {
            let period: Period = name.parse().unwrap();
            assert_eq!(period.to_string(), name);
            assert_eq!(serde_json::to_string(&period).unwrap(), format!("\"{name}\""));
        }
        for text in [
            "",
            "26",
            "2026-3",
            "2026-13",
            "2026-00",
            "2026-Q5",
            "2026-Q0",
            "2026-q1",
            "Total",
            "+026-01",
            "2026-Q",
            "2026-03-01",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text:?} was read as a period");
        }
    }

    #[test]
    fn bounds_hold_for_what_is_entered_and_not_for_what_is_stored() {
        for (text, may_enter) in [
            ("1970-01", true),
            ("9998-12", true),
            ("1969-12", false),
            ("9999-01", false),
            ("0001-01", false),
            ("0000-01", false),
        ] {
            assert_eq!(text.parse::<Month>().is_ok(), may_enter, "{text}");
            let stored: Month = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(stored.to_string(), text);
            assert_eq!(Month::new(stored.year(), stored.number()).is_some(), may_enter, "{text}");
            assert_eq!(day_complaint(stored.first_day()).is_none(), may_enter, "{text}");
        }
        let complaint = day_complaint(day("0000-01-01")).unwrap();
        assert_eq!(complaint, "0000-01-01 is out of range: a date from 1970-01-01 to 9998-12-31 is allowed.");
        // Within bounds in its own zone, and not in UTC.
        let edge = DateTime::parse_from_rfc3339("1970-01-01T00:30:00+02:00").unwrap();
        assert!(instant_complaint(&edge).is_some_and(|text| text.starts_with("1969-12-31")));
    }

    #[test]
    fn previous_and_next_roll_over_years() {
        for (period, previous, next) in [
            ("2026-01", "2025-12", "2026-02"),
            ("2026-12", "2026-11", "2027-01"),
            ("2026-Q1", "2025-Q4", "2026-Q2"),
            ("2026-Q4", "2026-Q3", "2027-Q1"),
            ("2026", "2025", "2027"),
        ] {
            let period: Period = period.parse().unwrap();
            assert_eq!(period.previous().unwrap().to_string(), previous);
            assert_eq!(period.next().unwrap().to_string(), next);
        }
        assert_eq!(
            (Period::Total.previous(), Period::Total.next(), Period::Total.start(), Period::Total.months()),
            (None, None, None, None)
        );
        assert!(Period::Total.contains(Month::new(1999, 1).unwrap()));
    }

    #[test]
    fn a_leap_day_belongs_to_its_month() {
        let february: Month = "2024-02".parse().unwrap();
        assert_eq!(february.last_day(), day("2024-02-29"));
        assert_eq!("2100-02".parse::<Month>().unwrap().last_day(), day("2100-02-28"));
        assert_eq!(Period::containing(PeriodKind::Quarter, day("2024-02-29")).to_string(), "2024-Q1");
    }

    #[test]
    fn an_instant_belongs_to_the_month_of_its_local_date() {
        let late = instant("2026-03-31T22:30:00Z");
        for (zone, month) in
            [(Tz::UTC, "2026-03"), (Tz::Europe__Helsinki, "2026-04"), (Tz::America__New_York, "2026-03")]
        {
            assert_eq!(Month::of_instant(late, zone).to_string(), month, "{zone}");
        }
    }

    #[test]
    fn days_begin_at_local_midnight_or_right_after_the_gap_that_swallows_it() {
        for (zone, date, expected) in [
            (Tz::UTC, "2026-03-01", "2026-03-01T00:00:00Z"),
            (Tz::Europe__Helsinki, "2026-04-01", "2026-03-31T21:00:00Z"),
            (Tz::Asia__Kathmandu, "2026-01-01", "2025-12-31T18:15:00Z"),
            // Clocks went from 24:00 to 01:00.
            (Tz::America__Sao_Paulo, "2018-11-04", "2018-11-04T03:00:00Z"),
            (Tz::Africa__Cairo, "2023-04-28", "2023-04-27T22:00:00Z"),
            // Clocks went from 24:00 back to 23:00: midnight came once, an hour late.
            (Tz::America__Sao_Paulo, "2019-02-17", "2019-02-17T03:00:00Z"),
            // The first of a month whose midnight was skipped (Asuncion, 2017) and one that came twice (Azores, 2026).
            (Tz::America__Asuncion, "2017-10-01", "2017-10-01T04:00:00Z"),
            (Tz::Atlantic__Azores, "2026-10-25", "2026-10-25T00:00:00Z"),
            // Clocks went from 00:01 back to 23:01: midnight came twice, and the first of the two counts.
            (Tz::America__St_Johns, "2009-11-01", "2009-11-01T02:30:00Z"),
            // A date that was left out altogether begins when the next one does.
            (Tz::Pacific__Apia, "2011-12-30", "2011-12-30T10:00:00Z"),
        ] {
            assert_eq!(day_starts_at(day(date), zone), instant(expected), "{zone} {date}");
        }
    }
}
