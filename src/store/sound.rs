//! The soundness of a log: every event is readable and matches its commitment, and none is missing.
//!
//! A check reports each defect, event by event, and continues to the end: one damaged event must not hide another.

use std::collections::HashMap;

use rand::RngExt;

use super::{EventStore, Numbers, StoreError};
use crate::events::Event;
use crate::events::envelope::{DecodeError, Position, RecordedEvent, StreamName, Version};
use crate::events::site::{EventSetAside, QUARANTINE_STREAM, SiteEvent};

/// Events read at a time.
const PAGE: usize = 1_000;

/// Events of a run when a log is looked at in samples.
const RUN: u64 = 100;

/// Events that cannot be read, one after the other, after which the end of the run is looked for.
const FAILURES_MAX: u64 = 20;

/// What is named one by one at most; the rest is counted.
const NAMED_MAX: usize = 100;

/// What was found in a log, or in a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Events that were read.
    pub events: u64,
    /// Those that cannot be relied on and were not set aside, the first hundred.
    pub unsound: Vec<DecodeError>,
    /// How many of them there are.
    pub unsound_count: u64,
    /// Those that were set aside.
    pub set_aside: u64,
    /// Positions at which no event stands, though there are later ones: from, to.
    pub missing: Vec<(u64, u64)>,
    /// Positions of which nothing at all can be read, a lost segment for instance: not even whose events they are.
    pub lost: Vec<Lost>,
}

/// A run of positions of which nothing can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// Why.
    pub problem: String,
}

impl Findings {
    /// Nothing is wrong, or not any more.
    pub fn is_sound(&self) -> bool {
        self.unsound_count == 0 && self.missing.is_empty() && self.lost.is_empty()
    }

    /// What is wrong, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut said: Vec<String> = self.unsound.iter().map(ToString::to_string).collect();
        if let Some(more) = self.unsound_count.checked_sub(self.unsound.len() as u64).filter(|more| *more > 0) {
            said.push(format!("{more} further events cannot be relied on"));
        }
        said.extend(self.missing.iter().map(|(from, to)| {
            if from == to {
                format!("no event stands at position {from}")
            } else {
                format!("no events stand at positions {from} to {to}")
            }
        }));
        said.extend(self.lost.iter().map(|lost| {
            let Lost { from, to, problem } = lost;
            if from == to {
                format!("the event at position {from} cannot be read: {problem}")
            } else {
                format!("the events at positions {from} to {to} cannot be read: {problem}")
            }
        }));
        said
    }

    /// Takes positions into account of which nothing can be read. Neighbours that fail alike are one finding.
    fn lose(&mut self, from: u64, to: u64, problem: &str) {
        if let Some(last) = self.lost.last_mut().filter(|last| last.to + 1 == from && last.problem == problem) {
            last.to = to;
        } else {
            self.lost.push(Lost { from, to, problem: problem.to_owned() });
        }
    }

    /// Adds what was found in another part of the log.
    fn add(&mut self, part: Self) {
        self.events += part.events;
        self.set_aside += part.set_aside;
        self.missing.extend(part.missing.into_iter().filter(|one| !self.missing.contains(one)).collect::<Vec<_>>());
        self.lost.extend(part.lost.into_iter().filter(|one| !self.lost.contains(one)).collect::<Vec<_>>());
        let new: Vec<_> = part.unsound.into_iter().filter(|one| !self.unsound.contains(one)).collect();
        for one in new {
            self.blame(one);
        }
    }

    /// Takes an event into account.
    pub fn see(&mut self, event: &RecordedEvent, set_aside: &SetAside) {
        self.events += 1;
        let Err(problem) = judge(event) else { return };
        if set_aside.is_set_aside(event) {
            self.set_aside += 1;
        } else {
            self.blame(problem);
        }
    }

    fn blame(&mut self, problem: DecodeError) {
        self.unsound_count += 1;
        if self.unsound.len() < NAMED_MAX {
            self.unsound.push(problem);
        }
    }
}

/// What is wrong with an event, if anything.
pub fn judge(event: &RecordedEvent) -> Result<(), DecodeError> {
    if event.is_disposed() {
        return Ok(());
    }
    Event::decode(event)?;
    if event.commitment_holds() {
        return Ok(());
    }
    Err(DecodeError::new(
        event,
        "its payload is not the one that was committed to: it was changed after it was recorded",
    ))
}

/// The events that were set aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetAside {
    by_position: HashMap<Position, (StreamName, Version)>,
    by_place: HashMap<StreamName, Vec<Version>>,
}

impl SetAside {
    /// Takes an event of the stream `quarantine` into account, and ignores others.
    pub fn take(&mut self, event: &RecordedEvent) {
        let Some(Ok(SiteEvent::EventSetAside(EventSetAside { position, stream, version, .. }))) =
            SiteEvent::decode(&event.event_type, &event.payload)
        else {
            return;
        };
        if self.by_position.insert(position, (stream.clone(), version)).is_none() {
            self.by_place.entry(stream).or_default().push(version);
        }
    }

    /// All of a log.
    pub async fn of(store: &dyn EventStore) -> Result<Self, StoreError> {
        let (mut known, mut after) = (Self::default(), 0);
        loop {
            let page = store.read_stream(&quarantine_stream(), after, PAGE).await?;
            for event in &page {
                known.take(event);
            }
            match page.last() {
                Some(last) => after = last.version,
                None => return Ok(known),
            }
        }
    }

    /// None was.
    pub fn is_empty(&self) -> bool {
        self.by_position.is_empty()
    }

    /// How many were.
    pub fn len(&self) -> usize {
        self.by_position.len()
    }

    /// Whether this event was. It is known by its place in its stream, which is the same in a copy of the log.
    pub fn is_set_aside(&self, event: &RecordedEvent) -> bool {
        self.holds_in(&event.stream, event.version)
    }

    /// Whether the event at this position was; for one that cannot even be fetched.
    pub fn holds(&self, position: Position) -> bool {
        self.by_position.contains_key(&position)
    }

    /// Whether this event of a stream was.
    pub fn holds_in(&self, stream: &StreamName, version: Version) -> bool {
        self.by_place.get(stream).is_some_and(|versions| versions.contains(&version))
    }
}

/// The stream of events that were set aside.
///
/// # Panics
/// Never: the name is a word.
pub fn quarantine_stream() -> StreamName {
    StreamName::new(QUARANTINE_STREAM).expect("a word is a stream name")
}

/// Reads a log from one position up to another and says what is wrong with it. A page that the store cannot read is read event
/// by event, so that the one that stops it is named.
///
/// # Errors
/// The store does not answer.
pub async fn examine(
    store: &dyn EventStore,
    after: Position,
    to: Position,
    mut progress: impl FnMut(u64),
) -> Result<Findings, StoreError> {
    let set_aside = SetAside::of(store).await?;
    let mut found = Findings::default();
    let numbers = store.numbers();
    let mut at = after;
    while at < to {
        match store.read_all(at, PAGE).await {
            Ok(page) => {
                let Some(last) = page.last().map(|last| last.position) else { break };
                for event in page.iter().filter(|event| event.position <= to) {
                    found.missing.extend(numbers.and_then(|numbers| hole(numbers, at, event.position)));
                    at = event.position;
                    found.see(event, &set_aside);
                }
                at = last;
                progress(page.len() as u64);
            }
            Err(error) => match numbers.filter(|_| !super::is_outage(&error)) {
                Some(numbers) => at = one_by_one((store, numbers), (at, to), &error, &set_aside, &mut found).await?,
                None => return Err(error),
            },
        }
    }
    Ok(found)
}

/// The numbers at which no event stands between two that follow each other, if there are any.
fn hole(numbers: Numbers, before: Position, next: Position) -> Option<(u64, u64)> {
    let (first, last) = (numbers.of(before) + 1, numbers.of(next).saturating_sub(1));
    (first <= last).then_some((first, last))
}

/// The same for a page that could not be read; says up to where.
async fn one_by_one(
    (store, numbers): (&dyn EventStore, Numbers),
    (after, to): (Position, Position),
    error: &StoreError,
    set_aside: &SetAside,
    found: &mut Findings,
) -> Result<Position, StoreError> {
    let end = numbers.of(to).min(numbers.of(after) + PAGE as u64);
    let before = found.lost.clone();
    let (mut number, mut failures) = (numbers.of(after), 0);
    while number < end {
        number += 1;
        let position = numbers.at(number);
        failures += 1;
        match store.event_at(position).await {
            Ok(Some(event)) => {
                failures = 0;
                found.see(&event, set_aside);
            }
            Ok(None) => found.missing.push((number, number)),
            Err(error) if super::is_outage(&error) => return Err(error),
            Err(_) if set_aside.holds(position) => found.set_aside += 1,
            Err(error) => {
                let problem = crate::events::envelope::chain(&error);
                // Each event of a lost segment costs an attempt to open it: what is lost together is looked for together.
                let last =
                    if failures < FAILURES_MAX { number } else { last_lost((store, numbers), number, end).await? };
                found.lose(number, last, &problem);
                number = last;
            }
        }
    }
    // A page that fails although its events can be read one by one would be read forever.
    if found.lost == before { Err(error.clone()) } else { Ok(numbers.at(end)) }
}

/// The last position of a run of which nothing can be read, from one that cannot up to `end`. A row that was left in the
/// middle of a lost segment is counted as lost with it.
async fn last_lost((store, numbers): (&dyn EventStore, Numbers), from: u64, end: u64) -> Result<u64, StoreError> {
    let (mut lost, mut readable) = (from, end + 1);
    while lost + 1 < readable {
        let middle = if readable > end { end } else { lost + (readable - lost) / 2 };
        match store.event_at(numbers.at(middle)).await {
            Ok(_) => readable = middle,
            Err(error) if super::is_outage(&error) => return Err(error),
            Err(_) => lost = middle,
        }
    }
    Ok(lost)
}

/// Looks at the newest events, and at runs of the others that chance chooses where the log counts: the whole of a small log.
///
/// # Errors
/// The store does not answer.
pub async fn sample(store: &dyn EventStore, newest: u64, runs: u64) -> Result<Findings, StoreError> {
    let head = store.head().await?;
    let Some(numbers) = store.numbers() else {
        return examine(store, store.place_back(newest).await?, head, |_| ()).await;
    };
    let number = numbers.of(head);
    if number <= newest + runs * RUN {
        return examine(store, Position::START, head, |_| ()).await;
    }
    let mut found = examine(store, numbers.at(number - newest), head, |_| ()).await?;
    for _ in 0..runs {
        let from = rand::rng().random_range(0..number - newest - RUN);
        let part = examine(store, numbers.at(from), numbers.at(from + RUN), |_| ()).await?;
        found.add(part);
    }
    Ok(found)
}
