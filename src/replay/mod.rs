//! Recomputes recorded decisions from their recorded inputs and compares the results with the record.
//!
//! A pass reads the log in order, page by page. While it reads the next page, shards process this one in parallel, each
//! handling its part of the streams and keeping recently used books in memory. If no shard remembers an event to which
//! a decision refers, it is read from its stream, so a pass may begin anywhere and needs no more memory for a long log
//! than for a short one.

mod report;
mod shard;
mod standing;
pub mod what_if;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;

pub use report::{Counts, Difference, NAMED_MAX, Report};
pub use shard::Spent;
pub use standing::{Standing, Verifier};

use self::report::Found;
use self::shard::{Shard, Taken, Waiting, retried};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::{DecodeError, Position, RecordedEvent, StreamName, Version};
use crate::events::resolve::Resolver;
use crate::store::sound::SetAside;
use crate::store::{EventStore, StoreError};

/// Types of events that hold a decision, without their version.
const DECISIONS: [&str; 3] = ["policy_evaluated", "settings_commanded", "evaluation_failed"];

/// Events read at a time.
const PAGE: usize = 8_000;

/// Single events that are read from their streams side by side.
const LOOK_UPS: usize = 8;

/// Why a pass stopped. Its findings up to there stay valid.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log does not answer.
    #[error("the log cannot be read after position {}", .0.plain())]
    Store(Position, #[source] StoreError),
    /// A shard broke off.
    #[error("replaying broke off after position {}", .0.plain())]
    Crashed(Position, #[source] JoinError),
}

/// Which decisions are recomputed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of this policy.
    pub policy: Option<PolicyId>,
    /// On this resource.
    pub resource: Option<ResourceId>,
    /// Decided at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Decided before this instant.
    pub to: Option<DateTime<Utc>>,
}

impl Wanted {
    /// Whether an event is a decision to recompute, judging by its envelope.
    fn takes(&self, event: &RecordedEvent, books: Option<&str>) -> bool {
        let name = event.event_type.rsplit_once(".v").map_or(&*event.event_type, |(name, _)| name);
        DECISIONS.contains(&name)
            && books.is_none_or(|books| event.stream.as_str().starts_with(books))
            && self.from.is_none_or(|from| event.occurred_at >= from)
            && self.to.is_none_or(|to| event.occurred_at < to)
    }

    /// Whether a payload may be one of the policy; cheaper than to read it.
    fn may_concern(&self, payload: &str) -> bool {
        self.policy.is_none_or(|policy| payload.contains(&policy.to_string()))
    }

    fn concerns(&self, decision: &AllocationEvent) -> bool {
        let Some(policy) = self.policy else { return true };
        match decision {
            AllocationEvent::PolicyEvaluated(evaluated) => evaluated.policy == policy,
            AllocationEvent::EvaluationFailed(failed) => failed.policy == policy,
            AllocationEvent::SettingsCommanded(told) => told.policy == policy || told.others.contains(&policy),
            _ => false,
        }
    }
}

/// How much of the machine a pass takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Shards that work side by side.
    pub workers: NonZeroUsize,
    /// Books that stay in memory, in all shards together: about 2 KiB each under one policy. A fleet with more resources
    /// reports in turn, and what its decisions refer to is read again.
    pub books_max: NonZeroUsize,
}

/// A pass over a log.
pub struct Pass {
    store: Arc<dyn EventStore>,
    wanted: Arc<Wanted>,
    /// What the names of wanted streams begin with.
    books: Option<String>,
    end: Position,
    set_aside: SetAside,
    shards: Vec<Shard>,
    next: Option<Vec<RecordedEvent>>,
    report: Report,
    spent: Spent,
}

impl Pass {
    /// Begins after a position, or goes on where a report ends. The log must be given as it is stored, with the events that
    /// were set aside. Events appended after `end` are ignored.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn begin(
        store: Arc<dyn EventStore>,
        wanted: Wanted,
        (so_far, end): (Report, Position),
        effort: Effort,
    ) -> Result<Self, ReplayError> {
        let set_aside = SetAside::of(&*store).await.map_err(|error| ReplayError::Store(so_far.through, error))?;
        let workers = effort.workers.get();
        let each = NonZeroUsize::new(effort.books_max.get().div_ceil(workers)).unwrap_or(effort.books_max);
        Ok(Self {
            store,
            books: wanted.resource.map(|resource| format!("allocation-{resource}-")),
            wanted: Arc::new(wanted),
            end,
            set_aside,
            shards: (0..workers).map(|_| Shard::new(each)).collect(),
            next: None,
            report: so_far,
            spent: Spent::default(),
        })
    }

    /// What was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What was found, at the end.
    pub fn into_report(self) -> Report {
        self.report
    }

    /// How long the parts of the work took.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Replays a page; returns whether there may be more. A pass interrupted between two pages resumes from its report.
    ///
    /// # Errors
    /// The log does not answer, or cannot be read.
    pub async fn step(&mut self) -> Result<bool, ReplayError> {
        let page = match self.next.take() {
            Some(page) => page,
            None => self.read(self.report.through).await?,
        };
        let Some(last) = page.last().map(|event| event.position) else { return Ok(false) };
        let count = page.len() as u64;
        let store = Arc::clone(&self.store);
        let (end, begun) = (self.end, Instant::now());
        let ahead = async move {
            let page = read(&*store, last, end).await;
            (page, begun.elapsed())
        };
        let (found, (next, reading)) = tokio::join!(self.work(page), ahead);
        self.spent.reading += reading;
        let found = found?;
        self.report.take(found);
        self.report.events += count;
        self.report.through = last;
        let next = next.map_err(|error| ReplayError::Store(last, error))?;
        let more = !next.is_empty();
        self.next = Some(next);
        Ok(more)
    }

    async fn read(&mut self, after: Position) -> Result<Vec<RecordedEvent>, ReplayError> {
        let begun = Instant::now();
        let page = read(&*self.store, after, self.end).await;
        self.spent.reading += begun.elapsed();
        page.map_err(|error| ReplayError::Store(after, error))
    }

    /// Gives each shard its part of a page.
    async fn work(&mut self, page: Vec<RecordedEvent>) -> Result<Found, ReplayError> {
        let at = self.report.through;
        let mut found = Found::default();
        let mut parts: Vec<Vec<RecordedEvent>> = self.shards.iter().map(|_| Vec::new()).collect();
        for event in page {
            if !self.wanted.takes(&event, self.books.as_deref()) {
                continue;
            }
            if self.set_aside.holds(event.position) {
                found.count(&event).set_aside += 1;
            } else {
                let part = part_of(&event.stream, parts.len());
                parts[part].push(event);
            }
        }
        let shards = std::mem::take(&mut self.shards);
        let tasks: Vec<_> = shards
            .into_iter()
            .zip(parts)
            .map(|(mut shard, events)| {
                let wanted = Arc::clone(&self.wanted);
                tokio::task::spawn_blocking(move || {
                    let taken = shard.take(events, &wanted);
                    (shard, taken)
                })
            })
            .collect();
        for task in tasks {
            let (mut shard, taken) = task.await.map_err(|error| ReplayError::Crashed(at, error))?;
            self.finish(&mut shard, taken, &mut found).await?;
            self.shards.push(shard);
        }
        Ok(found)
    }

    /// Reads the events that a shard's decisions wait for, and recomputes those decisions in log order.
    async fn finish(&mut self, shard: &mut Shard, taken: Taken, found: &mut Found) -> Result<(), ReplayError> {
        self.spent.add(taken.spent);
        found.merge(taken.found);
        let at = self.report.through;
        let mut known = self.look_up_all(&taken.waiting).await.map_err(|error| ReplayError::Store(at, error))?;
        for Waiting { event, reference } in taken.waiting {
            let (mut aside, mut next, mut seen) = (Resolver::default(), Some(reference), BTreeSet::new());
            while let Some(reference) = next.take() {
                let place = (event.stream.clone(), reference.refers_to);
                if !known.contains_key(&place) {
                    let there = look_up(Arc::clone(&self.store), place.clone()).await;
                    known.insert(place.clone(), there.map_err(|error| ReplayError::Store(at, error))?);
                }
                // What is not there, or does not hold what was looked for, is not looked for twice.
                match known.get(&place).and_then(Option::as_ref).filter(|_| seen.insert(reference.refers_to)) {
                    Some(earlier) => {
                        shard.learn(&mut aside, earlier);
                        next = retried(&mut aside, &event, found).err();
                    }
                    None => found.fails(DecodeError::new(&event, reference), &event),
                }
            }
        }
        Ok(())
    }

    /// The events that decisions wait for, each read once.
    async fn look_up_all(&mut self, waiting: &[Waiting]) -> Result<LookedUp, StoreError> {
        let begun = Instant::now();
        let places: BTreeSet<Place> =
            waiting.iter().map(|one| (one.event.stream.clone(), one.reference.refers_to)).collect();
        let store = Arc::clone(&self.store);
        let look = |place: Place| {
            let store = Arc::clone(&store);
            async move { look_up(store, place.clone()).await.map(|event| (place, event)) }
        };
        let reads: Vec<_> = places.into_iter().map(look).collect();
        let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(LOOK_UPS).collect().await;
        self.spent.reading += begun.elapsed();
        read.into_iter().collect()
    }
}

/// Where an event stands in its stream.
type Place = (StreamName, Version);

/// Events that were looked up, by their place.
type LookedUp = BTreeMap<Place, Option<RecordedEvent>>;

/// One event of a stream, if it is there.
async fn look_up(store: Arc<dyn EventStore>, (stream, version): Place) -> Result<Option<RecordedEvent>, StoreError> {
    let there = store.read_stream(&stream, version.saturating_sub(1), 1).await?;
    Ok(there.into_iter().next().filter(|event| event.version == version))
}

/// Events after a position and up to another.
async fn read(store: &dyn EventStore, after: Position, end: Position) -> Result<Vec<RecordedEvent>, StoreError> {
    if after >= end {
        return Ok(Vec::new());
    }
    let mut page = store.read_all(after, PAGE).await?;
    page.truncate(page.partition_point(|event| event.position <= end));
    Ok(page)
}

fn part_of(stream: &StreamName, parts: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    stream.as_str().hash(&mut hasher);
    usize::try_from(hasher.finish() % parts.max(1) as u64).unwrap_or_default()
}
