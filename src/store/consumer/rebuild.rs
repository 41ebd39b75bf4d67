//! Rebuilds a consumer's tables from the whole log, while the old ones are in use.
//!
//! New tables are filled beside the old ones, batch by batch, with their own checkpoint. The last step catches up with
//! the old tables and swaps the new ones in, in one transaction: readers see one or the other.

use super::batches::Batches;
use super::checkpoint::{self, Checkpoint, Last};
use super::run::ConsumerLoop;
use super::{Consumer, ConsumerError, LoopError, chain};
use crate::events::envelope::Position;
use crate::store::Distance;
use crate::store::sql::{ReadTx, Target};

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildProgress {
    /// Events applied so far.
    pub events: u64,
    /// Events there were to apply when it began.
    pub total: Distance,
}

fn stalled(name: &'static str, error: &ConsumerError) -> LoopError {
    LoopError::Stalled { name, reason: chain(error) }
}

impl<E: Send + Sync + 'static> ConsumerLoop<E> {
    /// Makes the tables of one consumer again and says up to which event. `fresh` is another one of its kind, new; the one
    /// in this loop, and those in other processes, go on and reload when the tables have changed under them.
    pub async fn rebuild(
        &self,
        mut fresh: Box<dyn Consumer<E>>,
        mut progress: impl FnMut(RebuildProgress) + Send,
    ) -> Result<Position, LoopError> {
        let name = fresh.name();
        let mut checkpoint = self.start_building(fresh.as_mut()).await?;
        let batches = self.batches();
        let total = self.store.distance(checkpoint.position, self.store.head().await?).await;
        let mut events = 0;
        loop {
            let mut tx = self.db.begin_on(Target::Building).await?;
            let before = checkpoint.position;
            let applied = self.build_on(&mut tx, fresh.as_mut(), &batches, &mut checkpoint).await?;
            tx.commit().await?;
            fresh.committed();
            events += applied as u64;
            progress(RebuildProgress { events, total });
            if checkpoint.position == before {
                break;
            }
        }
        let mut tx = self.db.begin_on(Target::Building).await?;
        tx.set_target(Target::Live);
        let live = checkpoint::load(&mut tx, name, (self.now)()).await?;
        tx.set_target(Target::Building);
        // Nobody moves the tables in use while this transaction holds the lock, so this comes to an end.
        while checkpoint.position < live.position {
            let applied = self.build_on(&mut tx, fresh.as_mut(), &batches, &mut checkpoint).await?;
            if applied == 0 {
                return Err(LoopError::Stalled { name, reason: "the log ends before its checkpoint".into() });
            }
            events += applied as u64;
        }
        if !checkpoint::advance(&mut tx, name, checkpoint, Last::as_it_is(checkpoint), (self.now)()).await? {
            return Err(LoopError::Superseded(name));
        }
        tx.swap_built(fresh.tables()).await?;
        checkpoint::replace(&mut tx, name, checkpoint.position, (self.now)()).await?;
        tx.commit().await?;
        progress(RebuildProgress { events, total: Distance::Exact(events) });
        Ok(checkpoint.position)
    }

    async fn start_building(&self, fresh: &mut dyn Consumer<E>) -> Result<Checkpoint, LoopError> {
        let mut tx = self.db.begin_on(Target::Building).await?;
        tx.clone_schema_for_building(fresh.tables()).await?;
        let checkpoint = checkpoint::restart(&mut tx, fresh.name(), (self.now)()).await?;
        fresh.reload(&mut tx).await.map_err(|error| stalled(fresh.name(), &error))?;
        tx.commit().await?;
        fresh.committed();
        Ok(checkpoint)
    }

    /// Applies the next batch to the tables under construction; none is left when it says 0.
    async fn build_on(
        &self,
        tx: &mut ReadTx,
        fresh: &mut dyn Consumer<E>,
        batches: &Batches<E>,
        checkpoint: &mut Checkpoint,
    ) -> Result<usize, LoopError> {
        let name = fresh.name();
        let batch = batches.after(checkpoint.position, checkpoint.position).await?;
        let Some(last) = batch.events.last().map(|event| Last::of(&event.recorded)) else {
            return match batch.unreadable {
                Some(error) => Err(stalled(name, &ConsumerError::Decode(error))),
                None => Ok(0),
            };
        };
        if !checkpoint::advance(tx, name, *checkpoint, last, (self.now)()).await? {
            return Err(LoopError::Superseded(name));
        }
        if batch.events.iter().any(|event| fresh.interested(&event.recorded.event_type)) {
            fresh.apply(tx, &batch.events).await.map_err(|error| stalled(name, &error))?;
        }
        checkpoint.position = last.position;
        Ok(batch.events.len())
    }
}
