//! What must hold of the log and the read models after processes were killed and frozen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rust_decimal::Decimal;
use sluice::app::{App, AppOptions};
use sluice::domain::ids::ResourceId;
use sluice::events::Event;
use sluice::events::allocation::AllocationEvent;
use sluice::events::envelope::{Position, RecordedEvent};
use sluice::events::resolve::Resolver;
use sluice::registry::book_of;
use sluice::store::address::Database;
use sqlx::Row;

use super::cluster::Cluster;
use crate::support::database;
use crate::support::positions::number;

/// Tables that are no fold of the log alone: how far somebody is, what a publisher or a courier keeps of its attempts, and
/// the log itself.
const NOT_FOLDED: [&str; 12] = [
    "consumers",
    "reactions",
    "_sqlx_migrations",
    "leases",
    "scheduler_runs",
    "streams",
    "log_head",
    "notices",
    "outbox",
    "outbox_flags",
    "broker_readers",
    "broker_taken",
];

async fn whole_log(app: &App) -> Vec<RecordedEvent> {
    let mut log: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = log.last().map_or(Position::START, |event| event.position);
        let page = app.store.read_all(after, 5_000).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

pub async fn open(of: &Database) -> Arc<App> {
    let mut options = AppOptions::at(of.clone());
    options.notify.mail.transport = sluice::notify::MailTransportOptions::None;
    App::open(options).await.unwrap()
}

/// Waits until the agent has been sent everything that waited for it.
pub async fn everything_read(cluster: &Cluster) {
    let Database::Postgres(url) = &cluster.database else { unreachable!("it is on a server") };
    let mut connection = database::connect(url).await;
    let waiting = "SELECT count(*) FROM sluice_read.broker_messages WHERE delivered_at IS NULL AND dead_at IS NULL";
    while sqlx::query(waiting).fetch_one(&mut connection).await.unwrap().get::<i64, _>(0) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Every acknowledged total stands in the log once; nothing stands there twice; each evaluation counts the newest report;
/// each reset was decided once; the newest settings of each resource were handed over, and arrived the agent.
pub async fn log(app: &App, acknowledged: &[(ResourceId, Decimal)], read: &[String]) {
    let log = whole_log(app).await;
    let positions: Vec<u64> = log.iter().map(|event| number(event.position)).collect();
    assert_eq!(positions, (1..=log.len() as u64).collect::<Vec<_>>());
    let ids: HashSet<_> = log.iter().map(|event| event.event_id).collect();
    assert_eq!(ids.len(), log.len(), "an event stands in the log twice");
    let mut versions = HashMap::new();
    let mut reported: BTreeMap<(ResourceId, Decimal), usize> = BTreeMap::new();
    let mut newest: HashMap<ResourceId, Decimal> = HashMap::new();
    let mut resolvers: HashMap<String, Resolver> = HashMap::new();
    let (mut resets, mut commanded, mut sent) = (BTreeMap::new(), BTreeMap::new(), HashSet::new());
    let mut evaluations = 0;
    for event in &log {
        let version = versions.entry(event.stream.clone()).or_insert(0);
        *version += 1;
        assert_eq!(event.version, *version, "{}", event.stream);
        assert!(event.commitment_holds(), "{} {}", event.stream, event.version);
        let Some((resource, _)) = book_of(event.stream.as_str()) else { continue };
        let Event::Allocation(of_book) = Event::decode(event).unwrap() else { continue };
        match of_book {
            AllocationEvent::UsageReported(report) => {
                let amount = report.amounts["node_hours"].amount.normalize();
                *reported.entry((resource, amount)).or_default() += 1;
                newest.insert(resource, amount);
            }
            AllocationEvent::PolicyEvaluated(evaluated) => {
                evaluations += 1;
                let resolver = resolvers.entry(event.stream.to_string()).or_default();
                let inputs = resolver.resolve(event.version, &evaluated).unwrap();
                let counted = inputs.usage.get("node_hours").map(|term| term.amount.normalize());
                assert_eq!(counted, newest.get(&resource).copied(), "{} {}", event.stream, event.version);
            }
            AllocationEvent::SettingsCommanded(told) => {
                if told.reset.is_some() {
                    *resets.entry(resource).or_insert(0) += 1;
                }
                commanded.insert(resource, told.dispatch);
            }
            AllocationEvent::StompMessageSent(told) => sent.extend(told.dispatch),
            _ => {}
        }
    }
    let repeated: Vec<_> = reported.iter().filter(|(_, times)| **times != 1).collect();
    assert!(repeated.is_empty(), "reported more than once: {repeated:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|fact| !reported.contains_key(fact)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(evaluations >= acknowledged.len(), "{evaluations} evaluations of {} reports", acknowledged.len());
    assert!(!resets.is_empty() && resets.values().all(|times| *times == 1), "{resets:?}");
    let waiting: Vec<_> = commanded.iter().filter(|(_, dispatch)| !sent.contains(dispatch)).collect();
    assert!(waiting.is_empty(), "never handed over: {waiting:?}");
    let arrived = |dispatch: &String| read.iter().any(|message| message.starts_with(dispatch.as_str()));
    let never_read: Vec<_> =
        commanded.values().map(ToString::to_string).filter(|dispatch| !arrived(dispatch)).collect();
    assert!(never_read.is_empty(), "the agent never got {never_read:?}, but {read:?}");
}

/// The read models that lived through it hold what a rebuild from the log gives.
pub async fn same_as_rebuilt(of: &Database) {
    let folder = tempfile::tempdir().unwrap();
    let copy = database::copy_of_log(of, &folder.path().join("copy.db")).await;
    let app = open(&copy).await;
    app.consumers.settle().await.unwrap();
    app.read.close().await;
    let tables = async |of: &Database| {
        let Database::Postgres(url) = of else { unreachable!("it is on a server") };
        let mut rows = database::rows(url).await;
        rows.retain(|table, _| !NOT_FOLDED.contains(&table.as_str()) && table != "broker_messages");
        rows
    };
    let (lived, rebuilt) = (tables(of).await, tables(&copy).await);
    assert!(lived.len() > 20);
    for (table, rows) in &lived {
        assert_eq!(rows, &rebuilt[table], "table {table}");
    }
}
