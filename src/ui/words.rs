//! The format of numbers, times and names on pages: amounts with grouped digits, instants in UTC, a percentage
//! truncated and never rounded up.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::directory::Role;
use crate::domain::decimal::rounded;

/// A space at which no line is broken: between a number and its unit.
pub const NBSP: char = '\u{a0}';

/// Groups the digits before the decimal point by three.
fn grouped(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("\u{2212}", rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// An amount with at most `places` decimals and no trailing zeros: `1,561.2`.
pub fn amount(value: Decimal, places: u32) -> String {
    grouped(&rounded(value, places).normalize().to_string())
}

/// An amount with exactly two decimals, for columns: `1,561.20`.
pub fn exact(value: Decimal) -> String {
    grouped(&format!("{:.2}", rounded(value, 2)))
}

/// A percentage cut to one decimal, so that no rung is shown that was not reached: `104.0 %`.
pub fn percent(value: Decimal) -> String {
    let cut = value.round_dp_with_strategy(1, RoundingStrategy::ToZero);
    format!("{}{NBSP}%", grouped(&format!("{cut:.1}")))
}

/// A rung: `80 %`, `92.5 %`.
pub fn rung(value: Decimal) -> String {
    format!("{}{NBSP}%", value.normalize())
}

/// A count with its word in the right number: `1 event`, `18,159 events`.
pub fn count(n: u64, word: &str) -> String {
    format!("{}{NBSP}{word}{}", whole(n), if n == 1 { "" } else { "s" })
}

/// A count alone: `18,159`.
pub fn whole(n: u64) -> String {
    grouped(&n.to_string())
}

/// A component in words: `node_hours` is `node-hours`.
pub fn unit(component: &str) -> String {
    component.replace('_', "-")
}

/// A length of time in its two largest units: `5 d 14 h`, `32 min`.
pub fn duration(length: TimeDelta) -> String {
    let minutes = length.num_minutes().max(0);
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("under 1{NBSP}min"),
        (0, 0, m) => format!("{m}{NBSP}min"),
        (0, h, 0) => format!("{h}{NBSP}h"),
        (0, h, m) if h < 10 => format!("{h}{NBSP}h {m}{NBSP}min"),
        (0, h, _) => format!("{h}{NBSP}h"),
        (d, 0, _) => format!("{d}{NBSP}d"),
        (d, h, _) if d < 10 => format!("{d}{NBSP}d {h}{NBSP}h"),
        (d, ..) => format!("{d}{NBSP}d"),
    }
}

/// A length of time that may be one of seconds: `17 s`, `1 min`, `5 h 2 min`.
pub fn lapse(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    if seconds < 60 { format!("{seconds}{NBSP}s") } else { duration(length) }
}

/// How long after something: `+17 s`.
pub fn after(length: TimeDelta) -> String {
    format!("+{}", lapse(length))
}

/// The same in a sentence: `5 days 14 hours`.
pub fn duration_in_words(length: TimeDelta) -> String {
    let minutes = length.num_minutes().max(0).unsigned_abs();
    let (days, hours) = (minutes / 1_440, minutes / 60 % 24);
    match (days, hours) {
        (0, 0) => count(minutes, "minute"),
        (0, h) => count(h, "hour"),
        (d, 0) => count(d, "day"),
        (d, h) => format!("{} {}", count(d, "day"), count(h, "hour")),
    }
}

/// `26 Mar`.
pub fn day(date: NaiveDate) -> String {
    format!("{}{NBSP}{}", date.day(), date.format("%b"))
}

/// `26 March`, for sentences.
pub fn full_day(date: NaiveDate) -> String {
    format!("{}{NBSP}{}", date.day(), date.format("%B"))
}

/// The period after one: `2026-Q2` after `2026-Q1`, `2027-01` after `2026-12`; nothing where no period follows.
pub fn next_period(name: &str) -> Option<String> {
    let (year, part) = name.split_once('-').map_or((name, None), |(year, part)| (year, Some(part)));
    let year: i32 = year.parse().ok()?;
    let next = |number: u32, most: u32| if number < most { (year, number + 1) } else { (year + 1, 1) };
    let Some(part) = part else { return Some((year + 1).to_string()) };
    if let Some(quarter) = part.strip_prefix('Q') {
        let (year, quarter) = next(quarter.parse().ok()?, 4);
        return Some(format!("{year}-Q{quarter}"));
    }
    let (year, month) = next(part.parse().ok()?, 12);
    Some(format!("{year}-{month:02}"))
}

/// `Wednesday 1 April`.
pub fn long_day(date: NaiveDate) -> String {
    format!("{} {}{NBSP}{}", date.format("%A"), date.day(), date.format("%B"))
}

/// An instant as pages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// `26 Mar 08:40`.
    pub short: String,
    /// `26 Mar 2026 08:40:12 UTC`.
    pub full: String,
    /// `26 Mar 2026`, for what may lie years back.
    pub dated: String,
    /// For machines.
    pub iso: String,
}

impl Moment {
    /// This instant.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self {
            short: format!("{}{NBSP}{}", day(at.date_naive()), at.format("%H:%M")),
            full: format!("{}{NBSP}{} UTC", day(at.date_naive()), at.format("%Y %H:%M:%S")),
            dated: format!("{}{NBSP}{}", day(at.date_naive()), at.format("%Y")),
            iso: at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What a role is called.
pub const fn role(role: Role) -> &'static str {
    match role {
        Role::Staff => "staff",
        Role::Support => "support",
        Role::Owner => "owner",
        Role::Member => "member",
        Role::Agent => "site agent",
    }
}

/// Up to two letters that stand for somebody.
pub fn initials(name: &str) -> String {
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let letters = [words.first(), words.last().filter(|_| words.len() > 1)];
    letters.into_iter().flatten().filter_map(|word| word.chars().next()).flat_map(char::to_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_percentages_cut() {
        let number = |text: &str| text.parse::<Decimal>().unwrap();
        assert_eq!(amount(number("1561.20"), 2), "1,561.2");
        assert_eq!(amount(number("-1234567.891"), 1), "\u{2212}1,234,567.9");
        assert_eq!(exact(number("428")), "428.00");
        assert_eq!(percent(number("99.99")), "99.9\u{a0}%");
        assert_eq!(percent(number("104.08")), "104.0\u{a0}%");
        assert_eq!(rung(number("80.0")), "80\u{a0}%");
        assert_eq!((count(1, "event"), count(18_159, "event")), ("1\u{a0}event".into(), "18,159\u{a0}events".into()));
    }

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let told = |minutes| duration(TimeDelta::minutes(minutes)).replace(NBSP, " ");
        assert_eq!(told(0), "under 1 min");
        assert_eq!(told(32), "32 min");
        assert_eq!(told(125), "2 h 5 min");
        assert_eq!(told(5 * 1_440 + 14 * 60), "5 d 14 h");
        assert_eq!(told(30 * 1_440 + 60), "30 d");
        assert_eq!(
            (lapse(TimeDelta::seconds(17)), after(TimeDelta::minutes(2))),
            ("17\u{a0}s".into(), "+2\u{a0}min".into())
        );
        assert_eq!(duration_in_words(TimeDelta::hours(134)).replace(NBSP, " "), "5 days 14 hours");
    }

    #[test]
    fn the_period_after_the_last_of_a_year_is_the_first_of_the_next() {
        let next = |name| next_period(name).unwrap_or_default();
        assert_eq!((next("2026-Q1"), next("2026-Q4")), ("2026-Q2".into(), "2027-Q1".into()));
        assert_eq!((next("2026-03"), next("2026-12")), ("2026-04".into(), "2027-01".into()));
        assert_eq!((next("2026"), next("total")), ("2027".into(), String::new()));
    }

    #[test]
    fn initials_are_those_of_the_first_and_the_last_name() {
        assert_eq!(initials("Hanna L. Berg"), "HB");
        assert_eq!(initials("demo"), "D");
        assert_eq!(initials(""), "");
    }
}
