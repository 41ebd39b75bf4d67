//! What the agent is told: settings of all policies together, the class of service, and when raw usage starts again.
//!
//! A message is due when the restrictions changed, when a raw-usage reset is due, and otherwise only if the settings differ
//! from the last ones. The reset is decided once at take-over and once per resource and period when a boundary passes; its
//! mark is in the event, so that no restart repeats it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::book::Book;
use super::command::{DecideContext, OfferingInForce, PolicyInForce};
use super::consequences::Causes;
use super::desk::Desk;
use crate::domain::ids::{DispatchId, PolicyId};
use crate::domain::period::{Month, Period, PeriodKind, site_date};
use crate::domain::qos::QosClass;
use crate::domain::sacctmgr;
use crate::domain::settings::{AgentSettings, SettingsInputs, strictest};
use crate::domain::small_map::SmallMap;
use crate::domain::tres::{Amounts, MINUTES_PER_HOUR, Weights};
use crate::events::allocation::{AllocationEvent, CounterReset, DispatchState, OpenDispatch, SettingsCommanded};

/// Records what the agent is to be told, if anything is.
pub fn agent(desk: &mut Desk<'_>, causes: &Causes) {
    if !desk.book.facts.state.is_live() {
        return;
    }
    let applying = decided(desk);
    let reset = if applying.is_empty() { None } else { due_reset(desk, &applying) };
    let last = desk.book.commanded.clone().filter(|_| !desk.forget_commanded);
    let qos = QosClass::of(desk.book.flags.paused, desk.book.flags.downscaled);
    let qos_name = qos_name(desk, qos);
    let settings = if applying.is_empty() {
        match &last {
            // The last policy went: what it set stays, its restriction does not.
            Some(last) => AgentSettings { reset_raw_usage: false, ..last.settings.clone() },
            None => return,
        }
    } else {
        settings_of(&desk.book, desk.ctx, &applying, reset.as_ref())
    };
    let same = last.as_ref().is_some_and(|l| {
        same_settings(&l.settings, &settings) && l.qos == qos && l.qos_name.as_deref() == Some(qos_name.as_str())
    });
    if same && reset.is_none() {
        return;
    }
    let Some(policy) = causing(causes, &applying).or_else(|| last.as_ref().map(|l| l.policy)) else { return };
    let inherits_reset = if reset.is_none() { unanswered_reset(&desk.book, desk.ctx) } else { None };
    let settings = AgentSettings { reset_raw_usage: reset.is_some() || inherits_reset.is_some(), ..settings };
    let class_changed = last
        .as_ref()
        .map_or(qos != QosClass::Default, |l| l.qos != qos || l.qos_name.as_deref() != Some(qos_name.as_str()));
    let commands = sacctmgr::commands(
        desk.book.facts.account(),
        &settings,
        class_changed.then_some((qos_name.as_str(), reason_of(qos))),
    );
    let others = causes.evaluated.iter().copied().filter(|p| *p != policy).collect();
    let period = period_of(desk, policy, &applying);
    let event = SettingsCommanded {
        dispatch: DispatchId::from(desk.ctx.ids.fresh()),
        policy,
        others,
        period,
        settings,
        qos,
        qos_name: Some(qos_name),
        flags: desk.book.flags,
        commands,
        inherits_reset,
        at: desk.ctx.now,
        reset,
    };
    desk.push(AllocationEvent::SettingsCommanded(Box::new(event)));
}

/// Policies that apply and whose allocation on the resource has been worked out.
fn decided(desk: &Desk<'_>) -> Vec<Arc<PolicyInForce>> {
    let known = |p: &PolicyInForce| desk.book.policies.get(&p.id()).is_some_and(|page| page.basis.is_some());
    desk.ctx.policies.iter().filter(|p| known(p)).cloned().collect()
}

/// The period that the causing policy counts, or last counted.
fn period_of(desk: &Desk<'_>, policy: PolicyId, applying: &[Arc<PolicyInForce>]) -> Period {
    let current = |p: &Arc<PolicyInForce>| Period::containing(p.period, site_date(desk.ctx.now, desk.ctx.rules.zone));
    let its_own = applying.iter().find(|p| p.id() == policy).map(current);
    let its_last = || desk.book.policies.get(&policy).map(|page| page.period);
    its_own.or_else(its_last).or_else(|| applying.first().map(current)).unwrap_or(Period::Total)
}

fn reason_of(qos: QosClass) -> &'static str {
    match qos {
        QosClass::Paused => "paused",
        QosClass::Downscaled => "downscaled",
        QosClass::Default => "restored",
    }
}

/// The QoS name of the strictest rung that restricts, else the site's name of the class.
fn qos_name(desk: &Desk<'_>, qos: QosClass) -> String {
    let site = || desk.ctx.offering.facts.qos.of(qos).to_owned();
    if qos == QosClass::Default {
        return site();
    }
    let holds = |p: &&super::book::PolicyPage| if qos == QosClass::Paused { p.held.paused } else { p.held.downscaled };
    desk.book.policies.values().filter(holds).find_map(|p| p.qos.clone()).unwrap_or_else(site)
}

fn same_settings(one: &AgentSettings, other: &AgentSettings) -> bool {
    one.fairshare == other.fairshare
        && one.limit_type == other.limit_type
        && one.limits == other.limits
        && one.qos_threshold == other.qos_threshold
        && one.grace_limit == other.grace_limit
}

/// The oldest policy whose holds changed, else the oldest evaluated one, else the oldest that applies.
fn causing(causes: &Causes, applying: &[Arc<PolicyInForce>]) -> Option<PolicyId> {
    causes.changed.first().or(causes.evaluated.first()).copied().or_else(|| applying.first().map(|p| p.id()))
}

/// The last dispatch, if it carries a reset that nobody has answered: what supersedes it inherits the reset, for some time
/// after a queue first took it. Who knows after that whether it was carried out is the agent alone.
fn unanswered_reset(book: &Book, ctx: &DecideContext<'_>) -> Option<DispatchId> {
    let last = book.commanded.as_ref()?.dispatch;
    let in_time = |since: DateTime<Utc>| ctx.now - since < ctx.rules.reset_resend;
    let owed = |d: &&OpenDispatch| {
        d.dispatch == last
            && d.reset_of.is_some()
            && d.state == DispatchState::Open
            && d.reset_since.is_none_or(in_time)
    };
    book.dispatches.iter().find(owed).map(|d| d.dispatch)
}

fn settings_of(
    book: &Book,
    ctx: &DecideContext<'_>,
    applying: &[Arc<PolicyInForce>],
    reset: Option<&CounterReset>,
) -> AgentSettings {
    let reset = reset.or(book.reset.as_deref());
    let today = site_date(ctx.now, ctx.rules.zone);
    let each: Vec<AgentSettings> = applying
        .iter()
        .filter_map(|policy| {
            let (recorded, _) = book.policies.get(&policy.id())?.basis.as_ref()?;
            let period = Period::containing(policy.period, today);
            let baseline = reset
                .map_or_else(Amounts::new, |r| baseline_minutes(r, period, ctx.offering, &policy.evaluation.weights));
            Some(AgentSettings::of(&SettingsInputs {
                terms: &policy.facts.terms,
                effective: &recorded.allocation.effective,
                components: &ctx.offering.mapping,
                baseline_minutes: &baseline,
                fairshare_divisor: ctx.rules.fairshare_divisor,
                reset_raw_usage: false,
                carryover: &recorded.allocation.carryover,
            }))
        })
        .collect();
    strictest(&each)
}

/// Minutes per TRES key that a period had counted when the counter was last reset.
fn baseline_minutes(reset: &CounterReset, period: Period, offering: &OfferingInForce, weights: &Weights) -> Amounts {
    let mut counted = Amounts::new();
    let before = (period == Period::Total).then_some(&reset.before);
    let months = reset.usage.iter().filter(|(month, _)| period.contains(**month)).map(|(_, amounts)| amounts);
    for (component, amount) in months.chain(before).flatten() {
        let sum = counted.entry(component.clone()).or_insert(Decimal::ZERO);
        *sum = sum.saturating_add(*amount);
    }
    let mut minutes = Amounts::new();
    for (component, amount) in &counted {
        let mapping = offering.mapping.get(component);
        let tres = mapping.map_or(component.as_str(), |m| m.tres.as_str());
        let per_unit = mapping.map_or(MINUTES_PER_HOUR, |m| m.minutes_per_unit);
        let sum = minutes.entry(tres.to_owned()).or_insert(Decimal::ZERO);
        *sum = sum.saturating_add(amount.saturating_mul(per_unit).trunc());
    }
    if let Some(billed) = weights.matched_sum(&counted) {
        minutes.insert("billing".to_owned(), billed.saturating_mul(MINUTES_PER_HOUR).trunc());
    }
    minutes
}

/// The reset that is due: at take-over, or because a period of a policy that resets has begun since the last one.
fn due_reset(desk: &Desk<'_>, applying: &[Arc<PolicyInForce>]) -> Option<CounterReset> {
    let today = site_date(desk.ctx.now, desk.ctx.rules.zone);
    let taken_over = desk.book.commanded.is_some();
    let resets = |p: &&Arc<PolicyInForce>| {
        desk.force_reset
            || p.facts.terms.raw_usage_reset
                && (p.period != PeriodKind::Total || (!taken_over && desk.ctx.rules.reset_total_at_takeover))
    };
    let current: SmallMap<PeriodKind, Period> =
        applying.iter().filter(resets).map(|p| (p.period, Period::containing(p.period, today))).collect();
    if current.is_empty() {
        return None;
    }
    // What the last reset covered: it started the counter for periods of every kind. Before any, the period in which the
    // previous book stood.
    let last = desk.book.reset.as_deref();
    let covered = |kind: PeriodKind| match last {
        Some(last) => Some(
            last.periods
                .get(&kind)
                .copied()
                .unwrap_or_else(|| Period::containing(kind, site_date(last.at, desk.ctx.rules.zone))),
        ),
        None => desk.book.continues.map(|month| Period::of_month(kind, month)),
    };
    let due = desk.force_reset
        || !taken_over
        || current.iter().any(|(kind, now)| covered(*kind).is_some_and(|before| before != *now));
    if !due {
        return None;
    }
    Some(counter_reset(&desk.book, desk.ctx, current, Month::of(today)))
}

fn counter_reset(
    book: &Book,
    ctx: &DecideContext<'_>,
    periods: SmallMap<PeriodKind, Period>,
    month: Month,
) -> CounterReset {
    let mut usage = SmallMap::new();
    let mut before = Amounts::new();
    for (of, components) in &book.usage {
        if of.year() == month.year() {
            usage.insert(*of, components.iter().map(|(c, term)| (c.clone(), term.amount)).collect());
        } else {
            for (component, term) in components {
                let sum = before.entry(component.clone()).or_insert(Decimal::ZERO);
                *sum = sum.saturating_add(term.amount);
            }
        }
    }
    CounterReset { at: ctx.now, periods, usage, before }
}
