//! Dates and the periods they fall into.

use sluice::domain::period::Period;

use crate::support::cases::{PeriodCase, load};

#[test]
fn dates_fall_into_the_worked_periods() {
    for case in load::<PeriodCase>("periods") {
        let period = Period::containing(case.kind, case.date);
        assert_eq!(period, case.period, "{}", case.name);
        assert_eq!((period.start(), period.end()), (case.first_day, case.last_day), "{}", case.name);
        let previous = period.previous();
        assert_eq!(previous, case.previous, "{}", case.name);
        let edges = (previous.and_then(Period::start), previous.and_then(Period::end));
        assert_eq!(edges, (case.previous_first_day, case.previous_last_day), "{}", case.name);
    }
}
