//! The desired facts: the file's values over current values over defaults.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::file::{
    ComponentSpec, CustomerSpec, GroupSpec, Head, Kind, OfferingSpec, ProjectSpec, ResourceSpec, SiteFile,
};
use super::known::Known;
use super::policy_keys::PolicySpec;
use super::users::PersonSpec;
use super::yaml::{At, Given};
use crate::directory::UserDetails;
use crate::domain::ids::{OfferingId, PolicyId, UserId};
use crate::domain::period::PeriodKind;
use crate::domain::qos::QosNames;
use crate::domain::tres::{Amounts, is_memory, usual_minutes_per_unit};
use crate::events::allocation::{ResourceFacts, ResourceState};
use crate::events::registry::{
    BillingType, Component, CustomerFacts, GroupFacts, OfferingFacts, PolicyFacts, ProjectFacts, Scope,
};
use crate::registry::offering_period;

/// Identities by slug: of what is, and of what the file adds.
#[derive(Debug, Default)]
pub(super) struct Ids {
    by_slug: HashMap<(Kind, String), Uuid>,
    users: HashMap<String, UserId>,
}

impl Ids {
    pub(super) fn of(file: &SiteFile, known: &Known) -> Self {
        let mut ids = Self::default();
        for (kind, slug, id) in known.slugs() {
            ids.by_slug.insert((kind, slug.to_owned()), id);
        }
        ids.add(Kind::OrganizationGroup, file.groups.iter().flatten().map(|spec| &spec.head));
        ids.add(Kind::Customer, file.customers.iter().flatten().map(|spec| &spec.head));
        ids.add(Kind::Project, file.projects.iter().flatten().map(|spec| &spec.head));
        ids.add(Kind::Offering, file.offerings.iter().flatten().map(|spec| &spec.head));
        ids.add(Kind::Policy, file.policies.iter().flatten().map(|spec| &spec.head));
        for person in file.people() {
            let name = &person.username.value;
            let id = known.users.get(name).map_or_else(|| person.id(), |user| user.id);
            ids.users.insert(name.clone(), id);
        }
        ids
    }

    fn add<'a>(&mut self, kind: Kind, heads: impl Iterator<Item = &'a Head>) {
        for head in heads {
            let key = (kind, head.slug.clone());
            match head.uuid {
                Some(uuid) => drop(self.by_slug.insert(key, uuid)),
                None => drop(self.by_slug.entry(key).or_insert_with(|| head.id(kind))),
            }
        }
    }

    pub(super) fn get(&self, kind: Kind, slug: &str) -> Option<Uuid> {
        // The map is keyed by an owned text; sites are small enough for the copy.
        self.by_slug.get(&(kind, slug.to_owned())).copied()
    }

    pub(super) fn head(&self, kind: Kind, head: &Head) -> Uuid {
        self.get(kind, &head.slug).unwrap_or_else(|| head.id(kind))
    }

    fn reference(&self, kind: Kind, slug: Option<&At<String>>) -> Option<Uuid> {
        self.get(kind, &slug?.value)
    }

    pub(super) fn user(&self, name: &str) -> Option<UserId> {
        self.users.get(name).copied()
    }

    fn users(&self, people: &[PersonSpec]) -> BTreeSet<UserId> {
        people.iter().filter_map(|person| self.user(&person.username.value)).collect()
    }
}

/// A policy that the file asks for.
#[derive(Debug, Clone)]
pub(super) struct DesiredPolicy {
    pub(super) facts: PolicyFacts,
    /// Addresses whose ids are still to be had from the directory; none = the facts have them.
    pub(super) recipients: Option<Vec<String>>,
    pub(super) reason: Option<String>,
}

/// Everything that the file asks for, in its order. References that lead nowhere are left out here and complained about
/// by the validation.
#[derive(Debug, Default)]
pub(super) struct Desired {
    pub(super) users: Vec<UserDetails>,
    pub(super) groups: Vec<GroupFacts>,
    pub(super) customers: Vec<CustomerFacts>,
    pub(super) projects: Vec<ProjectFacts>,
    pub(super) offerings: Vec<OfferingFacts>,
    /// Beside the policies of the file: none where the offering is not known.
    pub(super) policies: Vec<Option<DesiredPolicy>>,
    /// Beside the resources of the file: none where project or offering is not known.
    pub(super) resources: Vec<Option<ResourceFacts>>,
}

impl Desired {
    pub(super) fn of(file: &SiteFile, known: &Known, ids: &Ids, now: DateTime<Utc>) -> Self {
        let mut desired = Self { users: users(file, known, ids), ..Self::default() };
        desired.groups = file.groups.iter().flatten().map(|spec| group(spec, known, ids)).collect();
        desired.customers = file.customers.iter().flatten().map(|spec| customer(spec, known, ids)).collect();
        desired.projects = file.projects.iter().flatten().filter_map(|spec| project(spec, known, ids)).collect();
        desired.offerings = file.offerings.iter().flatten().filter_map(|spec| offering(spec, known, ids)).collect();
        let offerings: BTreeMap<OfferingId, &OfferingFacts> = known
            .offerings
            .iter()
            .map(|(id, facts)| (*id, facts))
            .chain(desired.offerings.iter().map(|facts| (facts.offering, facts)))
            .collect();
        desired.policies = file.policies.iter().flatten().map(|spec| policy(spec, known, ids, &offerings)).collect();
        let projects: BTreeMap<_, _> =
            known.projects.values().chain(&desired.projects).map(|facts| (facts.project, facts.customer)).collect();
        let resource = |spec| resource(spec, known, ids, &projects, now);
        desired.resources = file.resources.iter().flatten().map(resource).collect();
        desired
    }
}

/// Everybody named, once; a key that one mention gives holds for all.
fn users(file: &SiteFile, known: &Known, ids: &Ids) -> Vec<UserDetails> {
    let mut users: BTreeMap<&str, UserDetails> = BTreeMap::new();
    for person in file.people() {
        let name = person.username.value.as_str();
        let user = users.entry(name).or_insert_with(|| {
            let record = known.users.get(name);
            UserDetails {
                id: ids.user(name).unwrap_or_else(|| person.id()),
                username: name.to_owned(),
                email: record.and_then(|r| r.email.clone()),
                full_name: record.map(|r| r.full_name.clone()).unwrap_or_default(),
            }
        });
        match &person.email {
            Given::Absent => {}
            given => user.email = given.value().cloned(),
        }
        match &person.full_name {
            Given::Absent => {}
            given => user.full_name = given.value().cloned().unwrap_or_default(),
        }
    }
    users.into_values().collect()
}

fn name_of(given: &Given<String>, current: Option<&String>, head: &Head) -> String {
    given.over(current, || head.slug.clone())
}

fn group(spec: &GroupSpec, known: &Known, ids: &Ids) -> GroupFacts {
    let id = ids.head(Kind::OrganizationGroup, &spec.head).into();
    let current = known.groups.get(&id);
    let name = name_of(&spec.name, current.map(|c| &c.name), &spec.head);
    GroupFacts { group: id, slug: spec.head.slug.clone(), name, retired: false }
}

fn customer(spec: &CustomerSpec, known: &Known, ids: &Ids) -> CustomerFacts {
    let id = ids.head(Kind::Customer, &spec.head).into();
    let current = known.customers.get(&id);
    let groups = spec.groups.clone().map(|slugs| {
        let resolved = slugs.iter().filter_map(|slug| ids.reference(Kind::OrganizationGroup, Some(slug)));
        resolved.map(Into::into).collect::<BTreeSet<_>>()
    });
    let owners = spec.owners.clone().map(|people| ids.users(&people));
    let owners = owners.over(current.map(|c| &c.owners), BTreeSet::new);
    // A file speaks for staff: the people it names are confirmed.
    let pending = current.map(|c| c.pending.difference(&owners).copied().collect()).unwrap_or_default();
    CustomerFacts {
        customer: id,
        slug: spec.head.slug.clone(),
        name: name_of(&spec.name, current.map(|c| &c.name), &spec.head),
        groups: groups.over(current.map(|c| &c.groups), BTreeSet::new),
        owners,
        pending,
        retired: false,
    }
}

fn project(spec: &ProjectSpec, known: &Known, ids: &Ids) -> Option<ProjectFacts> {
    let id = ids.head(Kind::Project, &spec.head).into();
    let current = known.projects.get(&id);
    let members = spec.members.clone().map(|people| ids.users(&people));
    let members = members.over(current.map(|c| &c.members), BTreeSet::new);
    let pending = current.map(|c| c.pending.difference(&members).copied().collect()).unwrap_or_default();
    Some(ProjectFacts {
        project: id,
        slug: spec.head.slug.clone(),
        name: name_of(&spec.name, current.map(|c| &c.name), &spec.head),
        customer: ids.reference(Kind::Customer, spec.customer.as_ref())?.into(),
        members,
        pending,
        retired: false,
    })
}

fn offering(spec: &OfferingSpec, known: &Known, ids: &Ids) -> Option<OfferingFacts> {
    let id = ids.head(Kind::Offering, &spec.head).into();
    let current = known.offerings.get(&id);
    let components = spec.components.clone().map(|list| {
        let before = |component: &ComponentSpec| {
            current?.components.iter().find(|c| c.component_type == component.component_type.value)
        };
        list.iter().map(|spec| component(spec, before(spec))).collect::<Vec<_>>()
    });
    Some(OfferingFacts {
        offering: id,
        slug: spec.head.slug.clone(),
        name: name_of(&spec.name, current.map(|c| &c.name), &spec.head),
        customer: ids.reference(Kind::Customer, spec.customer.as_ref())?.into(),
        components: components.over(current.map(|c| &c.components), Vec::new),
        qos: spec.qos.over(current.map(|c| &c.qos), QosNames::default),
        slurm_clusters: spec.slurm_clusters.over(current.map(|c| &c.slurm_clusters), Vec::new),
        retired: false,
    })
}

fn component(spec: &ComponentSpec, current: Option<&Component>) -> Component {
    let component_type = spec.component_type.value.clone();
    let optional = |given: &Given<String>, current: Option<&String>| match given {
        Given::Absent => current.cloned(),
        given => given.value().cloned(),
    };
    let slurm_tres = optional(&spec.slurm_tres, current.and_then(|c| c.slurm_tres.as_ref()));
    let counted = slurm_tres.as_deref().unwrap_or(&component_type);
    let limit_period = match &spec.limit_period {
        Given::Absent => current.and_then(|c| c.limit_period),
        given => given.value().copied(),
    };
    let unit = || if is_memory(counted) { "GB-hours" } else { "hours" }.to_owned();
    let minutes = || usual_minutes_per_unit(counted);
    Component {
        name: spec.name.over(current.map(|c| &c.name), || component_type.clone()),
        measured_unit: spec.measured_unit.over(current.map(|c| &c.measured_unit), unit),
        billing_type: spec.billing_type.over(current.map(|c| &c.billing_type), BillingType::default),
        limit_period,
        minutes_per_unit: spec.minutes_per_unit.over(current.map(|c| &c.minutes_per_unit), minutes),
        limit_decimal_places: match &spec.limit_decimal_places {
            Given::Absent => current.and_then(|c| c.limit_decimal_places),
            given => given.value().copied(),
        },
        slurm_tres,
        component_type,
    }
}

/// The period of a policy: on a new one what the file says, on an old one the offering's own where it has one, since that
/// is what counts whatever the policy says.
fn period(spec: &PolicySpec, current: Option<&PolicyFacts>, offering: &OfferingFacts) -> PeriodKind {
    let own = offering_period(offering);
    let given = spec.period.clone().map(|at| at.value);
    match (current, own) {
        (Some(_), Some(own)) => own,
        (current, own) => given.over(current.map(|c| &c.terms.period), || own.unwrap_or(PeriodKind::Quarter)),
    }
}

fn policy(
    spec: &PolicySpec,
    known: &Known,
    ids: &Ids,
    offerings: &BTreeMap<OfferingId, &OfferingFacts>,
) -> Option<DesiredPolicy> {
    let id: PolicyId = ids.head(Kind::Policy, &spec.head).into();
    let current = known.policies.get(&id);
    let offering = ids.reference(Kind::Offering, spec.offering.as_ref())?.into();
    let groups = spec.organization_groups.clone().map(|slugs| {
        let resolved = slugs.iter().filter_map(|slug| ids.reference(Kind::OrganizationGroup, Some(slug)));
        resolved.map(Into::into).collect::<BTreeSet<_>>()
    });
    let scope = match (&spec.apply_to_all, groups) {
        (Given::Value(true), _) => Scope::All,
        (_, Given::Value(groups)) => Scope::Groups(groups),
        (Given::Absent, Given::Absent) => current.map_or(Scope::Groups(BTreeSet::new()), |c| c.scope.clone()),
        _ => Scope::Groups(BTreeSet::new()),
    };
    let terms = spec.terms(current.map(|c| &c.terms), period(spec, current, offerings.get(&offering)?));
    let (external_recipients, recipients) = recipients(spec, current, known);
    let facts = PolicyFacts {
        policy: id,
        slug: spec.head.slug.clone(),
        offering,
        scope,
        terms,
        external_recipients,
        options: spec.options.over(current.map(|c| &c.options), BTreeMap::new),
    };
    Some(DesiredPolicy { facts, recipients, reason: spec.reason.clone() })
}

/// The ids that are, if they stand for the addresses wanted; else the addresses, to be given ids.
fn recipients(
    spec: &PolicySpec,
    current: Option<&PolicyFacts>,
    known: &Known,
) -> (BTreeSet<UserId>, Option<Vec<String>>) {
    let ids = current.map(|c| c.external_recipients.clone()).unwrap_or_default();
    let wanted = match &spec.recipients {
        Given::Absent => return (ids, None),
        Given::Null => Vec::new(),
        Given::Value(list) => list.clone(),
    };
    let lower = |list: &[String]| list.iter().map(|a| a.to_lowercase()).collect::<BTreeSet<_>>();
    let have: Vec<String> = ids.iter().filter_map(|id| known.addresses.get(id).cloned()).collect();
    if have.len() == ids.len() && lower(&have) == lower(&wanted) {
        return (ids, None);
    }
    if wanted.is_empty() { (BTreeSet::new(), None) } else { (BTreeSet::new(), Some(wanted)) }
}

fn resource(
    spec: &ResourceSpec,
    known: &Known,
    ids: &Ids,
    customers: &BTreeMap<crate::domain::ids::ProjectId, crate::domain::ids::CustomerId>,
    now: DateTime<Utc>,
) -> Option<ResourceFacts> {
    let id = spec.id();
    let current = known.resources.get(&id);
    let project = ids.reference(Kind::Project, spec.project.as_ref())?.into();
    let state = spec.state.clone().map(|at| at.value);
    Some(ResourceFacts {
        resource: id,
        slug: spec.head.slug.clone(),
        name: name_of(&spec.name, current.map(|c| &c.name), &spec.head),
        offering: ids.reference(Kind::Offering, spec.offering.as_ref())?.into(),
        project,
        customer: *customers.get(&project)?,
        backend_id: spec.backend_id.clone().map(|at| at.value).over(current.map(|c| &c.backend_id), String::new),
        limits: spec.limit_amounts().over(current.map(|c| &c.limits), Amounts::new),
        state: state.over(current.map(|c| &c.state), ResourceState::default),
        created: spec.created.clone().map(|at| at.value).over(current.map(|c| &c.created), || now),
    })
}
