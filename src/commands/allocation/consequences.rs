//! The consequences of a fact about an allocation: policies are evaluated or withdrawn, restrictions change, the agent
//! gets settings.

use std::sync::Arc;

use super::agent_settings;
use super::book::Book;
use super::command::{DecideContext, PolicyInForce, Refusal};
use super::decide::Decision;
use super::page::PolicyPage;
use super::transition::Transition;
use crate::domain::evaluate::{
    self, BaseSource, BaseTerm, Basis, EvaluationInputs, Flags, MonthUsage, NoticeTerms, Trigger, UsageByMonth,
};
use crate::domain::ids::{HoldId, PolicyId};
use crate::domain::period::{Month, Period, site_date};
use crate::domain::small_map::SmallMap;
use crate::events::allocation::{
    AllocationEvent, EvaluationFailed, HoldPlaced, HoldReleased, PolicyEvaluated, PolicyWithdrawn, Recorded,
    RecordedBasis, RestrictionChanged, WithdrawReason,
};

/// Policies whose decision changed something, and those evaluated, both oldest first.
#[derive(Debug, Default)]
pub struct Causes {
    /// Evaluated now.
    pub evaluated: Vec<PolicyId>,
    /// Their holds changed.
    pub changed: Vec<PolicyId>,
}

/// Evaluates `only` (or every policy that applies), withdraws those that no longer do, and draws the consequences.
pub fn follow(transition: &mut Transition<'_>, only: Option<PolicyId>, trigger: Trigger) -> Result<(), Refusal> {
    let causes = policies(transition, &|policy| only.is_none_or(|only| policy == only), trigger)?;
    agent_settings::agent(transition, &causes);
    Ok(())
}

/// What the wanted policies decide of a book, which no longer apply, and which restrictions follow. Nobody is told.
///
/// # Errors
/// A policy is older than one that the book knows.
pub fn decide_policies(
    book: Book,
    wanted: &dyn Fn(PolicyId) -> bool,
    trigger: Trigger,
    ctx: &DecideContext<'_>,
) -> Result<Decision, Refusal> {
    let mut transition = Transition::new(book, ctx);
    policies(&mut transition, wanted, trigger)?;
    Ok(transition.finish())
}

fn policies(
    transition: &mut Transition<'_>,
    wanted: &dyn Fn(PolicyId) -> bool,
    trigger: Trigger,
) -> Result<Causes, Refusal> {
    let ctx = transition.ctx;
    let mut causes = Causes::default();
    release_expired(transition);
    if transition.book.facts.state.is_live() {
        // A policy that this book has not evaluated yet is evaluated too: settings rest on all of them together.
        let missing = |book: &Book, id| book.policies.get(&id).is_none_or(|page| page.basis.is_none());
        for policy in ctx.policies {
            let known = !missing(&transition.book, policy.id());
            // A change of groups alone says nothing new about a policy that applied before.
            let unconcerned = !wanted(policy.id()) || trigger == Trigger::ScopeChanged;
            if known && unconcerned {
                continue;
            }
            evaluate_policy(transition, policy, trigger, &mut causes)?;
        }
    }
    withdraw(transition, &mut causes);
    restrict(transition, &causes);
    Ok(causes)
}

/// Manual holds end by themselves when their time is over; whatever looks at the allocation next says so.
fn release_expired(transition: &mut Transition<'_>) {
    let now = transition.ctx.now;
    let over = |hold: &HoldPlaced| hold.expires_at.is_some_and(|end| end <= now);
    let expired: Vec<HoldId> = transition.book.holds.iter().filter(|h| over(h)).map(|h| h.hold).collect();
    for hold in expired {
        transition.push_on_the_way(AllocationEvent::HoldReleased(HoldReleased { hold, expired: true }));
    }
}

fn withdraw(transition: &mut Transition<'_>, causes: &mut Causes) {
    let live = transition.book.facts.state.is_live();
    let applies = |id: &PolicyId| live && transition.ctx.policies.iter().any(|p| p.id() == *id);
    let pages = transition.book.policies.iter().filter(|(id, page)| !page.withdrawn && !applies(id));
    let gone: Vec<(PolicyId, Flags)> = pages.map(|(id, page)| (*id, page.held)).collect();
    for (policy, released) in gone {
        let reason = if live { (transition.ctx.withdrawn)(policy) } else { WithdrawReason::Terminated };
        transition.push(AllocationEvent::PolicyWithdrawn(PolicyWithdrawn { policy, reason, released }));
        if released.any() {
            causes.changed.push(policy);
        }
    }
}

fn restrict(transition: &mut Transition<'_>, causes: &Causes) {
    let (from, to) = (transition.book.flags, transition.book.restrictions());
    if from != to {
        transition.push(AllocationEvent::RestrictionChanged(RestrictionChanged {
            from,
            to,
            policies: causes.changed.clone(),
        }));
    }
}

fn evaluate_policy(
    transition: &mut Transition<'_>,
    policy: &PolicyInForce,
    trigger: Trigger,
    causes: &mut Causes,
) -> Result<(), Refusal> {
    let page = transition.book.policies.get(&policy.id());
    if let Some(page) = page.filter(|page| page.version > policy.version) {
        return Err(Refusal::StaleRegistry { policy: policy.id(), seen: page.version });
    }
    let event = evaluation(&transition.book, page, policy, trigger, transition);
    let held_before = page.map(|p| p.held).unwrap_or_default();
    causes.evaluated.push(policy.id());
    if let AllocationEvent::PolicyEvaluated(evaluated) = &event
        && evaluated.outcome.holds != held_before
    {
        causes.changed.push(policy.id());
    }
    transition.push(event);
    Ok(())
}

/// The evaluation of one policy as an event: inputs by reference where the book has them already.
fn evaluation(
    book: &Book,
    page: Option<&PolicyPage>,
    policy: &PolicyInForce,
    trigger: Trigger,
    transition: &Transition<'_>,
) -> AllocationEvent {
    let today = site_date(transition.ctx.now, transition.ctx.rules.zone);
    let month = Month::of(today);
    let period = Period::containing(policy.period, today);
    let basis = basis_of(book, policy, period, month, transition);
    let before = book.restrictions();
    let failed = |error: String| {
        AllocationEvent::EvaluationFailed(EvaluationFailed {
            policy: policy.id(),
            policy_version: policy.version,
            trigger,
            period,
            error,
            flags: before,
        })
    };
    let known = page.and_then(|p| p.basis.as_ref()).filter(|(known, _)| known.basis == basis);
    let (recorded, basis_ref) = if let Some((known, version)) = known {
        (Arc::clone(known), Recorded::Same { same_as: *version })
    } else {
        let allocation = match basis.allocate() {
            Ok(allocation) => allocation,
            Err(error) => return failed(error.to_string()),
        };
        let recorded = Arc::new(RecordedBasis { basis, allocation });
        (Arc::clone(&recorded), Recorded::Full(recorded))
    };
    let no_usage = MonthUsage::new();
    let usage = book.usage.get(&month).unwrap_or(&no_usage);
    let notices = notices_of(page, &recorded.basis);
    let held = page.map(|p| p.held).unwrap_or_default();
    let inputs =
        EvaluationInputs { basis: &recorded.basis, allocation: &recorded.allocation, usage, notices: &notices, held };
    let outcome = match evaluate::evaluate(&inputs) {
        Ok(outcome) => outcome,
        Err(error) => return failed(error.to_string()),
    };
    let usage_ref = match page.and_then(|p| p.usage.as_ref()).filter(|(known, _)| known == usage) {
        Some((_, version)) => Recorded::Same { same_as: *version },
        None => Recorded::Full(usage.clone()),
    };
    let after = book.restrictions_with(policy.id(), outcome.holds);
    AllocationEvent::PolicyEvaluated(Box::new(PolicyEvaluated {
        policy: policy.id(),
        policy_version: policy.version,
        trigger,
        period,
        month,
        basis: basis_ref,
        usage: usage_ref,
        notices,
        held,
        before,
        after,
        outcome,
    }))
}

/// The terms in force: base allocation from the resource's limits, else the policy's; the months that count.
fn basis_of(book: &Book, policy: &PolicyInForce, period: Period, month: Month, transition: &Transition<'_>) -> Basis {
    let mut base: SmallMap<String, BaseTerm> = SmallMap::new();
    for (component, amount) in &policy.facts.terms.component_limits {
        base.insert(component.clone(), BaseTerm { amount: *amount, source: BaseSource::Policy });
    }
    for (component, amount) in &book.facts.limits {
        base.insert(component.clone(), BaseTerm { amount: *amount, source: BaseSource::Resource });
    }
    let carries = policy.evaluation.carries_over;
    let previous_period = period.previous().filter(|_| carries);
    let zone = transition.ctx.rules.zone;
    let created = site_date(book.facts.created, zone);
    let existed = previous_period.and_then(Period::end).is_some_and(|end| created <= end);
    let previous = match previous_period.filter(|_| existed) {
        Some(previous) => months(book, |m| previous.contains(m), |component| base.contains_key(component)),
        None => UsageByMonth::new(),
    };
    let looked_at = policy.looks_back_to(month).filter(|_| existed);
    let (previous_base, first_known) =
        looked_at.map(|last| base_at_end_of(book, policy, last, zone, &base)).unwrap_or_default();
    Basis {
        policy_version: policy.version,
        terms: Arc::clone(&policy.evaluation),
        period,
        previous,
        existed,
        previous_base,
        first_known,
        earlier: months(book, |m| m != month && period.contains(m), |_| true),
        base,
    }
}

/// The base at the end of a month of the components that have one now, and whether it is the first one known, because the
/// resource's record, or the policy that sets it, is younger.
fn base_at_end_of(
    book: &Book,
    policy: &PolicyInForce,
    month: Month,
    zone: chrono_tz::Tz,
    now: &SmallMap<String, BaseTerm>,
) -> (SmallMap<String, BaseTerm>, bool) {
    let end = month.next().starts_at(zone);
    let of_policy = policy.component_limits_before(end);
    let of_resource = book.limit_history.at_end_of(month, &book.facts.limits);
    let mut base = SmallMap::new();
    for component in now.keys() {
        let own = of_resource.get(component).map(|amount| (*amount, BaseSource::Resource));
        let given = || of_policy.get(component).map(|amount| (*amount, BaseSource::Policy));
        if let Some((amount, source)) = own.or_else(given) {
            base.insert(component.clone(), BaseTerm { amount, source });
        }
    }
    let young_policy = policy.created >= end && base.values().any(|term| term.source == BaseSource::Policy);
    (base, young_policy || book.limit_history.begins_after(month))
}

fn months(book: &Book, wanted: impl Fn(Month) -> bool, component: impl Fn(&str) -> bool) -> UsageByMonth {
    let mut chosen = UsageByMonth::new();
    for (month, usage) in book.usage.iter().filter(|(m, _)| wanted(**m)) {
        let usage: MonthUsage =
            usage.iter().filter(|(c, _)| component(c)).map(|(c, term)| (c.clone(), term.clone())).collect();
        if !usage.is_empty() {
            chosen.insert(*month, usage);
        }
    }
    chosen
}

/// Notices that stand: those of the same period; one raise more if a counted component's base was raised.
fn notices_of(page: Option<&PolicyPage>, basis: &Basis) -> NoticeTerms {
    let Some(page) = page.filter(|p| p.period == basis.period) else { return NoticeTerms::default() };
    let raised = basis.base.iter().any(|(component, term)| {
        !basis.terms.weights.of(component).is_zero() && page.base.get(component).is_some_and(|was| term.amount > *was)
    });
    let mut notices = page.notices.clone();
    notices.raises += u32::from(raised);
    notices
}
