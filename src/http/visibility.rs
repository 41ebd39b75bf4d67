//! What a caller may see, and what of it they may change.
//!
//! Staff and support see everything. Owners see their organisations, with everything that these offer and use; members
//! their projects; an agent its offering. Invisible objects do not exist for the caller; changing a visible object
//! without permission is forbidden. People are visible to the owners of their organisations and to those who provide a
//! resource with which they work; a member sees themselves.

use std::collections::BTreeSet;

use super::error::ApiError;
use crate::directory::{Principal, Role};
use crate::domain::ids::{CustomerId, OfferingId, ProjectId};
use crate::events::registry::{CustomerFacts, OfferingFacts, ProjectFacts};
use crate::projections::registry::VisibilityFilter;
use crate::registry::{RegistryState, ResourceEntry};

/// What one caller may see at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
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

impl Visibility {
    /// The visibility of a caller.
    pub fn of(caller: &Principal, state: &RegistryState) -> Self {
        let mut visibility = Self {
            role: caller.role,
            all: matches!(caller.role, Role::Staff | Role::Support),
            offering: caller.offering.filter(|_| caller.role == Role::Agent),
            customers: BTreeSet::new(),
            projects: BTreeSet::new(),
        };
        if caller.role == Role::Owner {
            let owned = state.customers().filter(|c| c.facts.owners.contains(&caller.user));
            visibility.customers = owned.map(|c| c.facts.customer).collect();
        }
        if matches!(caller.role, Role::Owner | Role::Member) {
            let joined = state.projects().filter(|p| p.facts.members.contains(&caller.user));
            visibility.projects = joined.map(|p| p.facts.project).collect();
        }
        visibility
    }

    /// The resources that the caller may see: those that an owned organisation offers or uses, those of joined projects, those
    /// on an agent's offering; none: all.
    pub fn filter(&self, state: &RegistryState) -> Option<VisibilityFilter> {
        let offered = || state.offerings().map(|o| &o.facts.facts).filter(|o| self.offering(o)).map(|o| o.offering);
        (!self.all).then(|| VisibilityFilter {
            offerings: offered().collect(),
            customers: self.customers.iter().copied().collect(),
            projects: self.projects.iter().copied().collect(),
        })
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

    /// The people of a resource: for those who provide it and for the owners of its organisation.
    pub fn team(&self, entry: &ResourceEntry, state: &RegistryState) -> bool {
        self.all || self.customers.contains(&entry.customer) || self.offering_id(entry.offering, state)
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
