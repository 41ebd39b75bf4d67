//! Seals a month's book and opens the next one: events that every process writes with the same ids.

use uuid::Uuid;

use super::CommandMeta;
use crate::commands::allocation::{Book, stream_of};
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::events::allocation::{AllocationEvent, BooksClosed, BooksOpened};
use crate::events::envelope::{Link, NewEvent, NotReadBack, StreamName};
use crate::store::{AppendRequest, ExpectedVersion};

/// How the decided book comes to stand in the log.
pub(super) enum Opening {
    /// It is open.
    None,
    /// It begins by continuing another, which is sealed first if it is not yet; the sealing leads to it.
    Next { close: Option<Closing>, cause: Option<Link>, opened: Box<BooksOpened> },
}

/// The sealing of a book.
pub(super) struct Closing {
    stream: StreamName,
    version: u64,
    successor: Month,
    id: Uuid,
}

impl Closing {
    /// The sealing of `book`, which `successor` continues.
    pub(super) fn of(resource: ResourceId, book: &Book, successor: Month) -> Self {
        let stream = stream_of(resource, book.month);
        // Another successor is another fact: two processes must not each go on in a month of their own.
        let id = deterministic(stream.as_str(), &format!("closed/{successor}"));
        Self { stream, version: book.version, successor, id }
    }

    /// Its event as the cause of the opening.
    pub(super) fn link(&self) -> Link {
        Link::alone(self.id)
    }

    /// The events to append for it.
    pub(super) fn request(self, now: chrono::DateTime<chrono::Utc>) -> Result<AppendRequest, NotReadBack> {
        let closed = AllocationEvent::BooksClosed(BooksClosed { successor: self.successor });
        let event = book_keeping(&closed, self.id, None, now)?;
        Ok(AppendRequest { stream: self.stream, expected: ExpectedVersion::Exact(self.version), events: vec![event] })
    }
}

/// The event that opens a book.
pub(super) fn opening_event(
    stream: &StreamName,
    opened: Box<BooksOpened>,
    cause: Option<Link>,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<NewEvent, NotReadBack> {
    book_keeping(&AllocationEvent::BooksOpened(opened), deterministic(stream.as_str(), "opened"), cause, now)
}

/// An id that every process gives the same fact of a stream.
fn deterministic(stream: &str, fact: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("sluice/{stream}/{fact}").as_bytes())
}

fn book_keeping(
    event: &AllocationEvent,
    id: Uuid,
    cause: Option<Link>,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<NewEvent, NotReadBack> {
    let meta = CommandMeta::system(id);
    let meta = match cause {
        Some(link) => meta.caused_by(link),
        None => meta,
    };
    Ok(NewEvent {
        event_id: id,
        event_type: event.event_type(),
        occurred_at: now,
        metadata: meta.metadata(),
        payload: event.to_append()?,
    })
}
