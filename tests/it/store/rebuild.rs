//! Rebuilding a read model beside the one in use.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sluice::store::consumer::{ConsumerLoop, LoopError, RebuildProgress};
use sluice::store::sql::ReadDb;
use sluice::store::{Distance, EventStore, ExpectedVersion};
use tokio_util::sync::CancellationToken;

use super::support::{
    Ledger, Site, decode, events, expected_ledger, is_building, ledger, small_limits, stream, ticking,
};

struct Rig {
    site: Site,
    store: Arc<dyn EventStore>,
    db: ReadDb,
}

impl Rig {
    async fn new() -> Self {
        let site = Site::new(small_limits());
        let (store, db) = (site.store().await, site.read_db().await);
        Self { site, store, db }
    }

    async fn append(&self, numbers: std::ops::Range<u128>) {
        self.store.append(&stream("a-1"), ExpectedVersion::Any, events(numbers)).await.unwrap();
    }

    fn consumers(&self) -> ConsumerLoop<i64> {
        let (store, db) = (Arc::clone(&self.store), self.db.clone());
        ConsumerLoop::new(store, db, decode, ticking(), self.site.limits.clone())
    }

    async fn indexes(&self) -> Vec<String> {
        let sql = if self.db.is_shared() {
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'sluice_read' AND tablename = 'ledger'"
        } else {
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'ledger'"
        };
        self.db.query(sql, &[]).await.unwrap().iter().map(|row| row.text(0).unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn new_tables_take_the_place_of_the_old_ones_in_one_step() {
    let rig = Rig::new().await;
    rig.append(0..50).await;
    let consumer = Ledger::new();
    let sum = Arc::clone(&consumer.sum);
    let live = rig.consumers().with(consumer);
    live.settle().await.unwrap();
    let before = expected_ledger(&*rig.store).await;
    let mut seen = Vec::new();
    for round in 1..=3 {
        let fresh = Ledger { shift: round * 1000, ..Ledger::new() };
        let mut last = None;
        live.rebuild(Box::new(fresh), |progress| last = Some(progress)).await.unwrap();
        assert_eq!(last, Some(RebuildProgress { events: 50, total: Distance::Exact(50) }));
        let after: Vec<_> = before.iter().map(|(position, number)| (*position, number + round * 1000)).collect();
        assert_eq!(ledger(&rig.db).await, after);
        assert!(!is_building(&rig.db).await, "nothing is left over");
        seen.push(rig.indexes().await);
    }
    // SQLite cannot rename an index: there the two names take turns.
    let other = if rig.db.is_shared() { "ledger_by_number" } else { "ledger_by_number_next" };
    assert_eq!(seen, [[other], ["ledger_by_number"], [other]]);
    // The consumer in use notices at its next step, loads what is there now, and goes on after it.
    rig.append(50..60).await;
    live.settle().await.unwrap();
    assert_eq!(ledger(&rig.db).await.len(), 60);
    assert_eq!(sum.load(Ordering::Relaxed), (0..60).sum::<u64>() + 50 * 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rebuild_equals_the_live_tables_while_writes_go_on() {
    let rig = Arc::new(Rig::new().await);
    let live = Arc::new(rig.consumers().with(Ledger::new()));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (live, shutdown) = (Arc::clone(&live), shutdown.clone());
        async move { live.run(shutdown).await }
    });
    let writer = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move {
            for round in 0..100 {
                rig.append(round * 5..round * 5 + 5).await;
            }
        }
    });
    let mut rebuilds = 0;
    while rebuilds < 3 || !writer.is_finished() {
        live.rebuild(Box::new(Ledger::new()), |_| ()).await.unwrap();
        rebuilds += 1;
    }
    writer.await.unwrap();
    let head = rig.store.head().await.unwrap();
    assert!(live.wait_for(head, &[], std::time::Duration::from_mins(1)).await);
    assert_eq!(ledger(&rig.db).await, expected_ledger(&*rig.store).await);
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_rebuild_in_another_process_is_noticed_by_the_one_that_serves() {
    let rig = Rig::new().await;
    rig.append(0..20).await;
    let consumer = Ledger::new();
    let sum = Arc::clone(&consumer.sum);
    let serving = rig.consumers().with(consumer);
    serving.settle().await.unwrap();
    let other_db = rig.site.read_db().await;
    let other = ConsumerLoop::new(Arc::clone(&rig.store), other_db, decode, ticking(), rig.site.limits.clone());
    other.rebuild(Box::new(Ledger { shift: 100, ..Ledger::new() }), |_| ()).await.unwrap();
    rig.append(20..25).await;
    serving.settle().await.unwrap();
    assert_eq!(sum.load(Ordering::Relaxed), (0..25).sum::<u64>() + 20 * 100);
    assert_eq!(ledger(&rig.db).await.len(), 25);
}

#[tokio::test]
async fn a_rebuild_that_another_one_overtakes_gives_up_and_harms_nothing() {
    let rig = Rig::new().await;
    rig.append(0..20).await;
    let live = rig.consumers().with(Ledger::new());
    live.settle().await.unwrap();
    let (reached, mut first_is_there) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let overtaken = {
        let other = rig.consumers();
        tokio::task::spawn_blocking(move || {
            tokio::runtime::Handle::current().block_on(other.rebuild(Box::new(Ledger::new()), move |_| {
                reached.send(()).unwrap();
                wait.recv().unwrap();
            }))
        })
    };
    first_is_there.recv().await.unwrap();
    live.rebuild(Box::new(Ledger::new()), |_| ()).await.unwrap();
    go_on.send(()).unwrap();
    let outcome = overtaken.await.unwrap();
    assert!(matches!(outcome, Err(LoopError::Superseded("ledger"))), "{outcome:?}");
    rig.append(20..30).await;
    live.settle().await.unwrap();
    assert_eq!(ledger(&rig.db).await, expected_ledger(&*rig.store).await);
}
