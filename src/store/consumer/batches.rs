//! Batches of the log for consumers: read, and their payloads decoded, while the previous batch is applied.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::{Decode, Decoded};
use crate::events::envelope::{DecodeError, Position};
use crate::limits::Limits;
use crate::store::room::Room;
use crate::store::{EventStore, StoreError};

/// The events of a batch that can be read, and what is wrong with the one after them.
pub(super) struct Batch<E> {
    pub(super) events: Vec<Decoded<E>>,
    pub(super) unreadable: Option<DecodeError>,
    /// It ended for its size: there is probably more.
    pub(super) full: bool,
    /// The memory that it takes.
    _room: Room,
}

/// Reads batches, and one ahead for each place where somebody has much to catch up with.
pub(super) struct Batches<E> {
    source: Source<E>,
    ahead: Mutex<Vec<Ahead<E>>>,
}

struct Source<E> {
    store: Arc<dyn EventStore>,
    decode: Decode<E>,
    most: usize,
    bytes_max: usize,
}

/// The batch after a position, which is on its way.
struct Ahead<E> {
    after: Position,
    batch: JoinHandle<Result<Batch<E>, StoreError>>,
}

impl<E> Clone for Source<E> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), decode: self.decode, most: self.most, bytes_max: self.bytes_max }
    }
}

impl<E> Source<E> {
    async fn read(&self, after: Position, room: Room) -> Result<Batch<E>, StoreError> {
        let recorded = self.store.read_all(after, self.most).await?;
        let bytes: usize = recorded.iter().map(|event| event.payload.len()).sum();
        let full = recorded.len() == self.most || bytes >= self.bytes_max;
        let mut batch = Batch { events: Vec::with_capacity(recorded.len()), unreadable: None, full, _room: room };
        for recorded in recorded {
            match (self.decode)(&recorded) {
                Ok(event) => batch.events.push(Decoded { recorded, event }),
                Err(error) => {
                    self.store.note(&error);
                    batch.unreadable = Some(error);
                    break;
                }
            }
        }
        Ok(batch)
    }
}

impl<E: Send + 'static> Batches<E> {
    /// Batches of at most so many events, which a read also ends for their bytes.
    pub(super) fn new(store: Arc<dyn EventStore>, decode: Decode<E>, limits: &Limits) -> Self {
        let (most, bytes_max) = (limits.consumer_batch_events, limits.read_bytes_max);
        Self { source: Source { store, decode, most, bytes_max }, ahead: Mutex::default() }
    }

    /// The batch after a position. Drops prefetched batches before `lowest`, where no consumer is any more.
    pub(super) async fn after(&self, position: Position, lowest: Position) -> Result<Batch<E>, StoreError> {
        let ahead = match self.taken(position, lowest) {
            // Where it was lost, or could not be read, that is for the caller's own read to find out.
            Some(ahead) => ahead.await.ok().and_then(Result::ok),
            None => None,
        };
        let batch = match ahead {
            // The log ended there when it was read ahead; whether it still does, the caller wants to know.
            Some(batch) if !batch.events.is_empty() => batch,
            _ => {
                let room = self.source.store.room().await;
                self.source.read(position, room).await?
            }
        };
        // Less than a whole batch is the end of the log, and what follows is not there yet.
        if let (Some(last), true) = (batch.events.last(), batch.full)
            // Reading ahead saves time, and waits for no memory.
            && let Some(room) = self.source.store.spare_room()
        {
            let (source, after) = (self.source.clone(), last.recorded.position);
            let batch = tokio::spawn(async move { source.read(after, room).await });
            self.ahead().push(Ahead { after, batch });
        }
        Ok(batch)
    }

    /// Drops prefetched batches: a stuck consumer must get events as they are when it continues.
    pub(super) fn forget(&self) {
        self.ahead().clear();
    }

    fn taken(&self, position: Position, lowest: Position) -> Option<JoinHandle<Result<Batch<E>, StoreError>>> {
        let mut ahead = self.ahead();
        ahead.retain(|ahead| ahead.after >= lowest);
        let found = ahead.iter().position(|ahead| ahead.after == position)?;
        Some(ahead.swap_remove(found).batch)
    }

    /// Nothing is done under the lock that could stop half way.
    fn ahead(&self) -> std::sync::MutexGuard<'_, Vec<Ahead<E>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
