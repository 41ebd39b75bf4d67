//! Periods cover time without a gap and without an overlap, in days and in instants, whatever the clocks do.

use chrono::{Days, NaiveDate, TimeDelta};
use chrono_tz::Tz;
use proptest::prelude::*;
use sluice::domain::period::{Month, Period, PeriodKind, site_date};

const ENDING: [PeriodKind; 3] = [PeriodKind::Month, PeriodKind::Quarter, PeriodKind::Year];

const ZONES: [Tz; 7] = [
    Tz::UTC,
    Tz::Europe__Helsinki,
    Tz::America__New_York,
    Tz::Asia__Kathmandu,
    Tz::Australia__Lord_Howe,
    Tz::America__Sao_Paulo,
    Tz::Africa__Cairo,
];

fn kind() -> impl Strategy<Value = PeriodKind> {
    prop::sample::select(&ENDING[..])
}

fn date() -> impl Strategy<Value = NaiveDate> {
    let earliest = NaiveDate::from_ymd_opt(1930, 1, 1).unwrap();
    (0_u64..60_000).prop_map(move |days| earliest + Days::new(days))
}

proptest! {
    #[test]
    fn days_belong_to_exactly_one_period(kind in kind(), date in date()) {
        let period = Period::containing(kind, date);
        let (start, end) = (period.start().unwrap(), period.end().unwrap());
        prop_assert!(start <= date && date <= end);
        let next = period.next().unwrap();
        prop_assert_eq!(next.start().unwrap(), end + Days::new(1));
        prop_assert_eq!(next.previous(), Some(period));
        prop_assert_eq!(period.previous().unwrap().next(), Some(period));
        prop_assert_eq!(Period::containing(kind, start), period);
        prop_assert_eq!(Period::containing(kind, end), period);
        prop_assert!(period < next);
    }

    #[test]
    fn the_months_of_a_period_tile_it(kind in kind(), date in date()) {
        let period = Period::containing(kind, date);
        let months = period.months().unwrap();
        prop_assert_eq!(months[0].first_day(), period.start().unwrap());
        prop_assert_eq!(months[months.len() - 1].last_day(), period.end().unwrap());
        for pair in months.windows(2) {
            prop_assert_eq!(pair[0].next(), pair[1]);
            prop_assert_eq!(pair[1].previous(), pair[0]);
        }
        prop_assert!(months.iter().all(|month| period.contains(*month)));
        prop_assert!(!period.contains(months[0].previous()));
        prop_assert!(!period.contains(months[months.len() - 1].next()));
    }

    #[test]
    fn names_are_read_back(kind in prop::sample::select(&PeriodKind::ALL[..]), date in date()) {
        let period = Period::containing(kind, date);
        prop_assert_eq!(period.to_string().parse::<Period>(), Ok(period));
        let month = Month::of(date);
        prop_assert_eq!(Month::read_recorded(&month.to_string()), Some(month));
        prop_assert_eq!(month.to_string().parse::<Month>().ok(), Some(month).filter(|month| month.year() >= 1970));
    }

    #[test]
    fn instants_belong_to_exactly_one_period(kind in kind(), date in date(), zone in prop::sample::select(&ZONES[..])) {
        let period = Period::containing(kind, date);
        let (start, end) = (period.starts_at(zone).unwrap(), period.ends_before(zone).unwrap());
        prop_assert!(start < end);
        prop_assert_eq!(period.previous().unwrap().ends_before(zone), Some(start));
        prop_assert_eq!(Period::containing(kind, site_date(start, zone)), period);
        let before = Period::containing(kind, site_date(start - TimeDelta::seconds(1), zone));
        prop_assert_eq!(Some(before), period.previous());
        // Walked in steps that meet every hour of the clock and every edge of a shift.
        let mut instant = start;
        while instant < end {
            prop_assert_eq!(Period::containing(kind, site_date(instant, zone)), period, "{} in {}", instant, zone);
            instant += TimeDelta::minutes(1733);
        }
        prop_assert_eq!(Period::containing(kind, site_date(end - TimeDelta::seconds(1), zone)), period);
    }
}
