//! The plan: which objects to create, change, leave and take out of use, with each field before and after. Pure;
//! applying it is separate.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::file::{Kind, SiteFile};
use super::known::Known;
use super::merge::{Desired, DesiredPolicy, Ids};
use super::users::{KeySource, TokenSpec};
use super::validate::{counted_period, period_word};
use crate::directory::{TokenRecord, UserDetails};
use crate::domain::ids::{ResourceId, TokenId};
use crate::domain::tres::Amounts;
use crate::events::allocation::{ResourceFacts, ResourceState};
use crate::events::registry::{CustomerFacts, GroupFacts, OfferingFacts, PolicyFacts, ProjectFacts};

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is made.
    Create,
    /// It changes.
    Change,
    /// It is as the file says.
    Unchanged,
    /// It is not in the file and is taken out of use.
    Prune,
}

impl ChangeKind {
    /// The mark in front of a line of the plan.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Change => "~",
            Self::Unchanged => "=",
            Self::Prune => "-",
        }
    }
}

/// A field before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDiff {
    /// Its name.
    pub field: String,
    /// What it is; none for a new object.
    pub from: Option<String>,
    /// What it will be.
    pub to: String,
}

/// One object of the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// What kind of object.
    pub kind: Kind,
    /// Its slug, or what stands for one.
    pub slug: String,
    /// Its identity; none for a token that is yet to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// What happens.
    pub action: ChangeKind,
    /// The fields concerned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDiff>,
    /// What else it means, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// It was taken out of use earlier, and stays so although the file names it; a note says how to proceed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_use: bool,
    #[serde(skip)]
    pub(super) step: Option<Step>,
}

/// What carries a change out.
#[derive(Debug, Clone)]
pub(super) enum Step {
    User(UserDetails),
    Group(GroupFacts),
    Customer(CustomerFacts),
    Project(ProjectFacts),
    Offering(OfferingFacts),
    Policy(Box<DesiredPolicy>),
    Register(Box<ResourceFacts>),
    ChangeResource(ResourceChange),
    MakeToken(Box<TokenSpec>),
    RevokeToken(TokenId),
}

/// What is to change of a resource.
#[derive(Debug, Clone)]
pub(super) struct ResourceChange {
    pub(super) resource: ResourceId,
    pub(super) details: Option<(String, String)>,
    pub(super) limits: Option<Amounts>,
    pub(super) state: Option<ResourceState>,
}

/// Everything that would happen, in the order in which it would.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Objects, those that stay as they are included.
    pub changes: Vec<Change>,
}

impl Plan {
    /// How many objects have this lot.
    pub fn count(&self, action: ChangeKind) -> usize {
        self.changes.iter().filter(|change| change.action == action).count()
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.step.is_none())
    }
}

pub(super) struct Planner<'a> {
    pub(super) known: &'a Known,
    pub(super) ids: &'a Ids,
    /// Names for ids in facts: slugs and user names.
    names: HashMap<String, String>,
    changes: Vec<Change>,
}

/// Compares what the file asks for with what is.
pub(super) fn plan(
    file: &SiteFile,
    known: &Known,
    ids: &Ids,
    desired: Desired,
    prune: bool,
    now: DateTime<Utc>,
) -> Plan {
    let names = names(known, &desired);
    let mut planner = Planner { known, ids, names, changes: Vec::new() };
    let wanted = Wanted::of(&desired);
    let offerings = desired.offerings.clone();
    planner.users(desired.users);
    planner.registry(Kind::OrganizationGroup, &known.groups, desired.groups, Step::Group);
    planner.registry(Kind::Customer, &known.customers, desired.customers, Step::Customer);
    planner.registry(Kind::Project, &known.projects, desired.projects, Step::Project);
    planner.offerings(desired.offerings);
    planner.policies(file, desired.policies, &offerings);
    planner.resources(file, desired.resources);
    planner.tokens(file, now);
    if prune {
        planner.prune(file, &wanted, now);
    }
    Plan { changes: planner.changes }
}

/// The identities that the file names.
pub(super) struct Wanted(pub(super) HashSet<Uuid>);

impl Wanted {
    fn of(desired: &Desired) -> Self {
        let mut ids = HashSet::new();
        ids.extend(desired.groups.iter().map(|f| f.group.as_uuid()));
        ids.extend(desired.customers.iter().map(|f| f.customer.as_uuid()));
        ids.extend(desired.projects.iter().map(|f| f.project.as_uuid()));
        ids.extend(desired.offerings.iter().map(|f| f.offering.as_uuid()));
        ids.extend(desired.policies.iter().flatten().map(|p| p.facts.policy.as_uuid()));
        ids.extend(desired.resources.iter().flatten().map(|f| f.resource.as_uuid()));
        Self(ids)
    }
}

fn names(known: &Known, desired: &Desired) -> HashMap<String, String> {
    let mut names = HashMap::new();
    names.extend(known.slugs().map(|(_, slug, id)| (id.as_simple().to_string(), slug.to_owned())));
    names.extend(known.users.values().map(|user| (user.id.to_string(), user.username.clone())));
    names.extend(known.addresses.iter().map(|(id, email)| (id.to_string(), email.clone())));
    names.extend(desired.users.iter().map(|user| (user.id.to_string(), user.username.clone())));
    names.extend(desired.groups.iter().map(|f| (f.group.to_string(), f.slug.clone())));
    names.extend(desired.customers.iter().map(|f| (f.customer.to_string(), f.slug.clone())));
    names.extend(desired.projects.iter().map(|f| (f.project.to_string(), f.slug.clone())));
    names.extend(desired.offerings.iter().map(|f| (f.offering.to_string(), f.slug.clone())));
    names
}

/// Facts of the registry that are planned alike.
pub(super) trait Facts: Clone + PartialEq + Serialize {
    type Id: Ord + Copy;
    fn id(&self) -> Self::Id;
    fn uuid(&self) -> Uuid;
    fn slug(&self) -> &str;
    fn is_retired(&self) -> bool;
    fn retired(self) -> Self;
}

macro_rules! facts {
    ($facts:ident, $id:ident, $field:ident) => {
        impl Facts for $facts {
            type Id = crate::domain::ids::$id;
            fn id(&self) -> Self::Id {
                self.$field
            }
            fn uuid(&self) -> Uuid {
                self.$field.as_uuid()
            }
            fn slug(&self) -> &str {
                &self.slug
            }
            fn is_retired(&self) -> bool {
                self.retired
            }
            fn retired(self) -> Self {
                Self { retired: true, ..self }
            }
        }
    };
}

facts!(GroupFacts, GroupId, group);
facts!(CustomerFacts, CustomerId, customer);
facts!(ProjectFacts, ProjectId, project);
facts!(OfferingFacts, OfferingId, offering);

impl Planner<'_> {
    pub(super) fn push(
        &mut self,
        kind: Kind,
        slug: &str,
        uuid: Option<Uuid>,
        action: ChangeKind,
        fields: Vec<FieldDiff>,
        step: Option<Step>,
    ) {
        let uuid = uuid.map(|id| id.as_simple().to_string());
        let (slug, notes) = (slug.to_owned(), Vec::new());
        self.changes.push(Change { kind, slug, uuid, action, fields, notes, out_of_use: false, step });
    }

    pub(super) fn note(&mut self, note: String) {
        if let Some(last) = self.changes.last_mut() {
            last.notes.push(note);
        }
    }

    /// The object that was planned last is out of use, and the file does not say that it should be otherwise.
    pub(super) fn stays(&mut self, note: String) {
        if let Some(last) = self.changes.last_mut() {
            last.out_of_use = true;
            last.notes.push(note);
        }
    }

    /// The fields of facts that differ, in words; all that say something for a new object.
    fn diff<T: Serialize>(&self, before: Option<&T>, after: &T) -> Vec<FieldDiff> {
        let before = before.map(|facts| self.fields(facts));
        let after = self.fields(after);
        let mut keys: Vec<&String> = after.keys().collect();
        keys.extend(before.iter().flat_map(BTreeMap::keys).filter(|key| !after.contains_key(*key)));
        let nothing = String::new;
        keys.into_iter()
            .filter_map(|key| {
                let to = after.get(key).cloned().unwrap_or_else(nothing);
                let from = before.as_ref().map(|before| before.get(key).cloned().unwrap_or_else(nothing));
                let tells = from.as_ref().map_or(!to.is_empty(), |from| *from != to);
                tells.then(|| FieldDiff { field: key.clone(), from, to })
            })
            .collect()
    }

    fn fields<T: Serialize>(&self, facts: &T) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        let value = serde_json::to_value(facts).unwrap_or_default();
        let mut entries: Vec<(String, Value)> = value.as_object().cloned().unwrap_or_default().into_iter().collect();
        if let Some(at) = entries.iter().position(|(key, _)| key == "terms") {
            let (_, terms) = entries.swap_remove(at);
            entries.extend(terms.as_object().cloned().unwrap_or_default());
        }
        for (key, value) in entries {
            // Identity and slug stand in the line's own head.
            if matches!(key.as_str(), "slug" | "group" | "policy" | "resource" | "external_recipients") {
                continue;
            }
            let key = if key == "notification_thresholds" { "notification_threshold".to_owned() } else { key };
            fields.insert(key, self.shown(&value));
        }
        fields
    }

    fn shown(&self, value: &Value) -> String {
        match value {
            Value::Null => String::new(),
            Value::String(text) => self.names.get(text).unwrap_or(text).clone(),
            Value::Array(items) if items.iter().all(Value::is_object) => {
                items.iter().map(|item| format!("{{{}}}", self.shown(item))).collect::<Vec<_>>().join(" ")
            }
            Value::Array(items) => items.iter().map(|item| self.shown(item)).collect::<Vec<_>>().join(", "),
            Value::Object(map) => {
                map.iter().map(|(key, value)| format!("{key}: {}", self.shown(value))).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        }
    }

    pub(super) fn put<T: Serialize + PartialEq>(
        &mut self,
        kind: Kind,
        slug: &str,
        uuid: Uuid,
        facts: (Option<&T>, &T),
        step: impl FnOnce() -> Step,
    ) {
        let (current, wanted) = facts;
        let action = match current {
            None => ChangeKind::Create,
            Some(current) if current == wanted => ChangeKind::Unchanged,
            Some(_) => ChangeKind::Change,
        };
        let fields = if action == ChangeKind::Unchanged { Vec::new() } else { self.diff(current, wanted) };
        let step = (action != ChangeKind::Unchanged).then(step);
        self.push(kind, slug, Some(uuid), action, fields, step);
    }

    fn users(&mut self, users: Vec<UserDetails>) {
        for wanted in users {
            let known = self.known.users.get(&wanted.username);
            let pair = |email: &Option<String>, name: &str| [email.clone().unwrap_or_default(), name.to_owned()];
            let after = pair(&wanted.email, &wanted.full_name);
            let before = known.map(|known| pair(&known.email, &known.full_name));
            let fields = ["email", "full_name"].into_iter().enumerate().filter_map(|(i, field)| {
                let from = before.as_ref().map(|b| b[i].clone());
                let tells = from.as_ref().map_or(!after[i].is_empty(), |from| *from != after[i]);
                tells.then(|| FieldDiff { field: field.to_owned(), from, to: after[i].clone() })
            });
            let fields: Vec<FieldDiff> = fields.collect();
            let action = match &before {
                None => ChangeKind::Create,
                Some(_) if fields.is_empty() => ChangeKind::Unchanged,
                Some(_) => ChangeKind::Change,
            };
            let (name, id) = (wanted.username.clone(), wanted.id.as_uuid());
            let step = (action != ChangeKind::Unchanged).then_some(Step::User(wanted));
            self.push(Kind::User, &name, Some(id), action, fields, step);
        }
    }

    fn registry<T: Facts>(&mut self, kind: Kind, known: &BTreeMap<T::Id, T>, wanted: Vec<T>, step: impl Fn(T) -> Step) {
        for facts in wanted {
            let current = known.get(&facts.id());
            self.put(kind, facts.slug(), facts.uuid(), (current, &facts), || step(facts.clone()));
        }
    }

    /// Offerings, and what a change of theirs means for the policies that are on them.
    fn offerings(&mut self, wanted: Vec<OfferingFacts>) {
        for facts in wanted {
            let current = self.known.offerings.get(&facts.offering);
            self.put(Kind::Offering, &facts.slug, facts.offering.as_uuid(), (current, &facts), || {
                Step::Offering(facts.clone())
            });
            let Some(current) = current else { continue };
            let known = self.known;
            for policy in known.policies.values().filter(|policy| policy.offering == facts.offering) {
                let (before, after) = (counted_period(policy, current), counted_period(policy, &facts));
                if before != after {
                    self.note(format!(
                        "the policy {} counts {} instead of {} from now on: the components' limit_period wins over the policy's own period",
                        title_of(policy),
                        period_word(after),
                        period_word(before)
                    ));
                }
            }
            let gone = current.components.iter().map(|c| &c.component_type);
            let gone: Vec<&String> =
                gone.filter(|kind| facts.components.iter().all(|c| c.component_type != **kind)).collect();
            for component in gone {
                self.note(format!("{component} is no longer counted; what was reported of it stays in the log"));
            }
        }
    }

    fn policies(&mut self, file: &SiteFile, wanted: Vec<Option<DesiredPolicy>>, offerings: &[OfferingFacts]) {
        for (spec, desired) in file.policies.iter().flatten().zip(wanted) {
            let Some(desired) = desired else { continue };
            let facts = &desired.facts;
            let current = self.known.policies.get(&facts.policy);
            let recipients = desired.recipients.clone();
            let (slug, id) = (facts.slug.clone(), facts.policy.as_uuid());
            let mut shown = facts.clone();
            if recipients.is_some() && current.is_some_and(|c| *c == shown) {
                // Only the recipients differ; let the comparison see that.
                shown.external_recipients.insert(Uuid::nil().into());
            }
            self.put(Kind::Policy, &slug, id, (current, &shown), || Step::Policy(Box::new(desired.clone())));
            if let (Some(to), Some(last)) = (recipients, self.changes.last_mut()) {
                let known = &self.known.addresses;
                let emails = |c: &PolicyFacts| {
                    let list = c.external_recipients.iter().filter_map(|id| known.get(id).cloned());
                    list.collect::<Vec<_>>().join(", ")
                };
                last.fields.push(FieldDiff {
                    field: "options.notify_external_user".to_owned(),
                    from: current.map(emails),
                    to: to.join(", "),
                });
            }
            if current.is_some_and(|c| !c.terms.enabled) && spec.enabled.value().is_none() {
                self.stays("it is disabled and stays so; `enabled: true` brings it back".to_owned());
            }
            let offering = offerings.iter().find(|o| o.offering == desired.facts.offering);
            let offering = offering.or_else(|| self.known.offerings.get(&desired.facts.offering));
            let given = spec.period.value().map(|at| at.value);
            if let (Some(given), Some(offering)) = (given, offering) {
                let counted = counted_period(&desired.facts, offering);
                if given != counted {
                    self.note(format!(
                        "it counts {}, not {} as the file says: the components' limit_period wins",
                        period_word(counted),
                        period_word(given)
                    ));
                }
            }
        }
    }

    fn tokens(&mut self, file: &SiteFile, now: DateTime<Utc>) {
        for (index, spec) in file.tokens.iter().flatten().enumerate() {
            let kept = kept_tokens(spec, index, self.known, self.ids, now);
            if let Some(token) = kept.first() {
                self.push(
                    Kind::Token,
                    &spec.title(),
                    Some(token.id.as_uuid()),
                    ChangeKind::Unchanged,
                    Vec::new(),
                    None,
                );
            } else {
                let step = Step::MakeToken(Box::new(spec.clone()));
                self.push(Kind::Token, &spec.title(), None, ChangeKind::Create, Vec::new(), Some(step));
                if spec.key == KeySource::Made {
                    self.note("the key is made and shown once".to_owned());
                }
            }
        }
    }
}

pub(super) fn title_of(policy: &PolicyFacts) -> String {
    if policy.slug.is_empty() { policy.policy.to_string() } else { policy.slug.clone() }
}

/// The tokens that make a token of the file exist already.
pub(super) fn kept_tokens<'a>(
    spec: &TokenSpec,
    index: usize,
    known: &'a Known,
    ids: &Ids,
    now: DateTime<Utc>,
) -> Vec<&'a TokenRecord> {
    match &spec.key {
        KeySource::Given(_) => known.token_by_key.get(index).and_then(Option::as_ref).into_iter().collect(),
        KeySource::Made | KeySource::Unset(_) => {
            known.tokens.iter().filter(|token| token.is_active(now) && is_token_of(token, spec, ids)).collect()
        }
    }
}

/// Whether a token is of the user, role and offering that the file says.
pub(super) fn is_token_of(token: &TokenRecord, spec: &TokenSpec, ids: &Ids) -> bool {
    let offering = spec.offering.as_ref().and_then(|at| ids.get(Kind::Offering, &at.value));
    Some(token.user) == ids.user(&spec.user.username.value)
        && token.role == spec.role
        && token.offering.map(|id| id.as_uuid()) == offering
}

/// An instant as plans and tables show it.
pub(super) fn shown_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
