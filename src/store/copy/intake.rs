//! Events that come from a file into a new log, where they stood or after one another.

use super::place::{Opened, Place, Writer, target};
use super::{CopyError, of_target};
use crate::clock::IdSource;
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;
use crate::store::numbers::NUMBERS;
use crate::store::sql::ReadDb;

/// A new log that takes events.
pub struct Intake {
    writer: Writer,
    opened: Opened,
    number: u64,
}

impl Intake {
    /// Opens a log, which must be empty.
    ///
    /// # Errors
    /// It cannot be opened, or holds events.
    pub async fn open(place: &Place, limits: &Limits) -> Result<Self, CopyError> {
        let opened = Box::pin(target(place, IdSource.fresh(), limits)).await?;
        if opened.log.store().head().await.map_err(of_target)? > Position::START {
            return Err(CopyError::NotEmpty);
        }
        let writer = Writer::open(&place.database, &opened.log, limits).await.map_err(of_target)?;
        Ok(Self { writer, opened, number: 0 })
    }

    /// The tables beside the log.
    pub fn beside(&self) -> &ReadDb {
        &self.opened.beside
    }

    /// Takes events that follow those before.
    ///
    /// # Errors
    /// They cannot be written, or somebody else writes.
    pub async fn put(&mut self, mut events: Vec<RecordedEvent>) -> Result<(), CopyError> {
        for (event, number) in events.iter_mut().zip(self.number + 1..) {
            event.position = NUMBERS.at(number);
        }
        let count = events.len() as u64;
        if count > 0 && !self.writer.put(self.number, events).await.map_err(of_target)? {
            return Err(CopyError::Disturbed);
        }
        self.number += count;
        Ok(())
    }
}
