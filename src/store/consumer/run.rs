//! The loop that feeds consumers from the log.
//!
//! One step reads a batch from the position of the slowest consumer and gives it to every consumer concerned, in one
//! transaction: a consumer that fails is rolled back and pauses alone, and the others continue.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batches::Batches;
use super::checkpoint::{self, Checkpoint, Last};
use super::follow::CHANNEL;
use super::{Consumer, ConsumerError, ConsumerStatus, Decode, Decoded, FaultPoint, Faults, LoopError, chain};
use crate::events::envelope::Position;
use crate::limits::Limits;
use crate::store::sql::{ReadDb, ReadTx};
use crate::store::{EventStore, Now, StoreError};
use crate::supervise::isolated;

/// Feeds consumers. Shared by those who run it, wait for it and query its state.
pub struct ConsumerLoop<E> {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) db: ReadDb,
    batches: Batches<E>,
    decode: Decode<E>,
    pub(super) now: Now,
    pub(super) limits: Limits,
    faults: Option<Faults>,
    slots: Mutex<Vec<Slot<E>>>,
    pub(super) places: watch::Sender<Vec<Place>>,
    /// Somebody, perhaps this process, runs the loop alone; nobody feeds a consumer besides.
    pub(super) left_to_leader: AtomicBool,
    /// This process runs the loop.
    pub(super) leads: AtomicBool,
}

/// What the outside sees of a slot.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) position: Position,
    pub(super) error: Option<Arc<str>>,
}

struct Slot<E> {
    consumer: Box<dyn Consumer<E>>,
    /// Where it stands; none when its memory does not match its tables, or when nobody knows.
    checkpoint: Option<Checkpoint>,
    position: Position,
    error: Option<Arc<str>>,
    failures: u32,
    paused_until: Option<Instant>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// Some consumer moved, or has to be looked at again.
    advanced: bool,
    /// The head of the log, if some consumer is there. With `advanced`: where it probably is, since a batch was not full.
    at_head: Option<Position>,
}

/// Says that this process runs the loop, until it is dropped.
struct Leading<'l>(&'l AtomicBool);

impl<'l> Leading<'l> {
    fn begin(leads: &'l AtomicBool) -> Self {
        leads.store(true, Ordering::Release);
        Self(leads)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<E: Send + Sync> Slot<E> {
    fn fail(&mut self, error: &ConsumerError, limits: &Limits) {
        let reason = chain(error);
        tracing::warn!(consumer = self.consumer.name(), failures = self.failures + 1, %reason, "a consumer failed");
        let pause = limits.consumer_retry_first.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.paused_until = Some(Instant::now() + pause.min(limits.consumer_retry_max));
        self.failures = self.failures.saturating_add(1);
        self.error = Some(reason);
        self.checkpoint = None;
    }

    fn recover(&mut self) {
        self.failures = 0;
        self.error = None;
        self.paused_until = None;
    }

    /// Loads checkpoint and memory from one state of the tables.
    async fn load(&mut self, tx: &mut ReadTx, now: &Now) -> Result<Checkpoint, ConsumerError> {
        let checkpoint = checkpoint::load(tx, self.consumer.name(), now()).await?;
        self.consumer.reload(tx).await?;
        Ok(checkpoint)
    }

    /// Applies events and moves the checkpoint. False: the checkpoint is not where this process believed it to be.
    async fn apply(&mut self, tx: &mut ReadTx, events: &[Decoded<E>], now: &Now) -> Result<bool, ConsumerError> {
        let (Some(from), Some(last)) = (self.checkpoint, events.last()) else { return Ok(false) };
        if !checkpoint::advance(tx, self.consumer.name(), from, Last::of(&last.recorded), now()).await? {
            return Ok(false);
        }
        if events.iter().any(|event| self.consumer.interested(&event.recorded.event_type)) {
            self.consumer.apply(tx, events).await?;
        }
        Ok(true)
    }
}

impl<E: Send + Sync + 'static> ConsumerLoop<E> {
    /// A loop without consumers.
    pub fn new(store: Arc<dyn EventStore>, db: ReadDb, decode: Decode<E>, now: Now, limits: Limits) -> Self {
        let places = watch::Sender::new(Vec::new());
        let (left_to_leader, leads) = (AtomicBool::default(), AtomicBool::default());
        let (slots, batches) = (Mutex::default(), Batches::new(Arc::clone(&store), decode, &limits));
        Self { store, db, batches, decode, now, limits, faults: None, slots, places, left_to_leader, leads }
    }

    /// Adds a consumer.
    ///
    /// # Panics
    /// Two consumers have the same name, which is an error in the program.
    #[must_use]
    pub fn with(mut self, consumer: impl Consumer<E> + 'static) -> Self {
        let (name, position) = (consumer.name(), Position::START);
        assert!(self.places.borrow().iter().all(|place| place.name != name), "one consumer is called {name}");
        self.places.send_modify(|places| places.push(Place { name, position, error: None }));
        let consumer = Box::new(consumer);
        let slot = Slot { consumer, checkpoint: None, position, error: None, failures: 0, paused_until: None };
        self.slots.get_mut().push(slot);
        self
    }

    /// Lets a test stop the loop as a crash would.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Feeds the consumers until it is told to stop; a step that has begun is finished first.
    pub async fn run(&self, shutdown: CancellationToken) {
        let _leading = Leading::begin(&self.leads);
        while !shutdown.is_cancelled() {
            let step = self.step(false).await;
            let pause = self.pause().await;
            let wait = async {
                match step {
                    Ok(Step { at_head: Some(head), .. }) => self.store.wait_beyond(head, pause).await,
                    Ok(Step { advanced: true, .. }) => {}
                    Ok(_) => tokio::time::sleep(pause).await,
                    Err(error) => {
                        tracing::error!(error = %chain(&error), "the consumers could not go on");
                        tokio::time::sleep(self.limits.consumer_retry_first.max(pause)).await;
                    }
                }
            };
            tokio::select! {
                () = wait => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Feeds the consumers here and now until all are at the head of the log, and says where that is. Pauses do not count;
    /// a consumer that still fails ends it with an error once the others have arrived. Where that is left to a leader, it
    /// waits for the leader.
    pub async fn settle(&self) -> Result<Position, LoopError> {
        if self.left_to_leader.load(Ordering::Acquire) {
            return Box::pin(self.caught_up()).await;
        }
        loop {
            let step = self.step(true).await?;
            if step.advanced {
                continue;
            }
            let failed = self.places.borrow().iter().find_map(|place| Some((place.name, place.error.clone()?)));
            if let Some((name, reason)) = failed {
                return Err(LoopError::Stalled { name, reason });
            }
            if let Some(head) = step.at_head {
                return Ok(head);
            }
        }
    }

    /// Waits until these consumers, or all if none is named, have applied the event at a position. False: not in time, or
    /// there is no such consumer. It only waits: somebody else has to run the loop.
    pub async fn wait_for(&self, position: Position, names: &[&str], at_most: Duration) -> bool {
        let mut places = self.places.subscribe();
        let known = |name: &&str| places.borrow().iter().any(|place| place.name == *name);
        if !names.iter().all(known) {
            return false;
        }
        let concerned = |place: &&Place| names.is_empty() || names.contains(&place.name);
        let there = |places: &Vec<Place>| places.iter().filter(concerned).all(|place| place.position >= position);
        let waited = tokio::time::timeout(at_most, places.wait_for(there)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// How far each consumer is.
    pub async fn status(&self) -> Result<Vec<ConsumerStatus>, StoreError> {
        let head = self.store.head().await?;
        let places = self.places.borrow().clone();
        let mut lags = HashMap::new();
        let mut all = Vec::with_capacity(places.len());
        for Place { name, position, error } in places {
            // Most stand at the same place, and asking may cost a read.
            let lag = match lags.get(&position) {
                Some(known) => *known,
                None => *lags.entry(position).or_insert(self.store.distance(position, head).await),
            };
            all.push(ConsumerStatus { name, position, lag, error });
        }
        Ok(all)
    }

    /// Batches for somebody who goes at a pace of his own.
    pub(super) fn batches(&self) -> Batches<E> {
        Batches::new(Arc::clone(&self.store), self.decode, &self.limits)
    }

    /// How long to wait at most before the next step.
    async fn pause(&self) -> Duration {
        let now = Instant::now();
        let slots = self.slots.lock().await;
        let next = slots.iter().filter_map(|slot| slot.paused_until).map(|until| until.saturating_duration_since(now));
        let look_again = self.store.look_again();
        next.min().map_or(look_again, |next| next.min(look_again))
    }

    async fn step(&self, impatient: bool) -> Result<Step, LoopError> {
        let mut slots = self.slots.lock().await;
        let step = self.try_step(&mut slots, impatient).await;
        if step.is_err() {
            // What is in memory may be ahead of what was committed, or behind it.
            slots.iter_mut().for_each(|slot| slot.checkpoint = None);
        }
        if step.is_err() || slots.iter().any(|slot| slot.failures > 0) {
            self.batches.forget();
        }
        self.publish(&slots);
        step
    }

    fn publish(&self, slots: &[Slot<E>]) {
        let shared = self.db.is_shared();
        self.places.send_if_modified(|places| {
            let mut changed = false;
            for (place, slot) in places.iter_mut().zip(slots) {
                // What another process has done since stands in the tables, and perhaps not here yet.
                let position = if shared { slot.position.max(place.position) } else { slot.position };
                changed |= place.position != position || place.error != slot.error;
                place.position = position;
                place.error.clone_from(&slot.error);
            }
            changed
        });
    }

    /// One batch for each group of consumers that stand close together, so that one who is far behind, or does not get on,
    /// does not hold up those who are ahead.
    async fn try_step(&self, slots: &mut [Slot<E>], impatient: bool) -> Result<Step, LoopError> {
        let now = Instant::now();
        let may_go_on = |slot: &Slot<E>| impatient || slot.paused_until.is_none_or(|until| until <= now);
        let nobody = slots.is_empty();
        let mut ready: Vec<&mut Slot<E>> = slots.iter_mut().filter(|slot| may_go_on(slot)).collect();
        self.load(&mut ready).await?;
        ready.retain(|slot| slot.checkpoint.is_some());
        ready.sort_by_key(|slot| slot.position);
        let mut step = Step::default();
        let behind_all = ready.first().map_or(Position::START, |slot| slot.position);
        let mut rest = ready.as_mut_slice();
        while let Some(lowest) = rest.first().map(|slot| slot.position) {
            let batch = self.batches.after(lowest, behind_all).await?;
            let last = batch.events.last().map_or(lowest, |event| event.recorded.position);
            let together = rest.partition_point(|slot| slot.position == lowest || slot.position < last);
            let (group, others) = rest.split_at_mut(together);
            match batch.unreadable {
                _ if !batch.events.is_empty() => {
                    let unreadable = batch.unreadable.is_some();
                    let alone = others.is_empty() && !step.advanced;
                    step.advanced |= self.apply(group, &batch.events, last).await?;
                    let applied = group.iter().all(|slot| slot.position == last);
                    if alone && applied && !batch.full && !unreadable {
                        step.at_head = Some(last);
                    }
                }
                None => step.at_head = Some(lowest),
                Some(unreadable) => {
                    let error = ConsumerError::Decode(unreadable);
                    for slot in group {
                        slot.fail(&error, &self.limits);
                    }
                }
            }
            rest = others;
        }
        if nobody {
            step.at_head = Some(self.store.head().await?);
        }
        Ok(step)
    }

    /// Loads the state of consumers that have none.
    async fn load(&self, ready: &mut [&mut Slot<E>]) -> Result<(), LoopError> {
        if ready.iter().all(|slot| slot.checkpoint.is_some()) {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let mut loaded = Vec::new();
        for slot in ready.iter_mut().filter(|slot| slot.checkpoint.is_none()) {
            tx.mark().await?;
            let loaded_now = isolated(slot.load(&mut tx, &self.now)).await;
            match loaded_now.unwrap_or_else(|crashed| Err(ConsumerError::Other(crashed.to_string()))) {
                Ok(checkpoint) => loaded.push((slot, checkpoint)),
                Err(error) => {
                    tx.undo().await?;
                    slot.fail(&error, &self.limits);
                }
            }
            tx.keep().await?;
        }
        tx.commit().await?;
        for (slot, checkpoint) in loaded {
            slot.checkpoint = Some(checkpoint);
            slot.position = checkpoint.position;
            slot.consumer.committed();
        }
        Ok(())
    }

    /// Gives each consumer the events it has not seen, all in one transaction, and says whether anybody has moved.
    ///
    /// A mark before each consumer makes the database copy every page that is changed after it. So there are marks only
    /// where somebody failed before: the first failure undoes the batch for all, and the next attempt isolates it.
    async fn apply(
        &self,
        group: &mut [&mut Slot<E>],
        events: &[Decoded<E>],
        last: Position,
    ) -> Result<bool, LoopError> {
        let careful = group.iter().any(|slot| slot.failures > 0);
        let mut tx = self.db.begin().await?;
        let mut advanced = false;
        let mut applied = vec![false; group.len()];
        for (slot, applied) in group.iter_mut().zip(&mut applied) {
            let seen = events.partition_point(|event| event.recorded.position <= slot.position);
            if careful {
                tx.mark().await?;
            }
            // Statements may run on this thread without ever waiting: others get their turn in between.
            tokio::task::yield_now().await;
            let outcome = isolated(slot.apply(&mut tx, &events[seen..], &self.now)).await;
            match outcome.unwrap_or_else(|crashed| Err(ConsumerError::Other(crashed.to_string()))) {
                Ok(true) => *applied = true,
                Ok(false) => {
                    slot.checkpoint = None;
                    advanced = true;
                }
                Err(error) => slot.fail(&error, &self.limits),
            }
            if careful {
                if !*applied {
                    tx.undo().await?;
                }
                tx.keep().await?;
            } else if !*applied {
                // Dropped, the transaction leaves nothing behind; what is in memory does not match the tables any more.
                for slot in group.iter_mut() {
                    slot.checkpoint = None;
                }
                return Ok(true);
            }
        }
        tx.announce(CHANNEL).await?;
        self.fault(FaultPoint::BeforeCommit)?;
        tx.commit().await?;
        self.fault(FaultPoint::AfterCommit)?;
        for slot in group.iter_mut().zip(applied).filter_map(|(slot, applied)| applied.then_some(slot)) {
            slot.position = last;
            if let Some(checkpoint) = &mut slot.checkpoint {
                checkpoint.position = last;
            }
            slot.recover();
            slot.consumer.committed();
            advanced = true;
        }
        Ok(advanced)
    }

    fn fault(&self, point: FaultPoint) -> Result<(), LoopError> {
        match &self.faults {
            Some(faults) if faults(point) => Err(LoopError::Injected(point)),
            _ => Ok(()),
        }
    }
}
