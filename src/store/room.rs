//! Memory for reading the log: how much one read may return, and how many may run at a time.
//!
//! Events differ in size a thousandfold, so reads are bounded in bytes as well as in events. A reader holds one slot
//! from before the read until it has processed the events; the memory for reading determines the number of slots, and a
//! reader without one waits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::events::envelope::RecordedEvent;
use crate::limits::Limits;

/// What the events of one read come to in memory, in sizes of their payloads: the payload, what it is decoded into, and what
/// is made of that.
const SIZES: usize = 4;

/// The fewest rooms: those that hold one while they wait for each other's locks must not take them all.
const ROOMS_MIN: usize = 4;

/// The rooms of a log.
pub struct Rooms(Arc<Semaphore>);

/// Room for one read, until it is dropped.
#[derive(Debug, Default)]
pub struct Room {
    _place: Option<OwnedSemaphorePermit>,
}

impl Rooms {
    /// As many as there is memory for; the registry, which everybody waits for, has one to itself.
    pub fn new(limits: &Limits) -> Self {
        let all = limits.read_memory / limits.read_bytes_max.saturating_mul(SIZES).max(1);
        Self(Arc::new(Semaphore::new(all.saturating_sub(1).max(ROOMS_MIN))))
    }

    /// Waits for a room.
    pub async fn take(&self) -> Room {
        // Nobody closes the semaphore.
        Room { _place: Arc::clone(&self.0).acquire_owned().await.ok() }
    }

    /// A room, if one is free.
    pub fn spare(&self) -> Option<Room> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(|place| Room { _place: Some(place) })
    }
}

/// How many bytes a read has brought so far.
#[derive(Debug)]
pub(super) struct Measure {
    bytes: usize,
    max: usize,
}

impl Measure {
    pub(super) const fn new(max: usize) -> Self {
        Self { bytes: 0, max }
    }

    /// Whether it has reached its bound.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= self.max
    }

    /// Whether there is room for another event, which is counted then.
    pub(super) fn takes(&mut self, payload: usize) -> bool {
        let room = !self.is_full();
        if room {
            self.bytes = self.bytes.saturating_add(payload);
        }
        room
    }

    /// Counts an event of this size; true: it is the last that this read brings.
    pub(super) fn is_full_with(&mut self, payload: usize) -> bool {
        self.bytes = self.bytes.saturating_add(payload);
        self.bytes >= self.max
    }
}

/// Cuts what a read brought behind the event with which it reaches so many bytes, and says whether it reaches them.
pub(super) fn cut(events: &mut Vec<RecordedEvent>, bytes_max: usize) -> bool {
    let mut measure = Measure::new(bytes_max);
    let last = events.iter().position(|event| measure.is_full_with(event.payload.len()));
    if let Some(last) = last {
        events.truncate(last + 1);
    }
    last.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_as_many_rooms_as_memory_allows() {
        let rooms = |read_memory| Rooms::new(&Limits { read_memory, read_bytes_max: 1 << 20, ..Limits::default() });
        let many = rooms(64 << 20);
        let held: Vec<Room> = std::iter::from_fn(|| many.spare()).collect();
        assert_eq!(held.len(), 15);
        drop(held);
        many.take().await;
        let few = rooms(0);
        assert_eq!(std::iter::from_fn(|| few.spare()).collect::<Vec<_>>().len(), ROOMS_MIN);
    }
}
