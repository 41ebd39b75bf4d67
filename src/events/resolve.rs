//! Reassembles recorded decisions: looks up terms that are references in the same stream.
//!
//! The result contains all inputs of a decision, an evaluation or a message to the agent, so that anybody can repeat it
//! and compare.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::allocation::{PolicyEvaluated, Recorded, RecordedBasis, SettingsCommanded};
use crate::domain::commanded::{CommandInputs, WorkedOut};
use crate::domain::evaluate::{
    self, Allocation, ArithmeticError, EvaluationInputs, Flags, MonthUsage, NoticeTerms, Outcome,
};
use crate::domain::ids::PolicyId;
use crate::events::envelope::Version;

/// A decision refers to something that its stream does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the decision in version {version} refers to the {what} of version {refers_to}, which has none")]
pub struct UnresolvedReference {
    /// Version of the decision in its stream.
    pub version: Version,
    /// What is referred to: basis or usage.
    pub what: &'static str,
    /// Where it should be.
    pub refers_to: Version,
}

/// Remembers what the evaluations of one stream recorded in full: of each policy the newest basis and the newest usage, since
/// an event refers to no older one. So it grows with the policies of a resource, and not with its reports.
#[derive(Debug, Default)]
pub struct Resolver {
    bases: BTreeMap<PolicyId, (Version, Arc<RecordedBasis>)>,
    usages: BTreeMap<PolicyId, (Version, Arc<MonthUsage>)>,
}

/// An evaluation with all its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Terms that seldom change, with the allocation that followed from them.
    pub basis: Arc<RecordedBasis>,
    /// Usage of the running month.
    pub usage: Arc<MonthUsage>,
    /// Notices given before.
    pub notices: NoticeTerms,
    /// The policy's holds before.
    pub held: Flags,
}

impl Resolver {
    /// Takes the evaluations of a stream one after the other, each with its version in the stream.
    pub fn resolve(&mut self, version: Version, event: &PolicyEvaluated) -> Result<Resolved, UnresolvedReference> {
        self.learn(version, event);
        let missing = |what, refers_to| UnresolvedReference { version, what, refers_to };
        let basis = match &event.basis {
            Recorded::Full(basis) => Arc::clone(basis),
            Recorded::Same { same_as } => {
                newest(&self.bases, event.policy, *same_as).ok_or_else(|| missing("basis", *same_as))?
            }
        };
        let usage = match &event.usage {
            Recorded::Full(usage) => Arc::new(usage.clone()),
            Recorded::Same { same_as } => {
                newest(&self.usages, event.policy, *same_as).ok_or_else(|| missing("usage", *same_as))?
            }
        };
        Ok(Resolved { basis, usage, notices: event.notices.clone(), held: event.held })
    }

    /// Remembers what an evaluation recorded in full: one that lies before those that are to be taken, and is referred to.
    /// What is known of a later one stays.
    pub fn learn(&mut self, version: Version, event: &PolicyEvaluated) {
        if let Recorded::Full(basis) = &event.basis {
            remember(&mut self.bases, event.policy, version, || Arc::clone(basis));
        }
        if let Recorded::Full(usage) = &event.usage {
            remember(&mut self.usages, event.policy, version, || Arc::new(usage.clone()));
        }
    }

    /// What the agent was commanded in this version of the stream, whose evaluations have all been taken; nothing for an
    /// event of version 1, which does not record what it rests on.
    pub fn resolve_settings(
        &self,
        version: Version,
        event: &SettingsCommanded,
    ) -> Result<Option<ResolvedSettings>, UnresolvedReference> {
        let Some(inputs) = event.inputs.as_deref() else { return Ok(None) };
        let found = |policy: PolicyId, refers_to: u64| {
            let known = newest(&self.bases, policy, refers_to);
            known.ok_or(UnresolvedReference { version, what: "basis", refers_to })
        };
        let bases = inputs.policies.iter().map(|one| found(one.policy, one.basis)).collect::<Result<_, _>>()?;
        let resets = event.reset.is_some() || event.inherits_reset.is_some();
        Ok(Some(ResolvedSettings { inputs: inputs.clone(), bases, flags: event.flags, resets }))
    }
}

/// Puts what a policy recorded in the place of something older.
fn remember<T>(
    known: &mut BTreeMap<PolicyId, (Version, Arc<T>)>,
    policy: PolicyId,
    version: Version,
    recorded: impl FnOnce() -> Arc<T>,
) {
    if known.get(&policy).is_none_or(|(at, _)| *at < version) {
        known.insert(policy, (version, recorded()));
    }
}

/// What a policy recorded in this version, if that is the newest of its kind.
fn newest<T>(known: &BTreeMap<PolicyId, (Version, Arc<T>)>, policy: PolicyId, version: Version) -> Option<Arc<T>> {
    known.get(&policy).filter(|(at, _)| *at == version).map(|(_, recorded)| Arc::clone(recorded))
}

/// What the agent was commanded, with all that it was worked out from.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedSettings {
    /// What was recorded with it.
    pub inputs: CommandInputs,
    /// The evaluations that it rests on, in the order of the policies.
    pub bases: Vec<Arc<RecordedBasis>>,
    /// Restrictions in force.
    pub flags: Flags,
    /// Whether it carries a reset of raw usage, decided with it or inherited.
    pub resets: bool,
}

impl ResolvedSettings {
    /// Works it out again, the allocations too.
    pub fn replay(&self) -> Result<WorkedOut, ArithmeticError> {
        let allocations = self.bases.iter().map(|b| b.basis.allocate()).collect::<Result<Vec<Allocation>, _>>()?;
        let evaluated: Vec<_> = self.bases.iter().map(|b| &*b.basis.terms).zip(&allocations).collect();
        Ok(self.inputs.work_out(&evaluated, self.flags, self.resets))
    }
}

impl SettingsCommanded {
    /// Whether it is what came out when it was worked out again.
    pub fn agrees_with(&self, again: &WorkedOut) -> bool {
        self.settings == again.settings
            && self.qos == again.qos
            && self.qos_name.as_deref() == Some(again.qos_name.as_str())
            && self.commands == again.commands
    }
}

impl Resolved {
    /// Makes the decision again: the allocation from the basis, the outcome from everything.
    pub fn replay(&self) -> Result<(Allocation, Outcome), ArithmeticError> {
        let allocation = self.basis.basis.allocate()?;
        let outcome = evaluate::evaluate(&EvaluationInputs {
            basis: &self.basis.basis,
            allocation: &allocation,
            usage: &self.usage,
            notices: &self.notices,
            held: self.held,
        })?;
        Ok((allocation, outcome))
    }
}
