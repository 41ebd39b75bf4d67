//! Follows a loop that runs in another process: the checkpoints in the tables show the consumers' progress, whichever
//! process leads.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::run::ConsumerLoop;
use super::{LoopError, checkpoint};
use crate::events::envelope::Position;
use crate::store::sql::SqlError;

/// The channel on which the leader announces that consumers have moved.
pub(super) const CHANNEL: &str = "sluice_read";

/// How long a consumer may not move before those who wait for it give up.
const STANDS_STILL: Duration = Duration::from_mins(1);

/// How often a waiter checks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl<E: Send + Sync + 'static> ConsumerLoop<E> {
    /// From now on this process feeds consumers only in [`Self::run`]: `settle` waits for the process that feeds them.
    pub fn leave_to_leader(&self) {
        self.left_to_leader.store(true, Ordering::Release);
    }

    /// Follows the checkpoints that the leader moves, until told to stop, so that `wait_for` works here too.
    pub async fn follow(&self, stop: CancellationToken) {
        let Some(mut listener) = self.db.listener(CHANNEL) else { return };
        while !stop.is_cancelled() {
            // Trouble with the tables only makes it slower: every waiter has a time limit.
            if let Ok(stored) = self.checkpoints().await {
                self.adopt(&stored);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = listener.next(self.limits.shared_poll) => {}
            }
        }
        listener.close().await;
    }

    /// Waits until the leader has fed every consumer up to the current end of the log.
    pub(super) async fn caught_up(&self) -> Result<Position, LoopError> {
        let head = self.store.head().await?;
        let mut best = Position::START;
        let mut since = Instant::now();
        loop {
            let stored = self.checkpoints().await?;
            self.adopt(&stored);
            let Some((name, slowest)) = self.slowest() else { return Ok(head) };
            if slowest >= head {
                return Ok(head);
            }
            if slowest > best {
                (best, since) = (slowest, Instant::now());
            }
            if since.elapsed() >= STANDS_STILL {
                return Err(LoopError::Stalled { name, reason: "no process moves it".into() });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn slowest(&self) -> Option<(&'static str, Position)> {
        self.places.borrow().iter().map(|place| (place.name, place.position)).min_by_key(|(_, position)| *position)
    }

    /// Takes over what the tables say, where that is further.
    fn adopt(&self, stored: &[(String, Position)]) {
        let leads = self.leads.load(Ordering::Acquire);
        self.places.send_if_modified(|places| {
            let mut changed = false;
            for place in places {
                // This process's old errors do not concern the current leader.
                if !leads {
                    place.error = None;
                }
                let found = stored.iter().find(|(name, _)| name == place.name).map(|(_, position)| *position);
                if let Some(position) = found.filter(|position| *position > place.position) {
                    place.position = position;
                    changed = true;
                }
            }
            changed
        });
    }

    /// Where the stored checkpoints stand, by name: what is committed, by this process or by another.
    pub async fn checkpoints(&self) -> Result<Vec<(String, Position)>, SqlError> {
        checkpoint::all(&self.db).await
    }
}
