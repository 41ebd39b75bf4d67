//! Counts the events of this log between two positions, which are places in the server's log and not numbers.
//!
//! It counts the first events, and estimates any others from their density.

use std::sync::Arc;
use std::time::Duration;

use eventstore::{ReadAllOptions, StreamPosition};

use super::EventStoreDb;
use super::event::{decode, position, their_position};
use super::link::{Current, Trouble};
use crate::events::envelope::{Position, RecordedEvent};
use crate::store::{Distance, StoreError};

/// Events that are counted; what is further is estimated.
const COUNTED: usize = 500;

/// How long counting may take. Nobody waits for a number.
const COUNTS_WITHIN: Duration = Duration::from_millis(500);

/// The place of an event in the server's log, in bytes: where it was prepared. Events of one append share their commit.
fn bytes(position: Position) -> u64 {
    position.halves().1
}

impl EventStoreDb {
    pub(super) async fn counted(&self, after: Position, to: Position) -> Distance {
        if to <= after {
            return Distance::NONE;
        }
        match tokio::time::timeout(COUNTS_WITHIN, self.first_places(after, to)).await {
            Ok(Ok(places)) if places.len() < COUNTED => Distance::Exact(places.len() as u64),
            Ok(Ok(places)) => self.estimated(&places, to),
            Ok(Err(_)) | Err(_) => Distance::Unknown,
        }
    }

    /// Where the first events stand after a position, up to another: as many as are counted at most.
    async fn first_places(&self, after: Position, to: Position) -> Result<Vec<Position>, StoreError> {
        let (mut places, mut at) = (Vec::new(), after);
        while at < to && places.len() < COUNTED {
            // A read ends for its bytes too.
            let some = self.up_to(at, to, COUNTED - places.len()).await?;
            let Some(last) = some.last() else { break };
            at = last.position;
            places.extend(some.iter().map(|event| event.position));
        }
        Ok(places)
    }

    /// As many as were counted, and as many more as fit, at the same density, into what is not known to be others'.
    fn estimated(&self, counted: &[Position], to: Position) -> Distance {
        let (Some(first), Some(last)) = (counted.first(), counted.last()) else { return Distance::Unknown };
        let count = counted.len() as u64;
        if *last >= to {
            return Distance::Exact(count);
        }
        let own = |after, to| {
            let all = bytes(to).saturating_sub(bytes(after));
            all.saturating_sub(self.horizon.bytes_of_others(after, to))
        };
        let (seen, rest) = (own(*first, *last).max(1), own(*last, to));
        let more = u128::from(rest) * u128::from(count) / u128::from(seen);
        // There is one more at least: the one at the end.
        Distance::Estimated(count.saturating_add(u64::try_from(more).unwrap_or(u64::MAX).max(1)))
    }

    /// Events after a position, up to another.
    pub(super) async fn up_to(
        &self,
        after: Position,
        last: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let (start, limit) = (self.horizon.skip(after), limit.min(self.limits.read_events_max));
        if last <= start || limit == 0 {
            return Ok(Vec::new());
        }
        let mut events = self.between(after, start, limit, Some(last)).await?;
        events.retain(|event| event.position <= last);
        Ok(events)
    }

    /// Events before a position, or up to the end, the newest first.
    pub(super) async fn before(
        &self,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let start = before.map_or(StreamPosition::End, |before| StreamPosition::Position(their_position(before)));
        // One more: the event at the position itself does not count, whether the server begins with it or before it.
        let count = limit.min(self.limits.read_events_max).saturating_add(1);
        let options = self.of_this_log(ReadAllOptions::default().position(start).backwards().max_count(count));
        let there = self.fetch_all(&options, None, 1).await?;
        let recorded = there.iter().filter_map(|there| there.event.as_ref());
        let events = recorded.map(|event| decode(event, &self.prefix, &self.kinds));
        let mut events = events.collect::<Result<Vec<_>, _>>()?;
        events.retain(|event| before.is_none_or(|before| event.position < before));
        events.truncate(limit);
        Ok(events)
    }

    /// The position right before the newest so many events.
    pub(super) async fn back(&self, events: u64) -> Result<Position, StoreError> {
        let count = usize::try_from(events).unwrap_or(usize::MAX).saturating_add(1);
        let options = ReadAllOptions::default().position(StreamPosition::End).backwards().max_count(count);
        let options = self.of_this_log(options);
        let options = match &self.link.credentials {
            Some(credentials) => options.authenticated(credentials.clone()),
            None => options,
        };
        let options = &options;
        let attempt = move |used: Arc<Current>| async move {
            let read = self.link.answer(&used, used.client.read_all(options)).await?;
            let mut read = read.map_err(super::unexpected)?;
            let (mut seen, mut oldest) = (0_usize, Position::START);
            // Events are only passed by: all of them would not fit into memory.
            while let Some(there) = self.link.answer(&used, read.next()).await?.map_err(super::unexpected)? {
                seen += 1;
                oldest = there.event.as_ref().map_or(oldest, |event| position(event.position));
            }
            Ok::<_, Trouble>(if seen < count { Position::START } else { oldest })
        };
        self.link.read("read of the log", attempt).await
    }
}
