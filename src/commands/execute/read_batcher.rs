//! Combines reads of books that many commands need at the same moment into one statement.
//!
//! A separate read costs a command more than deciding and appending. A caller that arrives during a read waits for the
//! next one; a lone command reads immediately.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::events::envelope::{StreamName, StreamStart};
use crate::store::{EventStore, StoreError};

/// Streams of one read.
const STREAMS_MAX: usize = 256;

/// Reads under way at a time.
const READS_MAX: usize = 2;

type Answer = Result<StreamStart, StoreError>;

/// Merges reads.
pub(super) struct ReadBatcher {
    store: Arc<dyn EventStore>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    wanted: Vec<(StreamName, oneshot::Sender<Answer>)>,
    reads: usize,
}

impl ReadBatcher {
    pub(super) fn new(store: Arc<dyn EventStore>) -> Arc<Self> {
        Arc::new(Self { store, queue: Mutex::default() })
    }

    /// Nothing is done under the lock that could leave the queue half changed.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream from its beginning on.
    pub(super) async fn read(self: &Arc<Self>, stream: StreamName) -> Answer {
        let (tell, told) = oneshot::channel();
        let begin = {
            let mut queue = self.queue();
            queue.wanted.push((stream, tell));
            let begin = queue.reads < READS_MAX;
            queue.reads += usize::from(begin);
            begin
        };
        if begin {
            // A task of its own: a caller that goes away must not take the reads of others with it.
            tokio::spawn(Arc::clone(self).work());
        }
        told.await.unwrap_or_else(|gone| Err(StoreError::Unavailable(Arc::new(gone))))
    }

    async fn work(self: Arc<Self>) {
        loop {
            let wanted: Vec<_> = {
                let mut queue = self.queue();
                if queue.wanted.is_empty() {
                    queue.reads -= 1;
                    return;
                }
                let some = queue.wanted.len().min(STREAMS_MAX);
                queue.wanted.drain(..some).collect()
            };
            let (streams, tell): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
            // A caller that has gone away does not want to know.
            match self.store.read_streams(&streams).await {
                Ok(found) => tell.into_iter().zip(found).for_each(|(tell, start)| drop(tell.send(Ok(start)))),
                Err(error) => tell.into_iter().for_each(|tell| drop(tell.send(Err(error.clone())))),
            }
        }
    }
}
