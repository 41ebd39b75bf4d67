//! Look-ups of recipients for one batch of events: each fact once, and the resources of the batch together.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use super::consumer::{customer_facts, policy_facts};
use crate::domain::ids::{CustomerId, OfferingId, PolicyId, ResourceId};
use crate::events::registry::{CustomerFacts, PolicyFacts};
use crate::store::consumer::ConsumerError;
use crate::store::sql::{ReadTx, SqlValue, in_list, query_in};

static RESOURCES: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT resource, offering, customer FROM notify_resources{g} WHERE resource IN", ""));

/// Facts as the events so far have left them; forgotten with the batch.
#[derive(Default)]
pub(super) struct Known {
    resources: HashMap<ResourceId, (OfferingId, CustomerId)>,
    customers: HashMap<CustomerId, Option<Arc<CustomerFacts>>>,
    policies: HashMap<PolicyId, Option<Arc<PolicyFacts>>>,
}

impl Known {
    /// Looks up resources that the batch has something to say of.
    pub(super) async fn of(tx: &mut ReadTx, resources: BTreeSet<ResourceId>) -> Result<Self, ConsumerError> {
        let keys: Vec<SqlValue> = resources.into_iter().map(|id| SqlValue::Uuid(id.as_uuid())).collect();
        let mut known = Self::default();
        for row in query_in(tx, &RESOURCES, &keys).await? {
            known.resources.insert(row.uuid(0)?.into(), (row.uuid(1)?.into(), row.uuid(2)?.into()));
        }
        Ok(known)
    }

    /// A resource that came with the batch; the first word on whose it is counts.
    pub(super) fn came(&mut self, resource: ResourceId, offering: OfferingId, customer: CustomerId) {
        self.resources.entry(resource).or_insert((offering, customer));
    }

    pub(super) fn resource(&self, resource: ResourceId) -> Option<(OfferingId, CustomerId)> {
        self.resources.get(&resource).copied()
    }

    pub(super) async fn customer(
        &mut self,
        tx: &mut ReadTx,
        customer: CustomerId,
    ) -> Result<Option<Arc<CustomerFacts>>, ConsumerError> {
        if let Some(known) = self.customers.get(&customer) {
            return Ok(known.clone());
        }
        let facts = customer_facts(tx, customer).await?.map(Arc::new);
        self.customers.insert(customer, facts.clone());
        Ok(facts)
    }

    pub(super) async fn policies(
        &mut self,
        tx: &mut ReadTx,
        policies: &[PolicyId],
    ) -> Result<Vec<Arc<PolicyFacts>>, ConsumerError> {
        let mut found = Vec::with_capacity(policies.len());
        for policy in policies {
            if let Some(known) = self.policies.get(policy) {
                found.extend(known.clone());
                continue;
            }
            let facts = policy_facts(tx, *policy).await?.map(Arc::new);
            self.policies.insert(*policy, facts.clone());
            found.extend(facts);
        }
        Ok(found)
    }

    /// A customer or a policy has changed: what was known of it is old.
    pub(super) fn forget(&mut self, customer: Option<CustomerId>, policy: Option<PolicyId>) {
        customer.map(|id| self.customers.remove(&id));
        policy.map(|id| self.policies.remove(&id));
    }
}
