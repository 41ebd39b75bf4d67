//! The worked cases that wait for the engine are at least well formed: they load, and their terms are valid.

use crate::support::cases::{DecisionCase, PercentageCase, ResetCase, SequenceCase, load};

#[test]
fn every_case_for_the_engine_loads() {
    for case in load::<DecisionCase>("decisions") {
        let terms = case.terms.whole();
        assert_eq!(terms.validate(), Ok(()), "{}", case.name);
        assert_eq!(terms.grace_limit_percent(), case.expect.grace_limit_percent, "{}", case.name);
    }
    for case in load::<SequenceCase>("sequences") {
        assert_eq!(case.terms.whole().validate(), Ok(()), "{}", case.name);
        assert!(case.steps.is_sorted_by_key(|step| step.at), "{}", case.name);
    }
    for case in load::<PercentageCase>("percentages") {
        let terms = case.terms.whole();
        assert!(case.existed_since <= case.today, "{}", case.name);
        assert_eq!(case.expect.period.kind(), terms.period, "{}", case.name);
    }
    for case in load::<ResetCase>("resets") {
        assert!(case.terms.whole().raw_usage_reset && case.syncs.is_sorted_by_key(|sync| sync.at), "{}", case.name);
    }
}
