//! Operations that HTTP and the command line share: evaluate, dry run, forced period reset, preview, period boundary.
//!
//! All of them return numbers of the one engine; a dry run is the same decision without the append.

mod accounts;
pub mod episodes;
mod evaluate;
mod explain;
pub mod imports;
pub mod life;
pub mod membership;
mod preview;
pub mod sentences;
pub mod series;
pub mod standings;
pub mod timeline;
pub mod what_if;

pub use accounts::{AccountClaim, holders as account_holders};
pub use evaluate::{BatchDone, EvaluateAnswer, EvaluatedResource};
pub use explain::{ExplainedComponent, ExplainedPolicy, ExplainedThreshold, Explanation, PassedBy};
pub use preview::{Preview, PreviewRequest};

use std::sync::Arc;

use crate::clock::Clock;
use crate::commands::allocation::{PolicyInForce, Refusal};
use crate::commands::execute::{Allocations, CommandError};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::registry::{FollowError, Follower, Registry};

/// Resources taken together.
pub(crate) const BATCH: usize = 500;

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// There is no such policy.
    #[error("there is no policy {0}")]
    NoSuchPolicy(PolicyId),
    /// There is no such resource, or the policy does not apply to it.
    #[error("resource {0} does not exist or the policy does not apply to it")]
    NotInScope(ResourceId),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The registry is behind.
    #[error("the registry cannot follow the log")]
    Follow(#[from] FollowError),
}

impl From<Refusal> for OperationError {
    fn from(refusal: Refusal) -> Self {
        Self::Command(refusal.into())
    }
}

/// The operations.
pub struct Operations {
    pub(crate) allocations: Arc<Allocations>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) follower: Arc<Follower>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Operations {
    /// Operations on these parts.
    pub fn new(
        allocations: Arc<Allocations>,
        registry: Arc<Registry>,
        follower: Arc<Follower>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { allocations, registry, follower, clock }
    }

    fn policy(&self, policy: PolicyId) -> Result<Arc<PolicyInForce>, OperationError> {
        self.registry.read().policy(policy).cloned().ok_or(OperationError::NoSuchPolicy(policy))
    }

    /// The resources to evaluate under a policy: the requested one, or all in scope. A disabled policy has none.
    fn scoped(&self, policy: &PolicyInForce, resource: Option<ResourceId>) -> Result<Vec<ResourceId>, OperationError> {
        let state = self.registry.read();
        let applies = |id: ResourceId| {
            state.resource(id).is_some_and(|e| {
                e.offering == policy.facts.offering && e.state.is_live() && state.in_scope(policy, e.customer)
            })
        };
        match resource {
            Some(resource) if !applies(resource) => Err(OperationError::NotInScope(resource)),
            _ if !policy.facts.terms.enabled => Ok(Vec::new()),
            Some(resource) => Ok(vec![resource]),
            None => Ok(state.resources_in_scope(policy)),
        }
    }
}
