//! The log alone: appends of one event and of many, by one writer and by many at once, each durable when it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice::clock::{IdSource, real_now};
use sluice::events::envelope::{Actor, Metadata, NewEvent, Payload, StreamName};
use sluice::limits::Limits;
use sluice::store::sqlite::SqliteStore;
use sluice::store::{EventStore, ExpectedVersion};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Options;
use crate::report::{Table, median};

/// How long one measurement lasts.
const SPAN: Duration = Duration::from_secs(2);

/// Streams that the writers write to.
const STREAMS: usize = 1_000;

/// About the size of an evaluation.
const PAYLOAD_BYTES: usize = 600;

pub fn event(payload: &str) -> NewEvent {
    NewEvent {
        event_id: IdSource.fresh(),
        event_type: "benchmarked.v1",
        occurred_at: real_now(),
        metadata: Metadata { actor: Actor::SYSTEM, correlation_id: Uuid::nil(), causation_id: None, reason: None },
        payload: Payload::of_no_family(payload),
    }
}

pub async fn run(options: &Options) {
    let table = Table::new(&["writers", "events each", "events/s", "p50 ms", "p99 ms"]);
    for (writers, batch) in [(1, 1), (16, 1), (256, 1), (1, 100), (1, 1_000), (16, 100)] {
        let mut rates = Vec::new();
        let mut waits = Vec::new();
        for _ in 0..options.runs {
            let (rate, some) = measure(options, writers, batch).await;
            rates.push(rate);
            waits.extend(some);
        }
        waits.sort_by(f64::total_cmp);
        let at = |percent: usize| format!("{:.2}", waits[(waits.len() - 1) * percent / 100]);
        table.row(&[writers.to_string(), batch.to_string(), format!("{:.0}", median(rates)), at(50), at(99)]);
    }
}

/// Events per second, and how long each append took, ms.
async fn measure(options: &Options, writers: usize, batch: usize) -> (f64, Vec<f64>) {
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let store = SqliteStore::open(&folder.path().join("log.db"), Arc::new(real_now), Limits::default()).await.unwrap();
    let store = Arc::new(store);
    let measured = measure_on(&[Arc::clone(&store) as _], writers, batch).await;
    store.close().await;
    measured
}

/// The same on stores that are open, over which the writers are spread.
pub async fn measure_on(stores: &[Arc<dyn EventStore>], writers: usize, batch: usize) -> (f64, Vec<f64>) {
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let payload: Arc<str> = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES)).into();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (store, stop, written, payload) =
            (Arc::clone(&stores[writer % stores.len()]), Arc::clone(&stop), Arc::clone(&written), Arc::clone(&payload));
        tasks.spawn(async move {
            let own = (writer..STREAMS).step_by(writers).map(|n| StreamName::new(format!("bench-{n}")).unwrap());
            let mut streams: Vec<(StreamName, u64)> = own.map(|name| (name, 0)).collect();
            let mut waits = Vec::new();
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let turn = turn % streams.len();
                let (stream, version) = &mut streams[turn];
                let events = (0..batch).map(|_| event(&payload)).collect();
                let asked = Instant::now();
                store.append(stream, ExpectedVersion::Exact(*version), events).await.unwrap();
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
                *version += batch as u64;
                written.fetch_add(batch as u64, Ordering::Relaxed);
            }
            waits
        });
    }
    tokio::time::sleep(SPAN).await;
    stop.store(true, Ordering::Relaxed);
    let waits = tasks.join_all().await.into_iter().flatten().collect();
    let rate = written.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    (rate, waits)
}
