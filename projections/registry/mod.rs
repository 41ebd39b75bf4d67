//! The registry as tables: organisations, groups, projects, offerings, policies, agents and resources, for lists and
//! for the start.
//!
//! There are few objects other than resources, and they keep their facts as JSON; there may be a hundred thousand
//! resources, which have columns. The in-memory registry loads from here, with the matching position of the log.

mod accounts;
mod fold;
mod load;
mod objects;
mod resources;

use async_trait::async_trait;

use super::kit::{Mark, MarkSql, mark_sql};
use crate::events::Event;
use crate::events::agent::AgentEvent;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::ReadTx;

pub use accounts::{AccountHolder, account_holders};
pub use load::{
    LoadedAgentPart, LoadedObject, LoadedResource, load_agents, load_customers, load_deleted_policies, load_groups,
    load_offerings, load_policies, load_projects, load_resources, loaded_position,
};
pub use objects::{
    ObjectFilter, ObjectRow, customers, customers_of, groups, offerings, policies, projects, projects_of,
};
pub use resources::{Order, ResourceFilter, ResourceRow, VisibilityFilter, count_resources, resource, resources};

/// The consumer's name.
pub const NAME: &str = "registry";

const TABLES: &[&str] = &["registry_mark", "registry_objects", "registry_links", "registry_resources"];

static MARK: MarkSql = mark_sql!("registry_mark");

/// What an object is, by number; a number is never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Group = 1,
    Customer = 2,
    Project = 3,
    Offering = 4,
    Policy = 5,
    Agent = 6,
    AgentService = 7,
    AgentProcessor = 8,
    AgentSubscription = 9,
    AgentQueue = 10,
}

impl Kind {
    fn code(self) -> i64 {
        self as i64
    }
}

/// Owners of a customer.
const OWNER: i64 = 1;
/// Members of a project.
const MEMBER: i64 = 2;
/// Groups of a customer.
const IN_GROUP: i64 = 3;

/// The consumer.
#[derive(Debug, Default)]
pub struct Registry {
    mark: Mark,
}

fn matters(event_type: &str) -> bool {
    matches!(
        event_type,
        "organization_group_registered.v1"
            | "organization_group_changed.v1"
            | "customer_registered.v1"
            | "customer_changed.v1"
            | "project_registered.v1"
            | "project_changed.v1"
            | "offering_registered.v1"
            | "offering_changed.v1"
            | "policy_created.v1"
            | "policy_changed.v1"
            | "policy_deleted.v1"
            | "resource_registered.v1"
            | "resource_details_changed.v1"
            | "resource_state_changed.v1"
            | "limits_changed.v1"
            | "restriction_changed.v1"
            | "books_opened.v1"
    ) || AgentEvent::TYPES.contains(&event_type)
}

#[async_trait]
impl Consumer<Event> for Registry {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    fn interested(&self, event_type: &str) -> bool {
        matters(event_type)
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let events = self.mark.unseen(batch, matters);
        if events.is_empty() {
            return Ok(());
        }
        fold::resources(tx, &events).await?;
        fold::objects(tx, &mut self.mark, &events).await?;
        self.mark.save(tx, &MARK).await?;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.mark = Mark::load(tx, &MARK).await?;
        Ok(())
    }
}
