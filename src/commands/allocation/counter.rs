//! SLURM's counter of raw usage: when to reset it, which message carries the reset, and what a policy's period had
//! counted when the counter began.
//!
//! The reset is decided once at take-over and once per resource and period when a boundary passes; its mark is in the
//! event, so that no restart repeats it. The counter begins when the message with the reset is handed over; until then,
//! counted usage goes into the baseline.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::book::{Book, counted_so_far};
use super::command::{DecideContext, PolicyInForce};
use super::transition::Transition;
use crate::domain::ids::DispatchId;
use crate::domain::period::{Month, Period, PeriodKind, site_date};
use crate::domain::small_map::SmallMap;
use crate::domain::tres::Amounts;
use crate::events::allocation::{CounterReset, DispatchState, OpenDispatch};

/// The reset that is due: at take-over, or because a period of a policy that resets has begun since the last one.
pub fn due(transition: &Transition<'_>, applying: &[Arc<PolicyInForce>]) -> Option<CounterReset> {
    let today = site_date(transition.ctx.now, transition.ctx.rules.zone);
    let last = transition.book.reset.as_deref();
    let taken_over = transition.book.commanded.is_some() || last.is_some();
    let resets = |p: &&Arc<PolicyInForce>| {
        transition.force_reset
            || p.facts.terms.raw_usage_reset
                && (p.period != PeriodKind::Total || (!taken_over && transition.ctx.rules.reset_total_at_takeover))
    };
    let current: SmallMap<PeriodKind, Period> =
        applying.iter().filter(resets).map(|p| (p.period, Period::containing(p.period, today))).collect();
    if current.is_empty() {
        return None;
    }
    // What the last reset covered: it started the counter for periods of every kind. Before any, the period in which the
    // previous book stood.
    let covered = |kind: PeriodKind| match last {
        Some(last) => Some(
            last.periods
                .get(&kind)
                .copied()
                .unwrap_or_else(|| Period::containing(kind, site_date(last.at, transition.ctx.rules.zone))),
        ),
        None => transition.book.continues.map(|month| Period::of_month(kind, month)),
    };
    let due = transition.force_reset
        || !taken_over
        || current.iter().any(|(kind, now)| covered(*kind).is_some_and(|before| before != *now));
    if !due {
        return None;
    }
    Some(begin(&transition.book, transition.ctx, current))
}

/// The dispatch whose reset of raw usage is still owed, so that what supersedes it carries it: nobody has answered it and it
/// is not long since a queue first took it, or it is known to have come to nothing. Who knows otherwise whether it was
/// carried out is the agent alone.
pub fn owed(book: &Book, ctx: &DecideContext<'_>) -> Option<DispatchId> {
    let last = book.dispatches.iter().rfind(|d| d.reset_of.is_some())?;
    let in_time = |since: DateTime<Utc>| ctx.now - since < ctx.rules.reset_resend;
    let newest = book.newest_dispatch().is_some_and(|newest| newest.dispatch == last.dispatch);
    let came_to_nothing = |d: &OpenDispatch| d.state == DispatchState::Failed && d.reset_since.is_none();
    (newest && last.reset_since.is_none_or(in_time) || came_to_nothing(last)).then_some(last.dispatch)
}

/// The same reset, beginning to count now.
pub fn begin_again(book: &Book, ctx: &DecideContext<'_>) -> Option<CounterReset> {
    let periods = book.reset.as_deref()?.periods.clone();
    Some(begin(book, ctx, periods))
}

fn begin(book: &Book, ctx: &DecideContext<'_>, periods: SmallMap<PeriodKind, Period>) -> CounterReset {
    let (usage, before) = counted_so_far(&book.usage, Month::of_instant(ctx.now, ctx.rules.zone));
    CounterReset { at: ctx.now, periods, usage, before }
}

/// What a period had counted when the counter began: all that is known now of the months before that one, and of that month
/// what was known then, or has turned out since to have been measured before. What is measured later came after.
pub fn counted(book: &Book, counter: Option<&CounterReset>, period: Period, ctx: &DecideContext<'_>) -> Amounts {
    let mut sums = Amounts::new();
    let Some(counter) = counter else { return sums };
    let mut add = |component: &str, amount: Decimal| {
        let sum = sums.entry(component.to_owned()).or_insert(Decimal::ZERO);
        *sum = sum.saturating_add(amount);
    };
    let began = Month::of_instant(counter.at, ctx.rules.zone);
    for (_, month) in book.usage.iter().filter(|(month, _)| **month < began && period.contains(**month)) {
        month.iter().for_each(|(component, term)| add(component, term.amount));
    }
    if let Some(then) = counter.usage.get(&began).filter(|_| period.contains(began)) {
        then.iter().for_each(|(component, amount)| add(component, *amount));
    }
    sums
}
