//! The built-in broker, for sites without a broker of their own.
//!
//! It serves agents' queues over STOMP 1.2 in a WebSocket, from a table beside the outbox. Queues are bounded, messages
//! have a time to live, and no subscriber waits for another.

mod conversation;
mod others;
mod socket;
mod store;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::others::Others;
use self::store::MessageStore;
use super::broker::{Broker, BrokerError, Outgoing, QueueStatus};
use super::queues::{AgentQueue, AgentQueues};
use super::stomp::DecoderLimits;
use crate::admission::Shares;
use crate::clock::{Clock, IdSource};
use crate::directory::Directory;
use crate::store::sql::{ReadDb, SqlError};

pub use socket::serve;
pub use store::DeadMessage;

/// How often readers look by themselves for what another process put into their queue.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Bounds of the built-in broker.
#[derive(Debug, Clone)]
pub struct BuiltinLimits {
    /// Unread messages of a queue; further ones are refused.
    pub queue_messages_max: i64,
    /// How long a message waits to be read, on the service's clock.
    pub message_lives: TimeDelta,
    /// Dead letters that are kept.
    pub dead_letters_max: i64,
    /// Connections at a time whose login was good.
    pub connections_max: usize,
    /// Connections of one login at a time.
    pub login_connections_max: usize,
    /// Connections of one token at a time, whatever it logs in as; 0 = any number.
    pub token_connections_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// Messages that one connection may leave unacknowledged.
    pub unacknowledged_max: usize,
    /// How long a connection may take to say who it is.
    pub connect_within: Duration,
    /// How long one frame may take to be written.
    pub write_within: Duration,
    /// How often a connection's other end is asked whether it lives.
    pub check_every: Duration,
    /// How often a connection's token is looked at again, and whether its queues are there.
    pub token_check: Duration,
    /// How long a connection stays open after the error about its missing queue.
    pub missing_queue_lingers: Duration,
    /// Heart-beats that are offered and wanted, milliseconds.
    pub heart_beat_ms: u32,
    /// Bounds of a frame.
    pub frame: DecoderLimits,
}

impl Default for BuiltinLimits {
    fn default() -> Self {
        Self {
            queue_messages_max: 10_000,
            message_lives: TimeDelta::hours(1),
            dead_letters_max: 10_000,
            connections_max: 256,
            login_connections_max: 8,
            token_connections_max: 64,
            subscriptions_max: 8,
            unacknowledged_max: 64,
            connect_within: Duration::from_secs(15),
            write_within: Duration::from_secs(30),
            check_every: Duration::from_secs(30),
            token_check: Duration::from_secs(2),
            missing_queue_lingers: Duration::from_secs(5),
            heart_beat_ms: 10_000,
            frame: DecoderLimits::default(),
        }
    }
}

/// The subscribers of one queue.
#[derive(Debug, Default)]
struct Hub {
    /// Whom to wake.
    subscribers: Vec<(u64, Arc<Notify>)>,
    /// Messages that some subscriber has and has not dealt with.
    in_flight: HashSet<i64>,
}

/// The broker.
pub struct Builtin {
    store: MessageStore,
    clock: Arc<dyn Clock>,
    directory: Directory,
    queues: Arc<dyn AgentQueues>,
    limits: BuiltinLimits,
    hubs: Mutex<BTreeMap<String, Hub>>,
    logins: Mutex<BTreeMap<String, usize>>,
    tokens: Arc<Shares>,
    connections: AtomicUsize,
    numbers: std::sync::atomic::AtomicU64,
    /// One look for the next messages at a time, so that two subscribers never take the same one.
    taking: tokio::sync::Mutex<()>,
    /// Other processes that serve the same queues, if there may be any.
    others: Option<Arc<Others>>,
}

impl Builtin {
    /// A broker over the tables, for these queues.
    pub fn new(
        read: ReadDb,
        clock: Arc<dyn Clock>,
        directory: Directory,
        queues: Arc<dyn AgentQueues>,
        limits: BuiltinLimits,
    ) -> Self {
        let others = Others::on(&read, IdSource.fresh()).map(Arc::new);
        Self {
            others,
            store: MessageStore::new(read),
            clock,
            directory,
            queues,
            tokens: Shares::new("token_websockets_max", limits.token_connections_max),
            limits,
            hubs: Mutex::default(),
            logins: Mutex::default(),
            connections: AtomicUsize::new(0),
            numbers: std::sync::atomic::AtomicU64::new(1),
            taking: tokio::sync::Mutex::new(()),
        }
    }

    /// Messages that nobody read in time or that an agent refused, newest first, and how many there are.
    pub async fn dead_messages(&self, limit: u32, offset: u64) -> Result<(Vec<DeadMessage>, u64), SqlError> {
        self.store.dead(self.clock.now(), limit, offset).await
    }

    /// Connections open now whose login was good.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn hubs(&self) -> MutexGuard<'_, BTreeMap<String, Hub>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the listeners of a queue.
    fn wake(&self, queue: &str) {
        if let Some(hub) = self.hubs().get(queue) {
            hub.subscribers.iter().for_each(|(_, notify)| notify.notify_one());
        }
    }

    fn subscribe(&self, queue: &str, connection: u64, notify: &Arc<Notify>) {
        let mut hubs = self.hubs();
        hubs.entry(queue.to_owned()).or_default().subscribers.push((connection, Arc::clone(notify)));
        notify.notify_one();
    }

    /// Ends a subscription; what it has not dealt with goes to the next one.
    fn unsubscribe(&self, queue: &str, connection: u64, unsettled: &[i64]) {
        {
            let mut hubs = self.hubs();
            let Some(hub) = hubs.get_mut(queue) else { return };
            if let Some(at) = hub.subscribers.iter().position(|(id, _)| *id == connection) {
                hub.subscribers.remove(at);
            }
            hub.in_flight.retain(|no| !unsettled.contains(no));
            if hub.subscribers.is_empty() && hub.in_flight.is_empty() {
                hubs.remove(queue);
            }
        }
        self.wake(queue);
        self.let_go(unsettled.to_vec());
    }

    /// Leaves messages to the readers of other processes. What cannot be left now is free when this process' time is over.
    fn let_go(&self, numbers: Vec<i64>) {
        let Some(others) = self.others.clone().filter(|_| !numbers.is_empty()) else { return };
        tokio::spawn(async move {
            if let Err(error) = others.let_go(&numbers).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "messages are not free for others yet");
            }
        });
    }

    /// Serves the same queues as other processes on the database, until told to stop: wakes readers here when a message
    /// came in there, and says who reads here. Nothing where there are no other processes.
    pub async fn beside_others(&self, stop: CancellationToken) {
        let Some(others) = &self.others else { return };
        let Some(mut listener) = self.store.listener() else { return };
        let mut said: Option<tokio::time::Instant> = None;
        while !stop.is_cancelled() {
            if said.is_none_or(|at| at.elapsed() >= others::SAY_AGAIN) {
                let readers: Vec<(String, usize)> =
                    self.hubs().iter().map(|(queue, hub)| (queue.clone(), hub.subscribers.len())).collect();
                let in_flight: Vec<i64> = self.hubs().values().flat_map(|hub| hub.in_flight.iter().copied()).collect();
                match others.say(&readers, &in_flight).await {
                    Ok(()) => said = Some(tokio::time::Instant::now()),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "other processes do not know who reads here");
                    }
                }
            }
            let queues: Vec<String> = self.hubs().keys().cloned().collect();
            for queue in queues {
                self.wake(&queue);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = listener.next(LOOK_AGAIN) => {}
            }
        }
        listener.close().await;
    }

    /// The next messages of a queue for one subscriber; they are in flight from here on.
    async fn take(&self, queue: &str, limit: usize) -> Result<Vec<store::Waiting>, SqlError> {
        let _alone = self.taking.lock().await;
        if let Some(others) = &self.others {
            let taken = others.take(&self.store, queue, self.clock.now(), limit).await?;
            // Where nobody reads any more, they are free for others in a while.
            if let Some(hub) = self.hubs().get_mut(queue) {
                hub.in_flight.extend(taken.iter().map(|message| message.no));
            }
            return Ok(taken);
        }
        let in_flight: Vec<i64> =
            self.hubs().get(queue).map(|hub| hub.in_flight.iter().copied().collect()).unwrap_or_default();
        let taken = self.store.waiting(queue, self.clock.now(), &in_flight, limit).await?;
        let mut hubs = self.hubs();
        let hub = hubs.entry(queue.to_owned()).or_default();
        hub.in_flight.extend(taken.iter().map(|message| message.no));
        Ok(taken)
    }

    /// Messages were dealt with.
    async fn settle(&self, queue: &str, numbers: &[i64], refused: bool) -> Result<(), SqlError> {
        let now = self.clock.now();
        if refused {
            self.store.refuse(numbers, now).await?;
        } else {
            self.store.delivered(numbers, now).await?;
        }
        if let Some(hub) = self.hubs().get_mut(queue) {
            hub.in_flight.retain(|no| !numbers.contains(no));
        }
        self.let_go(numbers.to_vec());
        Ok(())
    }
}

fn unreachable(error: &SqlError) -> BrokerError {
    BrokerError::Unreachable(format!("its tables failed: {error}"))
}

#[async_trait]
impl Broker for Builtin {
    /// Nothing to do: the registration itself is what opens a queue, and the directory knows the token.
    async fn provision(&self, _: &AgentQueue, _: &SecretString) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, queue: &AgentQueue, messages: &[Outgoing]) -> Vec<Result<(), BrokerError>> {
        let now = self.clock.now();
        let stored = async {
            self.store.tidy(now, self.limits.dead_letters_max).await?;
            self.store.put(&queue.queue, messages, now, &self.limits).await
        };
        match stored.await {
            Ok(taken) => {
                self.wake(&queue.queue);
                let full = || {
                    let max = self.limits.queue_messages_max;
                    BrokerError::Refused(format!("the queue {} holds {max} unread messages", queue.queue))
                };
                taken.into_iter().map(|taken| if taken { Ok(()) } else { Err(full()) }).collect()
            }
            Err(error) => {
                let error = unreachable(&error);
                messages.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn status(&self, queue: &AgentQueue) -> Result<QueueStatus, BrokerError> {
        let here = self.hubs().get(&queue.queue).map_or(0, |hub| hub.subscribers.len()) as u64;
        let elsewhere = match &self.others {
            Some(others) => others.readers(&queue.queue).await.map_err(|error| unreachable(&error))?,
            None => 0,
        };
        let messages = self.store.count(&queue.queue, self.clock.now()).await.map_err(|error| unreachable(&error))?;
        let exists = self.queues.all().iter().any(|known| known.queue == queue.queue);
        Ok(QueueStatus { exists, consumers: here + elsewhere, messages })
    }
}
