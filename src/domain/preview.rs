//! A policy in numbers: thresholds in hours, the current status, and when usage will reach each threshold.
//!
//! Everything is computed unrounded; [`PreviewNumbers::rounded`] gives the displayed values.

use chrono::{Datelike, Days, NaiveDate};
use rust_decimal::Decimal;
use serde::Serialize;

use super::carryover::{ComponentCarryover, ComponentInputs, Formula, component};
use super::decimal::{HUNDRED, rounded, whole};
use super::tres::{OVER_NOTHING_PERCENT, percentage};

/// Digits of amounts that are shown.
const AMOUNT_DECIMALS: u32 = 2;
/// Digits of percentages that are shown.
const PERCENT_DECIMALS: u32 = 1;

/// The amounts at which something happens, in the unit of the allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thresholds {
    /// The effective allocation they are parts of.
    pub allocation: Decimal,
    /// The grace, 0 to 1.
    pub grace_ratio: Decimal,
    /// The notification threshold, 0 to 1.
    pub notification_ratio: Decimal,
    /// That part of the allocation.
    pub notification_threshold: Decimal,
    /// The whole allocation.
    pub slowdown_threshold: Decimal,
    /// The allocation with the grace on it.
    pub blocked_threshold: Decimal,
}

/// The thresholds of an allocation; notices at `notification_percent`, 1 to 100.
pub fn thresholds(allocation: Decimal, grace_ratio: Decimal, notification_percent: Decimal) -> Thresholds {
    let notification_ratio = (notification_percent / HUNDRED).normalize();
    Thresholds {
        allocation,
        grace_ratio,
        notification_ratio,
        notification_threshold: allocation.saturating_mul(notification_ratio).normalize(),
        slowdown_threshold: allocation,
        blocked_threshold: allocation.saturating_mul(Decimal::ONE + grace_ratio).normalize(),
    }
}

/// How usage stands to a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectionStatus {
    /// It will not get there at this rate.
    Never,
    /// It is there.
    Exceeded,
    /// It will be there on a known day.
    Projected,
}

/// When a threshold will be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Projection {
    /// Full days until then; 0 when it is less than one away or reached, nothing when never.
    pub days: Option<i64>,
    /// The day it happens on; nothing when never or beyond the calendar.
    pub date: Option<NaiveDate>,
    /// Whether it happens.
    pub status: ProjectionStatus,
}

/// When each of the three thresholds will be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DateProjections {
    /// Usage reached the notification threshold.
    pub notification: Projection,
    /// The account is slowed down.
    pub slowdown: Projection,
    /// The account is blocked.
    pub blocked: Projection,
}

/// Projects usage that grows by `daily_rate` a day onto the thresholds.
pub fn date_projections(
    current: Decimal,
    daily_rate: Decimal,
    thresholds: &Thresholds,
    today: NaiveDate,
) -> DateProjections {
    let project = |threshold| projection(current, daily_rate, threshold, today);
    DateProjections {
        notification: project(thresholds.notification_threshold),
        slowdown: project(thresholds.slowdown_threshold),
        blocked: project(thresholds.blocked_threshold),
    }
}

/// What is used in a day, on average over the days that have begun since `since`; at least one.
pub fn daily_rate(used: Decimal, since: NaiveDate, today: NaiveDate) -> Decimal {
    let days = today.num_days_from_ce() - since.num_days_from_ce() + 1;
    used / Decimal::from(days.max(1))
}

/// When usage that grows by `daily_rate` a day reaches a threshold.
pub fn projection(current: Decimal, daily_rate: Decimal, threshold: Decimal, today: NaiveDate) -> Projection {
    // Nothing used of nothing is 0 %, which is no threshold reached.
    if current >= threshold && current > Decimal::ZERO {
        return Projection { days: Some(0), date: Some(today), status: ProjectionStatus::Exceeded };
    }
    if daily_rate <= Decimal::ZERO {
        return Projection { days: None, date: None, status: ProjectionStatus::Never };
    }
    let days = whole((threshold - current).checked_div(daily_rate).unwrap_or(Decimal::MAX));
    let date = u64::try_from(days).ok().and_then(|days| today.checked_add_days(Days::new(days)));
    Projection { days: Some(days), date, status: ProjectionStatus::Projected }
}

/// The status a percentage stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QosStatus {
    /// Below every threshold.
    Normal,
    /// People have been told.
    Notification,
    /// Slowed down.
    Slowdown,
    /// Blocked.
    Blocked,
}

impl QosStatus {
    /// The name on the wire.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Notification => "notification",
            Self::Slowdown => "slowdown",
            Self::Blocked => "blocked",
        }
    }
}

/// The status of an unrounded percentage.
pub fn qos_status(percentage: Decimal, notification_percent: Decimal, grace_ratio: Decimal) -> QosStatus {
    if percentage >= (Decimal::ONE + grace_ratio) * HUNDRED {
        QosStatus::Blocked
    } else if percentage >= HUNDRED {
        QosStatus::Slowdown
    } else if percentage >= notification_percent {
        QosStatus::Notification
    } else {
        QosStatus::Normal
    }
}

/// What a preview without a resource is worked out from.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewInputs {
    /// The allocation of one period.
    pub allocation: Decimal,
    /// The grace, 0 to 1.
    pub grace_ratio: Decimal,
    /// The notification threshold in percent.
    pub notification_percent: Decimal,
    /// What it was in the previous period.
    pub previous_allocation: Decimal,
    /// What was used in the period before; nothing or zero means that there is no carryover.
    pub previous_usage: Decimal,
    /// Whether anything is carried over.
    pub carryover_enabled: bool,
    /// By which formula.
    pub formula: Formula,
    /// The nominal days of a period.
    pub days: u32,
    /// What is used so far.
    pub current_usage: Decimal,
    /// What is used in a day.
    pub daily_usage_rate: Decimal,
    /// The day it is.
    pub today: NaiveDate,
}

/// The numbers of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewNumbers {
    /// The allocation of one period.
    pub base_allocation: Decimal,
    /// With what is carried over.
    pub effective_allocation: Decimal,
    /// The terms of the carryover, where there is one.
    pub carryover: Option<ComponentCarryover>,
    /// The amounts at which something happens.
    pub thresholds: Thresholds,
    /// What is used so far.
    pub current_usage: Decimal,
    /// What is used in a day.
    pub daily_usage_rate: Decimal,
    /// How much of the effective allocation that is.
    pub usage_percentage: Decimal,
    /// What that means.
    pub current_qos_status: QosStatus,
    /// When the thresholds will be reached.
    pub date_projections: DateProjections,
}

impl PreviewInputs {
    fn component(&self) -> ComponentInputs {
        let (base, previous_usage) = (self.allocation, self.previous_usage);
        ComponentInputs { base, previous_base: self.previous_allocation, previous_usage }
    }
}

impl PreviewNumbers {
    /// Works out the numbers, unrounded.
    pub fn of(inputs: &PreviewInputs) -> Self {
        let carries = inputs.carryover_enabled && inputs.previous_usage > Decimal::ZERO;
        let carryover = carries.then(|| component(&inputs.formula, inputs.days, inputs.component()));
        let effective = carryover.as_ref().map_or(inputs.allocation, |terms| terms.total);
        let thresholds = thresholds(effective, inputs.grace_ratio, inputs.notification_percent);
        let usage_percentage = percentage(inputs.current_usage, Some(effective));
        Self {
            base_allocation: inputs.allocation,
            effective_allocation: effective,
            carryover,
            current_usage: inputs.current_usage,
            daily_usage_rate: inputs.daily_usage_rate,
            usage_percentage,
            current_qos_status: qos_status(usage_percentage, inputs.notification_percent, inputs.grace_ratio),
            date_projections: date_projections(
                inputs.current_usage,
                inputs.daily_usage_rate,
                &thresholds,
                inputs.today,
            ),
            thresholds,
        }
    }

    /// The numbers as they are shown: amounts to two digits, the percentage to one, ratios as they are.
    #[must_use]
    pub fn rounded(mut self) -> Self {
        let round = |amount: &mut Decimal| *amount = rounded(*amount, AMOUNT_DECIMALS);
        for amount in [
            &mut self.base_allocation,
            &mut self.effective_allocation,
            &mut self.current_usage,
            &mut self.daily_usage_rate,
            &mut self.thresholds.allocation,
            &mut self.thresholds.notification_threshold,
            &mut self.thresholds.slowdown_threshold,
            &mut self.thresholds.blocked_threshold,
        ] {
            round(amount);
        }
        if let Some(terms) = &mut self.carryover {
            for amount in [&mut terms.base, &mut terms.previous_usage, &mut terms.carryover, &mut terms.total] {
                round(amount);
            }
            let some = [&mut terms.previous_base, &mut terms.effective_previous_usage];
            for amount in some.into_iter().chain([&mut terms.unused, &mut terms.carryover_cap]) {
                amount.as_mut().map(round);
            }
        }
        // The figure that stands for "over nothing" is no measurement: it is the same wherever it is shown.
        if self.usage_percentage != OVER_NOTHING_PERCENT {
            self.usage_percentage = rounded(self.usage_percentage, PERCENT_DECIMALS);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn inputs() -> PreviewInputs {
        PreviewInputs {
            allocation: dec("1000"),
            grace_ratio: dec("0.2"),
            notification_percent: dec("80"),
            previous_allocation: dec("1000"),
            previous_usage: Decimal::ZERO,
            carryover_enabled: true,
            formula: Formula::CappedUnused { factor_percent: dec("50") },
            days: 90,
            current_usage: Decimal::ZERO,
            daily_usage_rate: Decimal::ZERO,
            today: "2026-03-15".parse().unwrap(),
        }
    }

    #[test]
    fn a_threshold_is_never_projected_or_exceeded() {
        for (current, rate, allocation, days, date, status) in [
            ("0", "50", "500", Some(10), Some("2026-03-25"), ProjectionStatus::Projected),
            ("0", "51", "500", Some(9), Some("2026-03-24"), ProjectionStatus::Projected),
            ("499.9", "50", "500", Some(0), Some("2026-03-15"), ProjectionStatus::Projected),
            ("500", "50", "500", Some(0), Some("2026-03-15"), ProjectionStatus::Exceeded),
            ("600", "0", "500", Some(0), Some("2026-03-15"), ProjectionStatus::Exceeded),
            ("499.9", "0", "500", None, None, ProjectionStatus::Never),
            ("0", "0", "0", None, None, ProjectionStatus::Never),
            ("0", "0.000000000001", "1000000000000000", Some(i64::MAX), None, ProjectionStatus::Projected),
        ] {
            let thresholds = thresholds(dec(allocation), dec("0.2"), dec("80"));
            let slowdown = date_projections(dec(current), dec(rate), &thresholds, inputs().today).slowdown;
            let date = date.map(|date| date.parse().unwrap());
            assert_eq!(slowdown, Projection { days, date, status }, "{current} + {rate} a day of {allocation}");
        }
    }

    #[test]
    fn the_status_changes_at_each_threshold() {
        for (percentage, status) in [
            ("79.99", "normal"),
            ("80", "notification"),
            ("99.99", "notification"),
            ("100", "slowdown"),
            ("113.99", "slowdown"),
            ("114", "blocked"),
        ] {
            assert_eq!(qos_status(dec(percentage), dec("80"), dec("0.14")).wire_name(), status, "{percentage}");
            assert_eq!(serde_json::to_value(qos_status(dec(percentage), dec("80"), dec("0.14"))).unwrap(), status);
        }
    }

    #[test]
    fn carryover_needs_a_previous_usage_and_to_be_enabled() {
        for (previous, enabled, effective) in [("0", true, "1000"), ("400", false, "1000"), ("400", true, "1500")] {
            let numbers = PreviewNumbers::of(&PreviewInputs {
                previous_usage: dec(previous),
                carryover_enabled: enabled,
                ..inputs()
            });
            assert_eq!(numbers.effective_allocation, dec(effective));
            assert_eq!(numbers.carryover.is_some(), effective != "1000");
        }
    }

    #[test]
    fn amounts_are_shown_to_two_digits_and_percentages_to_one() {
        let formula = Formula::DecayedUsage { half_life_days: dec("15") };
        let numbers = PreviewNumbers::of(&PreviewInputs {
            formula,
            previous_usage: dec("500"),
            current_usage: dec("1234.567"),
            ..inputs()
        });
        assert_eq!(numbers.effective_allocation, dec("1992.1875"));
        let shown = numbers.rounded();
        assert_eq!((shown.effective_allocation, shown.thresholds.blocked_threshold), (dec("1992.19"), dec("2390.63")));
        assert_eq!((shown.current_usage, shown.usage_percentage), (dec("1234.57"), dec("62")));
        let terms = shown.carryover.unwrap();
        assert_eq!(
            (terms.decay_factor, terms.effective_previous_usage, terms.carryover),
            (Some(dec("0.015625")), Some(dec("7.81")), dec("992.19"))
        );
    }

    #[test]
    fn use_of_nothing_is_blocked() {
        let numbers =
            PreviewNumbers::of(&PreviewInputs { allocation: Decimal::ZERO, current_usage: dec("1"), ..inputs() });
        assert_eq!((numbers.usage_percentage, numbers.current_qos_status), (dec("9999.99"), QosStatus::Blocked));
        assert_eq!(numbers.rounded().usage_percentage, dec("9999.99"), "no measurement, so not rounded");
    }
}
