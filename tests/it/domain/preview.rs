//! Previews on the numbers of a request.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sluice::domain::carryover::Formula;
use sluice::domain::preview::{PreviewInputs, PreviewNumbers, Projection};

use crate::support::cases::{PreviewCase, load};

#[test]
fn requests_give_the_worked_previews() {
    for case in load::<PreviewCase>("previews") {
        let given = case.given;
        let shown = PreviewNumbers::of(&PreviewInputs {
            allocation: given.allocation,
            previous_allocation: given.previous_allocation.unwrap_or(given.allocation),
            grace_ratio: given.grace_ratio,
            notification_percent: Decimal::from(80),
            previous_usage: given.previous_usage,
            carryover_enabled: true,
            formula: Formula::capped(given.carryover_base, given.carryover_factor),
            days: 90,
            current_usage: given.current_usage,
            daily_usage_rate: given.daily_usage_rate,
            today: NaiveDate::from_ymd_opt(2026, 3, 15).unwrap(),
        })
        .rounded();
        let (name, expect) = (case.name, case.expect);
        assert_eq!(shown.base_allocation, given.allocation, "{name}");
        assert_eq!(shown.effective_allocation, expect.effective_allocation, "{name}");
        assert_eq!(shown.carryover, expect.carryover, "{name}");
        assert_eq!(shown.thresholds.notification_ratio, Decimal::new(8, 1), "{name}");
        assert_eq!(shown.thresholds.notification_threshold, expect.notification_threshold, "{name}");
        assert_eq!(shown.thresholds.slowdown_threshold, expect.slowdown_threshold, "{name}");
        assert_eq!(shown.thresholds.blocked_threshold, expect.blocked_threshold, "{name}");
        assert_eq!(shown.usage_percentage, expect.usage_percentage, "{name}");
        assert_eq!(shown.current_qos_status.wire_name(), expect.status, "{name}");
        let dates = shown.date_projections;
        for (projection, expected) in [
            (dates.notification, expect.notification),
            (dates.slowdown, expect.slowdown),
            (dates.blocked, expect.blocked),
        ] {
            let status = expected.projection_status();
            assert_eq!(projection, Projection { days: expected.days, date: expected.date, status }, "{name}");
        }
    }
}
