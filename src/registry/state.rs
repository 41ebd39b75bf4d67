//! The fold of registry events, and which policies apply to which resource.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::agents::{Agents, At};
use crate::commands::allocation::{EarlierComponentLimits, OfferingInForce, PolicyInForce};
use crate::domain::evaluate::EvaluationTerms;
use crate::domain::ids::{CustomerId, GroupId, OfferingId, PolicyId, ProjectId, ResourceId};
use crate::domain::period::{Month, PeriodKind};
use crate::events::agent::{AgentEvent, QueueFacts};
use crate::events::allocation::{AllocationEvent, ResourceState};
use crate::events::envelope::{Position, Version};
use crate::events::registry::{
    BillingType, CustomerFacts, GroupFacts, OfferingFacts, PolicyFacts, ProjectFacts, RegistryEvent, Scope,
};

/// How long component limits are remembered that a policy no longer has: a year's period looks back to the end of the last.
const LOOK_BACK: TimeDelta = TimeDelta::days(2 * 366);

/// What [`RegistryState::kind_of`] calls a resource.
pub const RESOURCE: &str = "resource";

/// Facts with the version of the stream that they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// The facts.
    pub facts: Arc<T>,
    /// Version of the stream.
    pub version: Version,
}

/// What the registry keeps in memory of each resource: small, since there may be a hundred thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceEntry {
    /// Its offering.
    pub offering: OfferingId,
    /// Its project.
    pub project: ProjectId,
    /// Its customer.
    pub customer: CustomerId,
    /// Its state.
    pub state: ResourceState,
    /// The newest book known.
    pub book: Month,
}

/// A policy version as a snapshot keeps it.
#[derive(Debug, Clone)]
pub struct PolicyRow {
    /// The facts.
    pub facts: PolicyFacts,
    /// The version.
    pub version: Version,
    /// When the policy was created.
    pub created: DateTime<Utc>,
}

/// Everything the registry knew at a position of the log.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The position.
    pub position: Position,
    /// Groups.
    pub groups: Vec<(GroupFacts, Version)>,
    /// Organisations.
    pub customers: Vec<(CustomerFacts, Version)>,
    /// Projects.
    pub projects: Vec<(ProjectFacts, Version)>,
    /// Offerings.
    pub offerings: Vec<(OfferingFacts, Version)>,
    /// Policies that are not deleted.
    pub policies: Vec<PolicyRow>,
    /// Policies that are.
    pub deleted: Vec<PolicyId>,
    /// Resources.
    pub resources: Vec<(ResourceId, ResourceEntry)>,
    /// Site agents.
    pub agents: Agents,
}

/// The fold.
#[derive(Debug, Default)]
pub struct RegistryState {
    position: Position,
    groups: HashMap<GroupId, Versioned<GroupFacts>>,
    customers: HashMap<CustomerId, Versioned<CustomerFacts>>,
    projects: HashMap<ProjectId, Versioned<ProjectFacts>>,
    offerings: HashMap<OfferingId, Versioned<OfferingInForce>>,
    policies: HashMap<PolicyId, Arc<PolicyInForce>>,
    deleted: BTreeSet<PolicyId>,
    by_offering: HashMap<OfferingId, Vec<PolicyId>>,
    resources: BTreeMap<ResourceId, ResourceEntry>,
    agents: Agents,
}

/// The one limit period that an offering's limit-billed components agree on, as a kind of period.
pub fn offering_period(offering: &OfferingFacts) -> Option<PeriodKind> {
    let mut periods = offering
        .components
        .iter()
        .filter(|c| c.billing_type == BillingType::Limit)
        .filter_map(|c| c.limit_period)
        .map(|p| PeriodKind::from_limit_period(p.as_str()));
    let first = periods.next()??;
    periods.all(|p| p == Some(first)).then_some(first)
}

/// Takes down component limits that others take the place of at an instant. What two years' periods cannot look back at any
/// more is left out.
pub fn superseded(
    earlier: &mut Vec<EarlierComponentLimits>,
    was: &PolicyFacts,
    is: &PolicyFacts,
    until: DateTime<Utc>,
) {
    if was.terms.component_limits != is.terms.component_limits {
        earlier.retain(|old| until - old.until < LOOK_BACK);
        earlier.push(EarlierComponentLimits { until, limits: was.terms.component_limits.clone() });
    }
}

fn versioned<T>(facts: T, version: Version) -> Versioned<T> {
    Versioned { facts: Arc::new(facts), version }
}

fn put<K: std::hash::Hash + Eq, T: Clone>(map: &mut HashMap<K, Versioned<T>>, key: K, facts: &T, version: Version) {
    if map.get(&key).is_none_or(|known| known.version < version) {
        map.insert(key, versioned(facts.clone(), version));
    }
}

impl RegistryState {
    pub(super) fn from_snapshot(snapshot: Snapshot) -> Self {
        let mut state = Self { position: snapshot.position, agents: snapshot.agents, ..Self::default() };
        state.groups = snapshot.groups.into_iter().map(|(f, v)| (f.group, versioned(f, v))).collect();
        state.customers = snapshot.customers.into_iter().map(|(f, v)| (f.customer, versioned(f, v))).collect();
        state.projects = snapshot.projects.into_iter().map(|(f, v)| (f.project, versioned(f, v))).collect();
        state.offerings =
            snapshot.offerings.into_iter().map(|(f, v)| (f.offering, versioned(OfferingInForce::of(f), v))).collect();
        state.resources = snapshot.resources.into_iter().collect();
        state.deleted = snapshot.deleted.into_iter().collect();
        for row in snapshot.policies {
            state.put_policy(&row.facts, row.version, row.created);
        }
        state
    }

    /// Takes over the component limits that a policy had before, oldest first.
    pub(super) fn set_earlier_limits(&mut self, policy: PolicyId, earlier: Vec<EarlierComponentLimits>) {
        if let Some(policy) = self.policies.get_mut(&policy).filter(|policy| policy.earlier_limits != earlier) {
            Arc::make_mut(policy).earlier_limits = earlier;
        }
    }

    /// Where in the log the state stands.
    pub fn position(&self) -> Position {
        self.position
    }

    pub(super) fn set_position(&mut self, position: Position) {
        self.position = self.position.max(position);
    }

    /// Folds a registry event. Events of one stream may come twice or late: an older version changes nothing.
    pub fn apply(&mut self, event: &RegistryEvent, version: Version, occurred_at: DateTime<Utc>) {
        match event {
            RegistryEvent::GroupRegistered(f) | RegistryEvent::GroupChanged(f) => {
                put(&mut self.groups, f.group, f, version);
            }
            RegistryEvent::CustomerRegistered(f) | RegistryEvent::CustomerChanged(f) => {
                put(&mut self.customers, f.customer, f, version);
            }
            RegistryEvent::ProjectRegistered(f) | RegistryEvent::ProjectChanged(f) => {
                put(&mut self.projects, f.project, f, version);
            }
            RegistryEvent::OfferingRegistered(f) | RegistryEvent::OfferingChanged(f) => {
                put(&mut self.offerings, f.offering, &OfferingInForce::of(f.clone()), version);
                self.refresh_policies(f.offering);
            }
            RegistryEvent::PolicyCreated(f) | RegistryEvent::PolicyChanged(f) => {
                self.put_policy(f, version, occurred_at);
            }
            RegistryEvent::PolicyDeleted(deleted) => {
                self.deleted.insert(deleted.policy);
                if let Some(policy) = self.policies.remove(&deleted.policy)
                    && let Some(list) = self.by_offering.get_mut(&policy.facts.offering)
                {
                    list.retain(|id| *id != deleted.policy);
                }
            }
            RegistryEvent::EvaluationRequested(_) => {}
        }
    }

    /// Folds what the registry keeps of an allocation event of `resource` in the book of `month`.
    pub fn apply_allocation(&mut self, resource: ResourceId, month: Month, event: &AllocationEvent) {
        match event {
            AllocationEvent::ResourceRegistered(registered) => {
                let f = &registered.facts;
                self.resources.entry(resource).or_insert(ResourceEntry {
                    offering: f.offering,
                    project: f.project,
                    customer: f.customer,
                    state: f.state,
                    book: month,
                });
            }
            AllocationEvent::ResourceStateChanged(changed) => {
                if let Some(entry) = self.resources.get_mut(&resource) {
                    entry.state = changed.to;
                }
            }
            AllocationEvent::BooksOpened(_) => self.opened(resource, month),
            _ => {}
        }
    }

    /// Folds an event of a site agent.
    pub fn apply_agent(&mut self, event: &AgentEvent, version: Version, occurred_at: DateTime<Utc>) {
        self.agents.apply(event, &At { version, created: occurred_at, modified: occurred_at });
    }

    /// Site agents.
    pub fn agents(&self) -> &Agents {
        &self.agents
    }

    /// Queues of site agents that hear of an offering's resources.
    pub fn queues_of(&self, offering: OfferingId) -> impl Iterator<Item = &QueueFacts> {
        self.agents.queues_of(offering)
    }

    /// Notes that a resource's book of `month` exists.
    pub fn opened(&mut self, resource: ResourceId, month: Month) {
        if let Some(entry) = self.resources.get_mut(&resource) {
            entry.book = entry.book.max(month);
        }
    }

    fn put_policy(&mut self, facts: &PolicyFacts, version: Version, occurred_at: DateTime<Utc>) {
        if self.deleted.contains(&facts.policy)
            || self.policies.get(&facts.policy).is_some_and(|p| p.version >= version)
        {
            return;
        }
        let known = self.policies.get(&facts.policy);
        let created = known.map_or(occurred_at, |known| known.created);
        let mut earlier_limits = known.map(|known| known.earlier_limits.clone()).unwrap_or_default();
        if let Some(known) = known {
            superseded(&mut earlier_limits, &known.facts, facts, occurred_at);
        }
        let policy = Arc::new(PolicyInForce { earlier_limits, ..self.in_force(facts.clone(), version, created) });
        self.policies.insert(facts.policy, policy);
        let list = self.by_offering.entry(facts.offering).or_default();
        if !list.contains(&facts.policy) {
            list.push(facts.policy);
        }
        let policies = &self.policies;
        list.sort_by_key(|id| policies.get(id).map(|p| (p.created, *id)));
    }

    fn in_force(&self, facts: PolicyFacts, version: Version, created: DateTime<Utc>) -> PolicyInForce {
        let offering = self.offerings.get(&facts.offering);
        let period = offering.and_then(|o| offering_period(&o.facts.facts)).unwrap_or(facts.terms.period);
        let evaluation = Arc::new(EvaluationTerms::of(&facts.terms, period));
        PolicyInForce { facts, version, created, evaluation, period, earlier_limits: Vec::new() }
    }

    fn refresh_policies(&mut self, offering: OfferingId) {
        for id in self.by_offering.get(&offering).cloned().unwrap_or_default() {
            if let Some(old) = self.policies.get(&id) {
                let renewed = PolicyInForce {
                    earlier_limits: old.earlier_limits.clone(),
                    ..self.in_force(old.facts.clone(), old.version, old.created)
                };
                self.policies.insert(id, Arc::new(renewed));
            }
        }
    }

    /// What has an id, whatever it is, retired and deleted objects too.
    pub fn kind_of(&self, id: Uuid) -> Option<&'static str> {
        if self.groups.contains_key(&id.into()) {
            Some("organization group")
        } else if self.customers.contains_key(&id.into()) {
            Some("customer")
        } else if self.projects.contains_key(&id.into()) {
            Some("project")
        } else if self.offerings.contains_key(&id.into()) {
            Some("offering")
        } else if self.policies.contains_key(&id.into()) || self.deleted.contains(&id.into()) {
            Some("policy")
        } else if self.resources.contains_key(&id.into()) {
            Some(RESOURCE)
        } else {
            None
        }
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> Option<&Versioned<GroupFacts>> {
        self.groups.get(&id)
    }

    /// A customer.
    pub fn customer(&self, id: CustomerId) -> Option<&Versioned<CustomerFacts>> {
        self.customers.get(&id)
    }

    /// A project.
    pub fn project(&self, id: ProjectId) -> Option<&Versioned<ProjectFacts>> {
        self.projects.get(&id)
    }

    /// An offering.
    pub fn offering(&self, id: OfferingId) -> Option<&Versioned<OfferingInForce>> {
        self.offerings.get(&id)
    }

    /// A policy that is not deleted.
    pub fn policy(&self, id: PolicyId) -> Option<&Arc<PolicyInForce>> {
        self.policies.get(&id)
    }

    /// True if the policy existed and was deleted.
    pub fn was_deleted(&self, id: PolicyId) -> bool {
        self.deleted.contains(&id)
    }

    /// What is kept of a resource.
    pub fn resource(&self, id: ResourceId) -> Option<&ResourceEntry> {
        self.resources.get(&id)
    }

    /// All groups, customers, projects, offerings in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = &Versioned<GroupFacts>> {
        self.groups.values()
    }

    /// All customers.
    pub fn customers(&self) -> impl Iterator<Item = &Versioned<CustomerFacts>> {
        self.customers.values()
    }

    /// All projects.
    pub fn projects(&self) -> impl Iterator<Item = &Versioned<ProjectFacts>> {
        self.projects.values()
    }

    /// All offerings.
    pub fn offerings(&self) -> impl Iterator<Item = &Versioned<OfferingInForce>> {
        self.offerings.values()
    }

    /// All policies that are not deleted.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<PolicyInForce>> {
        self.policies.values()
    }

    /// All resources in the order of their ids.
    pub fn resources(&self) -> impl Iterator<Item = (ResourceId, &ResourceEntry)> {
        self.resources.iter().map(|(id, entry)| (*id, entry))
    }

    /// Number of resources.
    pub fn resource_count(&self) -> usize {
        self.resources.len()
    }

    /// Policies of an offering, oldest first.
    pub fn policies_on(&self, offering: OfferingId) -> impl Iterator<Item = &Arc<PolicyInForce>> {
        self.by_offering.get(&offering).into_iter().flatten().filter_map(|id| self.policies.get(id))
    }

    /// True if the policy's scope holds the customer, enabled or not.
    pub fn in_scope(&self, policy: &PolicyInForce, customer: CustomerId) -> bool {
        match &policy.facts.scope {
            Scope::All => true,
            Scope::Groups(groups) => {
                self.customers.get(&customer).is_some_and(|c| c.facts.groups.intersection(groups).next().is_some())
            }
        }
    }

    /// Enabled policies of an offering whose scope holds the customer, oldest first.
    pub fn applying(&self, offering: OfferingId, customer: CustomerId) -> Vec<Arc<PolicyInForce>> {
        self.policies_on(offering).filter(|p| p.facts.terms.enabled && self.in_scope(p, customer)).cloned().collect()
    }

    /// Live resources of an offering.
    pub fn live_resources(&self, offering: OfferingId) -> Vec<ResourceId> {
        self.resources.iter().filter(|(_, e)| e.offering == offering && e.state.is_live()).map(|(id, _)| *id).collect()
    }

    /// Live resources of the policy's offering whose customer is in its scope.
    pub fn resources_in_scope(&self, policy: &PolicyInForce) -> Vec<ResourceId> {
        let mut scoped: HashMap<CustomerId, bool> = HashMap::new();
        self.resources
            .iter()
            .filter(|(_, e)| e.offering == policy.facts.offering && e.state.is_live())
            .filter(|(_, e)| *scoped.entry(e.customer).or_insert_with(|| self.in_scope(policy, e.customer)))
            .map(|(id, _)| *id)
            .collect()
    }
}
