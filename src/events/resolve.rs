//! Puts recorded evaluations back together: terms that stand as references are looked up in the same stream.
//!
//! What comes out is everything the decision was made on, so that anybody can make it again and compare.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::allocation::{PolicyEvaluated, Recorded, RecordedBasis};
use crate::domain::evaluate::{
    self, Allocation, ArithmeticError, EvaluationInputs, Flags, MonthUsage, NoticeTerms, Outcome,
};
use crate::events::envelope::Version;

/// An evaluation refers to something that its stream does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the evaluation in version {version} refers to the {what} of version {refers_to}, which has none")]
pub struct UnresolvedReference {
    /// Version of the evaluation in its stream.
    pub version: Version,
    /// What is referred to: basis or usage.
    pub what: &'static str,
    /// Where it should be.
    pub refers_to: Version,
}

/// Remembers what the evaluations of one stream recorded in full.
#[derive(Debug, Default)]
pub struct Resolver {
    bases: BTreeMap<Version, Arc<RecordedBasis>>,
    usages: BTreeMap<Version, Arc<MonthUsage>>,
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
        let missing = |what, refers_to| UnresolvedReference { version, what, refers_to };
        let basis = match &event.basis {
            Recorded::Full(basis) => {
                self.bases.insert(version, Arc::clone(basis));
                Arc::clone(basis)
            }
            Recorded::Same { same_as } => {
                Arc::clone(self.bases.get(same_as).ok_or_else(|| missing("basis", *same_as))?)
            }
        };
        let usage = match &event.usage {
            Recorded::Full(usage) => {
                let usage = Arc::new(usage.clone());
                self.usages.insert(version, Arc::clone(&usage));
                usage
            }
            Recorded::Same { same_as } => {
                Arc::clone(self.usages.get(same_as).ok_or_else(|| missing("usage", *same_as))?)
            }
        };
        Ok(Resolved { basis, usage, notices: event.notices.clone(), held: event.held })
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
