//! What a caller may see, and what of it may be changed.
//!
//! Staff and support see everything. Owners see their organisations, what those offer and what those use; members their
//! projects; an agent its offering. What is not seen does not exist for the caller; what is seen but not the caller's to
//! change is forbidden.

use std::collections::BTreeSet;

use super::error::ApiError;
use crate::directory::{Principal, Role};
use crate::domain::ids::{CustomerId, OfferingId, ProjectId};
use crate::events::registry::{CustomerFacts, OfferingFacts, ProjectFacts};
use crate::registry::{RegistryState, ResourceEntry};

/// What one caller may see at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    role: Role,
    /// Everything.
    pub all: bool,
    /// The one offering of an agent.
    pub offering: Option<OfferingId>,
    /// Organisations that the caller owns.
    pub customers: BTreeSet<CustomerId>,
    /// Projects that the caller is a member of.
    pub projects: BTreeSet<ProjectId>,
}

impl Sight {
    /// The sight of a caller.
    pub fn of(caller: &Principal, state: &RegistryState) -> Self {
        let mut sight = Self {
            role: caller.role,
            all: matches!(caller.role, Role::Staff | Role::Support),
            offering: caller.offering.filter(|_| caller.role == Role::Agent),
            customers: BTreeSet::new(),
            projects: BTreeSet::new(),
        };
        if caller.role == Role::Owner {
            let owned = state.customers().filter(|c| c.facts.owners.contains(&caller.user));
            sight.customers = owned.map(|c| c.facts.customer).collect();
        }
        if matches!(caller.role, Role::Owner | Role::Member) {
            let joined = state.projects().filter(|p| p.facts.members.contains(&caller.user));
            sight.projects = joined.map(|p| p.facts.project).collect();
        }
        sight
    }

    /// An offering, with the policies on it, seen from the side of its provider.
    pub fn offering(&self, offering: &OfferingFacts) -> bool {
        self.all || self.offering == Some(offering.offering) || self.customers.contains(&offering.customer)
    }

    /// An offering by its id.
    pub fn offering_id(&self, offering: OfferingId, state: &RegistryState) -> bool {
        state.offering(offering).is_some_and(|o| self.offering(&o.facts.facts))
    }

    /// A resource: from the side of its provider, of its organisation, or of its project.
    pub fn resource(&self, entry: &ResourceEntry, state: &RegistryState) -> bool {
        self.all
            || self.customers.contains(&entry.customer)
            || self.projects.contains(&entry.project)
            || self.offering_id(entry.offering, state)
    }

    /// An organisation.
    pub fn customer(&self, customer: &CustomerFacts, state: &RegistryState) -> bool {
        self.all
            || self.customers.contains(&customer.customer)
            || self.projects.iter().any(|p| state.project(*p).is_some_and(|p| p.facts.customer == customer.customer))
            || self
                .offering
                .is_some_and(|o| state.offering(o).is_some_and(|o| o.facts.facts.customer == customer.customer))
    }

    /// A project.
    pub fn project(&self, project: &ProjectFacts) -> bool {
        self.all || self.customers.contains(&project.customer) || self.projects.contains(&project.project)
    }

    /// Whether the caller may change what belongs to an organisation.
    pub fn manages(&self, customer: CustomerId) -> bool {
        self.role == Role::Staff || self.customers.contains(&customer)
    }

    /// Refuses to change what is seen but belongs to others.
    pub fn must_manage(&self, customer: CustomerId) -> Result<(), ApiError> {
        if self.manages(customer) { Ok(()) } else { Err(ApiError::Forbidden) }
    }

    /// Whether the caller may report for an offering.
    pub fn reports_for(&self, offering: OfferingId) -> bool {
        self.role == Role::Staff || self.offering == Some(offering)
    }
}
