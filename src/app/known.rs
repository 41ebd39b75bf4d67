//! The registry, from its tables and then from the log.

use std::sync::Arc;

use super::AppError;
use crate::projections::registry as tables;
use crate::registry::{At, Follower, PolicyRow, Registry, ResourceEntry, Snapshot};
use crate::store::EventStore;
use crate::store::sql::{ReadDb, SqlError};

/// The registry, up to date, and what keeps it so.
pub(super) async fn known(
    store: &Arc<dyn EventStore>,
    read: &ReadDb,
) -> Result<(Arc<Registry>, Arc<Follower>), AppError> {
    let registry = Arc::new(Registry::from_snapshot(snapshot(read).await?));
    let follower = Arc::new(Follower::new(Arc::clone(store), Arc::clone(&registry)));
    follower.catch_up().await?;
    Ok((registry, follower))
}

/// What the registry's tables know. The position is read first: what is newer in the rows comes again and changes nothing.
async fn snapshot(read: &ReadDb) -> Result<Snapshot, SqlError> {
    let mut known = Snapshot { position: tables::loaded_position(read).await?, ..Snapshot::default() };
    tables::load_groups(read, |o| known.groups.push((o.facts, o.version))).await?;
    tables::load_customers(read, |o| known.customers.push((o.facts, o.version))).await?;
    tables::load_projects(read, |o| known.projects.push((o.facts, o.version))).await?;
    tables::load_offerings(read, |o| known.offerings.push((o.facts, o.version))).await?;
    known.deleted = tables::load_deleted_policies(read).await?;
    let agents = &mut known.agents;
    tables::load_agents(read, |part| {
        let at = At { version: part.version, created: part.created, modified: part.modified };
        agents.apply(&part.event, &at);
    })
    .await?;
    let policies = &mut known.policies;
    tables::load_policies(read, |o| {
        policies.push(PolicyRow { facts: o.facts, version: o.version, created: o.created });
    })
    .await?;
    let resources = &mut known.resources;
    tables::load_resources(read, |r| {
        let entry = ResourceEntry {
            offering: r.offering,
            project: r.project,
            customer: r.customer,
            state: r.state,
            book: r.book,
        };
        resources.push((r.resource, entry));
    })
    .await?;
    Ok(known)
}
