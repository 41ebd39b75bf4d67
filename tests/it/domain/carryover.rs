//! Carryover of single components by both formulas.

use sluice::domain::carryover::component;

use crate::support::cases::{CarryoverCase, load};

#[test]
fn formulas_give_the_worked_terms() {
    for case in load::<CarryoverCase>("carryover") {
        let terms = component(&case.formula, case.days, case.expect.base, case.expect.previous_usage);
        assert_eq!(terms, case.expect, "{}", case.name);
    }
}
