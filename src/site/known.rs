//! The current state, as far as a site file can describe it: read once, before planning, so that planning is pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::file::Kind;
use crate::directory::{TokenRecord, UserRecord};
use crate::domain::ids::{CustomerId, GroupId, OfferingId, PolicyId, ProjectId, ResourceId, UserId};
use crate::events::allocation::ResourceFacts;
use crate::events::registry::{CustomerFacts, GroupFacts, OfferingFacts, PolicyFacts, ProjectFacts};
use crate::registry::RegistryState;

/// Registry, directory and the resources that the file names.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) groups: BTreeMap<GroupId, GroupFacts>,
    pub(super) customers: BTreeMap<CustomerId, CustomerFacts>,
    pub(super) projects: BTreeMap<ProjectId, ProjectFacts>,
    pub(super) offerings: BTreeMap<OfferingId, OfferingFacts>,
    pub(super) policies: BTreeMap<PolicyId, PolicyFacts>,
    /// Policies that were deleted and that the file names.
    pub(super) deleted: BTreeSet<PolicyId>,
    /// Facts of the resources that the file names, or of all when pruning.
    pub(super) resources: HashMap<ResourceId, ResourceFacts>,
    pub(super) users: HashMap<String, UserRecord>,
    /// Addresses behind the recipients of policies.
    pub(super) addresses: HashMap<UserId, String>,
    pub(super) tokens: Vec<TokenRecord>,
    /// For each token of the file, the token that its key was made for.
    pub(super) token_by_key: Vec<Option<TokenRecord>>,
}

impl Known {
    /// What the registry holds.
    pub(super) fn of(state: &RegistryState) -> Self {
        Self {
            groups: state.groups().map(|g| (g.facts.group, (*g.facts).clone())).collect(),
            customers: state.customers().map(|c| (c.facts.customer, (*c.facts).clone())).collect(),
            projects: state.projects().map(|p| (p.facts.project, (*p.facts).clone())).collect(),
            offerings: state.offerings().map(|o| (o.facts.facts.offering, o.facts.facts.clone())).collect(),
            policies: state.policies().map(|p| (p.id(), p.facts.clone())).collect(),
            ..Self::default()
        }
    }

    /// Every slug in use, with its identity; that need not follow from the slug.
    pub(super) fn slugs(&self) -> impl Iterator<Item = (Kind, &str, Uuid)> {
        let groups = self.groups.iter().map(|(id, f)| (Kind::OrganizationGroup, f.slug.as_str(), id.as_uuid()));
        let customers = self.customers.iter().map(|(id, f)| (Kind::Customer, f.slug.as_str(), id.as_uuid()));
        let projects = self.projects.iter().map(|(id, f)| (Kind::Project, f.slug.as_str(), id.as_uuid()));
        let offerings = self.offerings.iter().map(|(id, f)| (Kind::Offering, f.slug.as_str(), id.as_uuid()));
        let policies = self.policies.iter().map(|(id, f)| (Kind::Policy, f.slug.as_str(), id.as_uuid()));
        groups.chain(customers).chain(projects).chain(offerings).chain(policies).filter(|(_, slug, _)| !slug.is_empty())
    }
}
