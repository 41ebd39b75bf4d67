//! The limits of a resource at the end of earlier months, which include the base of the previous period.
//!
//! The history keeps only changes, and only for as long as a yearly period can look back. It may begin in the middle of
//! a record, since older versions of Sluice kept none: then it says so, and older books supply the rest.

use serde::{Deserialize, Serialize};

use super::period::Month;
use super::tres::Amounts;

/// Limits that stood for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierLimits {
    /// The last month at whose end they stood.
    pub through: Month,
    /// By component.
    pub limits: Amounts,
}

/// Earlier limits, oldest first; those of now are kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHistory {
    /// The first month at whose end the limits are known.
    pub since: Month,
    /// The record of the resource begins there; before that, the first limits known stand for it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub whole: bool,
    /// Limits that stood before, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub earlier: Vec<EarlierLimits>,
}

impl LimitHistory {
    /// Of a resource that is registered in `month`.
    pub fn beginning(month: Month) -> Self {
        Self { since: month, whole: true, earlier: Vec::new() }
    }

    /// For a book that continues that of `previous` and knows no earlier limits.
    pub fn unknown_before(previous: Month) -> Self {
        Self { since: previous, whole: false, earlier: Vec::new() }
    }

    /// Takes down that limits changed in `month`, from `was`.
    pub fn changed(&mut self, month: Month, was: &Amounts) {
        let through = month.previous();
        if self.earlier.last().is_none_or(|last| last.through < through) {
            self.earlier.push(EarlierLimits { through, limits: was.clone() });
        }
    }

    /// The limits at the end of `month`, where they are `now` by now; the first ones known if the record begins later.
    pub fn at_end_of<'a>(&'a self, month: Month, now: &'a Amounts) -> &'a Amounts {
        self.earlier.iter().find(|earlier| earlier.through >= month).map_or(now, |earlier| &earlier.limits)
    }

    /// Whether the limits at the end of `month` are known, or known to be older than the record.
    pub fn reaches(&self, month: Month) -> bool {
        self.whole || month >= self.since
    }

    /// Whether the record begins after `month`.
    pub fn begins_after(&self, month: Month) -> bool {
        self.whole && month < self.since
    }

    /// The same with what an older book knew.
    #[must_use]
    pub fn preceded_by(&self, older: &Self) -> Self {
        let known = older.earlier.last().map(|last| last.through);
        let later = self.earlier.iter().filter(|earlier| known.is_none_or(|known| earlier.through > known));
        let earlier = older.earlier.iter().chain(later).cloned().collect();
        Self { since: older.since, whole: older.whole, earlier }
    }

    /// The same without limits to which no period after `month` looks back.
    #[must_use]
    pub fn carried_on(&self, month: Month) -> Self {
        let year = |earlier: &&EarlierLimits| earlier.through.next().year() >= month.year();
        Self { earlier: self.earlier.iter().filter(year).cloned().collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(text: &str) -> Month {
        text.parse().unwrap()
    }

    fn limits(node: i64) -> Amounts {
        [("node".to_owned(), node.into())].into_iter().collect()
    }

    /// Registered in February with 1, changed to 2 in March, to 3 and 4 in April, to 5 in September.
    fn history() -> LimitHistory {
        let mut history = LimitHistory::beginning(month("2026-02"));
        for (at, was) in [("2026-03", 1), ("2026-04", 2), ("2026-04", 3), ("2026-09", 4)] {
            history.changed(month(at), &limits(was));
        }
        history
    }

    #[test]
    fn limits_are_those_of_the_end_of_a_month() {
        let (history, now) = (history(), limits(5));
        for (at, expected) in [
            ("2025-12", 1),
            ("2026-02", 1),
            ("2026-03", 2),
            ("2026-04", 4),
            ("2026-08", 4),
            ("2026-09", 5),
            ("2026-12", 5),
        ] {
            assert_eq!(history.at_end_of(month(at), &now), &limits(expected), "{at}");
        }
        assert!(history.begins_after(month("2026-01")) && !history.begins_after(month("2026-02")));
    }

    #[test]
    fn a_change_in_the_month_of_registration_leaves_the_first_limits_for_what_was_before() {
        let mut history = LimitHistory::beginning(month("2026-03"));
        history.changed(month("2026-03"), &limits(1000));
        history.changed(month("2026-03"), &limits(1200));
        let now = limits(1500);
        assert_eq!(history.at_end_of(month("2026-02"), &now), &limits(1000));
        assert_eq!(history.at_end_of(month("2025-12"), &now), &limits(1000));
        assert_eq!(history.at_end_of(month("2026-03"), &now), &now);
    }

    #[test]
    fn a_later_part_and_the_part_before_it_are_the_whole() {
        let mut later = LimitHistory::unknown_before(month("2026-07"));
        later.changed(month("2026-09"), &limits(4));
        assert!(later.reaches(month("2026-07")) && !later.reaches(month("2026-06")));
        let mut older = LimitHistory::beginning(month("2026-02"));
        for (at, was) in [("2026-03", 1), ("2026-04", 2)] {
            older.changed(month(at), &limits(was));
        }
        assert_eq!(later.preceded_by(&older), history());
    }

    #[test]
    fn nothing_is_kept_that_no_period_looks_back_at() {
        let kept = |at: &str| history().carried_on(month(at)).earlier.len();
        assert_eq!((kept("2026-12"), kept("2027-01")), (3, 0));
        let mut history = LimitHistory::beginning(month("2025-02"));
        history.changed(month("2026-01"), &limits(1));
        assert_eq!(
            history.carried_on(month("2026-12")).earlier.len(),
            1,
            "December's, which all of 2026 looks back at"
        );
        assert_eq!(history.carried_on(month("2027-01")).earlier, []);
    }
}
