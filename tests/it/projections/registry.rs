//! The registry's tables: lists, filters, and what a start loads.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rust_decimal::Decimal;
use sluice::domain::ids::AgentId;
use sluice::domain::qos::QosNames;
use sluice::domain::tres::Amounts;
use sluice::events::agent::{AgentEvent, IdentityFacts, IdentityRemoved, QueueFacts};
use sluice::events::allocation::ResourceState;
use sluice::events::registry::{OfferingFacts, ProjectFacts, RegistryEvent};
use sluice::projections::Page;
use sluice::projections::registry::{
    ObjectFilter, Order, ResourceFilter, VisibilityFilter, customers, customers_of, load_agents, load_offerings,
    load_policies, load_resources, loaded_position, offerings, policies, projects, resource as one, resources,
};
use sluice::registry::{Agents, At};
use sluice::store::EventStore;

use super::{ALL, Models};
use crate::support::events::{FREE, Log, SLOW, customer_of, id, limits, offering, policy, resource, restricted, state};

async fn site() -> Log {
    let mut log = Log::new("2026-03-01T10:00:00Z");
    log.customers().await;
    log.policy(1, &["80"]).await;
    for number in 1..30 {
        log.register(number).await;
    }
    log
}

#[tokio::test]
async fn a_resource_shows_what_its_events_made_of_it() {
    let mut log = site().await;
    log.on(3, vec![limits(250), restricted(FREE, SLOW), state(ResourceState::Ok, ResourceState::Updating)]).await;
    log.advance(TimeDelta::days(40));
    let opened = log.opened(3, SLOW);
    log.on(3, vec![opened]).await;
    let models = Models::of(&log).await;
    let row = one(&models.db, resource(3)).await.unwrap().unwrap();
    assert_eq!((row.state, row.flags, row.book.to_string()), (ResourceState::Updating, SLOW, "2026-04".to_owned()));
    assert_eq!(row.limits, Amounts::from([("node_hours".to_owned(), Decimal::from(250))]));
    assert_eq!((row.created, row.modified), (log.now - TimeDelta::days(40), log.now - TimeDelta::days(40)));
    assert_eq!(one(&models.db, resource(99)).await.unwrap(), None);
}

#[tokio::test]
async fn resources_are_found_by_each_filter() {
    let mut log = site().await;
    log.on(4, vec![state(ResourceState::Ok, ResourceState::Erred), restricted(FREE, SLOW)]).await;
    let models = Models::of(&log).await;
    let any = ResourceFilter::default;
    let visible = |v: VisibilityFilter| ResourceFilter { visible: Some(v), ..any() };
    for (filter, n) in [
        (any(), 29),
        (ResourceFilter { id: Some(resource(2)), ..any() }, 1),
        (ResourceFilter { slug: Some("resource-2".into()), ..any() }, 1),
        (ResourceFilter { name: Some("RESOURCE 2".into()), ..any() }, 11),
        (ResourceFilter { name_exact: Some("Resource 2".into()), ..any() }, 1),
        (ResourceFilter { backend_id: Some("hpc_7".into()), ..any() }, 1),
        (ResourceFilter { backend_id: Some("hpc_7".into()), offering: Some(offering()), ..any() }, 1),
        (ResourceFilter { offering: Some(id(3, 2)), ..any() }, 0),
        (ResourceFilter { customer: Some(customer_of(1)), ..any() }, 15),
        (ResourceFilter { project: Some(id(10, 0)), offering: Some(offering()), ..any() }, 9),
        (ResourceFilter { states: vec![ResourceState::Erred, ResourceState::Updating], ..any() }, 1),
        (ResourceFilter { downscaled: Some(true), ..any() }, 1),
        (ResourceFilter { downscaled: Some(false), paused: Some(false), ..any() }, 28),
        (visible(VisibilityFilter::default()), 0),
        (visible(VisibilityFilter { customers: vec![customer_of(0)], ..VisibilityFilter::default() }), 14),
        (
            visible(VisibilityFilter {
                customers: vec![customer_of(0)],
                projects: vec![id(10, 1)],
                ..VisibilityFilter::default()
            }),
            19,
        ),
        (visible(VisibilityFilter { offerings: vec![offering()], ..VisibilityFilter::default() }), 29),
    ] {
        let (rows, total) = resources(&models.db, &filter, ALL).await.unwrap();
        assert_eq!((rows.len(), total), (n, i64::try_from(n).unwrap()), "{filter:?}");
    }
    let by_name = ResourceFilter { order: Order::Name, ..any() };
    let (rows, total) = resources(&models.db, &by_name, Page { number: 2, size: 3 }).await.unwrap();
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!((names, total), (vec!["Resource 12", "Resource 13", "Resource 14"], 29));
    let newest = ResourceFilter { order: Order::NewestFirst, ..any() };
    assert_eq!(resources(&models.db, &newest, Page::first(1)).await.unwrap().0[0].resource, resource(29));
}

#[tokio::test]
async fn objects_keep_their_first_moment_and_their_newest_facts() {
    let mut log = site().await;
    let created = log.now;
    log.advance(TimeDelta::hours(1));
    log.policy(1, &["50", "90"]).await;
    log.policy(2, &["80"]).await;
    let models = Models::of(&log).await;
    let (found, total) = policies(&models.db, &ObjectFilter::default(), ALL).await.unwrap();
    assert_eq!((found.len(), total), (2, 2));
    assert_eq!((found[0].created, found[0].modified, found[0].version), (created, log.now, 2));
    assert_eq!(found[0].created_by, Some(id(9, 1)));
    assert_eq!(found[0].facts.terms.notification_thresholds, [Decimal::from(50), Decimal::from(90)]);
    log.delete_policy(1).await;
    models.start(&log).settle().await.unwrap();
    let of_offering = ObjectFilter { parents: Some(vec![offering().as_uuid()]), ..ObjectFilter::default() };
    let (found, _) = policies(&models.db, &of_offering, ALL).await.unwrap();
    assert_eq!(found.iter().map(|row| row.facts.policy).collect::<Vec<_>>(), [policy(2)]);
    let all = ObjectFilter { gone_too: true, ..of_offering };
    assert_eq!(policies(&models.db, &all, ALL).await.unwrap().1, 2);
    let named = ObjectFilter { name: Some("ersity 1".into()), ..ObjectFilter::default() };
    let (found, _) = customers(&models.db, &named, ALL).await.unwrap();
    assert_eq!(found.iter().map(|row| row.facts.customer).collect::<Vec<_>>(), [customer_of(1)]);
    assert_eq!(customers_of(&models.db, id(6, 0)).await.unwrap(), [customer_of(0)]);
    let seen = ObjectFilter { visible: Some(vec![customer_of(0).as_uuid()]), ..ObjectFilter::default() };
    assert_eq!(customers(&models.db, &seen, ALL).await.unwrap().1, 1);
}

/// Logs hold such objects: whoever registers one may name its id, and it was not always looked up among all kinds.
#[tokio::test]
async fn objects_of_different_kinds_with_one_id_are_kept_apart() {
    let mut log = site().await;
    let (customer, same) = (customer_of(0), customer_of(0).as_uuid());
    let facts = OfferingFacts {
        offering: same.into(),
        slug: "cluster".into(),
        name: "Cluster".into(),
        customer,
        components: Vec::new(),
        qos: QosNames::default(),
        slurm_clusters: Vec::new(),
        retired: false,
    };
    let registered = RegistryEvent::OfferingRegistered(facts.clone());
    log.append(&format!("offering-{}", same.as_simple()), vec![(registered.event_type(), registered.payload())]).await;
    let facts = ProjectFacts {
        project: same.into(),
        slug: "project".into(),
        name: "Project".into(),
        customer,
        members: [id(6, 1)].into(),
        pending: [].into(),
        retired: false,
    };
    let registered = RegistryEvent::ProjectRegistered(facts);
    log.append(&format!("project-{}", same.as_simple()), vec![(registered.event_type(), registered.payload())]).await;
    let models = Models::of(&log).await;
    let that = ObjectFilter { id: Some(same), ..ObjectFilter::default() };
    assert_eq!(offerings(&models.db, &that, ALL).await.unwrap().0[0].facts.slug, "cluster");
    assert_eq!(projects(&models.db, &that, ALL).await.unwrap().0[0].facts.slug, "project");
    assert_eq!(customers(&models.db, &that, ALL).await.unwrap().0[0].facts.slug, "uni-0");
    assert_eq!(customers_of(&models.db, id(6, 0)).await.unwrap(), [customer], "it has its owner still");
    let mut loaded = Vec::new();
    load_offerings(&models.db, |offering| loaded.push(offering.facts.slug)).await.unwrap();
    assert_eq!(loaded, ["cluster"]);
}

#[tokio::test]
async fn a_start_loads_everything_with_its_position() {
    let mut log = site().await;
    log.policy(2, &["80"]).await;
    log.delete_policy(1).await;
    log.on(5, vec![state(ResourceState::Ok, ResourceState::Terminated)]).await;
    let models = Models::of(&log).await;
    assert_eq!(loaded_position(&models.db).await.unwrap(), log.store.head().await.unwrap());
    let (mut loaded, mut kept) = (Vec::new(), Vec::new());
    load_resources(&models.db, |resource| loaded.push(resource)).await.unwrap();
    load_policies(&models.db, |policy| kept.push((policy.facts.policy, policy.version))).await.unwrap();
    assert_eq!((loaded.len(), loaded[4].state, loaded[4].customer), (29, ResourceState::Terminated, customer_of(5)));
    assert_eq!(kept, [(policy(2), 1)]);
}

#[tokio::test]
async fn a_start_loads_the_agents_that_are_in_use_with_their_queues() {
    let mut log = site().await;
    let made = log.now;
    let identity = |number: u128| IdentityFacts {
        agent: id(20, number),
        offering: offering(),
        name: format!("agent-{number}"),
        version: String::new(),
        last_restarted: None,
        dependencies: BTreeMap::new(),
    };
    let queue = |number: u128, login: &str| QueueFacts {
        consumer: id(21, number),
        agent: id(20, number),
        offering: offering(),
        queue: format!("consumer_{number}"),
        vhost: "v".to_owned(),
        login: login.to_owned(),
        owner: id(6, 1),
        object_types: None,
        subscription: None,
    };
    let stream = |number: u128| format!("agent-{}", id::<AgentId>(20, number));
    for number in [1, 2] {
        let events =
            [AgentEvent::IdentityRegistered(identity(number)), AgentEvent::QueueRegistered(queue(number, "first"))];
        log.append(&stream(number), events.iter().map(|e| (e.event_type(), e.payload())).collect()).await;
    }
    log.advance(TimeDelta::hours(1));
    let changed = AgentEvent::QueueRegistered(queue(1, "second"));
    log.append(&stream(1), vec![(changed.event_type(), changed.payload())]).await;
    let removed = AgentEvent::IdentityRemoved(IdentityRemoved { agent: id(20, 2), offering: offering() });
    log.append(&stream(2), vec![(removed.event_type(), removed.payload())]).await;
    let models = Models::of(&log).await;
    let mut agents = Agents::default();
    load_agents(&models.db, |part| {
        agents.apply(&part.event, &At { version: part.version, created: part.created, modified: part.modified });
    })
    .await
    .unwrap();
    let found: Vec<_> = agents.identities().map(|known| (known.facts.name.as_str(), known.created)).collect();
    assert_eq!(found, [("agent-1", made)]);
    let queues: Vec<_> = agents.queues().map(|q| (q.facts.login.as_str(), q.created, q.modified, q.version)).collect();
    assert_eq!(queues, [("second", made, log.now, 3)]);
    assert_eq!(agents.version(id(20, 1)), 3);
    // What comes again after a start, because the log is read from an older position, changes nothing.
    agents.apply(&AgentEvent::QueueRegistered(queue(1, "first")), &At { version: 2, created: made, modified: made });
    assert_eq!(agents.queues_of(offering()).map(|q| q.login.as_str()).collect::<Vec<_>>(), ["second"]);
}
