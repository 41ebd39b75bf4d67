//! The in-memory registry: which objects exist, and which policies apply to them.
//!
//! Decisions read it, so it follows the log itself and is never behind the appends of this process. A decision records
//! the policy version that it used; a book refuses a version older than one it has seen.

mod agents;
mod earlier;
mod follow;
mod served;
mod state;

pub use agents::{Agents, At, Registered};
pub use earlier::earlier_limits;
pub use follow::{Before, FollowError, Follower, book_of};
pub use served::{Served, served_position};
pub use state::{PolicyRow, RESOURCE, RegistryState, ResourceEntry, Snapshot, Versioned, offering_period, superseded};

use std::sync::{Arc, RwLock, RwLockReadGuard};

use crate::commands::allocation::{OfferingInForce, PolicyInForce};
use crate::domain::ids::{CustomerId, OfferingId, PolicyId, ResourceId};
use crate::domain::period::Month;
use crate::events::allocation::WithdrawReason;

/// The registry, shared by everything in the process.
#[derive(Debug, Default)]
pub struct Registry {
    state: RwLock<RegistryState>,
}

/// What a decision on one resource needs of the registry.
#[derive(Debug, Clone)]
pub struct Applicable {
    /// The resource's offering.
    pub offering: Arc<OfferingInForce>,
    /// Enabled policies whose scope holds the customer, oldest first.
    pub policies: Vec<Arc<PolicyInForce>>,
}

impl Registry {
    /// Starts from what a snapshot knew.
    pub fn from_snapshot(snapshot: Snapshot) -> Self {
        Self { state: RwLock::new(RegistryState::from_snapshot(snapshot)) }
    }

    /// Reads the state; hold the guard briefly and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, RegistryState> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> std::sync::RwLockWriteGuard<'_, RegistryState> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Offering and applicable policies for a customer's resource.
    pub fn applicable(&self, offering: OfferingId, customer: CustomerId) -> Option<Applicable> {
        let state = self.read();
        let facts = Arc::clone(&state.offering(offering)?.facts);
        Some(Applicable { offering: facts, policies: state.applying(offering, customer) })
    }

    /// Why a policy that bore on a resource no longer does.
    pub fn withdraw_reason(&self, policy: PolicyId) -> WithdrawReason {
        match self.read().policy(policy) {
            None => WithdrawReason::Deleted,
            Some(policy) if !policy.facts.terms.enabled => WithdrawReason::Disabled,
            Some(_) => WithdrawReason::OutOfScope,
        }
    }

    /// The newest book known of a resource; the chain of sealed books leads on from it.
    pub fn book_hint(&self, resource: ResourceId) -> Option<Month> {
        self.read().resource(resource).map(|entry| entry.book)
    }

    /// Resources of an offering, live ones only, in the order of their ids.
    pub fn live_resources(&self, offering: OfferingId) -> Vec<ResourceId> {
        self.read().live_resources(offering)
    }

    /// Live resources that an enabled policy applies to.
    pub fn resources_in_scope(&self, policy: &PolicyInForce) -> Vec<ResourceId> {
        self.read().resources_in_scope(policy)
    }
}
