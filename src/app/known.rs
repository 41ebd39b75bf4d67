//! Loads the registry from its tables and then from the log, and the settings that were changed.

use std::sync::Arc;

use super::{AppError, AppOptions, read_models};
use crate::clock::Clock;
use crate::projections::registry as tables;
use crate::registry::{At, FollowError, Follower, PolicyRow, Registry, ResourceEntry, Snapshot, earlier_limits};
use crate::site_settings::Settings;
use crate::store::guard::Guard;
use crate::store::meta::Meta;
use crate::store::sql::{ReadDb, SqlError};
use crate::store::{EventStore, StoreError};

/// The read models, and the registry loaded from them. Read models that cannot be read are rebuilt.
pub(super) async fn opened(
    options: &AppOptions,
    guard: &Arc<Guard>,
    meta: &Meta,
) -> Result<(ReadDb, (Arc<Registry>, Arc<Follower>)), AppError> {
    let store = Arc::clone(guard) as Arc<dyn EventStore>;
    let read = read_models::open(options, &**guard.log(), meta).await?;
    match known(&store, &read).await {
        Err(AppError::Sql(error)) if error.is_damage() => {
            read.close().await;
            read_models::make_way(options, &read_models::unusable(&error)).await?;
            let read = read_models::open(options, &**guard.log(), meta).await?;
            let known = known(&store, &read).await?;
            Ok((read, known))
        }
        known => Ok((read, known?)),
    }
}

/// An event that nobody can read keeps no process from what does not need it: the registry stands there, says so, and goes on
/// once the event is set aside.
pub(super) fn as_far_as_known(followed: Result<(), FollowError>) -> Result<(), FollowError> {
    match followed {
        Err(FollowError::Event(unsound)) => {
            tracing::error!(%unsound, "the registry stands still; what is decided by it waits");
            Ok(())
        }
        followed => followed,
    }
}

/// The registry, up to date, and what keeps it so.
async fn known(store: &Arc<dyn EventStore>, read: &ReadDb) -> Result<(Arc<Registry>, Arc<Follower>), AppError> {
    let known = snapshot(read).await?;
    let changed: Vec<_> = known.policies.iter().filter(|row| row.version > 1).map(|row| row.facts.policy).collect();
    let registry = Arc::new(Registry::from_snapshot(known));
    let follower = Arc::new(Follower::new(Arc::clone(store), Arc::clone(&registry)));
    for policy in changed {
        let (store, registry) = (Arc::clone(store), Arc::clone(&registry));
        let earlier = move || {
            let (store, registry) = (Arc::clone(&store), Arc::clone(&registry));
            Box::pin(async move { earlier_limits(&*store, &registry, policy).await }) as _
        };
        follower.first(Box::new(earlier)).await;
    }
    as_far_as_known(follower.catch_up().await)?;
    Ok((registry, follower))
}

/// Settings that were changed. Where one of the changes cannot be read, the registry is not known before it can be.
pub(super) async fn settings(
    (store, follower): (&Arc<dyn EventStore>, &Follower),
    clock: &Arc<dyn Clock>,
    options: &AppOptions,
) -> Result<Arc<Settings>, AppError> {
    let settings = Arc::new(Settings::new(Arc::clone(store), Arc::clone(clock), options.settings.clone()));
    match settings.load().await {
        Err(StoreError::Unsound(unsound)) => {
            tracing::error!(%unsound, "settings cannot be read; what is decided by them waits");
            let again = Arc::clone(&settings);
            let load = move || {
                let settings = Arc::clone(&again);
                Box::pin(async move { settings.load().await.map(drop).map_err(FollowError::from_read) }) as _
            };
            follower.first(Box::new(load)).await;
            as_far_as_known(follower.catch_up().await)?;
        }
        loaded => drop(loaded?),
    }
    Ok(settings)
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
        let (facts, version, created) = (o.facts, o.version, o.created);
        policies.push(PolicyRow { facts, version, created });
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
