//! Carryover of single components by both formulas.

use sluice::domain::carryover::{ComponentInputs, component};

use crate::support::cases::{CarryoverCase, load};

#[test]
fn formulas_give_the_worked_terms() {
    for case in load::<CarryoverCase>("carryover") {
        let (base, previous_usage) = (case.expect.base, case.expect.previous_usage);
        // The first forms do not look at it.
        let previous_base = case.expect.previous_base.unwrap_or_default();
        let terms = component(&case.formula, case.days, ComponentInputs { base, previous_base, previous_usage });
        assert_eq!(terms, case.expect, "{}", case.name);
    }
}
