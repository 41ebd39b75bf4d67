//! Writing the events of another log, as they are: how a log moves into an event store.

use super::event::{encode, position};
use super::{EventStoreDb, Written};
use crate::events::envelope::RecordedEvent;
use crate::store::{ExpectedVersion, StoreError};

/// Bytes of payloads that go into one append at most, so that it stays under what a server takes.
const PUT_BYTES_MAX: usize = 256 * 1_024;

/// What the rest of an event is taken to need in an append, in bytes.
const ENVELOPE_BYTES_ABOUT: usize = 1_024;

/// Events of one stream in pieces that a server takes as one append each.
fn pieces(run: &[RecordedEvent]) -> impl Iterator<Item = &[RecordedEvent]> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|event| {
            bytes += event.payload.len() + ENVELOPE_BYTES_ABOUT;
            bytes <= PUT_BYTES_MAX
        });
        let count = fits.count().max(1).min(rest.len());
        let (some, later) = rest.split_at(count);
        rest = later;
        (!some.is_empty()).then_some(some)
    })
}

impl EventStoreDb {
    /// Writes events of another log, at the versions and under the ids that they have there. False: a stream does not end
    /// where its events follow.
    pub(in crate::store) async fn put(&self, events: &[RecordedEvent]) -> Result<bool, StoreError> {
        for run in events.chunk_by(|one, next| one.stream == next.stream) {
            for some in pieces(run) {
                let Some(first) = some.first() else { continue };
                if some.iter().any(|event| event.event_id.is_nil()) {
                    return Err(StoreError::Rejected(format!(
                        "an event of the stream {} has the nil id, which EventStoreDB does not take",
                        first.stream
                    )));
                }
                let data = some.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
                match self.write(&self.name(&first.stream), ExpectedVersion::Exact(first.version - 1), data).await {
                    Ok(written) => self.seen(position(written.position)),
                    Err(Written::Conflict(_)) => return Ok(false),
                    Err(Written::Failed(error)) => return Err(error),
                }
            }
        }
        Ok(true)
    }
}
