//! Episodes: what happened of one cause, newest first. Those in which nothing changed are told apart, so that they can be
//! folded.
//!
//! An episode is what of one chain stands in the part of the log that was read: the answer of an agent that comes days later
//! is an episode of its own, and the chain binds both.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::sentences::sentence;
use crate::domain::evaluate::Flags;
use crate::domain::ids::ResourceId;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated};
use crate::events::envelope::{ActorKind, Position, RecordedEvent};
use crate::events::registry::RegistryEvent;
use crate::events::site::SiteEvent;
use crate::registry::book_of;

/// What an episode, or an event, is about. The order is that of what matters more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// Usage was reported, and nothing changed.
    Usage,
    /// Something was evaluated, and nothing changed.
    Evaluated,
    /// The service keeps its books and its log.
    Upkeep,
    /// A message went to an agent, or to people.
    Sent,
    /// The agent says that it did what it was told.
    Confirmed,
    /// An agent came, or was started again.
    Agent,
    /// An object of the registry.
    Registry,
    /// Somebody is to be told again.
    Resent,
    /// A setting.
    Setting,
    /// Usage was corrected.
    Corrected,
    /// A resource was registered, renamed, or has another state.
    Resource,
    /// A policy was made, changed or deleted.
    Policy,
    /// People were told that a percentage was reached.
    Warned,
    /// Limits changed.
    Limits,
    /// A restriction was lifted.
    Restored,
    /// An operator placed a hold, or one ended.
    Hold,
    /// Nobody answered.
    NoAnswer,
    /// Something could not be done: an evaluation, a command, a notice.
    Failed,
    /// It was slowed down.
    SlowedDown,
    /// It was paused.
    Paused,
}

impl About {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Evaluated => "evaluated",
            Self::Upkeep => "upkeep",
            Self::Sent => "sent",
            Self::Confirmed => "confirmed",
            Self::Agent => "agent",
            Self::Registry => "registry",
            Self::Resent => "resent",
            Self::Setting => "setting",
            Self::Corrected => "corrected",
            Self::Resource => "resource",
            Self::Policy => "policy",
            Self::Warned => "warned",
            Self::Limits => "limits",
            Self::Restored => "restored",
            Self::Hold => "hold",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::SlowedDown => "slowed_down",
            Self::Paused => "paused",
        }
    }

    /// Nothing changed for anybody.
    pub fn is_quiet(self) -> bool {
        self <= Self::Upkeep
    }

    /// What an event is about.
    fn of(event: &Event) -> Self {
        match event {
            Event::Allocation(event) => of_allocation(event),
            Event::Agent(_) => Self::Agent,
            Event::Site(SiteEvent::SettingChanged(_) | SiteEvent::EventSetAside(_)) => Self::Setting,
            Event::Site(_) => Self::Upkeep,
            Event::Registry(
                RegistryEvent::PolicyCreated(_) | RegistryEvent::PolicyChanged(_) | RegistryEvent::PolicyDeleted(_),
            ) => Self::Policy,
            Event::Registry(_) => Self::Registry,
        }
    }
}

fn of_allocation(event: &AllocationEvent) -> About {
    match event {
        AllocationEvent::UsageReported(reported) if reported.restated => About::Corrected,
        AllocationEvent::UsageReported(_) | AllocationEvent::UserUsageReported(_) => About::Usage,
        AllocationEvent::LateUsageReported(_) | AllocationEvent::MissingUsageFilled(_) => About::Corrected,
        AllocationEvent::PolicyEvaluated(evaluated) if !evaluated.outcome.notified.is_empty() => About::Warned,
        AllocationEvent::PolicyEvaluated(_) => About::Evaluated,
        AllocationEvent::RestrictionChanged(changed) => restriction(changed.from, changed.to),
        AllocationEvent::EvaluationFailed(_)
        | AllocationEvent::StompMessageFailed(_)
        | AllocationEvent::NoticeFailed(_) => About::Failed,
        AllocationEvent::CommandResultReported(result) if !result.report.success => About::Failed,
        AllocationEvent::CommandResultReported(_) => About::Confirmed,
        AllocationEvent::QosConfirmed(confirmed) if confirmed.agrees() => About::Confirmed,
        AllocationEvent::DispatchUnanswered(_) => About::NoAnswer,
        AllocationEvent::HoldPlaced(_) | AllocationEvent::HoldReleased(_) => About::Hold,
        AllocationEvent::LimitsChanged(_) => About::Limits,
        AllocationEvent::SettingsCommanded(_)
        | AllocationEvent::StompMessageSent(_)
        | AllocationEvent::NoticeSent(_) => About::Sent,
        AllocationEvent::DispatchResendRequested(_)
        | AllocationEvent::RestrictionResendRequested(_)
        | AllocationEvent::NoticeResent(_) => About::Resent,
        AllocationEvent::BooksOpened(_)
        | AllocationEvent::BooksClosed(_)
        | AllocationEvent::LimitsEchoed(_)
        | AllocationEvent::ResourceSynced(_) => About::Upkeep,
        AllocationEvent::QosConfirmed(_)
        | AllocationEvent::CommandResultUnmatched(_)
        | AllocationEvent::ResourceRegistered(_)
        | AllocationEvent::ResourceDetailsChanged(_)
        | AllocationEvent::ResourceStateChanged(_)
        | AllocationEvent::PolicyWithdrawn(_)
        | AllocationEvent::AccountFreed(_) => About::Resource,
    }
}

fn restriction(from: Flags, to: Flags) -> About {
    match (from, to) {
        (from, to) if to.paused && !from.paused => About::Paused,
        (from, to) if to.downscaled && (!from.downscaled || from.paused) => About::SlowedDown,
        _ => About::Restored,
    }
}

/// What happened of one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// Binds the chain.
    pub correlation: Uuid,
    /// Its first event.
    pub first: Position,
    /// Its last event.
    pub last: Position,
    /// The event that says most of it, and what it says.
    pub head: (Position, String),
    /// What it is about.
    pub about: About,
    /// When its first event happened.
    pub at: DateTime<Utc>,
    /// When its last event happened.
    pub until: DateTime<Utc>,
    /// How many events.
    pub events: u64,
    /// How many chains, of those that are folded into it.
    pub chains: u64,
    /// How many reports of usage among its events.
    pub reports: u64,
    /// Of which resources.
    pub resources: BTreeSet<ResourceId>,
    /// The resource that the event is about that says most.
    pub resource: Option<ResourceId>,
    /// In which role somebody caused its first event.
    pub actor: ActorKind,
    /// Why, in the words of whoever caused it.
    pub reason: Option<String>,
}

impl Episode {
    fn of(recorded: &RecordedEvent) -> Self {
        let (about, says) = told(recorded);
        let resource = book_of(recorded.stream.as_str()).map(|(resource, _)| resource);
        Self {
            correlation: recorded.metadata.correlation_id,
            first: recorded.position,
            last: recorded.position,
            head: (recorded.position, says),
            about,
            at: recorded.occurred_at,
            until: recorded.occurred_at,
            events: 1,
            chains: 1,
            reports: u64::from(&*recorded.event_type == "usage_reported.v1"),
            resources: resource.into_iter().collect(),
            resource,
            actor: recorded.metadata.actor.kind,
            reason: recorded.metadata.reason.as_deref().map(str::to_owned),
        }
    }

    /// Takes what happened before it, of the same cause.
    fn precede(&mut self, recorded: &RecordedEvent) {
        let earlier = Self::of(recorded);
        // Of a restriction the evaluation says why, with its numbers.
        let explains = self.about >= About::SlowedDown && self.resource == earlier.resource;
        if explains && let Some(why) = explanation(recorded) {
            self.head.1 = why;
        }
        if earlier.about > self.about {
            (self.about, self.head, self.resource) = (earlier.about, earlier.head, earlier.resource);
        }
        (self.first, self.at, self.actor) = (earlier.first, earlier.at, earlier.actor);
        self.reason = earlier.reason.or(self.reason.take());
        self.events += 1;
        self.reports += earlier.reports;
        self.resources.extend(earlier.resources);
    }

    /// Whether an earlier one can be folded into it: nothing changed in either, on the same day.
    fn folds(&self, earlier: &Self) -> bool {
        self.about.is_quiet()
            && self.about == earlier.about
            && (self.reports > 0) == (earlier.reports > 0)
            && self.at.date_naive() == earlier.at.date_naive()
    }

    fn fold(&mut self, earlier: Self) {
        (self.first, self.at, self.actor) = (earlier.first, earlier.at, earlier.actor);
        self.events += earlier.events;
        self.chains += earlier.chains;
        self.reports += earlier.reports;
        self.resources.extend(earlier.resources);
        self.reason = None;
    }
}

/// What a recorded event is about, and what it says; one that cannot be read says nothing.
fn told(recorded: &RecordedEvent) -> (About, String) {
    Event::decode(recorded).map_or((About::Upkeep, String::new()), |event| (About::of(&event), sentence(&event)))
}

fn explanation(recorded: &RecordedEvent) -> Option<String> {
    match AllocationEvent::decode(&recorded.event_type, &recorded.payload)?.ok()? {
        AllocationEvent::PolicyEvaluated(evaluated) if changes(&evaluated) => Some(evaluated.outcome.explanation),
        _ => None,
    }
}

fn changes(evaluated: &PolicyEvaluated) -> bool {
    evaluated.before != evaluated.after
}

/// Episodes as they are found, from the newest event back.
#[derive(Debug, Default)]
pub struct Episodes {
    found: Vec<Episode>,
    of: HashMap<Uuid, usize>,
    /// Rows that they come to, folded, as far as can be said before the last of them is known.
    apart: usize,
}

impl Episodes {
    /// Takes the next event, an earlier one than all before.
    pub fn take(&mut self, recorded: &RecordedEvent) {
        let correlation = recorded.metadata.correlation_id;
        if let Some(at) = self.of.get(&correlation) {
            self.found[*at].precede(recorded);
        } else {
            let episode = Episode::of(recorded);
            let folds = self.found.last().is_some_and(|newer| newer.about.is_quiet() && episode.about.is_quiet());
            let same_day = |newer: &Episode| newer.at.date_naive() == episode.at.date_naive();
            self.apart += usize::from(!folds || !self.found.last().is_some_and(same_day));
            self.of.insert(correlation, self.found.len());
            self.found.push(episode);
        }
    }

    /// Whether an event goes on with an episode that has begun.
    pub fn knows(&self, recorded: &RecordedEvent) -> bool {
        self.of.contains_key(&recorded.metadata.correlation_id)
    }

    /// About how many rows they come to.
    pub fn rows(&self, folded: bool) -> usize {
        if folded { self.apart } else { self.found.len() }
    }

    /// The episodes, newest first.
    pub fn finish(self, folded: bool) -> Vec<Episode> {
        let mut found = self.found;
        found.sort_by_key(|episode| std::cmp::Reverse(episode.first));
        if !folded {
            return found;
        }
        let mut rows: Vec<Episode> = Vec::with_capacity(found.len());
        for episode in found {
            match rows.last_mut() {
                Some(newer) if newer.folds(&episode) => newer.fold(episode),
                _ => rows.push(episode),
            }
        }
        rows
    }
}
