//! The newest events in memory, so that consumers at the head of the log need not read back what was just written.
//!
//! The tail holds an unbroken run of positions that this process committed. An append of another process breaks the
//! run, and a new one begins.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::numbers::NUMBERS;
use super::room::cut;
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;

pub(super) struct Tail {
    run: Mutex<Run>,
    events_max: usize,
    bytes_max: usize,
    read_bytes_max: usize,
}

#[derive(Default)]
struct Run {
    events: VecDeque<RecordedEvent>,
    bytes: usize,
}

impl Tail {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            run: Mutex::default(),
            events_max: limits.tail_events_max,
            bytes_max: limits.tail_bytes_max,
            read_bytes_max: limits.read_bytes_max,
        }
    }

    /// The critical sections cannot leave a half-done run behind, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds committed events without a hole among them; what is held goes if they do not follow it.
    pub(super) fn extend(&self, events: Vec<RecordedEvent>) {
        let mut run = self.lock();
        let follows = |run: &Run, first: &RecordedEvent| {
            run.events.back().is_none_or(|last| NUMBERS.of(last.position) + 1 == NUMBERS.of(first.position))
        };
        if events.first().is_some_and(|first| !follows(&run, first)) {
            *run = Run::default();
        }
        for event in events {
            run.bytes += event.payload.len();
            run.events.push_back(event);
        }
        while run.events.len() > self.events_max || run.bytes > self.bytes_max {
            let Some(oldest) = run.events.pop_front() else { break };
            run.bytes -= oldest.payload.len();
        }
    }

    pub(super) fn clear(&self) {
        *self.lock() = Run::default();
    }

    /// The events after a position, if they are all here and there is at least one.
    pub(super) fn after(&self, after: Position, limit: usize) -> Option<Vec<RecordedEvent>> {
        let run = self.lock();
        let first = NUMBERS.of(run.events.front()?.position);
        let skip = usize::try_from((NUMBERS.of(after) + 1).checked_sub(first)?).ok()?;
        if skip >= run.events.len() || limit == 0 {
            return None;
        }
        let mut events: Vec<RecordedEvent> = run.events.iter().skip(skip).take(limit).cloned().collect();
        cut(&mut events, self.read_bytes_max);
        Some(events)
    }
}
