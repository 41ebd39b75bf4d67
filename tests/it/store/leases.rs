//! Leases: one holder at a time, and nobody who has lost one writes anything under it.

use std::time::Duration;

use sluice::limits::Limits;
use sluice::store::address::Database;
use sluice::store::lease::{Fence, Leases};
use sluice::store::postgres::PostgresStore;
use sluice::store::sql::{ReadDb, SqlError};
use sluice::store::{EventStore, ExpectedVersion, StoreError};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::support::{events, stream, ticking};
use crate::support::database::postgres;

/// A lease that does not run out while a test looks at it.
const LONG: Duration = Duration::from_mins(5);

/// One that runs out at once.
const SHORT: Duration = Duration::from_millis(1);

struct Place {
    url: String,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Database::Postgres(url) = postgres(&folder.path().join("site.db")) else { unreachable!() };
        Self { url, _folder: folder }
    }

    fn process(&self, number: u128, lease: Duration) -> Leases {
        Leases::new(&self.url, Uuid::from_u128(number), &Limits { lease, ..Limits::default() }).unwrap()
    }

    async fn store(&self) -> PostgresStore {
        PostgresStore::open(&self.url, ticking(), Limits::default()).await.unwrap()
    }

    async fn tables(&self) -> ReadDb {
        ReadDb::open_read(&Database::Postgres(self.url.clone()), &Limits::default()).await.unwrap()
    }
}

/// The lease, once it has run out and was taken by another process.
async fn lost(place: &Place) -> (Fence, Fence) {
    let old = place.process(1, SHORT).take("leader").await.unwrap().unwrap();
    let other = place.process(2, LONG);
    loop {
        // It is over when the server's clock has moved on by a millisecond.
        if let Some(new) = other.take("leader").await.unwrap() {
            return (old, new);
        }
    }
}

#[tokio::test]
#[ignore = "needs the PostgreSQL of a full run"]
async fn a_lease_has_one_holder_until_it_runs_out_or_is_given_back() {
    let place = Place::new();
    let (one, two) = (place.process(1, LONG), place.process(2, LONG));
    let fence = one.take("leader").await.unwrap().unwrap();
    assert_eq!(fence.epoch(), 1);
    assert_eq!(two.take("leader").await.unwrap(), None);
    assert_eq!(one.take("leader").await.unwrap(), Some(fence.clone()), "it has it already");
    assert!(two.take("another").await.unwrap().is_some());
    assert!(one.keep(&fence).await.unwrap());
    one.give_back(&fence).await.unwrap();
    let next = two.take("leader").await.unwrap().unwrap();
    assert_eq!(next.epoch(), 2);
    assert!(!one.keep(&fence).await.unwrap(), "it has gone to somebody else");
    assert!(two.keep(&next).await.unwrap());

    let (old, new) = lost(&Place::new()).await;
    assert_eq!((old.epoch(), new.epoch()), (1, 2));
}

#[tokio::test]
#[ignore = "needs the PostgreSQL of a full run"]
async fn whoever_has_lost_a_lease_writes_nothing_under_it() {
    let place = Place::new();
    let (store, tables) = (place.store().await, place.tables().await);
    let (old, new) = lost(&place).await;
    let append = async |fence: &Fence, number: u128| {
        let name = stream("a-1");
        let append = store.append(&name, ExpectedVersion::Any, events(number..number + 1));
        fence.clone().scope(append).await
    };
    let refused = append(&old, 1).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost("leader"))), "{refused:?}");
    let refused = old.clone().scope(tables.begin()).await;
    assert!(matches!(refused, Err(SqlError::LeaseLost("leader"))), "{refused:?}");
    assert_eq!(append(&new, 2).await.unwrap().version, 1, "what was refused left nothing behind");
    new.scope(tables.begin()).await.unwrap().commit().await.unwrap();
    // Whoever claims no lease is checked by versions alone.
    store.append(&stream("a-1"), ExpectedVersion::Exact(1), events(3..4)).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the PostgreSQL of a full run"]
async fn a_write_that_has_begun_keeps_a_successor_out_and_lets_the_holder_renew() {
    let place = Place::new();
    let tables = place.tables().await;
    let holder = place.process(1, SHORT);
    let fence = holder.take("leader").await.unwrap().unwrap();
    let writing = fence.clone().scope(tables.begin()).await.unwrap();
    // The lease is over by now; its row is not to be had before the write ends.
    let other = place.process(2, LONG);
    let taking = tokio::spawn(async move {
        loop {
            if let Some(fence) = other.take("leader").await.unwrap() {
                return fence;
            }
        }
    });
    let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let mut watch = crate::support::database::connect(&place.url).await;
    while sqlx::Row::get::<i64, _>(&sqlx::query(blocked).fetch_one(&mut watch).await.unwrap(), 0) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!taking.is_finished());
    writing.commit().await.unwrap();
    assert_eq!(taking.await.unwrap().epoch(), 2);

    // A holder renews beside its own writes, however they overlap.
    let place = Place::new();
    let (tables, holder) = (place.tables().await, place.process(1, LONG));
    let fence = holder.take("leader").await.unwrap().unwrap();
    let _writing = fence.clone().scope(tables.begin()).await.unwrap();
    assert!(holder.keep(&fence).await.unwrap());
}

#[tokio::test]
#[ignore = "needs the PostgreSQL of a full run"]
async fn work_goes_on_where_the_lease_is_and_ends_where_it_was() {
    let place = Place::new();
    let lease = Duration::from_millis(400);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut running = Vec::new();
    for number in [1, 2] {
        let (leases, stop, tell) = (place.process(number, lease), CancellationToken::new(), tell.clone());
        let ends = stop.clone();
        let task = tokio::spawn(async move {
            let work = |fence: Fence, stop: CancellationToken| {
                let tell = tell.clone();
                async move {
                    tell.send((number, fence.epoch(), true)).unwrap();
                    stop.cancelled().await;
                    tell.send((number, fence.epoch(), false)).unwrap();
                }
            };
            leases.lead("leader", &ends, work).await;
        });
        running.push((number, stop, task));
    }
    let (first, epoch, begins) = told.recv().await.unwrap();
    assert_eq!((epoch, begins), (1, true));
    // Somebody takes the row by force, as after a process was frozen: whoever worked under it ends.
    let mut connection = crate::support::database::connect(&place.url).await;
    let force =
        "UPDATE sluice.leases SET epoch = epoch + 1, holder = gen_random_uuid(), expires_at = clock_timestamp()";
    sqlx::query(force).execute(&mut connection).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&(first, 1, false)) || !seen.iter().any(|(_, epoch, begins)| *epoch == 3 && *begins) {
        seen.push(told.recv().await.unwrap());
    }
    for (_, stop, task) in running {
        stop.cancel();
        task.await.unwrap();
    }
    let left = place.process(3, LONG).all().await.unwrap();
    assert!(!left[0].holds, "who ends in order gives it back: {left:?}");
}
