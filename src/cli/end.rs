//! Parses an end given in a flag: an instant, a day, or a duration from now.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::domain::period::{counted, day_complaint, day_starts_at, instant_complaint};

/// What `--expires` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    At(DateTime<Utc>),
    /// The first instant of a day at the site, as in a site file.
    On(NaiveDate),
    In(TimeDelta),
}

impl End {
    /// Reads a flag.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = |suffix| text.strip_suffix(suffix).and_then(|n: &str| n.parse::<i64>().ok()).filter(|n| *n > 0);
        let span = number('d').and_then(TimeDelta::try_days).or_else(|| number('h').and_then(TimeDelta::try_hours));
        let given =
            span.map(Self::In).or_else(|| text.parse().ok().map(Self::On)).or_else(|| text.parse().ok().map(Self::At));
        let bounds = |end: Self| match end {
            Self::On(day) => day_complaint(day).map_or(Ok(end), Err),
            Self::At(at) => instant_complaint(&at).map_or(Ok(end), Err),
            Self::In(_) => Ok(end),
        };
        let expected = || {
            "a day (2030-01-01), an instant (2030-01-01T12:00:00Z), days (90d) or hours (6h) are expected".to_owned()
        };
        given.ok_or_else(expected).and_then(bounds)
    }

    /// The instant.
    pub(super) fn instant(self, now: DateTime<Utc>, site: Tz) -> Result<DateTime<Utc>, String> {
        let at = match self {
            Self::At(at) => at,
            Self::On(day) => day_starts_at(day, site),
            Self::In(span) => return counted(now, span),
        };
        instant_complaint(&at).map_or(Ok(at), Err)
    }

    /// The instant, which must lie ahead.
    pub(super) fn after(self, now: DateTime<Utc>, site: Tz) -> Result<DateTime<Utc>, String> {
        let at = self.instant(now, site)?;
        if at <= now {
            return Err(format!("--expires: {} is not after now", super::output::time(at)));
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_day_an_instant_or_a_time_from_now() {
        let now: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
        let at = |text: &str| End::parse(text).and_then(|end| end.after(now, Tz::Europe__Berlin));
        for (text, instant) in [
            ("2030-01-01", "2029-12-31T23:00:00Z"),
            ("2030-01-01T12:00:00Z", "2030-01-01T12:00:00Z"),
            ("2030-01-01T12:00:00+02:00", "2030-01-01T10:00:00Z"),
            ("14d", "2026-03-15T00:00:00Z"),
            ("6h", "2026-03-01T06:00:00Z"),
        ] {
            assert_eq!(at(text), Ok(instant.parse().unwrap()), "{text}");
        }
        for wrong in
            ["2026-03-01", "2020-01-01", "0d", "-1d", "soon", "2030-13-01", "99999999999999d", "2030-01-01 noon"]
        {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
