//! A node's part in a cluster, and three nodes with one log: what each says while a leader dies and another is elected.
//!
//! The times are those of a real server of three nodes, version 23.10.6: see the table in ADR 24.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tonic::{Response, Status};
use uuid::Uuid;

use super::Fixture;
use super::faults::not_leader;
use super::log::Log;
use super::server::State;
use super::wire;

/// What a node is, with the numbers of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Unknown = 2,
    PreReplica = 3,
    Follower = 6,
    Leader = 8,
}

/// What a node believes of one of its cluster, itself included.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub port: u16,
    pub role: Role,
    pub alive: bool,
}

/// How a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As its role asks.
    Serving,
    /// In the middle of a start or an election: every call is refused.
    NotReady,
    /// It takes connections and calls, and answers none.
    Frozen,
    /// It believes that it leads, and has no majority: it reads what it had, and no append ends.
    Isolated { records: usize },
}

/// A node's view of the cluster.
#[derive(Clone, Debug)]
pub struct View {
    pub standing: Standing,
    pub role: Role,
    pub peers: Vec<Peer>,
}

impl View {
    /// A node alone, which leads.
    pub fn alone(port: u16) -> Self {
        let peers = vec![Peer { port, role: Role::Leader, alive: true }];
        Self { standing: Standing::Serving, role: Role::Leader, peers }
    }

    /// Whom it names as the leader.
    fn leader(&self) -> Option<u16> {
        self.peers.iter().find(|peer| peer.role == Role::Leader).map(|peer| peer.port)
    }
}

impl State {
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call on streams through, or answers it as the node's part in the cluster asks.
    pub async fn admit(&self, leader_wanted: bool) -> Result<(), Status> {
        let view = self.view().clone();
        match view.standing {
            Standing::NotReady => Err(Status::unavailable("Server Is Not Ready")),
            Standing::Frozen => pending().await,
            Standing::Serving | Standing::Isolated { .. } => match (view.role, view.leader()) {
                (Role::Leader, _) => Ok(()),
                _ if !leader_wanted => Ok(()),
                (_, Some(port)) => Err(not_leader(port)),
                (_, None) => Err(Status::not_found("No leader info available")),
            },
        }
    }
}

/// What the node says of its cluster. A node that is not ready says that too.
pub async fn gossip(state: Arc<State>) -> Result<Response<wire::Members>, Status> {
    let view = state.view().clone();
    if view.standing == Standing::Frozen {
        pending::<()>().await;
    }
    let member = |peer: Peer| wire::Member {
        id: Some(wire::Id::of(Uuid::from_u128(peer.port.into()))),
        state: peer.role as i32,
        is_alive: peer.alive,
        endpoint: Some(wire::Endpoint { address: "127.0.0.1".to_owned(), port: peer.port.into() }),
    };
    Ok(Response::new(wire::Members { members: view.peers.into_iter().map(member).collect() }))
}

/// Three nodes with one log.
pub struct Cluster {
    pub nodes: Vec<Fixture>,
    leader: usize,
    election: Option<JoinHandle<Instant>>,
}

/// Who leads next, and who follows, when one of three is gone.
struct Survivors {
    next: Arc<State>,
    other: Arc<State>,
    ports: [u16; 3],
}

impl Survivors {
    /// The dead one, the next leader and the other one, as a node sees them.
    fn see(&self, state: &State, standing: Standing, role: Role, peers: [(Role, bool); 3]) {
        let peers = self.ports.iter().zip(peers).map(|(port, (role, alive))| Peer { port: *port, role, alive });
        *state.view() = View { standing, role, peers: peers.collect() };
    }

    /// The election, step by step. The instant is the one from which the new leader accepts.
    fn elect(&self) -> Instant {
        use Role::{Follower, Leader, PreReplica, Unknown};
        use Standing::{NotReady, Serving};
        let began = Instant::now();
        let until = |millis: u64| {
            std::thread::sleep(Duration::from_millis(millis).saturating_sub(began.elapsed()));
        };
        // Both still name the one that is gone; then it is seen to be.
        until(94);
        for state in [&self.next, &self.other] {
            self.see(state, Serving, Follower, [(Leader, false), (Follower, true), (Follower, true)]);
        }
        until(230);
        self.see(&self.other, Serving, PreReplica, [(Unknown, false), (Leader, true), (PreReplica, true)]);
        self.see(&self.next, NotReady, Leader, [(Unknown, false), (Leader, true), (PreReplica, true)]);
        until(1_331);
        self.see(&self.other, Serving, Follower, [(Unknown, false), (Leader, true), (Follower, true)]);
        self.see(&self.next, Serving, Leader, [(Unknown, false), (Leader, true), (Follower, true)]);
        Instant::now()
    }
}

impl Cluster {
    /// Three nodes, of which the first leads.
    pub fn start() -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let nodes: Vec<Fixture> = (0..3).map(|_| Fixture::on(Arc::clone(&log))).collect();
        let cluster = Self { nodes, leader: 0, election: None };
        let peers: Vec<Peer> = cluster.nodes.iter().map(|node| cluster.peer(node)).collect();
        for (place, node) in cluster.nodes.iter().enumerate() {
            let role = if place == 0 { Role::Leader } else { Role::Follower };
            *node.state.view() = View { standing: Standing::Serving, role, peers: peers.clone() };
        }
        cluster
    }

    fn peer(&self, node: &Fixture) -> Peer {
        let role = if node.port() == self.nodes[self.leader].port() { Role::Leader } else { Role::Follower };
        Peer { port: node.port(), role, alive: true }
    }

    /// The address with all three nodes, the one that leads last.
    pub fn address(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().rev().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("esdb://{}?tls=false&discoveryInterval=1", hosts.join(","))
    }

    /// The node that leads, or led last.
    pub fn leader(&mut self) -> &mut Fixture {
        &mut self.nodes[self.leader]
    }

    /// Kills the leader: its connections are gone, its port refuses. The others elect the next in line meanwhile.
    pub fn kill_leader(&mut self) {
        self.nodes[self.leader].stop();
        self.begin_election();
    }

    /// Cuts the leader off from the others, and not from its clients: it goes on believing that it leads.
    pub fn isolate_leader(&mut self) {
        let leader = &self.nodes[self.leader];
        let records = leader.log().records.len();
        {
            let mut view = leader.state.view();
            view.standing = Standing::Isolated { records };
            for peer in view.peers.iter_mut().filter(|peer| peer.role != Role::Leader) {
                peer.alive = false;
            }
        }
        self.begin_election();
    }

    /// Freezes the leader: it takes connections and answers nothing. The others elect the next in line meanwhile.
    pub fn freeze_leader(&mut self) {
        self.nodes[self.leader].state.view().standing = Standing::Frozen;
        self.begin_election();
    }

    fn begin_election(&mut self) {
        let dead = self.leader;
        let (next, other) = ((dead + 1) % 3, (dead + 2) % 3);
        let ports = [dead, next, other].map(|place| self.nodes[place].port());
        let state = |place: usize| Arc::clone(&self.nodes[place].state);
        let survivors = Survivors { next: state(next), other: state(other), ports };
        self.leader = next;
        self.election = Some(std::thread::spawn(move || survivors.elect()));
    }

    /// Waits until the election is over, and says since when the new leader accepts.
    pub fn elected(&mut self) -> Instant {
        self.election.take().expect("an election").join().unwrap()
    }

    /// A node that was gone comes back and follows.
    pub fn rejoin(&mut self, place: usize) {
        let peers: Vec<Peer> = self.nodes.iter().map(|node| self.peer(node)).collect();
        for (at, node) in self.nodes.iter().enumerate() {
            let role = if at == self.leader { Role::Leader } else { Role::Follower };
            *node.state.view() = View { standing: Standing::Serving, role, peers: peers.clone() };
        }
        self.nodes[place].restart();
    }
}
