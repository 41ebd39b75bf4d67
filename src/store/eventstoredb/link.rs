//! The connection: one client for one node, recreated when the node is gone or does not lead, and the meaning of
//! errors.
//!
//! For a cluster whose nodes are listed, [`election`] finds the leader. A single host is used as given; the client
//! follows a leader that it names. With `+discover` the client chooses.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eventstore::{Client, ClientSettings, Error, ReadStreamOptions, operations};

use super::address::EventStoreAddress;
use super::election::{self, Node};
use super::hindrance::{self, Hindrance};
use super::no_delay;
use crate::limits::Limits;
use crate::store::StoreError;

/// What calls are called where they fail.
pub(super) const READ_ALL: &str = "read of the log";
pub(super) const READ_STREAM: &str = "read of a stream";
pub(super) const APPEND: &str = "append";

/// How long a call may take before the cluster is asked whether another node leads by now.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(1);

/// How long a new connection may take.
const CONNECTS_WITHIN: Duration = Duration::from_secs(3);

/// A call that takes longer may have gone over a new connection, whose packets are delayed by 40 ms.
const DELAYED_AFTER: Duration = Duration::from_millis(20);

/// How often the connections are looked through at most, as long as calls are slow for another reason.
const LOOKED_THROUGH_EVERY: Duration = Duration::from_millis(250);

/// How long what was found to be in the way is taken to be so.
const FOUND_FOR: Duration = Duration::from_secs(1);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What became of a call that did not succeed.
pub(super) enum Trouble {
    /// Nothing was done, and the next attempt may succeed.
    NotDone(StoreError),
    /// It may have been done.
    Unclear(StoreError),
    /// No further attempt would change it.
    Final(StoreError),
}

/// A call that did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} ms", .0.as_millis())]
pub(super) struct Silence(pub(super) Duration);

/// A call to a node that does not lead any more.
#[derive(Debug, thiserror::Error)]
#[error("the node {}:{} does not answer, and others name another leader", .0.host, .0.port)]
struct Deposed(Node);

/// Nobody to call.
#[derive(Debug, thiserror::Error)]
#[error("no node of the event store says which one leads")]
struct NoLeader;

pub(super) struct Link {
    address: EventStoreAddress,
    slot: Mutex<Slot>,
    /// Held while connecting or asking for the leader; others wait for the result.
    turn: tokio::sync::Mutex<()>,
    /// What was in the way last, found by one for all who ask.
    found: tokio::sync::Mutex<Option<(Instant, Hindrance)>>,
    pub(super) credentials: Option<eventstore::Credentials>,
    call: Duration,
    attempts_max: u32,
    pause_first: Duration,
}

#[derive(Default)]
struct Slot {
    current: Option<Arc<Current>>,
    /// How many clients there were.
    made: u64,
    /// The node that was used last, as far as it was chosen here.
    used: Option<Node>,
    /// The node that a client connected to last.
    connected: Option<Node>,
    /// Ports that connections to the store go to.
    ports: Vec<u16>,
    looked_through: Option<Instant>,
}

/// A client and which one it is.
pub(super) struct Current {
    pub(super) client: Client,
    number: u64,
    node: Option<Node>,
}

pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}

fn make(settings: ClientSettings) -> Result<Client, StoreError> {
    // What fails here are the files of certificates that the address names.
    Client::new(settings).map_err(|error| unavailable(Error::InitializationError(error.to_string())))
}

impl Link {
    /// Checks the files that the address names; the first call connects.
    pub(super) fn new(address: &EventStoreAddress, limits: &Limits) -> Result<Self, StoreError> {
        let settings = address.settings().map_err(|error| StoreError::Rejected(error.to_string()))?;
        drop(make(settings)?);
        let ports = address.nodes().iter().map(|node| node.port).collect();
        Ok(Self {
            address: address.clone(),
            slot: Mutex::new(Slot { ports, ..Slot::default() }),
            turn: tokio::sync::Mutex::default(),
            found: tokio::sync::Mutex::default(),
            credentials: address.credentials(),
            call: limits.event_store_call,
            attempts_max: limits.event_store_attempts_max.max(1),
            pause_first: limits.event_store_pause_first,
        })
    }

    /// Nothing is done under the lock that could stop half way.
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the nodes of a cluster are listed, so that the choice is made here.
    fn chooses(&self) -> bool {
        self.address.nodes().len() > 1
    }

    /// The client in use; without one, connects.
    pub(super) async fn current(&self) -> Result<Arc<Current>, Trouble> {
        if let Some(current) = self.slot().current.clone() {
            return Ok(current);
        }
        let _turn = self.turn.lock().await;
        if let Some(current) = self.slot().current.clone() {
            return Ok(current);
        }
        let node = if self.chooses() {
            let used = self.slot().used.clone();
            let leader = election::leader(&self.address, used.as_ref()).await;
            Some(leader.ok_or_else(|| Trouble::NotDone(unavailable(NoLeader)))?)
        } else {
            None
        };
        self.connect(node).await.map_err(Trouble::NotDone)
    }

    /// Makes a client for a node, or as the address says, and lets it connect.
    async fn connect(&self, node: Option<Node>) -> Result<Arc<Current>, StoreError> {
        let settings = match &node {
            Some(node) => self.address.settings_for(node),
            None => self.address.settings(),
        };
        let client = make(settings.map_err(|error| StoreError::Rejected(error.to_string()))?)?;
        let connecting = operations::Client::from(client.clone());
        let connected = tokio::time::timeout(CONNECTS_WITHIN, connecting.current_selected_node()).await;
        let endpoint = connected.map_err(|_| unavailable(Silence(CONNECTS_WITHIN)))?.map_err(unavailable)?;
        let mut slot = self.slot();
        slot.made += 1;
        let connected = Node::from(endpoint);
        if !slot.ports.contains(&connected.port) {
            slot.ports.push(connected.port);
        }
        slot.connected = Some(connected);
        slot.used.clone_from(&node);
        let current = Arc::new(Current { client, number: slot.made, node });
        slot.current = Some(Arc::clone(&current));
        drop(slot);
        self.set_no_delay();
        Ok(current)
    }

    /// Lets go of a client that is of no use any more, unless somebody else has done so: the next call makes another.
    fn let_go(&self, used: &Current) {
        let mut slot = self.slot();
        if slot.current.as_ref().is_some_and(|current| current.number == used.number) {
            slot.current = None;
        }
    }

    fn is_current(&self, used: &Current) -> bool {
        self.slot().current.as_ref().is_some_and(|current| current.number == used.number)
    }

    /// Takes the delay from all connections to the store.
    fn set_no_delay(&self) {
        let ports = self.slot().ports.clone();
        if let Err(error) = no_delay::set(&ports) {
            tracing::warn!(%error, "connections to the event store keep the delay of small packets");
        }
    }

    /// The same when a call was slow: the client may have connected again without a word.
    fn after_a_call_of(&self, took: Duration) {
        if took < DELAYED_AFTER {
            return;
        }
        {
            let mut slot = self.slot();
            if slot.looked_through.is_some_and(|last| last.elapsed() < LOOKED_THROUGH_EVERY) {
                return;
            }
            slot.looked_through = Some(Instant::now());
        }
        self.set_no_delay();
    }

    /// Whether the delay is off, for each connection to the store.
    pub(super) fn no_delay(&self) -> std::io::Result<Vec<bool>> {
        no_delay::read_back(&self.slot().ports)
    }

    /// Waits for an answer, within bounds, and says what a failure means.
    pub(super) async fn answer<T>(
        &self,
        used: &Current,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Trouble> {
        let began = Instant::now();
        let waited = tokio::time::timeout(self.call, self.unless_deposed(used, call)).await;
        self.after_a_call_of(began.elapsed());
        match waited {
            Ok(Ok(Ok(done))) => Ok(Ok(done)),
            Ok(Ok(Err(error))) => match self.trouble(used, error) {
                Ok(trouble) => Err(trouble),
                Err(answer) => Ok(Err(answer)),
            },
            Ok(Err(deposed)) => Err(Trouble::Unclear(unavailable(deposed))),
            Err(_) => {
                // Whatever hangs there, a new connection has a better chance.
                self.let_go(used);
                Err(Trouble::Unclear(unavailable(Silence(self.call))))
            }
        }
    }

    /// Waits for a call; when it takes long, asks the cluster now and then whether another node leads by now.
    async fn unless_deposed<T>(&self, used: &Current, call: impl Future<Output = T>) -> Result<T, Deposed> {
        let mut call = pin!(call);
        let Some(node) = &used.node else { return Ok(call.await) };
        loop {
            let suspicion = async {
                tokio::time::sleep(SUSPICIOUS_AFTER).await;
                self.is_deposed(used, node).await
            };
            tokio::select! {
                done = &mut call => return Ok(done),
                true = suspicion => return Err(Deposed(node.clone())),
                else => {}
            }
        }
    }

    /// Whether the cluster names another leader than the node in use; then that one is used from now on.
    async fn is_deposed(&self, used: &Current, node: &Node) -> bool {
        let _turn = self.turn.lock().await;
        if !self.is_current(used) {
            return true;
        }
        match election::leader(&self.address, Some(node)).await {
            Some(leader) if leader != *node => {
                self.let_go(used);
                // Should that one be gone too, the next call finds out.
                let _ = self.connect(Some(leader)).await;
                true
            }
            _ => false,
        }
    }

    /// What an error means; an error that is an answer of the server's comes back as it is.
    fn trouble(&self, used: &Current, error: Error) -> Result<Trouble, Error> {
        Ok(match error {
            Error::WrongExpectedVersion { .. } => return Err(error),
            Error::NotLeaderException(_) => {
                // The one it names may be the one that has just died; the others know better.
                if self.chooses() {
                    self.let_go(used);
                }
                Trouble::NotDone(unavailable(error))
            }
            Error::ConnectionClosed | Error::GrpcConnectionError(_) | Error::InitializationError(_) => {
                self.let_go(used);
                Trouble::NotDone(unavailable(error))
            }
            // The event is as good as it was; somebody has to see to the rights first.
            Error::AccessDenied => Trouble::Final(unavailable(error)),
            Error::ResourceDeleted => {
                Trouble::Final(StoreError::Corrupt("the stream was deleted in the event store".to_owned()))
            }
            Error::UnsupportedFeature => Trouble::Final(StoreError::Rejected(error.to_string())),
            Error::Grpc { code, ref message } if refuses_for_good(i32::from(code)) => {
                Trouble::Final(StoreError::Rejected(message.clone()))
            }
            Error::ServerError(_) if super::is_no_event_there(&error) => return Err(error),
            // The client keeps a node that is gone, and calls it again and again.
            Error::ServerError(_) => {
                self.let_go(used);
                Trouble::Unclear(unavailable(error))
            }
            // In the middle of an election a follower names nobody.
            Error::ResourceNotFound if self.chooses() => {
                self.let_go(used);
                Trouble::Unclear(unavailable(error))
            }
            _ => Trouble::Unclear(unavailable(error)),
        })
    }

    /// Reads until it succeeds, as often as the limits allow: reading twice does no harm.
    pub(super) async fn read<T, F>(&self, what: &'static str, call: impl Fn(Arc<Current>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let called = match self.current().await {
                Ok(current) => call(current).await,
                Err(trouble) => Err(trouble),
            };
            let error = match called {
                Ok(done) => return Ok(done),
                Err(Trouble::Final(error)) => return Err(self.explained(what, error).await),
                Err(Trouble::NotDone(error) | Trouble::Unclear(error)) => error,
            };
            if attempt >= self.attempts_max {
                return Err(self.explained(what, error).await);
            }
            self.pause(what, attempt, &error).await;
        }
    }

    /// The same failure with what is in the way in place of the client's words, now that no further attempt is made.
    pub(super) async fn explained(&self, what: &'static str, error: StoreError) -> StoreError {
        let cause = match &error {
            StoreError::Unavailable(cause) | StoreError::Unknown(cause) => Arc::clone(cause),
            _ => return error,
        };
        let hindrance = match cause.downcast_ref::<Error>() {
            Some(Error::AccessDenied) => self.missing_right(what).await,
            _ => self.in_the_way(cause.to_string()).await,
        };
        match error {
            StoreError::Unknown(_) => StoreError::Unknown(Arc::new(hindrance)),
            _ => unavailable(hindrance),
        }
    }

    async fn in_the_way(&self, said: String) -> Hindrance {
        let mut found = self.found.lock().await;
        if let Some((_, hindrance)) = found.as_ref().filter(|(at, _)| at.elapsed() < FOUND_FOR) {
            return hindrance.clone();
        }
        let known = self.slot().connected.is_some();
        let hindrance = match self.address.settings() {
            Ok(settings) => hindrance::of_hosts(&settings, known, said).await,
            Err(error) => Hindrance::Failed { at: self.node(), said: error.to_string() },
        };
        *found = Some((Instant::now(), hindrance.clone()));
        hindrance
    }

    /// What keeps this process from every node, if no node can be reached as the address says.
    pub(super) async fn out_of_reach(&self) -> Option<Hindrance> {
        hindrance::of_all_hosts(&self.address.settings().ok()?).await
    }

    /// Why a call was denied. A password that is refused is refused everywhere, a right is missing for one thing: so another
    /// call tells one from the other, which the client does not.
    async fn missing_right(&self, what: &'static str) -> Hindrance {
        let at = self.node();
        let Some(user) = self.address.user().map(str::to_owned) else { return Hindrance::NobodyNamed { at } };
        let options = ReadStreamOptions::default().max_count(1);
        let options = match &self.credentials {
            Some(credentials) => options.authenticated(credentials.clone()),
            None => options,
        };
        // No event stands there, which is an answer.
        let stream = format!("{}nobody", self.address.prefix());
        let reading = async {
            let current = self.current().await.ok()?;
            match current.client.read_stream(stream, &options).await {
                Ok(mut read) => Some(read.next().await.err()),
                Err(error) => Some(Some(error)),
            }
        };
        match tokio::time::timeout(self.call, reading).await {
            Ok(Some(Some(Error::AccessDenied))) => Hindrance::PasswordRefused { at, user },
            _ => Hindrance::MayNot { at, user, what: right_to(what) },
        }
    }

    /// The node that answered last, or the first that the address names.
    fn node(&self) -> Node {
        let first = || self.address.settings().ok()?.hosts().first().cloned().map(Node::from);
        let known = self.slot().connected.clone();
        known.or_else(first).unwrap_or_else(|| Node { host: String::new(), port: 0 })
    }

    /// How often a call is tried.
    pub(super) fn attempts_max(&self) -> u32 {
        self.attempts_max
    }

    /// The pause before the next attempt; it doubles, up to half a second.
    pub(super) async fn pause(&self, what: &'static str, attempt: u32, error: &StoreError) {
        let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, %reason, what, attempt, "the event store did not do it; trying again");
        let pause = self.pause_first.saturating_mul(2_u32.saturating_pow((attempt - 1).min(16)));
        tokio::time::sleep(pause.min(PAUSE_MAX)).await;
    }
}

/// What a user must be allowed to do for a call.
fn right_to(call: &str) -> &'static str {
    match call {
        READ_ALL => "read $all, the log of all streams,",
        APPEND => "write to streams",
        _ => "read streams",
    }
}

/// Codes of gRPC for a request that is wrong by itself: invalid argument (3), out of range (11), unimplemented (12).
fn refuses_for_good(code: i32) -> bool {
    matches!(code, 3 | 11 | 12)
}
