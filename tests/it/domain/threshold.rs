//! Terms and the ladders they make.

use sluice::domain::threshold::ladder;

use crate::support::cases::{LadderCase, load};

#[test]
fn terms_make_the_worked_ladders() {
    for case in load::<LadderCase>("ladders") {
        let terms = case.terms.whole();
        assert_eq!(terms.validate(), Ok(()), "{}", case.name);
        assert_eq!(ladder(&terms), case.expect.rungs, "{}", case.name);
        assert_eq!(terms.lowest_action_percent(), case.expect.lowest_action_percent, "{}", case.name);
        assert_eq!(terms.pause_percent(), case.expect.pause_percent, "{}", case.name);
    }
}
