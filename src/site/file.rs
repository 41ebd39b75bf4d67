//! The structure of a site file: its kinds of objects, their keys and values, with line numbers.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::SiteErrors;
use super::policy_keys::{PolicySpec, read_policy};
use super::users::{PersonSpec, TokenSpec, read_people, read_token};
use super::yaml::{At, Fields, Given, Node, Problems, parse};
use crate::domain::clusters::clusters_complaint;
use crate::domain::decimal::MAX_DECIMALS;
use crate::domain::ids::{ResourceId, slug_uuid};
use crate::domain::period::{day_complaint, day_starts_at, instant_complaint};
use crate::domain::qos::QosNames;
use crate::domain::text::{NAME, TextRule};
use crate::domain::tres::Amounts;
use crate::events::allocation::ResourceState;
use crate::events::registry::{BillingType, LimitPeriod};

/// The longest slug, in characters.
const SLUG_CHARS_MAX: usize = 100;

/// The kinds of objects, in the order of their creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person or machine account.
    User,
    /// A group of organisations.
    OrganizationGroup,
    /// An organisation.
    Customer,
    /// A project.
    Project,
    /// A cluster as sold.
    Offering,
    /// A policy.
    Policy,
    /// An allocation.
    Resource,
    /// An API token.
    Token,
}

impl Kind {
    /// The word for one of them, also in identities derived from slugs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::OrganizationGroup => "organization_group",
            Self::Customer => "customer",
            Self::Project => "project",
            Self::Offering => "offering",
            Self::Policy => "policy",
            Self::Resource => "resource",
            Self::Token => "token",
        }
    }
}

/// What every object has: a slug, perhaps an identity of its own, and a place in the file.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) slug: String,
    pub(super) uuid: Option<Uuid>,
    pub(super) line: u64,
    pub(super) path: String,
}

impl Head {
    /// The identity: the one given, else the one that follows from the slug.
    pub(super) fn id(&self, kind: Kind) -> Uuid {
        self.uuid.unwrap_or_else(|| slug_uuid(kind.word(), &self.slug))
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}

#[derive(Debug, Clone)]
pub(super) struct GroupSpec {
    pub(super) head: Head,
    pub(super) name: Given<String>,
}

#[derive(Debug, Clone)]
pub(super) struct CustomerSpec {
    pub(super) head: Head,
    pub(super) name: Given<String>,
    pub(super) groups: Given<Vec<At<String>>>,
    pub(super) owners: Given<Vec<PersonSpec>>,
}

#[derive(Debug, Clone)]
pub(super) struct ProjectSpec {
    pub(super) head: Head,
    pub(super) name: Given<String>,
    pub(super) customer: Option<At<String>>,
    pub(super) members: Given<Vec<PersonSpec>>,
}

#[derive(Debug, Clone)]
pub(super) struct ComponentSpec {
    pub(super) component_type: At<String>,
    pub(super) name: Given<String>,
    pub(super) measured_unit: Given<String>,
    pub(super) billing_type: Given<BillingType>,
    pub(super) limit_period: Given<LimitPeriod>,
    pub(super) slurm_tres: Given<String>,
    pub(super) minutes_per_unit: Given<Decimal>,
    pub(super) limit_decimal_places: Given<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct OfferingSpec {
    pub(super) head: Head,
    pub(super) name: Given<String>,
    pub(super) customer: Option<At<String>>,
    pub(super) components: Given<Vec<ComponentSpec>>,
    pub(super) qos: Given<QosNames>,
    pub(super) slurm_clusters: Given<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct ResourceSpec {
    pub(super) head: Head,
    pub(super) name: Given<String>,
    pub(super) project: Option<At<String>>,
    pub(super) offering: Option<At<String>>,
    pub(super) backend_id: Given<At<String>>,
    pub(super) limits: Given<Vec<(String, At<Decimal>)>>,
    pub(super) state: Given<At<ResourceState>>,
    pub(super) created: Given<At<DateTime<Utc>>>,
}

impl ResourceSpec {
    pub(super) fn id(&self) -> ResourceId {
        self.head.id(Kind::Resource).into()
    }

    pub(super) fn limit_amounts(&self) -> Given<Amounts> {
        let amounts = |list: Vec<(String, At<Decimal>)>| -> Amounts {
            list.into_iter().map(|(name, amount)| (name, amount.value.normalize())).collect()
        };
        self.limits.clone().map(amounts)
    }
}

/// A site file, read. A kind that the file does not list is `None`; pruning leaves such kinds alone.
#[derive(Debug, Clone, Default)]
pub struct SiteFile {
    pub(super) groups: Option<Vec<GroupSpec>>,
    pub(super) customers: Option<Vec<CustomerSpec>>,
    pub(super) projects: Option<Vec<ProjectSpec>>,
    pub(super) offerings: Option<Vec<OfferingSpec>>,
    pub(super) policies: Option<Vec<PolicySpec>>,
    pub(super) resources: Option<Vec<ResourceSpec>>,
    pub(super) tokens: Option<Vec<TokenSpec>>,
}

impl SiteFile {
    /// Reads a file's text. `zone` is the site's, for dates without a time; `variable` looks up the environment, where the
    /// file says that a key stands.
    ///
    /// # Errors
    /// Everything that is wrong with it as far as it can be seen without the registry, by line.
    pub fn read(text: &str, zone: Tz, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SiteErrors> {
        let root = parse(text)?;
        let problems = Problems::default();
        let mut site = Self::default();
        if !matches!(root.value, super::yaml::Value::Null)
            && let Some(mut fields) = Fields::of(&root, "", &problems)
        {
            site.groups = objects(&mut fields, "organization_groups", read_group, |spec| &spec.head);
            site.customers = objects(&mut fields, "customers", read_customer, |spec| &spec.head);
            site.projects = objects(&mut fields, "projects", read_project, |spec| &spec.head);
            site.offerings = objects(&mut fields, "offerings", read_offering, |spec| &spec.head);
            let resource = |fields: &mut Fields<'_>, head| read_resource(fields, head, zone);
            site.resources = objects(&mut fields, "resources", resource, |spec| &spec.head);
            site.policies = objects(&mut fields, "policies", read_policy, |spec| &spec.head);
            site.tokens = items(&mut fields, "tokens", |fields| read_token(fields, zone, variable));
            fields.finish();
        }
        problems.into_result()?;
        Ok(site)
    }

    /// Everybody the file names.
    pub(super) fn people(&self) -> impl Iterator<Item = &PersonSpec> {
        let owners = self.customers.iter().flatten().filter_map(|spec| spec.owners.value()).flatten();
        let members = self.projects.iter().flatten().filter_map(|spec| spec.members.value()).flatten();
        owners.chain(members).chain(self.tokens.iter().flatten().map(|token| &token.user))
    }
}

/// Reads a list of mappings.
fn items<'a, T>(
    fields: &mut Fields<'a>,
    key: &'static str,
    mut read: impl FnMut(&mut Fields<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let problems = fields.problems;
    let items = match fields.list(key) {
        Given::Absent => return None,
        Given::Null => Vec::new(),
        Given::Value(items) => items,
    };
    let read_one = |(node, path): (&'a Node, String)| {
        let mut fields = Fields::of(node, path, problems)?;
        let item = read(&mut fields);
        fields.finish();
        item
    };
    Some(items.into_iter().filter_map(read_one).collect())
}

/// Reads a list of objects with slugs, each slug and each identity once.
fn objects<'a, T>(
    fields: &mut Fields<'a>,
    key: &'static str,
    mut read: impl FnMut(&mut Fields<'a>, Head) -> T,
    head: impl Fn(&T) -> &Head,
) -> Option<Vec<T>> {
    let problems = fields.problems;
    let list = items(fields, key, |fields| {
        let head = read_head(fields);
        // The other keys are read in any case, so that their complaints come in the same go.
        let known = head.is_some();
        let spare = || Head { slug: String::new(), uuid: None, line: fields.line, path: fields.path.clone() };
        let head = head.unwrap_or_else(spare);
        let object = read(fields, head);
        known.then_some(object)
    })?;
    let mut slugs = std::collections::HashMap::new();
    for object in &list {
        let head = head(object);
        if let Some(first) = slugs.insert(head.slug.clone(), head.line) {
            let problem = format!("{:?} stands in line {first} already; a slug is used once", head.slug);
            problems.add(head.line, head.path_of("slug"), problem);
        }
    }
    Some(list)
}

fn read_head(fields: &mut Fields<'_>) -> Option<Head> {
    let uuid = fields.parsed("uuid", str::parse::<ResourceId>).value().map(|id| id.value.as_uuid());
    let slug = fields.required("slug")?;
    if let Some(problem) = slug_complaint(&slug.value) {
        fields.problems.at(&slug, problem);
        return None;
    }
    Some(Head { slug: slug.value, uuid, line: fields.line, path: fields.path.clone() })
}

fn slug_complaint(slug: &str) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fine = slug.chars().count() <= SLUG_CHARS_MAX && slug.chars().all(plain);
    (!fine).then(|| format!("{slug:?} is no slug: 1 to {SLUG_CHARS_MAX} letters, digits, '-', '_' and '.' are allowed"))
}

fn name(fields: &mut Fields<'_>) -> Given<String> {
    fields.text_of(NAME, "name").map(|at| at.value)
}

fn read_group(fields: &mut Fields<'_>, head: Head) -> GroupSpec {
    GroupSpec { head, name: name(fields) }
}

fn read_customer(fields: &mut Fields<'_>, head: Head) -> CustomerSpec {
    let (name, groups) = (name(fields), fields.texts("groups"));
    CustomerSpec { head, name, groups, owners: read_people(fields, "owners") }
}

fn read_project(fields: &mut Fields<'_>, head: Head) -> ProjectSpec {
    let (name, customer) = (name(fields), fields.required("customer"));
    ProjectSpec { head, name, customer, members: read_people(fields, "members") }
}

fn read_offering(fields: &mut Fields<'_>, head: Head) -> OfferingSpec {
    let (name, customer) = (name(fields), fields.required("customer"));
    let components = match items(fields, "components", read_component) {
        Some(list) => Given::Value(list),
        None => Given::Absent,
    };
    for (i, component) in components.value().into_iter().flatten().enumerate() {
        let earlier = components.value().into_iter().flatten().take(i);
        if earlier.into_iter().any(|other| other.component_type.value == component.component_type.value) {
            let problem = format!("{:?} is declared twice", component.component_type.value);
            fields.problems.at(&component.component_type, problem);
        }
    }
    OfferingSpec { head, name, customer, components, qos: read_qos(fields), slurm_clusters: read_clusters(fields) }
}

fn read_clusters(fields: &mut Fields<'_>) -> Given<Vec<String>> {
    let names = fields.texts("slurm_clusters");
    let plain = |list: &[At<String>]| list.iter().map(|at| at.value.clone()).collect::<Vec<_>>();
    for (at, last) in names.value().into_iter().flatten().enumerate() {
        let so_far = names.value().map(|list| plain(&list[..=at])).unwrap_or_default();
        if let Some(problem) = clusters_complaint(&so_far) {
            fields.problems.at(last, problem);
            break;
        }
    }
    names.map(|list| plain(&list))
}

fn read_qos(fields: &mut Fields<'_>) -> Given<QosNames> {
    let Some(node) = fields.take("qos") else { return Given::Absent };
    let Some(mut names) = Fields::of(node, fields.path_of("qos"), fields.problems) else { return Given::Null };
    let usual = QosNames::default();
    let mut word = |key, usual: String| names.text_of(TextRule::of(64), key).map(|at| at.value).over(None, || usual);
    let qos = QosNames {
        default: word("default", usual.default),
        downscaled: word("downscaled", usual.downscaled),
        paused: word("paused", usual.paused),
    };
    names.finish();
    Given::Value(qos)
}

fn read_component(fields: &mut Fields<'_>) -> Option<ComponentSpec> {
    let component_type = fields.required("type");
    let name = name(fields);
    let measured_unit = fields.text_of(TextRule::of(50), "measured_unit").map(|at| at.value);
    let billing = |word: &str| serde_json::from_value(word.into()).ok();
    let billing_type = fields.word("billing_type", billing, "one of limit, usage, fixed, one, few is allowed");
    let period = |word: &str| serde_json::from_value(word.into()).ok();
    let limit_period = fields.word("limit_period", period, "one of month, quarterly, annual, total is allowed");
    let slurm_tres = fields.text_of(TextRule::of(100), "slurm_tres").map(|at| at.value);
    let minutes = fields.decimal("minutes_per_unit");
    if let Some(at) = minutes.value().filter(|at| at.value <= Decimal::ZERO) {
        fields.problems.at(at, format!("{} is out of range: a number above 0 is allowed", at.value));
    }
    let places = fields.decimal("limit_decimal_places");
    let whole =
        |at: &At<Decimal>| u32::try_from(at.value).ok().filter(|n| at.value.fract().is_zero() && *n <= MAX_DECIMALS);
    if let Some(at) = places.value().filter(|at| whole(at).is_none()) {
        fields
            .problems
            .at(at, format!("{} is out of range: a whole number from 0 to {MAX_DECIMALS} is allowed", at.value));
    }
    Some(ComponentSpec {
        component_type: component_type?,
        name,
        measured_unit,
        billing_type: billing_type.map(|at| at.value),
        limit_period: limit_period.map(|at| at.value),
        slurm_tres,
        minutes_per_unit: minutes.map(|at| at.value.normalize()),
        limit_decimal_places: places.map(|at| whole(&at).unwrap_or_default()),
    })
}

fn read_resource(fields: &mut Fields<'_>, head: Head, zone: Tz) -> ResourceSpec {
    ResourceSpec {
        head,
        name: name(fields),
        project: fields.required("project"),
        offering: fields.required("offering"),
        backend_id: fields.text_of(NAME, "backend_id"),
        limits: fields.numbers("limits"),
        state: fields.word(
            "state",
            ResourceState::parse,
            "one of Creating, OK, Erred, Updating, Terminating, Terminated is allowed",
        ),
        created: instant(fields, "created", zone),
    }
}

/// A day (its first instant at the site) or an instant.
pub(super) fn instant(fields: &mut Fields<'_>, key: &'static str, zone: Tz) -> Given<At<DateTime<Utc>>> {
    fields.parsed(key, |text| {
        if let Ok(instant) = text.parse::<DateTime<Utc>>() {
            return instant_complaint(&instant).map_or(Ok(instant), Err);
        }
        let refused =
            |_| format!("{text:?} is given: a day (2026-03-01) or an instant (2026-03-01T12:00:00Z) is expected");
        let day: NaiveDate = text.parse().map_err(refused)?;
        day_complaint(day).map_or_else(|| Ok(day_starts_at(day, zone)), Err)
    })
}
