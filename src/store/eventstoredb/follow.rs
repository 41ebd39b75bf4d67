//! Reads `$all` forwards without scanning foreign events twice, and notices what other processes append.
//!
//! To learn whether there is anything new, it asks for the newest event of any stream, which the server answers
//! quickly. Only then does it read `$all`, from the end of the last scan.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eventstore::{ReadAllOptions, StreamPosition, SubscriptionFilter};

use super::EventStoreDb;
use super::event::{decode, position, their_position};
use super::gaps::Gaps;
use crate::events::envelope::{Position, RecordedEvent};
use crate::store::StoreError;
use crate::store::meta::{LOOKED_THROUGH, Meta};
use crate::store::room::Measure;

/// How often that is kept at most.
const KEPT_EVERY: Duration = Duration::from_secs(10);

/// What is known of `$all`.
pub(super) struct Horizon {
    state: Mutex<State>,
    /// Where it is kept across restarts.
    meta: Option<Meta>,
}

struct State {
    gaps: Gaps,
    kept: Gaps,
    kept_at: Instant,
    /// When somebody last looked whether there is anything new, and how long to wait before the next look.
    looked_at: Option<Instant>,
    pause: Duration,
}

impl Horizon {
    /// Nothing is known, and the first look is due.
    pub(super) fn new(pause: Duration) -> Self {
        let (gaps, kept) = (Gaps::default(), Gaps::default());
        let state = State { gaps, kept, kept_at: Instant::now(), looked_at: None, pause };
        Self { state: Mutex::new(state), meta: None }
    }

    /// Takes up what was kept, and keeps it there from now on.
    pub(super) async fn keep_in(&mut self, meta: Meta) -> Result<(), StoreError> {
        let text = meta.get(LOOKED_THROUGH).await?.unwrap_or_default();
        let mut state = self.state();
        state.kept = Gaps::from_text(&text);
        let kept = state.kept.clone();
        state.gaps.add(&kept);
        drop(state);
        self.meta = Some(meta);
        Ok(())
    }

    /// Nothing is done under the lock that could stop half way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn skip(&self, after: Position) -> Position {
        self.state().gaps.skip(after)
    }

    /// How much of the server's log between two positions is known to hold none of this one, in bytes.
    pub(super) fn bytes_of_others(&self, after: Position, to: Position) -> u64 {
        self.state().gaps.bytes_within(after, to)
    }

    /// The newest event that is known of, and up to where there is no other.
    fn edge(&self, known: Position) -> (Position, Position) {
        let (from, to) = self.state().gaps.last();
        if known > to { (known, known) } else { (from, to) }
    }

    /// There is no event of this log after one position and up to another.
    pub(super) fn learn(&self, from: Position, to: Position) {
        self.state().gaps.learn(from, to);
    }

    /// Keeps what was learnt, now and then. That it could not be kept costs a look after the next start, no more.
    async fn keep(&self) {
        let Some(meta) = &self.meta else { return };
        let text = {
            let mut state = self.state();
            if state.kept == state.gaps || state.kept_at.elapsed() < KEPT_EVERY {
                return;
            }
            state.kept = state.gaps.clone();
            state.kept_at = Instant::now();
            state.kept.to_text()
        };
        if let Err(error) = meta.set(LOOKED_THROUGH, &text).await {
            tracing::warn!(%error, "how far the event store was looked through is not kept");
        }
    }

    /// How long until the next look is due; none: it is, and the caller looks.
    fn due_in(&self) -> Option<Duration> {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(looked_at) = state.looked_at
            && let Some(left) = (looked_at + state.pause).checked_duration_since(now)
            && !left.is_zero()
        {
            return Some(left);
        }
        state.looked_at = Some(now);
        None
    }

    /// A look that brought nothing makes the next one wait longer, up to `most`; one that brought something, no longer.
    fn found(&self, something: bool, least: Duration, most: Duration) {
        let mut state = self.state();
        state.pause = if something { least } else { (state.pause * 2).min(most.max(least)) };
    }
}

impl EventStoreDb {
    /// The position of the newest event of anybody's.
    async fn newest_of_all(&self) -> Result<Position, StoreError> {
        let options = ReadAllOptions::default().position(StreamPosition::End).backwards().max_count(1);
        let there = self.fetch_all(&options, None, 0).await?;
        let newest = there.first().and_then(|there| there.event.as_ref());
        Ok(newest.map_or(Position::START, |event| position(event.position)))
    }

    /// Events after a position: those that somebody read a moment ago, else those that are there.
    pub(super) async fn after(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        if let Some(events) = self.recent.after(after, limit) {
            return Ok(events);
        }
        let events = self.fetched_after(after, limit).await?;
        self.recent.keep(after, &events);
        Ok(events)
    }

    async fn fetched_after(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        let start = self.horizon.skip(after);
        let known = *self.head.borrow();
        if known > start {
            // What lies beyond the newest event known of was looked through before, or is for the next look.
            return self.between(after, start, limit, Some(known)).await;
        }
        let end = self.newest_of_all().await?;
        if end <= start {
            return Ok(Vec::new());
        }
        // One more than asked for says whether these are all, unless the read ended for its bytes.
        let mut events = self.between(after, start, limit.saturating_add(1), None).await?;
        let mut measure = Measure::new(self.limits.read_bytes_max);
        let full = events.iter().any(|event| measure.is_full_with(event.payload.len()));
        if events.len() <= limit && !full {
            self.horizon.learn(events.last().map_or(start, |last| last.position), end);
            self.horizon.keep().await;
        }
        events.truncate(limit);
        Ok(events)
    }

    /// Events after a position, read from a start at or behind it, up to one that is known of.
    pub(super) async fn between(
        &self,
        after: Position,
        start: Position,
        limit: usize,
        known: Option<Position>,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let from = match start {
            Position::START => StreamPosition::Start,
            start => StreamPosition::Position(their_position(start)),
        };
        // The server begins with the event at the position itself, which is this log's unless it ends a gap.
        let itself = usize::from(start == after && after > Position::START);
        let options = ReadAllOptions::default().forwards().position(from).max_count(limit.saturating_add(itself));
        let there = match self.fetch_all(&self.of_this_log(options), known, itself).await {
            // What stood where a gap ends was somebody else's, and may be gone.
            Err(StoreError::NoEventThere) if start != after => {
                return Box::pin(self.between(after, after, limit, known)).await;
            }
            there => there?,
        };
        let mut events = Vec::with_capacity(there.len());
        for event in there.iter().filter_map(|there| there.event.as_ref()) {
            if position(event.position) > after {
                events.push(decode(event, &self.prefix, &self.kinds)?);
            }
        }
        events.truncate(limit);
        if let Some(last) = events.last() {
            self.seen(last.position);
        }
        Ok(events)
    }

    /// The position of this log's newest event.
    pub(super) async fn end(&self) -> Result<Position, StoreError> {
        let (newest, looked) = self.horizon.edge(*self.head.borrow());
        let end = self.newest_of_all().await?;
        if end <= looked {
            return Ok(newest);
        }
        if looked > Position::START && self.between(looked, looked, 1, None).await?.is_empty() {
            self.horizon.learn(looked, end);
            self.horizon.keep().await;
            return Ok(newest);
        }
        let options = ReadAllOptions::default().position(StreamPosition::End).backwards().max_count(1);
        let there = self.fetch_all(&self.of_this_log(options), None, 0).await?;
        let newest = there.first().and_then(|there| there.event.as_ref());
        let newest = newest.map_or(Position::START, |event| position(event.position));
        self.seen(newest);
        self.horizon.learn(newest, end);
        self.horizon.keep().await;
        Ok(newest)
    }

    pub(super) fn of_this_log(&self, options: ReadAllOptions) -> ReadAllOptions {
        options.filter(SubscriptionFilter::on_stream_name().add_prefix(&self.prefix))
    }

    /// Returns when another process has appended something after a position. One waiter polls for all of them.
    pub(super) async fn notice(&self, after: Position) {
        loop {
            if let Some(left) = self.horizon.due_in() {
                tokio::time::sleep(left).await;
                continue;
            }
            let found = self.end().await.is_ok_and(|newest| newest > after);
            self.horizon.found(found, self.limits.foreign_poll, self.limits.event_store_poll_max);
            if found {
                return;
            }
        }
    }
}
