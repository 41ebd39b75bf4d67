//! The life of a message to the site agent: what led to it, that it was handed over, and what came of it, read from the books
//! of its resource. The cost is that of the resource's own history since the month in which the message was decided.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::sentences::sentence;
use super::timeline::{PAGE, held};
use crate::commands::allocation::stream_of;
use crate::domain::ids::{DispatchId, ResourceId};
use crate::domain::period::Month;
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::{Actor, DecodeError, Position, RecordedEvent};
use crate::store::{EventStore, StoreError};

/// Books that an answer may come in after the one in which the message was decided.
const BOOKS_AFTER: usize = 3;

/// Steps of a life at most: a message that nobody answers is sent again a bounded number of times, and somebody may ask more.
const STEPS_MAX: usize = 100;

/// A step of the life of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the event stands in the log.
    pub position: Position,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Its type, without the version.
    pub kind: String,
    /// It in one sentence.
    pub sentence: String,
    /// Who caused it.
    pub actor: Actor,
    /// Why, in the words of whoever caused it.
    pub reason: Option<String>,
}

/// Which life is asked for.
#[derive(Debug, Clone, Copy)]
pub struct LifeQuery {
    /// The message.
    pub dispatch: DispatchId,
    /// Its resource.
    pub resource: ResourceId,
    /// The month in which it was decided.
    pub decided_in: Month,
    /// The newest book of the resource.
    pub newest_book: Month,
    /// As the people of the resource see it: that an operator holds it, and why only where that is public.
    pub outside: bool,
}

/// The life of a message, from what led to it on; empty where the log no longer says.
///
/// # Errors
/// The log cannot be read.
pub async fn life(store: &dyn EventStore, query: &LifeQuery) -> Result<Vec<Step>, StoreError> {
    let mut life = Life::of(query);
    let books = std::iter::successors(Some(query.decided_in), |month| Some(month.next()));
    for month in books.take(1 + BOOKS_AFTER).take_while(|month| *month <= query.newest_book) {
        let (stream, mut after) = (stream_of(query.resource, month), 0);
        loop {
            let _room = store.room().await;
            let page = store.read_stream(&stream, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.version;
            for recorded in &page {
                life.take(store, recorded);
            }
        }
    }
    Ok(life.steps)
}

/// An event that the message may come of, until it comes.
struct Before {
    cause: Option<Uuid>,
    step: Step,
}

struct Life {
    dispatch: DispatchId,
    outside: bool,
    before: BTreeMap<Uuid, Before>,
    /// Events of which what comes later is part of the life.
    of: BTreeSet<Uuid>,
    steps: Vec<Step>,
}

impl Life {
    fn of(query: &LifeQuery) -> Self {
        Self {
            dispatch: query.dispatch,
            outside: query.outside,
            before: BTreeMap::new(),
            of: BTreeSet::new(),
            steps: Vec::new(),
        }
    }

    fn take(&mut self, store: &dyn EventStore, recorded: &RecordedEvent) {
        let event = match AllocationEvent::decode(&recorded.event_type, &recorded.payload) {
            Some(Ok(event)) => event,
            Some(Err(problem)) => return store.note(&DecodeError::new(recorded, problem)),
            None => return,
        };
        let id = recorded.event_id;
        if let AllocationEvent::SettingsCommanded(told) = &event
            && told.dispatch == self.dispatch
        {
            self.begins(recorded, id);
            self.push(step(recorded, event, self.outside));
        } else if self.of.is_empty() {
            let cause = recorded.metadata.causation_id;
            if cause.is_none() {
                // What comes of nothing begins a new chain: what stood before it in the book cannot lead further.
                self.before.retain(|_, known| known.step.at == recorded.occurred_at);
            }
            self.before.insert(id, Before { cause, step: step(recorded, event, self.outside) });
        } else if self.belongs(recorded, &event) {
            self.of.insert(id);
            self.push(step(recorded, event, self.outside));
        }
    }

    /// Goes back from the message to what led to it.
    fn begins(&mut self, recorded: &RecordedEvent, id: Uuid) {
        let mut cause = recorded.metadata.causation_id;
        let mut led = Vec::new();
        while let Some(known) = cause.and_then(|cause| self.before.remove(&cause).map(|known| (cause, known))) {
            if known.1.step.kind == "restriction_changed" {
                self.of.insert(known.0);
            }
            cause = known.1.cause;
            led.push(known.1.step);
        }
        self.before.clear();
        self.of.insert(id);
        self.steps.extend(led.into_iter().rev());
    }

    fn belongs(&self, recorded: &RecordedEvent, event: &AllocationEvent) -> bool {
        let named = match event {
            AllocationEvent::CommandResultReported(result) => Some(result.dispatch),
            AllocationEvent::StompMessageSent(sent) => sent.dispatch,
            AllocationEvent::StompMessageFailed(failed) => Some(failed.dispatch),
            AllocationEvent::DispatchUnanswered(unanswered) => Some(unanswered.dispatch),
            AllocationEvent::DispatchResendRequested(asked) => Some(asked.dispatch),
            AllocationEvent::SettingsCommanded(other) => Some(other.dispatch),
            _ => None,
        };
        match named {
            Some(dispatch) => dispatch == self.dispatch,
            None => recorded.metadata.causation_id.is_some_and(|cause| self.of.contains(&cause)),
        }
    }

    fn push(&mut self, step: Step) {
        if self.steps.len() < STEPS_MAX {
            self.steps.push(step);
        }
    }
}

fn step(recorded: &RecordedEvent, event: AllocationEvent, outside: bool) -> Step {
    let bare = recorded.event_type.rsplit_once('.').map_or(&*recorded.event_type, |(bare, _)| bare).to_owned();
    let hidden = match &event {
        AllocationEvent::HoldPlaced(hold) if outside && !hold.public => Some(held(hold, false).0),
        AllocationEvent::HoldReleased(_) if outside => Some("a manual hold ended".to_owned()),
        _ => None,
    };
    // Whatever follows from a hold is recorded with its reason, so those outside are told no reasons of operators at all.
    let reason = recorded.metadata.reason.as_deref().filter(|_| !outside).map(str::to_owned);
    Step {
        position: recorded.position,
        at: recorded.occurred_at,
        kind: bare,
        sentence: hidden.unwrap_or_else(|| sentence(&Event::Allocation(event))),
        actor: recorded.metadata.actor,
        reason,
    }
}
