//! A log read from its beginning, event by event, each with its number instead of its position: a form in which two
//! logs can be compared, whatever their positions.

use std::collections::VecDeque;

use crate::events::envelope::{Position, RecordedEvent};
use crate::store::numbers::NUMBERS;
use crate::store::{EventStore, StoreError};

pub(super) struct Numbered<'l> {
    log: &'l dyn EventStore,
    batch: usize,
    ready: VecDeque<RecordedEvent>,
    /// The last event that was read.
    at: Position,
    /// The number of the last event that was given.
    number: u64,
}

/// An event by its number, and where it stands in its log.
pub(super) struct Next {
    pub(super) place: Position,
    pub(super) event: RecordedEvent,
}

impl<'l> Numbered<'l> {
    pub(super) fn new(log: &'l dyn EventStore, batch: usize) -> Self {
        Self { log, batch, ready: VecDeque::new(), at: Position::START, number: 0 }
    }

    /// Begins after the event with this number, in a log that counts.
    pub(super) fn after(mut self, number: u64) -> Self {
        (self.at, self.number) = (NUMBERS.at(number), number);
        self
    }

    /// The number of the last event that was given.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next event; none at the end of the log.
    pub(super) async fn next(&mut self) -> Result<Option<Next>, StoreError> {
        if self.ready.is_empty() {
            self.ready = self.log.read_all(self.at, self.batch).await?.into();
            self.at = self.ready.back().map_or(self.at, |last| last.position);
        }
        let Some(mut event) = self.ready.pop_front() else { return Ok(None) };
        self.number += 1;
        let place = std::mem::replace(&mut event.position, NUMBERS.at(self.number));
        if self.log.numbers().is_some() && place != event.position {
            return Err(StoreError::Corrupt(format!("no event stands at position {}", self.number)));
        }
        Ok(Some(Next { place, event }))
    }
}
