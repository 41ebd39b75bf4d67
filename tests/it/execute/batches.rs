//! Batches at the same time: those with no resource in common do not wait for each other, those with one do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice::commands::allocation::{AllocationCommand, SiteRules};
use sluice::commands::execute::Allocations;
use sluice::domain::ids::ResourceId;
use sluice::events::envelope::{NewEvent, Position, RecordedEvent, StreamName, StreamStart, Version};
use sluice::limits::Limits;
use sluice::store::{AppendRequest, Appended, EventStore, ExpectedVersion, StoreError};
use tokio::sync::Barrier;

use super::{Place, count, is_report, lay_out, usage};
use crate::support::fleet::meta;
use crate::support::world::resource_id;

/// Resources of a batch: so many that any two batches would meet in locks that resources share.
const MANY: usize = 300;

/// Nothing takes this long.
const STANDSTILL: Duration = Duration::from_secs(30);

/// A store in front of the real one, in which an append of a batch waits for that of another: two that are not under way at
/// the same time never end.
struct Meeting {
    store: Arc<dyn EventStore>,
    both: Barrier,
}

#[async_trait]
impl EventStore for Meeting {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> Result<Appended, StoreError> {
        self.store.append(stream, expected, events).await
    }

    async fn append_many(&self, requests: Vec<AppendRequest>) -> Vec<Result<Appended, StoreError>> {
        self.both.wait().await;
        self.store.append_many(requests).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store.read_stream(stream, after, limit).await
    }

    async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        self.store.read_streams(streams).await
    }

    async fn read_all(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        self.store.read_all(after, limit).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.store.head().await
    }

    async fn wait_beyond(&self, after: Position, at_most: Duration) {
        self.store.wait_beyond(after, at_most).await;
    }
}

fn batch(names: &[String]) -> Vec<(ResourceId, AllocationCommand)> {
    names.iter().map(|name| (resource_id(name), usage("2026-03", 10))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_different_resources_are_under_way_at_the_same_time() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    let names: Vec<String> = (0..2 * MANY).map(|n| format!("r{n}")).collect();
    lay_out(&app, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let meeting = Arc::new(Meeting { store: Arc::clone(&app.store), both: Barrier::new(2) });
    let allocations = Arc::new(Allocations::new(
        meeting,
        Arc::clone(&app.registry),
        Arc::clone(&app.follower),
        Arc::clone(&app.clock),
        SiteRules::default(),
        Limits::default().books_max,
    ));
    let under_way = [&names[..MANY], &names[MANY..]].map(|names| {
        let (allocations, batch) = (Arc::clone(&allocations), batch(names));
        tokio::spawn(async move { allocations.execute_many(&batch, &meta()).await })
    });
    for outcomes in under_way {
        let outcomes = tokio::time::timeout(STANDSTILL, outcomes).await.expect("one waits for the other").unwrap();
        assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
    }
    assert_eq!(count(&app, is_report).await, 2 * MANY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_the_same_resources_in_any_order_end_and_count_once() {
    let place = Place::new();
    let app = place.open_at("2026-03-10T12:00:00Z").await;
    let names: Vec<String> = (0..MANY).map(|n| format!("r{n}")).collect();
    lay_out(&app, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let backwards: Vec<String> = names.iter().rev().cloned().collect();
    let under_way = [names, backwards].map(|names| {
        let (app, batch) = (Arc::clone(&app), batch(&names));
        tokio::spawn(async move { app.allocations.execute_many(&batch, &meta()).await })
    });
    let mut applied = 0;
    for outcomes in under_way {
        let outcomes = tokio::time::timeout(STANDSTILL, outcomes).await.expect("they wait for each other").unwrap();
        applied += outcomes.into_iter().filter(|outcome| !outcome.as_ref().unwrap().already_applied()).count();
    }
    assert_eq!(applied, MANY, "the second of the same total changes nothing");
    assert_eq!(count(&app, is_report).await, MANY);
}
