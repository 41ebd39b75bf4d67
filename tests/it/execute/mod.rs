//! The parts together on real files: commands from all sides at once, months, restarts, the clock.

mod batches;
mod carryover;
mod clock;
mod commands;
mod log_and_models;
mod old_logs;
mod reactions;
mod registry;
mod scheduler;
pub mod soundness;
pub(crate) mod year;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sluice::app::{App, AppOptions};
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::commands::execute::Executed;
use sluice::domain::ids::{CustomerId, ResourceId, slug_uuid};
use sluice::domain::period::Month;
use sluice::domain::policy::PolicyTerms;
use sluice::events::Event;
use sluice::events::allocation::AllocationEvent;
use sluice::events::envelope::Position;
use sluice::events::registry::CustomerFacts;
use sluice::scheduler::Schedule;
use tempfile::TempDir;

use crate::support::fleet::meta;
use crate::support::world::{amounts, offering_facts, policy_facts, policy_id, resource_facts, resource_id};

/// A database in a directory of its own, on a simulated clock.
struct Place {
    dir: TempDir,
    zone: chrono_tz::Tz,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), zone: chrono_tz::Tz::UTC }
    }

    fn options(&self) -> AppOptions {
        AppOptions { schedule: Schedule::daily(self.zone), ..crate::support::database::options(self.dir.path()) }
    }

    /// Opens it; the first time at this instant.
    async fn open_at(&self, now: &str) -> Arc<App> {
        App::open(AppOptions { simulated_clock: Some(instant(now)), ..self.options() }).await.unwrap()
    }

    /// Opens it again, as another process would, at the time it keeps.
    async fn again(&self) -> Arc<App> {
        App::open(self.options()).await.unwrap()
    }
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn customer(name: &str) -> CustomerId {
    CustomerId::from(slug_uuid("customer", name))
}

async fn put_customer(app: &App, name: &str, groups: &[&str]) {
    let groups = groups.iter().map(|g| slug_uuid("organization_group", g).into()).collect();
    let facts = CustomerFacts {
        customer: customer(name),
        slug: name.into(),
        name: name.into(),
        groups,
        owners: [].into(),
        pending: [].into(),
        retired: false,
    };
    app.registry_commands.put_customer(customer(name), &meta(), |_| Ok(facts.clone())).await.unwrap();
}

/// The offering with `node` and `cpu`, the customer, and resources with 1000 node hours.
async fn lay_out(app: &App, resources: &[&str]) {
    put_customer(app, "uni-a", &[]).await;
    let offering = offering_facts(&["node", "cpu"]);
    app.registry_commands.put_offering(offering.offering, &meta(), |_| Ok(offering.clone())).await.unwrap();
    for name in resources {
        let facts = resource_facts(name, amounts(&[("node", "1000")]), instant("2020-01-01T00:00:00Z"));
        let command = AllocationCommand::Register(Box::new(facts));
        app.allocations.execute(resource_id(name), &command, &meta()).await.unwrap();
    }
}

async fn put_policy(app: &App, terms: PolicyTerms) {
    let facts = policy_facts("main", terms);
    app.registry_commands.put_policy(policy_id("main"), &meta(), &|_| Ok(facts.clone())).await.unwrap();
}

fn usage(month: &str, node: impl Into<Decimal>) -> AllocationCommand {
    let month: Month = month.parse().unwrap();
    AllocationCommand::ReportUsage(UsageReport::new(month, [("node".to_owned(), node.into())].into()))
}

async fn run(app: &App, resource: &str, command: &AllocationCommand) -> Executed {
    app.allocations.execute(resource_id(resource), command, &meta()).await.unwrap()
}

/// Every allocation event in the log with the stream it stands in, in order.
pub(crate) async fn log(app: &App) -> Vec<(String, AllocationEvent)> {
    let mut found = Vec::new();
    let mut after = Position::START;
    loop {
        let page = app.store.read_all(after, 1_000).await.unwrap();
        let Some(last) = page.last() else { return found };
        after = last.position;
        for recorded in &page {
            if let Event::Allocation(event) = Event::decode(recorded).unwrap() {
                found.push((recorded.stream.to_string(), event));
            }
        }
    }
}

async fn count(app: &App, of: impl Fn(&AllocationEvent) -> bool) -> usize {
    log(app).await.iter().filter(|(_, e)| of(e)).count()
}

fn is_report(event: &AllocationEvent) -> bool {
    matches!(event, AllocationEvent::UsageReported(_))
}

fn is_evaluation(event: &AllocationEvent) -> bool {
    matches!(event, AllocationEvent::PolicyEvaluated(_))
}

fn is_reset(event: &AllocationEvent) -> bool {
    matches!(event, AllocationEvent::SettingsCommanded(m) if m.reset.is_some())
}

async fn paused(app: &App, resource: ResourceId) -> bool {
    app.allocations.book(resource).await.unwrap().flags.paused
}
