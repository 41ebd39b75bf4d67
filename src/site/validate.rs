//! Checks a site file against itself and against the current state, before anything is appended.
//!
//! Every error names line, key, value and what is allowed, and all of them are reported at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::accounts::InFile;
use super::file::{Head, Kind, ResourceSpec, SiteFile};
use super::known::Known;
use super::merge::{Desired, Ids};
use super::plan_resources::another_on;
use super::policy_keys::PolicySpec;
use super::users::{KeySource, TokenSpec};
use super::yaml::{At, Given as Key, Problems};
use super::{SiteErrors, plan};
use crate::commands::registry::check_against_offering;
use crate::domain::decimal::{MAX_AMOUNT, complaint};
use crate::domain::ids::{OfferingId, ResourceId};
use crate::domain::period::PeriodKind;
use crate::events::allocation::{ResourceFacts, ResourceState};
use crate::events::registry::{OfferingFacts, PolicyFacts, RegistryEvent};
use crate::operations::AccountClaim;
use crate::projections::registry::AccountHolder;
use crate::registry::{PolicyRow, Registry, Snapshot, offering_period};

/// A file with what is, and what it asks for.
pub(super) struct Given<'a> {
    pub(super) file: &'a SiteFile,
    pub(super) known: &'a Known,
    pub(super) ids: &'a Ids,
    pub(super) desired: &'a Desired,
    /// The accounts that resources are to get.
    pub(super) claims: &'a [AccountClaim],
    /// Which of these a resource has that the file does not name.
    pub(super) taken: &'a [(usize, AccountHolder)],
}

struct Check<'a> {
    file: &'a SiteFile,
    known: &'a Known,
    ids: &'a Ids,
    desired: &'a Desired,
    claims: &'a [AccountClaim],
    taken: &'a [(usize, AccountHolder)],
    problems: Problems,
}

/// Everything that is wrong with the file.
pub(super) fn validate(given: &Given<'_>, now: DateTime<Utc>) -> Result<(), SiteErrors> {
    let Given { file, known, ids, desired, claims, taken } = *given;
    let check = Check { file, known, ids, desired, claims, taken, problems: Problems::default() };
    check.identities();
    check.people();
    check.references();
    check.projects();
    check.policies(now);
    check.resources();
    for (index, token) in file.tokens.iter().flatten().enumerate() {
        check.token(token, index, now);
    }
    check.problems.into_result()
}

impl Check<'_> {
    /// One identity, one object; and an object that exists keeps its own.
    fn identities(&self) {
        let file = self.file;
        let mut seen: HashMap<Uuid, u64> = HashMap::new();
        let mut heads: Vec<(Kind, &Head)> = Vec::new();
        heads.extend(file.groups.iter().flatten().map(|s| (Kind::OrganizationGroup, &s.head)));
        heads.extend(file.customers.iter().flatten().map(|s| (Kind::Customer, &s.head)));
        heads.extend(file.projects.iter().flatten().map(|s| (Kind::Project, &s.head)));
        heads.extend(file.offerings.iter().flatten().map(|s| (Kind::Offering, &s.head)));
        heads.extend(file.policies.iter().flatten().map(|s| (Kind::Policy, &s.head)));
        heads.extend(file.resources.iter().flatten().map(|s| (Kind::Resource, &s.head)));
        let known: HashMap<(Kind, &str), Uuid> =
            self.known.slugs().map(|(kind, slug, id)| ((kind, slug), id)).collect();
        for (kind, head) in heads {
            let id = head.uuid.unwrap_or_else(|| self.ids.head(kind, head));
            if let Some(line) = seen.insert(id, head.line) {
                let problem = format!("{} is the identity of the object in line {line} already", id.as_simple());
                self.problems.add(head.line, head.path_of("uuid"), problem);
            }
            let other =
                known.get(&(kind, head.slug.as_str())).filter(|known| head.uuid.is_some_and(|own| own != **known));
            if let Some(known) = other {
                let problem =
                    format!("{:?} exists with the identity {}, which cannot change", head.slug, known.as_simple());
                self.problems.add(head.line, head.path_of("uuid"), problem);
            }
        }
    }

    /// Mentions of one person agree.
    fn people(&self) {
        let mut emails: HashMap<&str, &str> = HashMap::new();
        let mut names: HashMap<&str, &str> = HashMap::new();
        for person in self.file.people() {
            let username = person.username.value.as_str();
            for (given, seen, what) in
                [(&person.email, &mut emails, "mail address"), (&person.full_name, &mut names, "full name")]
            {
                let Some(value) = given.value() else { continue };
                if let Some(other) = seen.insert(username, value).filter(|other| other != value) {
                    let problem =
                        format!("{username:?} has the {what} {value:?} here and {other:?} elsewhere in the file");
                    self.problems.at(&person.username, problem);
                }
            }
        }
    }

    fn reference(&self, kind: Kind, slug: Option<&At<String>>) {
        let Some(slug) = slug else { return };
        let here = || {
            let mut slugs = self.in_file(kind);
            slugs.sort_unstable();
            slugs.truncate(10);
            if slugs.is_empty() { String::new() } else { format!("; in this file there are {}", slugs.join(", ")) }
        };
        let word = kind.word().replace('_', " ");
        match self.ids.get(kind, &slug.value) {
            None => self.problems.at(slug, format!("there is no {word} {:?}{}", slug.value, here())),
            Some(id) if self.is_retired(kind, id) && !self.in_file(kind).contains(&slug.value.as_str()) => {
                self.problems
                    .at(slug, format!("the {word} {:?} is no longer in use; list it to bring it back", slug.value));
            }
            Some(_) => {}
        }
    }

    fn in_file(&self, kind: Kind) -> Vec<&str> {
        let file = self.file;
        match kind {
            Kind::OrganizationGroup => file.groups.iter().flatten().map(|s| s.head.slug.as_str()).collect(),
            Kind::Customer => file.customers.iter().flatten().map(|s| s.head.slug.as_str()).collect(),
            Kind::Project => file.projects.iter().flatten().map(|s| s.head.slug.as_str()).collect(),
            Kind::Offering => file.offerings.iter().flatten().map(|s| s.head.slug.as_str()).collect(),
            Kind::User | Kind::Policy | Kind::Resource | Kind::Token => Vec::new(),
        }
    }

    fn is_retired(&self, kind: Kind, id: Uuid) -> bool {
        match kind {
            Kind::OrganizationGroup => self.known.groups.get(&id.into()).is_some_and(|f| f.retired),
            Kind::Customer => self.known.customers.get(&id.into()).is_some_and(|f| f.retired),
            Kind::Project => self.known.projects.get(&id.into()).is_some_and(|f| f.retired),
            Kind::Offering => self.known.offerings.get(&id.into()).is_some_and(|f| f.retired),
            Kind::User | Kind::Policy | Kind::Resource | Kind::Token => false,
        }
    }

    fn references(&self) {
        let file = self.file;
        for slug in file.customers.iter().flatten().filter_map(|s| s.groups.value()).flatten() {
            self.reference(Kind::OrganizationGroup, Some(slug));
        }
        for spec in file.projects.iter().flatten() {
            self.reference(Kind::Customer, spec.customer.as_ref());
        }
        for spec in file.offerings.iter().flatten() {
            self.reference(Kind::Customer, spec.customer.as_ref());
        }
        for spec in file.policies.iter().flatten() {
            self.reference(Kind::Offering, spec.offering.as_ref());
            for slug in spec.organization_groups.value().into_iter().flatten() {
                self.reference(Kind::OrganizationGroup, Some(slug));
            }
        }
        for spec in file.resources.iter().flatten() {
            self.reference(Kind::Project, spec.project.as_ref());
            self.reference(Kind::Offering, spec.offering.as_ref());
        }
        for token in file.tokens.iter().flatten() {
            self.reference(Kind::Offering, token.offering.as_ref());
        }
    }

    /// Resources belong to the organisation that their project belonged to; so a project stays where it is.
    fn projects(&self) {
        for spec in self.file.projects.iter().flatten() {
            let id = self.ids.head(Kind::Project, &spec.head).into();
            let (Some(current), Some(wanted)) =
                (self.known.projects.get(&id), self.desired.projects.iter().find(|p| p.project == id))
            else {
                continue;
            };
            if let Some(at) = spec.customer.as_ref().filter(|_| current.customer != wanted.customer) {
                self.problems.at(at, "a project cannot move to another customer; make a new project");
            }
        }
    }

    fn policies(&self, now: DateTime<Utc>) {
        // What the registry will hold when the policies' turn comes; each policy is then checked as its command will be.
        let registry = self.registry_before_policies();
        for (spec, desired) in self.file.policies.iter().flatten().zip(&self.desired.policies) {
            self.scope(spec);
            let Some(desired) = desired else { continue };
            let facts = &desired.facts;
            if self.known.deleted.contains(&facts.policy) {
                let problem = format!("the policy {:?} was deleted; choose another slug for a new one", facts.slug);
                self.problems.add(spec.head.line, spec.head.path_of("slug"), problem);
                continue;
            }
            let current = self.known.policies.get(&facts.policy);
            if let (Some(at), Some(_)) = (&spec.offering, current.filter(|c| c.offering != facts.offering)) {
                self.problems.at(at, "a policy cannot move to another offering; make a new policy");
                continue;
            }
            if current == Some(facts) {
                continue;
            }
            if let Err(errors) = check_against_offering(facts, current, &registry.read()) {
                for (field, messages) in errors.0 {
                    self.policy_problems(spec, &field, &messages);
                }
            }
            let event = RegistryEvent::PolicyChanged(Box::new(facts.clone()));
            registry.write().apply(&event, u64::MAX, now);
        }
    }

    fn policy_problems(&self, spec: &PolicySpec, field: &str, messages: &[String]) {
        // The scope and the offering are checked with their own words above.
        if matches!(field, "non_field_errors" | "organization_groups" | "scope") {
            return;
        }
        let key = if field == "component_limits_set" { "component_limits" } else { field };
        let line = spec.lines.get(key).copied().unwrap_or(spec.head.line);
        let line = if key == "period" { spec.period.value().map_or(line, |at| at.line) } else { line };
        for message in messages {
            self.problems.add(line, spec.head.path_of(key), message.clone());
        }
    }

    fn scope(&self, spec: &PolicySpec) {
        let path = spec.head.path.clone();
        let groups = spec.organization_groups.value().map_or(0, Vec::len);
        let new = !self.known.policies.contains_key(&self.ids.head(Kind::Policy, &spec.head).into());
        match (&spec.apply_to_all, groups) {
            (Key::Value(true), 1..) => {
                self.problems.add(
                    spec.head.line,
                    path,
                    "apply_to_all and organization_groups are both given; exactly one is allowed",
                );
            }
            (Key::Value(true), 0) | (_, 1..) => {}
            (Key::Absent, 0) if !new && spec.organization_groups.value().is_none() => {}
            _ => self.problems.add(
                spec.head.line,
                path,
                "whom it applies to is not said: apply_to_all: true, or organization_groups with at least one slug",
            ),
        }
    }

    fn registry_before_policies(&self) -> Registry {
        let mut offerings: BTreeMap<OfferingId, OfferingFacts> = self.known.offerings.clone();
        offerings.extend(self.desired.offerings.iter().map(|facts| (facts.offering, facts.clone())));
        let groups = self.known.groups.values().chain(&self.desired.groups).map(|facts| (facts.clone(), 1));
        let row = |facts: &PolicyFacts| PolicyRow { facts: facts.clone(), version: 1, created: DateTime::UNIX_EPOCH };
        Registry::from_snapshot(Snapshot {
            groups: groups.collect(),
            offerings: offerings.into_values().map(|facts| (facts, 1)).collect(),
            policies: self.known.policies.values().map(row).collect(),
            ..Snapshot::default()
        })
    }

    fn resources(&self) {
        let offerings: BTreeMap<OfferingId, &OfferingFacts> =
            self.known.offerings.values().chain(&self.desired.offerings).map(|facts| (facts.offering, facts)).collect();
        let mut accounts = InFile::default();
        let by_resource: HashMap<ResourceId, (usize, &AccountClaim)> =
            self.claims.iter().enumerate().map(|(place, claim)| (claim.resource, (place, claim))).collect();
        let taken: HashMap<usize, &AccountHolder> = self.taken.iter().map(|(place, holder)| (*place, holder)).collect();
        for (spec, facts) in self.file.resources.iter().flatten().zip(&self.desired.resources) {
            let Some(facts) = facts else { continue };
            if let Some(offering) = offerings.get(&facts.offering) {
                self.limits(spec, facts, offering);
            }
            if let Some(current) = self.known.resources.get(&facts.resource) {
                self.unchangeable(spec, current, facts);
            }
            if !facts.state.is_live() {
                continue;
            }
            let claim = by_resource.get(&facts.resource);
            let line = spec.backend_id.value().map_or(spec.head.line, |at| at.line);
            let field = spec.head.path_of(if facts.backend_id.is_empty() { "name" } else { "backend_id" });
            if let Some(other) = accounts.take(facts, spec.head.line, claim.is_some()) {
                let problem = format!("{:?} is the account of the resource in line {other} already", facts.account());
                self.problems.add(line, field, problem);
            } else if let Some((place, claim)) = claim {
                let problem = claim.complaint().or_else(|| taken.get(place).map(|holder| claim.taken(holder)));
                if let Some(problem) = problem {
                    self.problems.add(line, field, problem);
                }
            }
        }
    }

    fn limits(&self, spec: &ResourceSpec, facts: &ResourceFacts, offering: &OfferingFacts) {
        let known: BTreeSet<&str> = offering.components.iter().map(|c| c.component_type.as_str()).collect();
        for (component, amount) in spec.limits.value().into_iter().flatten() {
            if !known.contains(component.as_str()) {
                let list: Vec<&str> = known.iter().copied().collect();
                let problem = format!(
                    "the offering {:?} has no component {component:?}; it has {}",
                    offering.slug,
                    list.join(", ")
                );
                self.problems.at(amount, problem);
            }
            if let Some(problem) = complaint(amount.value, Decimal::ZERO, MAX_AMOUNT) {
                self.problems.at(amount, problem);
            }
        }
        let current = self.known.resources.get(&facts.resource);
        if current.is_some_and(|c| !c.state.is_live() && c.limits != facts.limits) {
            self.problems.add(
                spec.head.line,
                spec.head.path_of("limits"),
                "the resource is terminated; its limits cannot change",
            );
        }
    }

    /// What a resource was made with.
    fn unchangeable(&self, spec: &ResourceSpec, current: &ResourceFacts, wanted: &ResourceFacts) {
        if let (Some(at), true) = (&spec.project, current.project != wanted.project) {
            self.problems.at(at, "a resource cannot move to another project; make a new resource");
        }
        if let (Some(at), true) = (&spec.offering, current.offering != wanted.offering) {
            self.problems.at(at, "a resource cannot move to another offering; make a new resource");
        }
        if let Some(at) = spec.created.value().filter(|at| at.value != current.created) {
            let problem =
                format!("the resource was created at {}; that cannot change", plan::shown_time(current.created));
            self.problems.at(at, problem);
        }
        if let Some(at) = spec.state.value().filter(|at| at.value != current.state)
            && current.state == ResourceState::Terminated
        {
            let problem = format!("the resource is terminated, which is final; {}", another_on(current));
            self.problems.at(at, problem);
        }
    }

    fn token(&self, token: &TokenSpec, index: usize, now: DateTime<Utc>) {
        match &token.key {
            KeySource::Given(_) => {
                let Some(known) = self.known.token_by_key.get(index).and_then(Option::as_ref) else { return };
                if !known.is_active(now) {
                    self.problems.add(
                        token.line,
                        token.path.clone(),
                        "the key was revoked or has expired; choose a fresh one",
                    );
                } else if !plan::is_token_of(known, token, self.ids) {
                    let problem = "the key is in use for another user, role or offering; choose a fresh one";
                    self.problems.add(token.line, token.path.clone(), problem);
                }
            }
            KeySource::Unset(variable) => {
                let exists =
                    self.known.tokens.iter().any(|t| t.is_active(now) && plan::is_token_of(t, token, self.ids));
                if !exists {
                    let problem = format!(
                        "the variable {variable} is not set in the environment; set it, or leave out key_env to have a key made"
                    );
                    self.problems.add(token.line, format!("{}.key_env", token.path), problem);
                }
            }
            KeySource::Made => {}
        }
    }
}

/// What a policy counts by, in words.
pub(super) fn period_word(period: PeriodKind) -> &'static str {
    match period {
        PeriodKind::Total => "in total",
        PeriodKind::Month => "by month",
        PeriodKind::Quarter => "by quarter",
        PeriodKind::Year => "by year",
    }
}

/// The period that a policy counts by on an offering.
pub(super) fn counted_period(policy: &PolicyFacts, offering: &OfferingFacts) -> PeriodKind {
    offering_period(offering).unwrap_or(policy.terms.period)
}
