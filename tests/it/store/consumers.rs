//! The consumer loop: exactly once whatever fails, nobody held up by somebody else, and waiting for a position.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sluice::events::envelope::{Payload, Position};
use sluice::limits::Limits;
use sluice::store::consumer::{Consumer, ConsumerError, ConsumerLoop, Decoded, FaultPoint, Faults, LoopError};
use sluice::store::sql::{ReadDb, ReadTx, SqlValue};
use sluice::store::{Distance, EventStore, ExpectedVersion};
use tokio_util::sync::CancellationToken;

use super::support::{Ledger, Site, decode, events, expected_ledger, ledger, small_limits, stream, ticking};
use crate::support::positions::at;

/// Fails as long as it is told to, after having written something.
struct Moody {
    failing: Arc<AtomicBool>,
}

#[async_trait]
impl Consumer<i64> for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn tables(&self) -> &'static [&'static str] {
        &["other"]
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<i64>]) -> Result<(), ConsumerError> {
        let numbers = batch.iter().map(|event| SqlValue::I64(event.event)).collect();
        tx.insert_many("INSERT INTO other{g} (number)", 1, numbers, "").await?;
        if self.failing.load(Ordering::Relaxed) {
            return Err(ConsumerError::Other("not today".to_owned()));
        }
        Ok(())
    }
}

/// Counts the batches it is given, and wants odd numbers only.
struct Picky {
    batches: Arc<AtomicUsize>,
}

#[async_trait]
impl Consumer<i64> for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn tables(&self) -> &'static [&'static str] {
        &[]
    }

    fn interested(&self, event_type: &str) -> bool {
        event_type == "odd.v1"
    }

    async fn apply(&mut self, _tx: &mut ReadTx, _batch: &[Decoded<i64>]) -> Result<(), ConsumerError> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

async fn append(store: &dyn EventStore, numbers: std::ops::Range<u128>) -> Position {
    store.append(&stream("a-1"), ExpectedVersion::Any, events(numbers)).await.unwrap().position
}

fn consumers(store: &Arc<dyn EventStore>, db: &ReadDb, limits: &Limits) -> ConsumerLoop<i64> {
    ConsumerLoop::new(Arc::clone(store), db.clone(), decode, ticking(), limits.clone())
}

async fn count_other(db: &ReadDb) -> i64 {
    db.query_one("SELECT count(*) FROM other{g}", &[]).await.unwrap().unwrap().i64(0).unwrap()
}

#[tokio::test]
async fn each_event_is_applied_once_in_order_and_again_after_a_restart() {
    let site = Site::new(small_limits());
    let (store, db) = (site.store().await, site.read_db().await);
    let head = append(&*store, 0..50).await;
    assert_eq!(consumers(&store, &db, &site.limits).with(Ledger::new()).settle().await.unwrap(), head);
    let head = append(&*store, 50..75).await;
    let consumer = Ledger::new();
    let sum = Arc::clone(&consumer.sum);
    let restarted = consumers(&store, &db, &site.limits).with(consumer);
    assert_eq!(restarted.settle().await.unwrap(), head);
    assert_eq!(ledger(&db).await, expected_ledger(&*store).await);
    assert_eq!(sum.load(Ordering::Relaxed), (0..75).sum::<u64>(), "memory was loaded from the tables, then went on");
    let status = restarted.status().await.unwrap();
    assert_eq!((status[0].name, status[0].position, status[0].lag), ("ledger", head, Distance::NONE));
    assert_eq!(status[0].error, None);
}

#[tokio::test]
async fn a_crash_at_any_moment_neither_loses_nor_repeats_an_event() {
    for point in [FaultPoint::BeforeCommit, FaultPoint::AfterCommit] {
        for survived in 0..9 {
            for restart in [false, true] {
                crash_and_go_on(point, survived, restart).await;
            }
        }
    }
}

async fn crash_and_go_on(point: FaultPoint, survived: usize, restart: bool) {
    let site = Site::new(small_limits());
    let (store, db) = (site.store().await, site.read_db().await);
    append(&*store, 0..60).await;
    let passed = AtomicUsize::new(0);
    let faults: Faults = Arc::new(move |at| at == point && passed.fetch_add(1, Ordering::Relaxed) == survived);
    let consumer = Ledger::new();
    let sum = Arc::clone(&consumer.sum);
    let crashing = consumers(&store, &db, &site.limits).with(consumer).with_faults(faults);
    let crash = crashing.settle().await;
    assert!(matches!(crash, Err(LoopError::Injected(at)) if at == point), "{point:?} {survived}: {crash:?}");
    let sum = if restart {
        let consumer = Ledger::new();
        let sum = Arc::clone(&consumer.sum);
        consumers(&store, &db, &site.limits).with(consumer).settle().await.unwrap();
        sum
    } else {
        crashing.settle().await.unwrap();
        sum
    };
    assert_eq!(ledger(&db).await, expected_ledger(&*store).await, "{point:?} {survived} {restart}");
    assert_eq!(sum.load(Ordering::Relaxed), (0..60).sum::<u64>(), "{point:?} {survived} {restart}");
}

#[tokio::test]
async fn who_fails_is_undone_alone_and_does_not_hold_up_the_others() {
    let site = Site::new(small_limits());
    let (store, db) = (site.store().await, site.read_db().await);
    let failing = Arc::new(AtomicBool::new(false));
    let moody = Moody { failing: Arc::clone(&failing) };
    let all = consumers(&store, &db, &site.limits).with(moody).with(Ledger::new());
    append(&*store, 0..10).await;
    all.settle().await.unwrap();
    failing.store(true, Ordering::Relaxed);
    let head = append(&*store, 10..40).await;
    let stalled = all.settle().await.unwrap_err();
    assert_eq!(stalled.to_string(), "consumer moody stands still: not today");
    assert_eq!(ledger(&db).await, expected_ledger(&*store).await);
    assert_eq!(count_other(&db).await, 10, "what it wrote before it failed is gone");
    let status = all.status().await.unwrap();
    assert_eq!(
        (status[0].position, status[0].lag, status[0].error.as_deref()),
        (at(10), Distance::Exact(30), Some("not today"))
    );
    assert_eq!((status[1].position, status[1].lag, status[1].error.as_deref()), (head, Distance::NONE, None));
    assert!(all.wait_for(head, &["ledger"], Duration::ZERO).await);
    assert!(!all.wait_for(head, &[], Duration::ZERO).await);
    failing.store(false, Ordering::Relaxed);
    all.settle().await.unwrap();
    assert_eq!(count_other(&db).await, 40);
    assert_eq!(all.status().await.unwrap()[0].error, None);
}

#[tokio::test]
async fn a_running_loop_wakes_waiters_and_retries_by_itself() {
    let site = Site::new(small_limits());
    let (store, db) = (site.store().await, site.read_db().await);
    let failing = Arc::new(AtomicBool::new(true));
    let moody = Moody { failing: Arc::clone(&failing) };
    let all = Arc::new(consumers(&store, &db, &site.limits).with(Ledger::new()).with(moody));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (all, shutdown) = (Arc::clone(&all), shutdown.clone());
        async move { all.run(shutdown).await }
    });
    for round in 0..20 {
        let head = append(&*store, round * 5..round * 5 + 5).await;
        assert!(all.wait_for(head, &["ledger"], Duration::from_mins(1)).await);
    }
    failing.store(false, Ordering::Relaxed);
    let head = store.head().await.unwrap();
    assert!(all.wait_for(head, &["ledger", "moody"], Duration::from_mins(1)).await);
    assert_eq!(count_other(&db).await, 100);
    assert!(!all.wait_for(at(101), &[], Duration::from_millis(1)).await, "nobody is there yet");
    assert!(!all.wait_for(head, &["nobody"], Duration::from_hours(1)).await, "there is no such consumer");
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(ledger(&db).await, expected_ledger(&*store).await);
}

#[tokio::test]
async fn two_processes_with_the_same_consumers_share_the_work() {
    let site = Site::new(small_limits());
    let logs = [site.store().await, site.store().await];
    let dbs = [site.read_db().await, site.read_db().await];
    let ledgers = [Ledger::new(), Ledger::new()];
    let sums = ledgers.each_ref().map(|ledger| Arc::clone(&ledger.sum));
    let [first, second] = ledgers;
    let loops = [
        consumers(&logs[0], &dbs[0], &site.limits).with(first),
        consumers(&logs[1], &dbs[1], &site.limits).with(second),
    ];
    for round in 0..12_u128 {
        let mine = usize::from(round % 2 == 0);
        append(&*logs[mine], round * 20..round * 20 + 20).await;
        let (one, two) = tokio::join!(loops[0].settle(), loops[1].settle());
        assert_eq!(one.unwrap(), two.unwrap());
        for sum in &sums {
            assert_eq!(u128::from(sum.load(Ordering::Relaxed)), (0..round * 20 + 20).sum::<u128>());
        }
    }
    assert_eq!(ledger(&dbs[0]).await, expected_ledger(&*logs[1]).await);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_stops_everybody_there_and_says_so() {
    let site = Site::new(small_limits());
    let (store, db) = (site.store().await, site.read_db().await);
    append(&*store, 0..10).await;
    let mut strange = events(10..12);
    strange[0].payload = Payload::of_no_family("\"ten\"");
    store.append(&stream("a-1"), ExpectedVersion::Any, strange).await.unwrap();
    let all = consumers(&store, &db, &site.limits).with(Ledger::new());
    let stalled = all.settle().await.unwrap_err().to_string();
    assert!(
        stalled.contains("event 11 of the stream a-1 (even.v1, position 11)")
            && stalled.contains("invalid type: string"),
        "{stalled}"
    );
    assert_eq!(ledger(&db).await.len(), 10, "what comes before it was applied");
}

#[tokio::test]
async fn a_batch_without_anything_of_interest_passes_a_consumer_by() {
    let site = Site::new(Limits { consumer_batch_events: 1, ..small_limits() });
    let (store, db) = (site.store().await, site.read_db().await);
    append(&*store, 0..10).await;
    let batches = Arc::new(AtomicUsize::new(0));
    let all = consumers(&store, &db, &site.limits).with(Picky { batches: Arc::clone(&batches) });
    let head = all.settle().await.unwrap();
    assert_eq!(batches.load(Ordering::Relaxed), 5);
    assert!(all.wait_for(head, &["picky"], Duration::ZERO).await);
}

#[tokio::test]
async fn a_payload_is_read_once_however_many_consumers_there_are() {
    static DECODED: AtomicU64 = AtomicU64::new(0);
    let site = Site::new(small_limits());
    let (store, db) = (site.store().await, site.read_db().await);
    append(&*store, 0..30).await;
    let counting = |event: &_| {
        DECODED.fetch_add(1, Ordering::Relaxed);
        decode(event)
    };
    let all = ConsumerLoop::new(Arc::clone(&store), db, counting, ticking(), site.limits.clone())
        .with(Ledger::new())
        .with(Moody { failing: Arc::default() })
        .with(Picky { batches: Arc::default() });
    all.settle().await.unwrap();
    assert_eq!(DECODED.load(Ordering::Relaxed), 30);
}
