//! Turns the times of a row into the interval in which its job ran.
//!
//! `sacct` prints local times without an offset, so twice a year an hour is ambiguous. `ElapsedRaw` resolves most of
//! it: of the possible readings of Start and End, the one whose length is closest to `ElapsedRaw` without being shorter
//! counts, and among equals the one that starts first. A local time that the clocks skipped cannot come from that zone
//! and makes the line malformed, as does an `ElapsedRaw` longer than every reading: both mean that the given zone is
//! wrong.

use chrono::offset::LocalResult;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

use super::header::Field;

/// What a Start or End column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// `None`, `Unknown`, `N/A`, 0 or nothing: it has not happened.
    Missing,
    /// A time with an offset, or in seconds since 1970 (`SLURM_TIME_FORMAT=%s`).
    Instant(i64),
    /// A time of the file's zone.
    Local(NaiveDateTime),
}

const ALLOWED: &str =
    "not a time such as 2026-03-01T14:05:00 between 1970 and 2199, seconds since 1970, Unknown or None";

impl Stamp {
    /// Reads a Start or End column.
    ///
    /// # Errors
    /// What is allowed there, for anything else.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if matches!(text, "" | "0" | "None" | "Unknown" | "N/A" | "INVALID") || is_epoch(text) {
            return Ok(Self::Missing);
        }
        if text.len() > 8 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let epoch_s = text.parse().map_err(|_| ALLOWED)?;
            return in_range(DateTime::from_timestamp(epoch_s, 0).map(|at| at.naive_utc()))
                .map(|_| Self::Instant(epoch_s))
                .ok_or(ALLOWED);
        }
        let (Some(local), Some(offset)) = (text.get(..19), text.get(19..)) else { return Err(ALLOWED) };
        let local = in_range(parse_local(local.as_bytes())).ok_or(ALLOWED)?;
        if offset.is_empty() {
            return Ok(Self::Local(local));
        }
        let offset_s = parse_offset(offset).ok_or(ALLOWED)?;
        Ok(Self::Instant(local.and_utc().timestamp() - offset_s))
    }

    /// The instants that the stamp can mean, the earlier first; the same twice where there is one only.
    fn readings(self, zone: Tz) -> Option<(i64, i64)> {
        match self {
            Self::Missing => None,
            Self::Instant(at) => Some((at, at)),
            Self::Local(local) => match zone.from_local_datetime(&local) {
                LocalResult::Single(at) => Some((at.timestamp(), at.timestamp())),
                LocalResult::Ambiguous(first, second) => Some((first.timestamp(), second.timestamp())),
                LocalResult::None => None,
            },
        }
    }
}

/// 0 as a local time, wherever the clock stands.
fn is_epoch(text: &str) -> bool {
    text.starts_with("1969-12-31T") || text.starts_with("1970-01-01T")
}

fn in_range(time: Option<NaiveDateTime>) -> Option<NaiveDateTime> {
    time.filter(|time| (1970..2200).contains(&time.year()))
}

/// `YYYY-MM-DDTHH:MM:SS`, by hand: a million jobs have two million times.
fn parse_local(text: &[u8]) -> Option<NaiveDateTime> {
    let number = |from: usize, to: usize| {
        text.get(from..to)?
            .iter()
            .try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| text.get(*at) != Some(separator)) {
        return None;
    }
    let day = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?)?;
    day.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)
}

/// `Z`, `+0100` or `+01:00`, in seconds east of Greenwich.
fn parse_offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let digits: String = text.get(1..)?.chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    let seconds = hours * 3600 + minutes * 60;
    match text.as_bytes().first()? {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// The time in which a job ran, and for how many seconds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First second, since 1970.
    pub start: i64,
    /// Seconds from start to end.
    pub span_s: u32,
    /// Seconds that count, at most the span; fewer for a job that was suspended in between.
    pub elapsed_s: u32,
}

/// Why a row's times do not fit, and which column to look at.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongTimes {
    /// The column to name.
    pub field: Field,
    /// What is wrong.
    pub problem: String,
}

/// When a job ran: `None` if it did not run at all (`ElapsedRaw` 0: cancelled while waiting, or listed because it waited).
///
/// A job that has no End yet ran from its Start for `ElapsedRaw` seconds.
///
/// # Errors
/// `ElapsedRaw` without a Start, a skipped local time, or more `ElapsedRaw` than Start and End have room for.
pub fn ran_between(start: Stamp, end: Stamp, elapsed_s: u32, zone: Tz) -> Result<Option<Run>, WrongTimes> {
    if elapsed_s == 0 {
        return Ok(None);
    }
    let skipped = |field| WrongTimes {
        field,
        problem: format!("the clocks of {zone} skip this time; give the zone of the file with --timezone"),
    };
    let starts = match start {
        Stamp::Missing => {
            let problem = "a job with ElapsedRaw above 0 needs the time it started".to_owned();
            return Err(WrongTimes { field: Field::Start, problem });
        }
        known => known.readings(zone).ok_or_else(|| skipped(Field::Start))?,
    };
    let ends = match end {
        Stamp::Missing => return Ok(Some(Run { start: starts.0, span_s: elapsed_s, elapsed_s })),
        known => known.readings(zone).ok_or_else(|| skipped(Field::End))?,
    };
    [(starts.0, ends.0), (starts.0, ends.1), (starts.1, ends.0), (starts.1, ends.1)]
        .into_iter()
        .filter(|(start, end)| end - start >= i64::from(elapsed_s))
        .min_by_key(|(start, end)| (end - start, *start))
        .and_then(|(start, end)| Some(Run { start, span_s: u32::try_from(end - start).ok()?, elapsed_s }))
        .map(Some)
        .ok_or_else(|| WrongTimes {
            field: Field::ElapsedRaw,
            problem: format!("not between 0 and End minus Start, read in {zone} (--timezone)"),
        })
}

#[cfg(test)]
mod tests {
    use chrono_tz::Tz;

    use super::{Run, Stamp, ran_between};
    use crate::import::header::Field;

    const BERLIN: Tz = Tz::Europe__Berlin;

    fn at(text: &str) -> Stamp {
        Stamp::parse(text).expect(text)
    }

    #[test]
    fn times_are_read_in_three_spellings() {
        assert_eq!(at("1772366400"), Stamp::Instant(1_772_366_400));
        assert_eq!(at("2026-03-01T13:00:00+0100"), Stamp::Instant(1_772_366_400));
        assert_eq!(at("2026-03-01T12:00:00Z"), Stamp::Instant(1_772_366_400));
        assert_eq!(at("2026-03-01T07:00:00-05:00"), Stamp::Instant(1_772_366_400));
        for missing in ["", "None", "Unknown", "N/A", "0", "1969-12-31T19:00:00", "1970-01-01T01:00:00"] {
            assert_eq!(at(missing), Stamp::Missing);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "2026-03-01",
            "2026-02-29T00:00:00",
            "2026-03-01T24:00:00",
            "2026-03-01 12:00:00",
            "none",
            "12:00:00",
            "2026-03-01T12:00:00+1",
            "2026-03-01T12:00:00+01000",
            "1969-12-30T00:00:00",
            "2200-01-01T00:00:00",
            "99999999999999999999",
            "2026-03-01T12:00:0é",
            "-026-03-01T12:00:00",
        ] {
            assert!(Stamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn elapsed_tells_the_two_readings_of_a_repeated_hour_apart() {
        // 2026-10-25: 03:00 goes back to 02:00 at 01:00 UTC (1792890000).
        let (start, end) = (at("2026-10-25T01:30:00"), at("2026-10-25T02:30:00"));
        let first = ran_between(start, end, 3600, BERLIN).expect("fits").expect("ran");
        let second = ran_between(start, end, 7200, BERLIN).expect("fits").expect("ran");
        assert_eq!(first, Run { start: 1_792_884_600, span_s: 3600, elapsed_s: 3600 });
        assert_eq!(second, Run { start: 1_792_884_600, span_s: 7200, elapsed_s: 7200 });
        let inside = ran_between(at("2026-10-25T02:50:00"), at("2026-10-25T02:10:00"), 1200, BERLIN);
        assert_eq!(inside, Ok(Some(Run { start: 1_792_889_400, span_s: 1200, elapsed_s: 1200 })));
    }

    #[test]
    fn a_skipped_time_points_at_the_zone() {
        let wrong = ran_between(at("2026-03-29T02:30:00"), at("2026-03-29T04:00:00"), 60, BERLIN)
            .expect_err("02:30 does not exist in Berlin on that day");
        assert_eq!(wrong.field, Field::Start);
        assert!(wrong.problem.contains("--timezone"), "{}", wrong.problem);
        assert!(ran_between(at("2026-03-29T02:30:00"), at("2026-03-29T04:00:00"), 60, Tz::UTC).is_ok());
    }

    #[test]
    fn elapsed_beyond_the_span_is_refused_and_less_is_a_suspension() {
        let (start, end) = (at("2026-03-01T00:00:00"), at("2026-03-01T01:00:00"));
        assert_eq!(ran_between(start, end, 3601, Tz::UTC).expect_err("too long").field, Field::ElapsedRaw);
        let suspended = ran_between(start, end, 600, Tz::UTC).expect("fits").expect("ran");
        assert_eq!((suspended.span_s, suspended.elapsed_s), (3600, 600));
        assert!(ran_between(end, start, 1, Tz::UTC).is_err());
    }

    #[test]
    fn a_job_that_never_ran_has_no_time_and_a_running_one_lasts_so_far() {
        assert_eq!(ran_between(at("2026-03-01T01:00:00"), at("2026-03-01T00:00:00"), 0, Tz::UTC), Ok(None));
        assert_eq!(ran_between(Stamp::Missing, at("2026-03-01T00:00:00"), 0, Tz::UTC), Ok(None));
        assert_eq!(ran_between(Stamp::Missing, Stamp::Missing, 5, Tz::UTC).expect_err("no start").field, Field::Start);
        let running = ran_between(at("2026-03-01T00:00:00"), Stamp::Missing, 90, Tz::UTC).expect("fits");
        assert_eq!(running, Some(Run { start: 1_772_323_200, span_s: 90, elapsed_s: 90 }));
    }
}
