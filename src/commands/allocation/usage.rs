//! Decides usage reports: which months are accepted, what is new, what is a restatement, and what came too late to
//! count.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::book::Book;
use super::command::{DecideContext, Refusal, SiteRules, UsageReport};
use super::consequences;
use super::decide::check_amounts;
use super::transition::Transition;
use crate::domain::evaluate::Trigger;
use crate::domain::ids::UserId;
use crate::domain::period::{Month, site_date};
use crate::domain::small_map::SmallMap;
use crate::domain::tres::Amounts;
use crate::events::allocation::{
    AllocationEvent, FilledAmount, LateAmount, LateUsageReported, MissingUsage, MissingUsageFilled, ReportedAmount,
    UsageReported, UserUsageReported,
};

/// How far a reporter's clock may run ahead; what it measured within that time counts as measured now.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);

/// The first month that any resource may have usage of.
fn epoch() -> Month {
    Month::new(1970, 1).expect("January of a year with four digits is a month")
}

/// The first month of which usage of a resource is taken.
fn first_month(created: Month, rules: &SiteRules) -> Month {
    created.minus(rules.usage_before_creation_months).map_or_else(epoch, |month| month.max(epoch()))
}

/// Usage is accepted for months from some time before the resource was created until now, or until it ended. Callers
/// can check this before they report.
pub fn check_usage_month(book: &Book, month: Month, now: DateTime<Utc>, rules: &SiteRules) -> Result<(), Refusal> {
    let today = site_date(now, rules.zone);
    if month > Month::of(today) {
        return Err(Refusal::FutureMonth { month, today });
    }
    let created = Month::of(site_date(book.facts.created, rules.zone));
    let first = first_month(created, rules);
    if month < first {
        let because = if first == epoch() {
            String::new()
        } else {
            format!(
                ", {} months before {created}, when the resource was created (setting usage_before_creation_months)",
                rules.usage_before_creation_months
            )
        };
        return Err(Refusal::MonthTooEarly { month, first, because });
    }
    match book.ended {
        Some(ended) if month > ended => Err(Refusal::MonthAfterEnd { month, ended }),
        _ => Ok(()),
    }
}

/// When the totals of a report were measured: now, or when it says, in bounds.
fn check_measured(report: &UsageReport, ctx: &DecideContext<'_>) -> Result<DateTime<Utc>, Refusal> {
    let Some(measured_at) = report.measured_at else { return Ok(ctx.now) };
    if measured_at > ctx.now + AHEAD_MAX {
        return Err(Refusal::MeasuredInFuture { measured_at, now: ctx.now, minutes: AHEAD_MAX.num_minutes() });
    }
    let begins = report.month.starts_at(ctx.rules.zone);
    if measured_at + AHEAD_MAX < begins {
        return Err(Refusal::MeasuredBeforeMonth { measured_at, month: report.month, begins });
    }
    Ok(measured_at.min(ctx.now))
}

/// Month-to-date totals: what differs is recorded and evaluated; what was measured before the known totals is only recorded.
pub fn report(transition: &mut Transition<'_>, report: &UsageReport) -> Result<(), Refusal> {
    check_usage_month(&transition.book, report.month, transition.ctx.now, transition.ctx.rules)?;
    check_amounts(&report.amounts, transition.ctx)?;
    let measured_at = check_measured(report, transition.ctx)?;
    let running = transition.ctx.month();
    // Months before it that ended without a report come first: its own policy is about those after it.
    let filled = fill_until(transition, report.month.min(running).previous());
    let mut changed = SmallMap::new();
    let mut late = SmallMap::new();
    let mut policies = SmallMap::new();
    let mut restated = false;
    for (component, amount) in &report.amounts {
        let previous = transition.book.amount(report.month, component);
        let policy = report.missing_usage.get(component).copied().unwrap_or_default();
        let policy_stands =
            transition.book.missing_usage_of(report.month, component).is_none_or(|known| known == policy);
        if previous == Some(*amount) && policy_stands {
            continue;
        }
        let amount = amount.normalize();
        let stands_since = transition.book.measured(report.month, component);
        // A report that does not say when it was measured is the newest, whatever the clocks of several servers say.
        let newer = stands_since.filter(|at| report.measured_at.is_some() && measured_at < *at);
        if let (Some(stands), Some(stands_since)) = (previous, newer) {
            if !transition.book.is_known_late(report.month, component, amount, measured_at) {
                late.insert(component.clone(), LateAmount { amount, stands, stands_since });
            }
            continue;
        }
        restated |= previous.is_some_and(|p| amount < p || (amount != p && report.month < running));
        if policy != MissingUsage::None {
            policies.insert(component.clone(), policy);
        }
        changed.insert(component.clone(), ReportedAmount { amount, previous });
    }
    let month = report.month;
    if !late.is_empty() {
        transition.push(AllocationEvent::LateUsageReported(LateUsageReported { month, amounts: late, measured_at }));
    }
    if changed.is_empty() {
        return if filled { consequences::follow(transition, None, Trigger::MissingUsage) } else { Ok(()) };
    }
    transition.push(AllocationEvent::UsageReported(UsageReported {
        month,
        amounts: changed,
        restated,
        measured_at: Some(measured_at),
        missing_usage: policies,
    }));
    consequences::follow(transition, None, Trigger::UsageReported)
}

/// Gives every month that has ended without a report what the last report asks for.
pub fn fill_missing(transition: &mut Transition<'_>) -> Result<(), Refusal> {
    if fill_until(transition, transition.ctx.month().previous()) {
        consequences::follow(transition, None, Trigger::MissingUsage)?;
    }
    Ok(())
}

/// The same up to a month; whether there was any. Only a live resource continues its usage.
fn fill_until(transition: &mut Transition<'_>, until: Month) -> bool {
    let mut months: BTreeMap<Month, SmallMap<String, FilledAmount>> = BTreeMap::new();
    let offered =
        |component: &str| transition.ctx.offering.facts.components.iter().any(|c| c.component_type == component);
    if transition.book.facts.state.is_live() {
        for (component, term) in transition.book.missing_usage.iter().filter(|(component, _)| offered(component)) {
            let amount = match term.policy {
                MissingUsage::None => continue,
                MissingUsage::Reuse => transition.book.amount(term.month, component).unwrap_or_default(),
                MissingUsage::Zero => Decimal::ZERO,
            };
            let after = std::iter::successors(Some(term.month.next()), |month| Some(month.next()));
            for month in after.take_while(|month| *month <= until) {
                let total = FilledAmount { amount, policy: term.policy };
                months.entry(month).or_default().insert(component.clone(), total);
            }
        }
    }
    let any = !months.is_empty();
    for (month, amounts) in months {
        transition.push(AllocationEvent::MissingUsageFilled(MissingUsageFilled { month, amounts }));
    }
    any
}

/// Users' shares in the totals of a component; they decide nothing.
pub fn report_of_users(
    transition: &mut Transition<'_>,
    month: Month,
    component: &str,
    amounts: &BTreeMap<UserId, Decimal>,
) -> Result<(), Refusal> {
    check_usage_month(&transition.book, month, transition.ctx.now, transition.ctx.rules)?;
    for amount in amounts.values() {
        check_amounts(&Amounts::from([(component.to_owned(), *amount)]), transition.ctx)?;
    }
    if !amounts.is_empty() {
        transition.push(AllocationEvent::UserUsageReported(UserUsageReported {
            month,
            component: component.to_owned(),
            amounts: amounts.clone(),
        }));
    }
    Ok(())
}
