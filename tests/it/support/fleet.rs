//! A site of any size, made through the commands: one cluster with the components that `sacct` gives, one organisation and
//! one project per hundred resources, one quarterly policy with every action. For tests and benchmarks.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sluice::app::App;
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::commands::execute::CommandMeta;
use sluice::commands::registry::RegistryError;
use sluice::domain::ids::{CustomerId, OfferingId, PolicyId, ProjectId, ResourceId, slug_uuid};
use sluice::domain::policy::{Action, PolicyTerms};
use sluice::domain::tres::Amounts;
use sluice::events::allocation::{ResourceFacts, ResourceState};
use sluice::events::registry::{
    BillingType, Component, CustomerFacts, LimitPeriod, OfferingFacts, PolicyFacts, ProjectFacts, Scope,
};
use uuid::Uuid;

/// Resources of one organisation.
const PER_CUSTOMER: usize = 100;

/// Resources registered with one call.
const BATCH: usize = 500;

/// What the cluster counts, with the quarter's limit of each resource.
pub const COMPONENTS: [(&str, &str, i64); 4] = [
    ("node_hours", "node", 1_000),
    ("cpu_hours", "CPU", 64_000),
    ("mem_gb_hours", "Mem", 256_000),
    ("gpu_hours", "GRES/gpu", 2_000),
];

/// A command of the site itself.
pub fn meta() -> CommandMeta {
    CommandMeta::system(Uuid::from_u128(1))
}

/// The cluster.
pub fn offering() -> OfferingId {
    slug_uuid("offering", "cluster").into()
}

/// The policy on it.
pub fn policy() -> PolicyId {
    slug_uuid("policy", "quarter").into()
}

/// The resource of this number.
pub fn resource(number: usize) -> ResourceId {
    slug_uuid("resource", &format!("alloc-{number}")).into()
}

fn customer(number: usize) -> CustomerId {
    slug_uuid("customer", &format!("org-{number}")).into()
}

fn project(number: usize) -> ProjectId {
    slug_uuid("project", &format!("proj-{number}")).into()
}

fn components() -> Vec<Component> {
    let component = |(name, tres, _): (&str, &str, i64)| Component {
        component_type: name.into(),
        name: name.into(),
        measured_unit: "hours".into(),
        billing_type: BillingType::Limit,
        limit_period: Some(LimitPeriod::Quarterly),
        slurm_tres: Some(tres.into()),
        minutes_per_unit: Decimal::from(60),
        limit_decimal_places: None,
    };
    COMPONENTS.into_iter().map(component).collect()
}

/// The policy's parameters: everything on, counted in node hours.
pub fn terms() -> PolicyTerms {
    let weight = |(name, _, _): (&str, &str, i64)| (name.to_owned(), Decimal::from(i64::from(name == "node_hours")));
    PolicyTerms {
        actions: BTreeSet::from(Action::ALL),
        tres_billing_weights: COMPONENTS.into_iter().map(weight).collect(),
        notification_thresholds: vec![Decimal::from(50), Decimal::from(80)],
        ..PolicyTerms::default()
    }
}

/// Creates the policy or changes its thresholds.
pub async fn put_policy(app: &App, terms: &PolicyTerms) -> Result<u64, RegistryError> {
    let facts = PolicyFacts {
        policy: policy(),
        slug: "quarter".into(),
        offering: offering(),
        scope: Scope::All,
        terms: terms.clone(),
        external_recipients: BTreeSet::new(),
        options: std::collections::BTreeMap::default(),
    };
    Ok(app.registry_commands.put_policy(policy(), &meta(), &|_| Ok(facts.clone())).await?.version)
}

fn facts(number: usize, created: DateTime<Utc>) -> ResourceFacts {
    ResourceFacts {
        resource: resource(number),
        slug: format!("alloc-{number}"),
        name: format!("Allocation {number}"),
        offering: offering(),
        project: project(number / PER_CUSTOMER),
        customer: customer(number / PER_CUSTOMER),
        backend_id: format!("acct{number}"),
        limits: COMPONENTS.into_iter().map(|(name, _, limit)| (name.to_owned(), Decimal::from(limit))).collect(),
        state: ResourceState::Ok,
        created,
    }
}

/// Makes the site with so many resources. Doing it again, or going on where it stopped, changes nothing else.
pub async fn lay_out(app: &App, resources: usize) {
    for number in 0..resources.div_ceil(PER_CUSTOMER) {
        let (customer, project) = (customer(number), project(number));
        let organisation = CustomerFacts {
            customer,
            slug: format!("org-{number}"),
            name: format!("Organisation {number}"),
            groups: BTreeSet::new(),
            owners: BTreeSet::new(),
            pending: BTreeSet::new(),
            retired: false,
        };
        app.registry_commands.put_customer(customer, &meta(), |_| Ok(organisation.clone())).await.unwrap();
        let work = ProjectFacts {
            project,
            slug: format!("proj-{number}"),
            name: format!("Project {number}"),
            customer,
            members: BTreeSet::new(),
            pending: BTreeSet::new(),
            retired: false,
        };
        app.registry_commands.put_project(project, &meta(), |_| Ok(work.clone())).await.unwrap();
    }
    let cluster = OfferingFacts {
        offering: offering(),
        slug: "cluster".into(),
        name: "Cluster".into(),
        customer: customer(0),
        components: components(),
        qos: sluice::domain::qos::QosNames::default(),
        slurm_clusters: Vec::new(),
        retired: false,
    };
    app.registry_commands.put_offering(offering(), &meta(), |_| Ok(cluster.clone())).await.unwrap();
    if app.registry.read().policy(policy()).is_none() {
        put_policy(app, &terms()).await.unwrap();
    }
    let created = app.clock.now();
    let missing: Vec<usize> = (0..resources).filter(|n| app.registry.book_hint(resource(*n)).is_none()).collect();
    for some in missing.chunks(BATCH) {
        let register = |n: &usize| (resource(*n), AllocationCommand::Register(Box::new(facts(*n, created))));
        let commands: Vec<_> = some.iter().map(register).collect();
        for outcome in app.allocations.execute_many(&commands, &meta()).await {
            outcome.unwrap();
        }
    }
}

/// A report of the running month at `percent` of the quarter's limits.
pub fn report(app: &App, percent: Decimal) -> AllocationCommand {
    let zone = app.allocations.rules().zone;
    let month = sluice::domain::period::Month::of_instant(app.clock.now(), zone);
    let amount = |limit: i64| (Decimal::from(limit) * percent / Decimal::ONE_HUNDRED).round_dp(2);
    let amounts: Amounts = COMPONENTS.into_iter().map(|(name, _, limit)| (name.to_owned(), amount(limit))).collect();
    AllocationCommand::ReportUsage(UsageReport::new(month, amounts))
}
