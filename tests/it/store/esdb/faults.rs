//! What the fixture does wrong on demand: each fault waits for the next call it fits, and happens once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tonic::{Code, Status};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An append is refused: another node, at this port, leads.
    AppendNotLeader { port: u16 },
    /// The server gives up on an append before it writes.
    AppendTimesOutBefore,
    /// The server gives up on an append that it has written.
    AppendTimesOutAfter,
    /// The connection goes after the write and before the answer.
    AppendLostAfter,
    /// An append is never answered, and not written.
    AppendHangs,
    /// The answer to an append does not say where it is.
    AppendWithoutPosition,
    /// A read is refused: another node leads.
    ReadNotLeader { port: u16 },
    /// A read breaks off after so many events.
    ReadBreaksAfter(usize),
    /// A read is never answered.
    ReadHangs,
    /// A read is refused in the middle of an election, which has the code of "not found".
    ReadWithoutLeader,
    /// A call comes without a right to it.
    Denied,
}

/// Faults that have yet to happen.
#[derive(Default)]
pub struct Faults(Mutex<VecDeque<Fault>>);

impl Faults {
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Takes the next fault if it fits.
    pub fn take(&self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut planned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        planned.pop_front_if(|fault| fits(fault))
    }

    /// How many have yet to happen.
    pub fn left(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Fault {
    pub fn is_of_append(&self) -> bool {
        !self.is_of_read() || *self == Self::Denied
    }

    pub fn is_of_read(&self) -> bool {
        use Fault::{Denied, ReadBreaksAfter, ReadHangs, ReadNotLeader, ReadWithoutLeader};
        matches!(self, ReadNotLeader { .. } | ReadBreaksAfter(_) | ReadHangs | ReadWithoutLeader | Denied)
    }
}

/// As a follower answers what only the leader does.
pub fn not_leader(port: u16) -> Status {
    let mut status = Status::new(Code::NotFound, "Leader info available");
    let metadata = status.metadata_mut();
    metadata.insert("exception", "not-leader".parse().unwrap());
    metadata.insert("leader-endpoint-host", "127.0.0.1".parse().unwrap());
    metadata.insert("leader-endpoint-port", port.to_string().parse().unwrap());
    status
}

/// As the server answers on a stream that is deleted for good.
pub fn stream_deleted(name: &str) -> Status {
    let mut status = Status::new(Code::FailedPrecondition, format!("Event stream '{name}' is deleted."));
    status.metadata_mut().insert("exception", "stream-deleted".parse().unwrap());
    status
}

/// As the server answers on an append without a name of a stream, or with an event whose id is nil.
pub fn handler_threw() -> Status {
    Status::unknown("Exception was thrown by handler.")
}

/// As the server answers on an append of too many bytes.
pub fn append_too_large(max: usize) -> Status {
    let mut status = Status::invalid_argument(format!("Maximum Append Size of {max} Exceeded."));
    let metadata = status.metadata_mut();
    metadata.insert("exception", "maximum-append-size-exceeded".parse().unwrap());
    metadata.insert("maximum-append-size", max.to_string().parse().unwrap());
    status
}

/// As the server answers on a read of `$all` from a position at which no event begins.
pub fn no_such_position() -> Status {
    Status::unknown("Unexpected FilteredReadAllResult: Error")
}
