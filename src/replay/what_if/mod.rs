//! What if: recorded facts under other rules, as whole timelines.
//!
//! Facts (usage, limits, holds, states) are taken as they were recorded, at their instants; what policies decide of them is
//! decided again, on books of its own that go on from month to month. So a restriction that would not have been there is not
//! there afterwards either. Nothing is recorded and nobody is told. With the rules unchanged the timeline is the recorded one.

mod compare;
mod life;
mod scene;

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

pub use compare::{Allocation, Decided, Decision, Lived, Outcome, Sums, Verdict};

use self::life::{Found, Item, Life};
use self::scene::Stage;
use super::ReplayError;
use crate::commands::allocation::SiteRules;
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::Month;
use crate::domain::policy::PolicyTerms;
use crate::events::envelope::{DecodeError, Position, RecordedEvent};
use crate::registry::book_of;
use crate::store::{EventStore, StoreError};

/// Events read at a time.
const PAGE: usize = 8_000;

/// Events that the clocks of several servers may put behind the end of a span.
const AFTER: TimeDelta = TimeDelta::days(1);

/// Other rules than those in force.
pub type Rules = Arc<dyn Fn(&PolicyTerms) -> PolicyTerms + Send + Sync>;

/// What is to be lived again.
#[derive(Clone)]
pub struct Asked {
    /// Whose rules are others.
    pub policy: PolicyId,
    /// The rules; none: those in force.
    pub rules: Option<Rules>,
    /// From this instant on.
    pub from: DateTime<Utc>,
    /// Before this one.
    pub to: DateTime<Utc>,
    /// Only this allocation.
    pub resource: Option<ResourceId>,
    /// The site's settings: its time zone counts.
    pub site: SiteRules,
    /// Threads that decide.
    pub workers: NonZeroUsize,
    /// Decisions that differ, listed one by one.
    pub decisions_max: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// The log does not answer.
    #[error("the log cannot be read")]
    Store(#[from] StoreError),
    /// The log does not answer, or a thread broke off.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A fact cannot be read. What was set aside is passed over.
    #[error(transparent)]
    Unsound(#[from] Box<DecodeError>),
    /// There is no such policy before the end of the span.
    #[error("there was no policy {0} before the end of the span")]
    NoSuchPolicy(PolicyId),
    /// The other rules are none that a policy may have.
    #[error("under the other rules: {0}")]
    Rules(String),
    /// Whoever asked does not wait any more.
    #[error("it was told to stop before the end")]
    Stopped,
}

/// What came of it, with how long the work took.
#[derive(Debug, Clone)]
pub struct WhatIf {
    /// What each allocation went through, by name.
    pub allocations: Vec<Allocation>,
    /// Decisions that differ, in the order of the log.
    pub decisions: Vec<Decision>,
    /// Differing decisions that are not listed.
    pub unlisted: u64,
    /// All of it together.
    pub total: Sums,
    /// The log was read up to here.
    pub through: Position,
    /// Events read.
    pub events: u64,
    /// How long the log was read, while threads decided.
    pub reading: Duration,
}

struct Shard {
    asked: Arc<Asked>,
    lives: HashMap<ResourceId, Life>,
}

impl Shard {
    fn take(&mut self, items: Vec<Item>) -> Result<Found, Box<DecodeError>> {
        let mut found = Found::default();
        for item in items {
            self.lives.entry(item.resource).or_default().take(item, &self.asked, &mut found)?;
        }
        Ok(found)
    }
}

/// Lives a span again. `progress` hears how many events were read, and says whether to go on.
///
/// # Errors
/// The log cannot be read, a fact cannot, the rules are none, or `progress` said to stop.
pub async fn what_if(
    store: &Arc<dyn EventStore>,
    asked: Asked,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<WhatIf, WhatIfError> {
    let asked = Arc::new(asked);
    let head = store.head().await?;
    let mut run = Run {
        stage: Stage::new(&asked),
        shards: (0..asked.workers.get()).map(|_| Shard { asked: Arc::clone(&asked), lives: HashMap::new() }).collect(),
        begun: BTreeSet::new(),
        month: Month::of_instant(asked.from, asked.site.zone).starts_at(asked.site.zone),
        asked,
        found: Found::default(),
    };
    let (mut through, mut events, mut reading) = (Position::START, 0, Duration::ZERO);
    let begun = Instant::now();
    let mut page = super::read(&**store, through, head).await?;
    reading += begun.elapsed();
    while let Some(last) = page.last() {
        through = last.position;
        events += page.len() as u64;
        if page.first().is_some_and(|first| first.occurred_at >= run.asked.to + AFTER) {
            break;
        }
        let count = page.len() as u64;
        let parts = run.parts(store, page).await?;
        let ahead = async {
            let begun = Instant::now();
            (super::read(&**store, through, head).await, begun.elapsed())
        };
        let (worked, (next, took)) = tokio::join!(run.work(parts, through), ahead);
        worked?;
        reading += took;
        page = next?;
        if !progress(count) {
            return Err(WhatIfError::Stopped);
        }
    }
    run.finish(through, events, reading)
}

/// A run under way.
struct Run {
    asked: Arc<Asked>,
    stage: Stage,
    shards: Vec<Shard>,
    /// Allocations whose book of the span has begun.
    begun: BTreeSet<ResourceId>,
    /// The month begins in which the span does.
    month: DateTime<Utc>,
    found: Found,
}

impl Run {
    /// What of a page each thread gets.
    async fn parts(
        &mut self,
        store: &Arc<dyn EventStore>,
        page: Vec<RecordedEvent>,
    ) -> Result<Vec<Vec<Item>>, WhatIfError> {
        let mut parts: Vec<Vec<Item>> = self.shards.iter().map(|_| Vec::new()).collect();
        for event in page {
            self.stage.see(&event)?;
            let Some((resource, month)) = book_of(event.stream.as_str()) else { continue };
            let late = event.occurred_at < self.month || event.occurred_at >= self.asked.to;
            let other = self.asked.resource.is_some_and(|wanted| wanted != resource);
            if late || other || event.is_disposed() || !life::bears(&event.event_type) {
                continue;
            }
            let Some(scene) = self.stage.scene_of(resource)? else { continue };
            let part = &mut parts[part_of(resource, self.shards.len())];
            let begins = matches!(&*event.event_type, "books_opened.v1" | "resource_registered.v1");
            if self.begun.insert(resource) && !begins {
                let mut after = 0;
                while after + 1 < event.version {
                    let some = usize::try_from(event.version - 1 - after).unwrap_or(PAGE).min(PAGE);
                    let earlier = store.read_stream(&event.stream, after, some).await?;
                    let Some(last) = earlier.last() else { break };
                    after = last.version;
                    let item = |event| Item { event, resource, month, scene: Arc::clone(&scene), decides: false };
                    let bearing = earlier.into_iter().filter(|event| life::bears(&event.event_type));
                    part.extend(bearing.map(item));
                }
            }
            let decides = event.occurred_at >= self.asked.from;
            part.push(Item { event, resource, month, scene, decides });
        }
        Ok(parts)
    }

    async fn work(&mut self, parts: Vec<Vec<Item>>, at: Position) -> Result<(), WhatIfError> {
        let shards = std::mem::take(&mut self.shards);
        let tasks: Vec<_> = shards
            .into_iter()
            .zip(parts)
            .map(|(mut shard, items)| {
                tokio::task::spawn_blocking(move || {
                    let found = shard.take(items);
                    (shard, found)
                })
            })
            .collect();
        for task in tasks {
            let (shard, found) = task.await.map_err(|error| ReplayError::Crashed(at, error))?;
            self.found.merge(found?, self.asked.decisions_max);
            self.shards.push(shard);
        }
        Ok(())
    }

    fn finish(mut self, through: Position, events: u64, reading: Duration) -> Result<WhatIf, WhatIfError> {
        if !self.stage.knew_the_policy() {
            return Err(WhatIfError::NoSuchPolicy(self.asked.policy));
        }
        let mut allocations = Vec::new();
        for shard in &mut self.shards {
            for (resource, life) in std::mem::take(&mut shard.lives) {
                let mut found = Found::default();
                let lived = life.finish(resource, &self.asked, &mut found);
                self.found.merge(found, self.asked.decisions_max);
                allocations.extend(lived);
            }
        }
        allocations.sort_by(|one, other| one.name.cmp(&other.name).then(one.resource.cmp(&other.resource)));
        let mut total = Sums::default();
        for one in &allocations {
            total.add(one);
        }
        self.found.decisions.sort_by_key(|decision| decision.position);
        let Found { decisions, unlisted } = self.found;
        Ok(WhatIf { allocations, decisions, unlisted, total, through, events, reading })
    }
}

fn part_of(resource: ResourceId, parts: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    resource.hash(&mut hasher);
    usize::try_from(hasher.finish() % parts.max(1) as u64).unwrap_or_default()
}
