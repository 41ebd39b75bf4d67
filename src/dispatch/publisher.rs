//! The publisher: hands pending messages to the agents' queues, at least once and in order per resource, and records
//! it.
//!
//! Network retries follow the machine's clock; the service's clock decides what counts as unanswered, and how long a
//! resend carries a reset. The publisher starts nothing before it has folded every outcome in the log, so that a
//! restart, or tables rebuilt from the log, resend nothing that was recorded. One process publishes at a time.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::DispatchError;
use super::broker::{Broker, BrokerError, QueueStatus};
use super::outbox::{DeadLetter, Depth, Handed, Outbox};
use super::queues::{AgentQueue, AgentQueues};
use super::rows::{FlagsRow, Row};
use crate::clock::{Clock, IdSource};
use crate::commands::allocation::{AllocationCommand, DispatchRecord};
use crate::commands::execute::{Allocations, CommandMeta};
use crate::domain::ids::{OfferingId, ResourceId};
use crate::events::dispatch::{AgentMessage, DispatchResendRequested, RestrictionResendRequested, StompMessageFailed};
use crate::events::envelope::Position;
use crate::notify::RetryOptions;
use crate::projections::account::Told;
use crate::registry::{Follower, Registry};
use crate::site_settings::Settings;
use crate::store::address::Database;
use crate::store::sql::ReadDb;
use crate::store::{EventStore, is_outage, private};
use crate::supervise::{Worker, chain, isolated};

mod left;
mod pass;
mod sweep;

pub use left::Freed;
pub use sweep::Swept;

/// How long the publisher rests if nobody wakes it: while something is owed, and otherwise.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const REST: Duration = Duration::from_secs(30);

/// How often to look whether the consumer has caught up, and how long at most.
const FOLDED_POLL: Duration = Duration::from_millis(10);
const FOLDED_WITHIN: Duration = Duration::from_secs(10);

/// How the publisher goes about it.
#[derive(Debug, Clone)]
pub struct DispatchOptions {
    /// This process publishes.
    pub publishes: bool,
    /// Pauses after a failure; attempts after which a message that the broker refuses is given up.
    pub retry: RetryOptions,
    /// The variable of a secret that is not set.
    pub missing_secret: Option<String>,
    /// How often a dispatch that nobody answers is sent again.
    pub resends_max: u32,
    /// The settings sync sends again what nobody answered; without it, somebody has to ask for each sweep.
    pub sweeps: bool,
}

impl Default for DispatchOptions {
    fn default() -> Self {
        Self {
            publishes: false,
            missing_secret: None,
            retry: RetryOptions { first: Duration::from_secs(1), longest: Duration::from_mins(1), attempts_max: 20 },
            resends_max: 5,
            sweeps: true,
        }
    }
}

/// What the publisher is made of.
pub struct PublisherParts {
    /// The tables.
    pub read: ReadDb,
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// What exists.
    pub registry: Arc<Registry>,
    /// Keeps it in step.
    pub follower: Arc<Follower>,
    /// Where outcomes are recorded.
    pub allocations: Arc<Allocations>,
    /// Settings of the site.
    pub settings: Arc<Settings>,
    /// The service's clock.
    pub clock: Arc<dyn Clock>,
    /// Where the queues are.
    pub broker: Arc<dyn Broker>,
    /// Which there are.
    pub queues: Arc<dyn AgentQueues>,
    /// The log's file; a lock lies beside it.
    pub database: Database,
    /// What wakes the publisher; the consumer has it too.
    pub wake: Arc<Notify>,
}

/// Pauses of an offering whose broker does not answer.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
    reason: String,
    until: Option<Instant>,
}

/// Hands messages to queues.
pub struct Publisher {
    parts: PublisherParts,
    options: DispatchOptions,
    outbox: Outbox,
    working: Mutex<()>,
    pauses: std::sync::Mutex<HashMap<OfferingId, Pause>>,
}

impl Publisher {
    /// A publisher; nothing is sent yet.
    pub fn new(parts: PublisherParts, options: DispatchOptions) -> Self {
        Self {
            outbox: Outbox::new(parts.read.clone()),
            working: Mutex::new(()),
            pauses: std::sync::Mutex::default(),
            parts,
            options,
        }
    }

    /// Works until told to stop; a hand-over that has begun is finished first.
    pub async fn run(&self, stop: CancellationToken, worker: &Worker) {
        while !stop.is_cancelled() {
            match worker.pass(self.work(&stop)).await {
                Ok(done) => {
                    match self.unreachable() {
                        Some(reason) => worker.hindered(&reason),
                        None => worker.goes_on(),
                    }
                    if done > 0 {
                        continue;
                    }
                }
                Err(pause) => {
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
                    continue;
                }
            }
            let rest = if self.outbox.owes().await.unwrap_or(true) { LOOK_AGAIN } else { REST };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.parts.wake.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Hands over what is due now, and says how many outcomes were recorded. Nothing if this process is not the one that
    /// publishes, or another one is at it already.
    pub async fn work(&self, stop: &CancellationToken) -> Result<usize, DispatchError> {
        if !self.options.publishes || !self.outbox.owes().await? {
            return Ok(0);
        }
        let _alone = self.working.lock().await;
        let Some(_only) = alone(&self.parts.database)? else { return Ok(0) };
        if !self.folded().await? {
            return Ok(0);
        }
        self.parts.follower.catch_up().await?;
        let mut recorded = self.record(self.outbox.unrecorded().await?).await?;
        recorded += self.mark_unanswered().await?;
        if recorded > 0 {
            // The tables must reflect this before any more work starts.
            return Ok(recorded);
        }
        let mut offerings: Vec<OfferingId> = self.parts.queues.all().iter().map(|queue| queue.offering).collect();
        offerings.sort_unstable();
        offerings.dedup();
        for offering in offerings {
            if stop.is_cancelled() {
                break;
            }
            // What is wrong with one offering's messages keeps no other's back.
            match isolated(self.serve(offering)).await {
                Ok(Ok(done)) => recorded += done,
                Ok(Err(error)) if is_outage(&error) => return Err(error),
                Ok(Err(error)) => self.failed_offering(offering, &chain(&error)),
                Err(crashed) => self.failed_offering(offering, &crashed.to_string()),
            }
        }
        Ok(recorded)
    }

    /// Has it look again at what is owed: a queue has come.
    pub fn wake(&self) {
        self.parts.wake.notify_one();
    }

    /// Waits for a pass that has begun to end.
    pub async fn at_rest(&self) {
        drop(self.working.lock().await);
    }

    /// How much waits.
    pub async fn depth(&self) -> Result<Depth, DispatchError> {
        Ok(self.outbox.depth().await?)
    }

    /// Dispatches that are not sent again by themselves, oldest first, and how many there are.
    pub async fn dead_letters(&self, limit: u32, offset: u64) -> Result<(Vec<DeadLetter>, u64), DispatchError> {
        Ok(self.outbox.dead_letters(limit, offset).await?)
    }

    /// Has one of them sent again, by its dispatch or, a message about restrictions, by its resource: recorded in the
    /// resource's book, where the outbox learns of it. Nothing if there is no such dead letter.
    pub async fn resend(
        &self,
        id: Uuid,
        meta: &CommandMeta,
    ) -> Result<Option<(DeadLetter, Option<Position>)>, DispatchError> {
        let (letter, record) = if let Some(letter) = self.outbox.dead_letter(id.into()).await? {
            (letter, DispatchRecord::ResendRequested(DispatchResendRequested { dispatch: id.into() }))
        } else if let Some(letter) = self.outbox.dead_restriction(id.into()).await? {
            let flags = letter.flags.unwrap_or_default();
            (letter, DispatchRecord::RestrictionResendRequested(RestrictionResendRequested { flags }))
        } else {
            return Ok(None);
        };
        let command = AllocationCommand::RecordDispatch(record);
        let done = self.parts.allocations.execute(letter.resource, &command, meta).await?;
        Ok(Some((letter, done.position)))
    }

    /// Those of these resources of which nobody knows how the last reset of their raw usage went.
    pub async fn resets_unconfirmed(
        &self,
        resources: impl Iterator<Item = ResourceId>,
    ) -> Result<HashSet<ResourceId>, DispatchError> {
        Ok(self.outbox.resets_unconfirmed(resources).await?)
    }

    /// How the messages about these resources' restrictions stand; those of which the site confirmed the class of service,
    /// or which were to be told nothing, are left out.
    pub async fn told(
        &self,
        resources: impl Iterator<Item = ResourceId>,
    ) -> Result<HashMap<ResourceId, Told>, DispatchError> {
        let rows = self.outbox.restrictions(resources).await?;
        let told = |row: &FlagsRow| Told { state: row.state.as_str(), resends: row.resends.cast_unsigned() };
        Ok(rows.iter().map(|row| (row.resource.into(), told(row))).collect())
    }

    /// Queues of an offering that take a kind of message.
    pub fn queues_for(&self, offering: OfferingId, message: AgentMessage) -> Vec<AgentQueue> {
        let mut queues = self.parts.queues.of_offering(offering);
        queues.retain(|queue| queue.takes(message));
        queues
    }

    /// How a queue stands, as its broker says.
    pub async fn queue_status(&self, queue: &AgentQueue) -> Result<QueueStatus, BrokerError> {
        self.parts.broker.status(queue).await
    }

    /// Waits until every outcome that stands in the log is in the tables.
    async fn folded(&self) -> Result<bool, DispatchError> {
        let head = self.parts.store.head().await?;
        let until = Instant::now() + FOLDED_WITHIN;
        while self.outbox.folded_to().await? < head {
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(FOLDED_POLL).await;
        }
        Ok(true)
    }

    /// Records hand-overs in the books; one that cannot be recorded is kept with its row, and nothing is sent again for it.
    async fn record(&self, handed: Vec<Handed>) -> Result<usize, DispatchError> {
        let commands: Vec<(ResourceId, AllocationCommand)> = handed
            .into_iter()
            .map(|one| (one.resource, AllocationCommand::RecordDispatch(DispatchRecord::Sent(one.sent))))
            .collect();
        Ok(self.execute(&commands).await)
    }

    async fn execute(&self, commands: &[(ResourceId, AllocationCommand)]) -> usize {
        if commands.is_empty() {
            return 0;
        }
        let meta = CommandMeta::system(IdSource.fresh());
        let mut recorded = 0;
        for (outcome, (resource, _)) in
            self.parts.allocations.execute_many(commands, &meta).await.into_iter().zip(commands)
        {
            match outcome {
                Ok(_) => recorded += 1,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, %resource, "what became of a message was not recorded; it will be");
                }
            }
        }
        recorded
    }

    fn is_paused(&self, offering: OfferingId) -> bool {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.get(&offering).and_then(|pause| pause.until).is_some_and(|until| Instant::now() < until)
    }

    /// Why some offering's messages do not get through just now, if that is so.
    fn unreachable(&self) -> Option<String> {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let (offering, pause) = pauses.iter().min_by_key(|(offering, _)| **offering)?;
        Some(format!("offering {offering}: {}", pause.reason))
    }

    fn failed_offering(&self, offering: OfferingId, reason: &str) {
        tracing::error!(%offering, reason, "an offering's messages could not be worked on; the others go on");
        self.note(offering, Some(reason));
    }

    /// Notes why an offering's messages do not get through, and pauses it. None: they do.
    fn note(&self, offering: OfferingId, failed: Option<&str>) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = failed else {
            pauses.remove(&offering);
            return;
        };
        let pause = pauses.entry(offering).or_default();
        reason.clone_into(&mut pause.reason);
        pause.failures = pause.failures.saturating_add(1);
        pause.until = Some(Instant::now() + self.jittered(pause.failures));
    }

    /// The pause after so many failures, a quarter shorter or longer by chance, so that many do not come back at once.
    fn jittered(&self, failures: u32) -> Duration {
        self.options.retry.pause(failures).mul_f64(rand::rng().random_range(0.75..1.25))
    }

    fn failed(row: &Row, attempts: i64, error: &str) -> (ResourceId, AllocationCommand) {
        let failed = StompMessageFailed {
            dispatch: row.dispatch.into(),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            error: error.to_owned(),
        };
        (row.resource.into(), AllocationCommand::RecordDispatch(DispatchRecord::Failed(failed)))
    }
}

/// The right to publish. On a server, the process that serves the database has it.
fn alone(database: &Database) -> Result<Option<Vec<File>>, DispatchError> {
    match database.file() {
        Some(log) => Ok(lock(log)?.map(|file| vec![file])),
        None => Ok(Some(Vec::new())),
    }
}

/// The right to publish, for as long as the answer is kept; none if another process has it.
fn lock(log: &Path) -> Result<Option<File>, DispatchError> {
    let path = private::real(log).with_extension("db.dispatching");
    let failed = |source| DispatchError::Lock { path: path.clone(), source };
    let file = private::file(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
