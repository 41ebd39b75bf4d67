//! Recorded decisions, made again: a log with every type of event comes out as it stands, and each change is found where it is.

mod golden;
mod nightly;
mod planted;
mod what_if;

use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sluice::domain::ids::ResourceId;
use sluice::domain::period::PeriodKind;
use sluice::domain::policy::PolicyTerms;
use sluice::events::Event;
use sluice::events::envelope::{Actor, Metadata, NewEvent, Payload, StreamName};
use sluice::replay::{Effort, Pass, Report, Wanted};
use sluice::store::memory::MemoryStore;
use sluice::store::{EventStore, ExpectedVersion};
use uuid::Uuid;

use crate::support::positions;
use crate::support::world::{ALL_THREE, World, dec, resource_id, terms};

/// An event as a log holds it: stream, type, payload.
#[derive(Clone)]
struct Line {
    stream: String,
    event_type: &'static str,
    payload: String,
}

/// Two policies, three months, a new quarter with carryover, limits that change.
fn told() -> World {
    let mut world = World::on("2026-02-10");
    world.listens = true;
    let quarterly = PolicyTerms {
        carryover_enabled: true,
        period: PeriodKind::Quarter,
        notification_thresholds: vec![dec("50"), dec("80")],
        ..terms(ALL_THREE)
    };
    world.put_policy("quarterly", quarterly);
    world.put_policy("monthly", terms("notify_organization_owners,request_pausing"));
    world.register(&[("node", "1000")]);
    world.used("310");
    world.used("310.50");
    world.day("2026-02-20");
    world.used("850");
    world.day("2026-03-02");
    world.used("200");
    world.limits(&[("node", "1200.5")]);
    world.answer();
    world.day("2026-03-20");
    world.used("399.999");
    world.day("2026-04-03");
    world.used("1");
    world.used("5000");
    world
}

/// What happened to a resource, as lines of its streams.
fn lines(world: &World, resource: ResourceId) -> Vec<Line> {
    let months = ["2026-02", "2026-03", "2026-04"];
    assert_eq!(world.streams.len(), months.len());
    let of_month = |(events, month): (&Vec<sluice::events::allocation::AllocationEvent>, &str)| {
        let line = |event: &sluice::events::allocation::AllocationEvent| Line {
            stream: format!("allocation-{resource}-{month}"),
            event_type: event.event_type(),
            payload: event.payload(),
        };
        events.iter().map(line).collect::<Vec<_>>()
    };
    world.streams.iter().zip(months).flat_map(of_month).collect()
}

fn start() -> DateTime<Utc> {
    "2026-02-10T00:00:00Z".parse().unwrap()
}

/// An event an hour.
async fn append(store: &dyn EventStore, lines: &[Line]) {
    for (number, line) in lines.iter().enumerate() {
        let event = NewEvent {
            event_id: Uuid::from_u128(number as u128 + 1),
            event_type: line.event_type,
            occurred_at: start() + TimeDelta::hours(i64::try_from(number).unwrap()),
            metadata: Metadata { actor: Actor::SYSTEM, correlation_id: Uuid::nil(), causation_id: None, reason: None },
            payload: Payload::of_no_family(line.payload.clone()),
        };
        let stream = StreamName::new(&line.stream).unwrap();
        store.append(&stream, ExpectedVersion::Any, vec![event]).await.unwrap();
    }
}

async fn log_of(lines: &[Line]) -> Arc<dyn EventStore> {
    let store = Arc::new(MemoryStore::new(Arc::new(start)));
    append(&*store, lines).await;
    store
}

fn effort(workers: usize, books: usize) -> Effort {
    Effort { workers: NonZeroUsize::new(workers).unwrap(), books_max: NonZeroUsize::new(books).unwrap() }
}

async fn replayed_with(log: &Arc<dyn EventStore>, wanted: Wanted, so_far: Report, end: u64, how: Effort) -> Report {
    let end = positions::at(end).min(log.head().await.unwrap());
    let mut pass = Pass::begin(Arc::clone(log), wanted, (so_far, end), how).await.unwrap();
    while pass.step().await.unwrap() {}
    pass.into_report()
}

/// All of a log.
async fn replayed(log: &Arc<dyn EventStore>) -> Report {
    replayed_with(log, Wanted::default(), Report::default(), u64::MAX, effort(2, 100)).await
}

/// The type of a name.
fn known(name: &str) -> &'static str {
    Event::types().find(|known| *known == name).unwrap_or_else(|| panic!("{name} is no type of event"))
}

fn climate() -> ResourceId {
    resource_id("climate")
}
