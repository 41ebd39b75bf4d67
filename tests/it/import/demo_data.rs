//! The demo's accounting data tells the story that its README promises.

use chrono::NaiveDate;
use chrono_tz::Tz;
use rust_decimal::Decimal;
use sluice::import::{ImportOptions, Window};

use super::{by_month, import, rules};

const QUARTERS: [&str; 2] =
    [include_str!("../../../src/demo/data/2026-q1.txt"), include_str!("../../../src/demo/data/2026-q2.txt")];

/// Node-hours from the first day of a quarter to a day, inclusive.
fn until(account: &str, first: (u32, u32), last: (u32, u32)) -> Decimal {
    let day = |(month, day)| NaiveDate::from_ymd_opt(2026, month, day);
    let window = Window { from: day(first), to: day(last) };
    let options = ImportOptions { window, ..ImportOptions::new(rules(&["node_hours=node"]), Tz::UTC) };
    let totals = import(&QUARTERS, options).expect("well-formed");
    by_month(&totals, account).values().copied().sum()
}

#[test]
fn climate_crosses_warning_limit_and_grace_on_the_days_of_the_story() {
    for (before, on, limit) in [((2, 13), (2, 14), 800), ((3, 2), (3, 3), 1000), ((3, 14), (3, 15), 1200)] {
        assert!(until("hpc_climate", (1, 1), before) < Decimal::from(limit), "{limit}");
        assert!(until("hpc_climate", (1, 1), on) >= Decimal::from(limit), "{limit}");
    }
    assert_eq!(
        until("hpc_climate", (1, 1), (3, 16)),
        until("hpc_climate", (1, 1), (3, 17)),
        "nothing runs while paused"
    );
    let ends = until("hpc_climate", (1, 1), (3, 31));
    assert!(ends > Decimal::from(1209) && ends < Decimal::from(1300), "{ends}");
    assert!(until("hpc_climate", (4, 1), (6, 30)) < Decimal::from(500));
}

#[test]
fn the_other_accounts_play_their_parts() {
    assert!(until("hpc_genomics", (1, 1), (3, 31)) < Decimal::from(300));
    let genomics = until("hpc_genomics", (4, 1), (6, 30));
    assert!(genomics > Decimal::from(1000) && genomics < Decimal::from(1200), "over its base, within the carryover");
    let astro = until("hpc_astro", (1, 1), (3, 31));
    assert!(astro > Decimal::from(800) && astro < Decimal::from(1000), "{astro}");
    assert!(until("hpc_teaching", (1, 1), (6, 30)) < Decimal::from(50));
}

#[test]
fn each_quarter_stands_alone() {
    for quarter in QUARTERS {
        let options = ImportOptions::new(rules(&["node_hours=node"]), Tz::UTC);
        let totals = import(&[quarter], options).expect("well-formed");
        assert_eq!(totals.months.len(), 3);
        assert_eq!((totals.per_account.len(), totals.duplicates, totals.bad_lines), (4, 0, 0));
        assert!(totals.edge_months.is_empty() && totals.unterminated_inputs.is_empty());
        assert!(quarter.len() < 60 * 1024);
    }
}
