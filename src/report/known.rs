//! What a report has to know to name things: policies, offerings, organisations and allocations, as they were at each event.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::table::EventRef;
use crate::domain::ids::{CustomerId, OfferingId, PolicyId, ResourceId};
use crate::events::allocation::AllocationEvent;
use crate::events::registry::{OfferingFacts, PolicyFacts, RegistryEvent};

/// An allocation.
#[derive(Debug, Clone)]
pub(super) struct Allocation {
    pub(super) slug: String,
    pub(super) offering: OfferingId,
    pub(super) customer: CustomerId,
}

/// A policy and when its versions came.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) facts: PolicyFacts,
    /// When each version came into force, oldest first, with its event.
    pub(super) versions: Vec<(u64, DateTime<Utc>, EventRef)>,
}

/// Everything that has a name.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) allocations: HashMap<ResourceId, Allocation>,
    pub(super) policies: BTreeMap<PolicyId, Policy>,
    pub(super) offerings: BTreeMap<OfferingId, OfferingFacts>,
    customers: BTreeMap<CustomerId, String>,
}

impl Known {
    /// Types of events that it is folded from.
    pub(super) fn wants(event_type: &str) -> bool {
        event_type.starts_with("policy_created.")
            || event_type.starts_with("policy_changed.")
            || event_type.starts_with("offering_")
            || event_type.starts_with("customer_")
            || event_type.starts_with("resource_registered.")
    }

    pub(super) fn registry(&mut self, event: &RegistryEvent, version: u64, at: DateTime<Utc>, event_ref: EventRef) {
        match event {
            RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts) => {
                let known = self.policies.remove(&facts.policy);
                let mut versions = known.map(|known| known.versions).unwrap_or_default();
                versions.push((version, at, event_ref));
                self.policies.insert(facts.policy, Policy { facts: (**facts).clone(), versions });
            }
            RegistryEvent::OfferingRegistered(facts) | RegistryEvent::OfferingChanged(facts) => {
                self.offerings.insert(facts.offering, facts.clone());
            }
            RegistryEvent::CustomerRegistered(facts) | RegistryEvent::CustomerChanged(facts) => {
                self.customers.insert(facts.customer, facts.slug.clone());
            }
            _ => {}
        }
    }

    pub(super) fn allocation(&mut self, event: &AllocationEvent) {
        if let AllocationEvent::ResourceRegistered(registered) = event {
            let facts = &registered.facts;
            let known = Allocation { slug: facts.slug.clone(), offering: facts.offering, customer: facts.customer };
            self.allocations.insert(facts.resource, known);
        }
    }

    /// The slug of an allocation, else its id.
    pub(super) fn name(&self, resource: ResourceId) -> String {
        let slug = self.allocations.get(&resource).map(|known| known.slug.clone());
        slug.filter(|slug| !slug.is_empty()).unwrap_or_else(|| resource.to_string())
    }

    /// The slug of the organisation that an allocation belongs to.
    pub(super) fn organisation(&self, resource: ResourceId) -> String {
        let customer = self.allocations.get(&resource).map(|known| known.customer);
        customer.and_then(|customer| self.customers.get(&customer).cloned()).unwrap_or_default()
    }

    /// The slug of a policy, else its id.
    pub(super) fn policy(&self, policy: PolicyId) -> String {
        let slug = self.policies.get(&policy).map(|known| known.facts.slug.clone());
        slug.filter(|slug| !slug.is_empty()).unwrap_or_else(|| policy.to_string())
    }

    /// The slug of an offering, else its id.
    pub(super) fn offering(&self, offering: OfferingId) -> String {
        self.offerings.get(&offering).map_or_else(|| offering.to_string(), |facts| facts.slug.clone())
    }

    /// The offering of an allocation.
    pub(super) fn offering_of(&self, resource: ResourceId) -> Option<OfferingId> {
        self.allocations.get(&resource).map(|known| known.offering)
    }
}
