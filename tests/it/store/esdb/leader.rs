//! A cluster of three nodes that loses its leader under load: nothing acknowledged is lost, nothing is there twice, and
//! writers go on without the node that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use sluice::events::envelope::Position;
use sluice::limits::Limits;
use sluice::store::eventstoredb::EventStoreDb;
use sluice::store::{EventStore, ExpectedVersion, StoreError};
use tokio::task::JoinHandle;

use super::cluster::{Cluster, Role, Standing};
use super::store_at;
use crate::store::support::{event, ids, stream};
use crate::support::server::{TestServer, Who};

const WRITERS: u64 = 8;

/// Writers that append one event after the other, each to a stream of its own.
struct Load {
    store: Arc<EventStoreDb>,
    stop: Arc<AtomicBool>,
    /// How many appends each writer has been told of.
    acknowledged: Arc<Vec<AtomicU64>>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(store: &Arc<EventStoreDb>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
        let write = |writer: u64| {
            let (store, stop, acknowledged) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let (name, done) = (stream(&format!("w-{writer}")), &acknowledged[usize::try_from(writer).unwrap()]);
                while !stop.load(Ordering::Relaxed) {
                    let version = done.load(Ordering::Relaxed);
                    let next = event(u128::from(version) * u128::from(WRITERS) + u128::from(writer));
                    match store.append(&name, ExpectedVersion::Exact(version), vec![next]).await {
                        Ok(appended) => assert_eq!(appended.version, version + 1),
                        // The same fact again, as the caller of such an append does.
                        Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => continue,
                        Err(other) => panic!("{other:?}"),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let writers = (0..WRITERS).map(write).collect();
        Self { store: Arc::clone(store), stop, acknowledged, writers }
    }

    fn counts(&self) -> Vec<u64> {
        self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every writer has been told of so many appends more.
    async fn goes_on(&self, more: u64) {
        let before = self.counts();
        while self.counts().iter().zip(&before).any(|(now, before)| *now < before + more) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the load: what is there is what was acknowledged, once each and in order.
    async fn settles_with_none_lost_and_none_double(self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.unwrap();
        }
        for (writer, count) in (0..).zip(self.acknowledged.iter()) {
            let count = count.load(Ordering::Relaxed);
            let mut there = Vec::new();
            loop {
                let page = self.store.read_stream(&stream(&format!("w-{writer}")), there.len() as u64, 100).await;
                let page = ids(&page.unwrap());
                if page.is_empty() {
                    break;
                }
                there.extend(page);
            }
            let meant: Vec<u128> = (0..count).map(|at| u128::from(at * WRITERS + writer)).collect();
            assert_eq!(there, meant, "writer {writer}");
        }
    }
}

/// Loses the leader under load, in one way or another, and waits until another one is elected and used.
async fn lose(how: fn(&mut Cluster)) {
    let mut cluster = Cluster::start();
    let store = store_at(&cluster.address(), Limits::default());
    let load = Load::start(&store);
    load.goes_on(5).await;
    let lost = cluster.leader().port();
    how(&mut cluster);
    let mut cluster = tokio::task::spawn_blocking(move || {
        cluster.elected();
        cluster
    })
    .await
    .unwrap();
    load.goes_on(5).await;
    assert_ne!(cluster.leader().port(), lost);
    assert!(cluster.leader().appends() > 0, "the new leader is used, and the old one never comes back");
    load.settles_with_none_lost_and_none_double().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed() {
    lose(Cluster::kill_leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_and_still_takes_connections() {
    lose(Cluster::isolate_leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_freezes() {
    lose(Cluster::freeze_leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_in_turn_is_killed_and_comes_back() {
    let mut cluster = Cluster::start();
    let store = store_at(&cluster.address(), Limits::default());
    let load = Load::start(&store);
    for place in 0..3 {
        load.goes_on(3).await;
        cluster.kill_leader();
        cluster = tokio::task::spawn_blocking(move || {
            cluster.elected();
            cluster.rejoin(place);
            cluster
        })
        .await
        .unwrap();
    }
    load.goes_on(3).await;
    load.settles_with_none_lost_and_none_double().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_leader_without_a_named_leader_is_waited_out() {
    let mut cluster = Cluster::start();
    let store = store_at(&cluster.address(), Limits::default());
    let load = Load::start(&store);
    load.goes_on(3).await;
    // For a moment nobody leads, and nobody says who might.
    let forget = |cluster: &mut Cluster| {
        for node in &cluster.nodes {
            let mut view = node.state.view();
            view.role = Role::Follower;
            view.peers.iter_mut().for_each(|peer| peer.role = Role::Follower);
        }
    };
    forget(&mut cluster);
    let read = store.read_all(Position::START, 1).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    cluster.rejoin(1);
    load.goes_on(3).await;
    load.settles_with_none_lost_and_none_double().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_says_that_nobody_leads_and_that_somebody_does_again() {
    let mut cluster = Cluster::start();
    let address = cluster.address();
    let server = TestServer::customized(|options| options.event_store = Some(address.parse().unwrap())).await;
    server.get(Who::Anonymous, "/health/ready").await.expect(200);
    cluster.leader().stop();
    for node in &cluster.nodes[1..] {
        node.state.view().standing = Standing::NotReady;
    }
    let answer = server.get(Who::Anonymous, "/health/ready").await.expect(StatusCode::SERVICE_UNAVAILABLE.as_u16());
    assert_eq!(answer["event_store"], false, "{answer}");
    cluster.rejoin(0);
    server.get(Who::Anonymous, "/health/ready").await.expect(200);
    server.stop().await;
}
