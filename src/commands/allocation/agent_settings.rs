//! Settings for the agent: the combined settings of all policies, the class of service, and when raw usage is reset.
//!
//! A message is due when the restrictions change, when a raw-usage reset is due, and otherwise only if the settings
//! differ from the last ones. Until a queue accepts a message, it is recomputed whenever its inputs change, so that at
//! hand-over its limits fit the policies and the usage that SLURM will have counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::book::Book;
use super::command::{PolicyInForce, Refusal};
use super::consequences::{self, Causes};
use super::counter;
use super::page::PolicyPage;
use super::transition::Transition;
use crate::domain::commanded::{CommandInputs, PolicyInputs, ToldQos};
use crate::domain::evaluate::{Allocation, EvaluationTerms, Trigger};
use crate::domain::ids::{DispatchId, PolicyId};
use crate::domain::period::{Period, site_date};
use crate::domain::qos::QosClass;
use crate::domain::settings::AgentSettings;
use crate::events::allocation::{AllocationEvent, Commanded, CounterReset, RecordedBasis, SettingsCommanded};

/// Records the settings for the agent, if any are due.
pub fn agent(transition: &mut Transition<'_>, causes: &Causes) {
    tell(transition, causes, false);
}

/// Recomputes a waiting message, after a change that triggers no evaluation.
pub fn again(transition: &mut Transition<'_>) {
    if transition.book.newest_dispatch().is_some_and(|newest| newest.waits) && all_decided(transition) {
        tell(transition, &Causes::default(), false);
    }
}

/// The newest message is about to be handed over, for the first time or again: recomputes it if it is outdated.
pub fn renew(transition: &mut Transition<'_>) -> Result<(), Refusal> {
    // A month that nothing has been decided in yet has no allocation to work with.
    if !all_decided(transition) {
        consequences::follow(transition, None, Trigger::PeriodBoundary)?;
    }
    tell(transition, &Causes::default(), true);
    Ok(())
}

fn all_decided(transition: &Transition<'_>) -> bool {
    decided(transition).len() == transition.ctx.policies.len()
}

/// What a message does with the counter of raw usage.
#[derive(Default)]
struct Reset {
    decided: Option<CounterReset>,
    inherits: Option<DispatchId>,
    rebased: Option<CounterReset>,
}

impl Reset {
    fn counter(&self) -> Option<&CounterReset> {
        self.decided.as_ref().or(self.rebased.as_ref())
    }

    fn carried(&self) -> bool {
        self.decided.is_some() || self.inherits.is_some()
    }
}

fn tell(transition: &mut Transition<'_>, causes: &Causes, handing_over: bool) {
    if !transition.book.facts.state.is_live() {
        return;
    }
    let applying = decided(transition);
    let last = transition.book.commanded.clone();
    if applying.is_empty() && last.is_none() {
        return;
    }
    let waits = transition.book.newest_dispatch().is_some_and(|newest| newest.waits);
    let reset = reset_of(transition, &applying);
    if let (Some(last), None) = (&last, &reset.decided) {
        // The counter alone does not change a message that a queue has: the counter begins when the agent handles it.
        // Before it is handed over again, it is checked again if it still carries its reset.
        let takes_up = if waits { true } else { handing_over && reset.inherits.is_some() };
        let as_told = Reset::default();
        let carries = if takes_up { reset.carried() } else { last.settings.reset_raw_usage };
        let inputs = inputs(transition, &applying, if takes_up { &reset } else { &as_told });
        let now = work_out(transition, &applying, &inputs, carries);
        if same(last, &now) || (handing_over && !takes_up) {
            return;
        }
    }
    let Some(policy) = causing(causes, &applying).or_else(|| last.as_ref().map(|l| l.policy)) else { return };
    let inputs = inputs(transition, &applying, &reset);
    let told = work_out(transition, &applying, &inputs, reset.carried());
    let others = causes.evaluated.iter().copied().filter(|p| *p != policy).collect();
    let event = SettingsCommanded {
        dispatch: DispatchId::from(transition.ctx.ids.fresh()),
        policy,
        others,
        period: period_of(transition, policy, &applying),
        settings: told.settings,
        qos: told.qos,
        qos_name: Some(told.qos_name),
        flags: transition.book.flags,
        commands: told.commands,
        inherits_reset: reset.inherits,
        at: transition.ctx.now,
        reset: reset.decided,
        rebased: reset.rebased,
        inputs: Some(Box::new(inputs)),
    };
    transition.push(AllocationEvent::SettingsCommanded(Box::new(event)));
}

/// The reset that goes with the next message: one that is due now, or one that is still owed, counting from now on.
fn reset_of(transition: &Transition<'_>, applying: &[Arc<PolicyInForce>]) -> Reset {
    if let Some(decided) = counter::due(transition, applying) {
        return Reset { decided: Some(decided), ..Reset::default() };
    }
    let inherits = counter::owed(&transition.book, transition.ctx);
    let rebased = inherits.and_then(|_| counter::begin_again(&transition.book, transition.ctx));
    Reset { decided: None, inherits, rebased }
}

/// Policies that apply and whose allocation on the resource has been worked out.
fn decided(transition: &Transition<'_>) -> Vec<Arc<PolicyInForce>> {
    let known = |p: &PolicyInForce| transition.book.policies.get(&p.id()).is_some_and(|page| page.basis.is_some());
    transition.ctx.policies.iter().filter(|p| known(p)).cloned().collect()
}

/// The period that the causing policy counts, or last counted.
fn period_of(transition: &Transition<'_>, policy: PolicyId, applying: &[Arc<PolicyInForce>]) -> Period {
    let current =
        |p: &Arc<PolicyInForce>| Period::containing(p.period, site_date(transition.ctx.now, transition.ctx.rules.zone));
    let its_own = applying.iter().find(|p| p.id() == policy).map(current);
    let its_last = || transition.book.policies.get(&policy).map(|page| page.period);
    its_own.or_else(its_last).or_else(|| applying.first().map(current)).unwrap_or(Period::Total)
}

/// The oldest policy whose holds changed, else the oldest evaluated one, else the oldest that applies.
fn causing(causes: &Causes, applying: &[Arc<PolicyInForce>]) -> Option<PolicyId> {
    causes.changed.first().or(causes.evaluated.first()).copied().or_else(|| applying.first().map(|p| p.id()))
}

/// The name of the strictest rung that restricts, if it has one of its own.
fn rung_qos(book: &Book) -> Option<String> {
    let holds = |p: &&PolicyPage| match QosClass::of(book.flags.paused, book.flags.downscaled) {
        QosClass::Paused => p.held.paused,
        QosClass::Downscaled => p.held.downscaled,
        QosClass::Default => false,
    };
    book.policies.values().filter(holds).find_map(|p| p.qos.clone())
}

/// The evaluation of a policy that has its terms and its allocation in full, with its place in the stream.
fn basis_of<'b>(book: &'b Book, policy: &PolicyInForce) -> Option<&'b (Arc<RecordedBasis>, u64)> {
    book.policies.get(&policy.id())?.basis.as_ref()
}

fn inputs(transition: &Transition<'_>, applying: &[Arc<PolicyInForce>], reset: &Reset) -> CommandInputs {
    let (book, ctx) = (&transition.book, transition.ctx);
    let last = book.commanded.as_deref();
    let waits = book.newest_dispatch().is_some_and(|newest| newest.waits);
    let counter = reset.counter().or(book.handed_reset.as_deref());
    let qos = QosClass::of(book.flags.paused, book.flags.downscaled);
    let contributes = |policy: &Arc<PolicyInForce>| {
        let (recorded, version) = basis_of(book, policy)?;
        Some(PolicyInputs {
            policy: policy.id(),
            basis: *version,
            limit_type: policy.facts.terms.limit_type,
            counted: counter::counted(book, counter, recorded.basis.period, ctx),
        })
    };
    let policies: Vec<PolicyInputs> = applying.iter().filter_map(contributes).collect();
    let mut components = BTreeMap::new();
    for (policy, inputs) in applying.iter().zip(&policies) {
        let allocated = basis_of(book, policy).map(|(recorded, _)| recorded.allocation.effective.keys());
        for component in allocated.into_iter().flatten().chain(inputs.counted.keys()) {
            if let Some(mapping) = ctx.offering.mapping.get(component) {
                components.insert(component.clone(), mapping.clone());
            }
        }
    }
    CommandInputs {
        account: book.facts.account().to_owned(),
        takes_over: last.is_none_or(|last| waits && last.takes_over),
        told: last.and_then(|last| told_before(last, waits)),
        site_qos: ctx.offering.facts.qos.of(qos).to_owned(),
        rung_qos: rung_qos(book),
        fairshare_divisor: ctx.rules.fairshare_divisor,
        components,
        policies,
        counted_since: counter.filter(|_| !reset.carried()).map(|counter| counter.at),
        kept: last.filter(|_| applying.is_empty()).map(|last| Box::new(last.settings.clone())),
    }
}

/// The class of service that the account knows: what waits has told it nothing yet.
fn told_before(last: &Commanded, waits: bool) -> Option<ToldQos> {
    if waits { last.told.clone() } else { Some(ToldQos { class: last.qos, name: last.qos_name.clone() }) }
}

fn work_out(
    transition: &Transition<'_>,
    applying: &[Arc<PolicyInForce>],
    inputs: &CommandInputs,
    resets: bool,
) -> crate::domain::commanded::WorkedOut {
    let evaluated: Vec<(&EvaluationTerms, &Allocation)> = applying
        .iter()
        .filter_map(|policy| basis_of(&transition.book, policy))
        .map(|(recorded, _)| (&*recorded.basis.terms, &recorded.allocation))
        .collect();
    inputs.work_out(&evaluated, transition.book.flags, resets)
}

fn same(last: &Commanded, now: &crate::domain::commanded::WorkedOut) -> bool {
    let numbers = |settings: &AgentSettings| AgentSettings { carryover_details: None, ..settings.clone() };
    numbers(&last.settings) == numbers(&now.settings)
        && last.qos == now.qos
        && last.qos_name.as_deref() == Some(now.qos_name.as_str())
}
