//! One allocation, lived again: facts go into a book of its own as they were recorded, and what one command recorded together
//! is decided again together.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Asked;
use super::compare::{Allocation, Decided, Decision, Lived, Outcome};
use super::scene::Scene;
use crate::clock::IdSource;
use crate::commands::allocation::{Book, DecideContext, decide_policies};
use crate::domain::evaluate::{Flags, Trigger};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::Month;
use crate::events::allocation::{AllocationEvent, BooksOpened, PolicyEvaluated, RestrictionChanged, WithdrawReason};
use crate::events::envelope::{Cause, DecodeError, Position, RecordedEvent};

/// What is not recorded comes of nothing.
const NOBODY: Cause = Cause { event: None, correlation: uuid::Uuid::nil() };

/// Whether an event is a fact that decisions rest on, or a decision.
pub(super) fn bears(event_type: &str) -> bool {
    matches!(
        event_type,
        "books_opened.v1"
            | "resource_registered.v1"
            | "limits_changed.v1"
            | "resource_details_changed.v1"
            | "resource_state_changed.v1"
            | "usage_reported.v1"
            | "missing_usage_filled.v1"
            | "hold_placed.v1"
            | "hold_released.v1"
            | "policy_evaluated.v1"
            | "evaluation_failed.v1"
            | "policy_withdrawn.v1"
            | "restriction_changed.v1"
    )
}

/// An event of an allocation, with what a decision at its place can look at.
pub(super) struct Item {
    pub(super) event: RecordedEvent,
    pub(super) resource: ResourceId,
    pub(super) month: Month,
    pub(super) scene: Arc<Scene>,
    /// It is of the span; before it, what was decided is taken as it was.
    pub(super) decides: bool,
}

/// Decisions that differ.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) decisions: Vec<Decision>,
    pub(super) unlisted: u64,
}

impl Found {
    fn add(&mut self, decision: Decision, most: usize) {
        if self.decisions.len() < most {
            self.decisions.push(decision);
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn merge(&mut self, other: Self, most: usize) {
        self.unlisted += other.unlisted;
        other.decisions.into_iter().for_each(|decision| self.add(decision, most));
    }
}

/// What one command recorded, as far as it was read.
struct Group {
    at: DateTime<Utc>,
    position: Position,
    scene: Arc<Scene>,
    phase: u8,
    /// Something happened after which policies look at the allocation.
    follows: bool,
    facts: bool,
    trigger: Trigger,
    evaluated: Vec<(Position, Box<PolicyEvaluated>)>,
    failed: Vec<PolicyId>,
    withdrawn: Vec<(PolicyId, WithdrawReason)>,
    restricted: Option<RestrictionChanged>,
}

/// An allocation.
#[derive(Default)]
pub(super) struct Life {
    book: Option<Book>,
    group: Option<Group>,
    /// As it was recorded, and under the rules that count.
    lived: [Lived; 2],
    begun: bool,
    concerned: bool,
    decisions: u64,
    differing: u64,
    in_words: u64,
    first: Option<Decision>,
}

/// Where an event stands among those of one command: facts, evaluations, withdrawals, restrictions.
fn phase(event: &AllocationEvent) -> u8 {
    match event {
        AllocationEvent::PolicyEvaluated(_) | AllocationEvent::EvaluationFailed(_) => 1,
        AllocationEvent::PolicyWithdrawn(_) => 2,
        AllocationEvent::RestrictionChanged(_) => 3,
        _ => 0,
    }
}

/// Why policies look at an allocation after a fact, where no decision was recorded that says so.
fn trigger(fact: &AllocationEvent) -> Trigger {
    match fact {
        AllocationEvent::UsageReported(_) => Trigger::UsageReported,
        AllocationEvent::MissingUsageFilled(_) => Trigger::MissingUsage,
        AllocationEvent::LimitsChanged(_) => Trigger::LimitsChanged,
        AllocationEvent::HoldPlaced(_) | AllocationEvent::HoldReleased(_) => Trigger::HoldChanged,
        _ => Trigger::ResourceChanged,
    }
}

impl Life {
    pub(super) fn take(&mut self, item: Item, asked: &Asked, found: &mut Found) -> Result<(), Box<DecodeError>> {
        let Item { event: recorded, resource, month, scene, decides } = item;
        let event = match AllocationEvent::decode(&recorded.event_type, &recorded.payload) {
            Some(Ok(event)) => event,
            Some(Err(problem)) => return Err(Box::new(DecodeError::new(&recorded, problem))),
            None => return Ok(()),
        };
        if !decides {
            self.evolve(month, &recorded, &event)?;
            return Ok(());
        }
        self.begin(asked);
        if self.is_next(&recorded, &event) {
            self.close(resource, asked, found);
        }
        let before = self.book.as_ref().map(|book| (book.facts.state, book.facts.account().to_owned()));
        let fact = phase(&event) == 0;
        if fact {
            self.evolve(month, &recorded, &event)?;
            self.begin(asked);
        }
        let follows = fact && self.follows(&event, before.as_ref().map(|(state, account)| (*state, account.as_str())));
        self.join(&recorded, event, scene, follows);
        Ok(())
    }

    /// Adds an event to the book as it was recorded; a book that begins goes on from the one before it.
    fn evolve(
        &mut self,
        month: Month,
        recorded: &RecordedEvent,
        event: &AllocationEvent,
    ) -> Result<(), Box<DecodeError>> {
        let unsound = |problem| Box::new(DecodeError::new(recorded, problem));
        match (event, self.book.as_mut()) {
            (AllocationEvent::BooksOpened(opened), Some(book)) => {
                let opened = BooksOpened { previous: opened.previous, carried: book.carried() };
                let next = AllocationEvent::BooksOpened(Box::new(opened));
                self.book = Some(Book::begin(month, &next).map_err(|error| unsound(error.problem))?);
            }
            (AllocationEvent::BooksOpened(_) | AllocationEvent::ResourceRegistered(_), None) => {
                self.book = Some(Book::begin(month, event).map_err(|error| unsound(error.problem))?);
            }
            (_, Some(book)) => book.evolve(recorded.link(), event),
            (_, None) => return Err(unsound("its book does not begin")),
        }
        Ok(())
    }

    /// Both timelines begin with what was in force when the span does.
    fn begin(&mut self, asked: &Asked) {
        if let Some(book) = self.book.as_ref().filter(|_| !self.begun) {
            self.begun = true;
            self.lived = [Lived::beginning(asked.from, book.flags), Lived::beginning(asked.from, book.flags)];
        }
    }

    /// Whether an event belongs to another command than those before it.
    fn is_next(&self, recorded: &RecordedEvent, event: &AllocationEvent) -> bool {
        let Some(group) = &self.group else { return false };
        let phase = phase(event);
        let again = match event {
            AllocationEvent::PolicyEvaluated(one) => {
                (!group.evaluated.is_empty() && one.trigger != group.trigger)
                    || group.evaluated.iter().any(|(_, known)| known.policy == one.policy)
            }
            AllocationEvent::EvaluationFailed(one) => group.failed.contains(&one.policy),
            AllocationEvent::RestrictionChanged(_) => group.restricted.is_some(),
            _ => false,
        };
        recorded.occurred_at != group.at
            || phase < group.phase
            || again
            || matches!(event, AllocationEvent::BooksOpened(_))
    }

    /// Whether policies look at the allocation after a fact.
    fn follows(
        &self,
        fact: &AllocationEvent,
        before: Option<(crate::events::allocation::ResourceState, &str)>,
    ) -> bool {
        match (fact, before, self.book.as_ref()) {
            (AllocationEvent::BooksOpened(_), ..) => false,
            (AllocationEvent::ResourceDetailsChanged(_), Some((_, account)), Some(book)) => {
                book.facts.account() != account
            }
            (AllocationEvent::ResourceStateChanged(changed), Some((from, _)), _) => {
                from.is_live() != changed.to.is_live() || from.takes_settings() != changed.to.takes_settings()
            }
            _ => true,
        }
    }

    fn join(&mut self, recorded: &RecordedEvent, event: AllocationEvent, scene: Arc<Scene>, follows: bool) {
        if matches!(event, AllocationEvent::BooksOpened(_)) {
            return;
        }
        let group = self.group.get_or_insert_with(|| Group {
            at: recorded.occurred_at,
            position: recorded.position,
            scene,
            phase: 0,
            follows: false,
            facts: false,
            trigger: trigger(&event),
            evaluated: Vec::new(),
            failed: Vec::new(),
            withdrawn: Vec::new(),
            restricted: None,
        });
        group.phase = phase(&event);
        group.follows |= follows || group.phase > 0;
        group.facts |= follows;
        match event {
            AllocationEvent::PolicyEvaluated(one) => {
                group.trigger = one.trigger;
                group.evaluated.push((recorded.position, one));
            }
            AllocationEvent::EvaluationFailed(failed) => {
                group.trigger = failed.trigger;
                group.failed.push(failed.policy);
            }
            AllocationEvent::PolicyWithdrawn(one) => group.withdrawn.push((one.policy, one.reason)),
            AllocationEvent::RestrictionChanged(changed) => group.restricted = Some(changed),
            _ => {}
        }
    }

    /// Decides again what a command led to, and compares.
    fn close(&mut self, resource: ResourceId, asked: &Asked, found: &mut Found) {
        let Some(group) = self.group.take().filter(|group| group.follows) else { return };
        let Some(mut book) = self.book.take() else { return };
        // Versions are not compared: each decision names the one that it was made with.
        let ids: Vec<PolicyId> = book.policies.keys().copied().collect();
        for id in ids {
            if let Some(page) = book.policies.get_mut(&id) {
                page.version = 0;
            }
        }
        let was = book.flags;
        // The versions are not compared, so nothing is refused.
        let Ok(decision) = decide(book, &group, asked) else { return };
        self.book = Some(decision.book);
        let events: Vec<AllocationEvent> = decision.events.into_iter().map(|(_, event)| event).collect();
        self.compare(resource, asked, &group, was, &events, found);
    }

    fn compare(
        &mut self,
        resource: ResourceId,
        asked: &Asked,
        group: &Group,
        was: Flags,
        events: &[AllocationEvent],
        found: &mut Found,
    ) {
        let other: Vec<&PolicyEvaluated> = events
            .iter()
            .filter_map(|event| match event {
                AllocationEvent::PolicyEvaluated(one) => Some(&**one),
                _ => None,
            })
            .collect();
        let restricted = events.iter().find_map(|event| match event {
            AllocationEvent::RestrictionChanged(changed) => Some(changed),
            _ => None,
        });
        let before = [self.lived[0].flags(), was];
        let recorded = group.restricted.as_ref().map(|changed| changed.to);
        self.lived[0].take(group.at, recorded, group.evaluated.iter().map(|(_, one)| &**one));
        self.lived[1].take(group.at, restricted.map(|changed| changed.to), other.iter().copied());
        let after = [self.lived[0].flags(), self.lived[1].flags()];
        let mut policies: Vec<PolicyId> = group.evaluated.iter().map(|(_, one)| one.policy).collect();
        policies.extend(
            other.iter().map(|one| one.policy).filter(|id| !group.evaluated.iter().any(|(_, one)| one.policy == *id)),
        );
        for policy in policies {
            let of = group.evaluated.iter().find(|(_, one)| one.policy == policy);
            let under = other.iter().find(|one| one.policy == policy);
            self.concerned |= policy == asked.policy;
            self.decisions += 1;
            let decided = [of.map(|(_, one)| Decided::of(one)), under.map(|one| Decided::of(one))];
            let position = of.map_or(group.position, |(position, _)| *position);
            if decided[0] != decided[1] {
                self.differs(
                    Decision { position, at: group.at, resource, policy, decided, restricted: after },
                    asked,
                    found,
                );
            } else if let (Some((_, one)), Some(other)) = (of, under) {
                self.in_words += u64::from(!Decided::word_for_word(one, other));
            }
        }
        // A restriction that follows without an evaluation: a hold by hand, a policy that applies no more.
        let silent = group.evaluated.is_empty() && other.is_empty();
        if silent && before[0] == before[1] && after[0] != after[1] {
            let decided = [None, None];
            let (position, policy) = (group.position, asked.policy);
            self.differs(
                Decision { position, at: group.at, resource, policy, decided, restricted: after },
                asked,
                found,
            );
        }
    }

    fn differs(&mut self, decision: Decision, asked: &Asked, found: &mut Found) {
        self.differing += 1;
        self.first.get_or_insert_with(|| decision.clone());
        found.add(decision, asked.decisions_max);
    }

    /// What it went through, if the policy had to do with it.
    pub(super) fn finish(mut self, resource: ResourceId, asked: &Asked, found: &mut Found) -> Option<Allocation> {
        self.close(resource, asked, found);
        let book = self.book.filter(|_| self.concerned)?;
        let [mut recorded, mut other] = self.lived;
        recorded.end(asked.to);
        other.end(asked.to);
        Some(Allocation {
            resource,
            name: book.facts.slug.clone(),
            decisions: self.decisions,
            differing: self.differing,
            in_words: self.in_words,
            outcomes: [Outcome::of(&recorded), Outcome::of(&other)],
            first: self.first,
        })
    }
}

/// What policies decide, where they look at the allocation at all.
fn decide(
    book: Book,
    group: &Group,
    asked: &Asked,
) -> Result<crate::commands::allocation::Decision, crate::commands::allocation::Refusal> {
    let scene = &group.scene;
    let named = |policy: PolicyId| {
        group.evaluated.iter().any(|(_, one)| one.policy == policy) || group.failed.contains(&policy)
    };
    let everyone = group.facts || scene.recorded.iter().all(|policy| named(*policy));
    let policies: Vec<_> = scene
        .policies
        .iter()
        .map(|policy| {
            let version =
                group.evaluated.iter().find(|(_, one)| one.policy == policy.id()).map(|(_, one)| one.policy_version);
            let other = version.filter(|version| *version != policy.version);
            other.and_then(|version| scene.version(policy.id(), version)).unwrap_or_else(|| Arc::clone(policy))
        })
        .collect();
    let withdrawn = |policy: PolicyId| {
        let recorded = group.withdrawn.iter().find(|(id, _)| *id == policy).map(|(_, reason)| *reason);
        recorded.unwrap_or_else(|| scene.withdrawn(policy))
    };
    let ctx = DecideContext {
        now: group.at,
        offering: &scene.offering,
        policies: &policies,
        withdrawn: &withdrawn,
        rules: &asked.site,
        ids: IdSource,
        origin: NOBODY,
    };
    decide_policies(book, &|policy| everyone || named(policy), group.trigger, &ctx)
}
