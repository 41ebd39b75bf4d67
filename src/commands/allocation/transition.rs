//! The working copy for one decision: the changing book and its new events, each with its cause.

use super::book::Book;
use super::command::DecideContext;
use super::decide::Decision;
use crate::domain::ids::{EventId, PolicyId};
use crate::events::allocation::AllocationEvent;
use crate::events::chain::Told;
use crate::events::envelope::{Cause, Link};

/// A book being written on.
pub struct Transition<'a> {
    /// The book as it is with the events so far.
    pub book: Book,
    /// What the decision may look at.
    pub ctx: &'a DecideContext<'a>,
    /// Start the counter of raw usage again, due or not.
    pub force_reset: bool,
    events: Vec<(EventId, AllocationEvent)>,
    causes: Vec<Cause>,
    so_far: SoFar,
}

/// The events of the decision that cause others of it.
#[derive(Default)]
struct SoFar {
    /// What the command itself said.
    fact: Option<Link>,
    /// The newest change of a manual hold.
    hold: Option<Link>,
    /// What each policy decided.
    decided: Vec<(PolicyId, Link)>,
    restriction: Option<Link>,
}

impl SoFar {
    fn of(&self, policy: PolicyId) -> Option<Link> {
        self.decided.iter().rfind(|(decided, _)| *decided == policy).map(|(_, link)| *link)
    }

    fn last_decided(&self) -> Option<Link> {
        self.decided.last().map(|(_, link)| *link)
    }

    fn take(&mut self, link: Link, event: &AllocationEvent) {
        match event {
            AllocationEvent::PolicyEvaluated(evaluated) => self.decided.push((evaluated.policy, link)),
            AllocationEvent::EvaluationFailed(failed) => self.decided.push((failed.policy, link)),
            AllocationEvent::PolicyWithdrawn(withdrawn) => self.decided.push((withdrawn.policy, link)),
            AllocationEvent::RestrictionChanged(_) => self.restriction = Some(link),
            AllocationEvent::HoldPlaced(_) | AllocationEvent::HoldReleased(_) => {
                self.hold = Some(link);
                self.fact.get_or_insert(link);
            }
            // Months that it fills on the way, and late amounts beside it, decide nothing.
            AllocationEvent::UsageReported(_) => self.fact = Some(link),
            _ => {
                self.fact.get_or_insert(link);
            }
        }
    }
}

impl<'a> Transition<'a> {
    /// Starts from an open book.
    pub fn new(book: Book, ctx: &'a DecideContext<'a>) -> Self {
        Self {
            book,
            ctx,
            force_reset: false,
            events: Vec::with_capacity(4),
            causes: Vec::with_capacity(4),
            so_far: SoFar::default(),
        }
    }

    /// Starts from the event that begins the book.
    pub fn beginning(book: Book, id: EventId, event: AllocationEvent, ctx: &'a DecideContext<'a>) -> Self {
        let mut transition = Self::new(book, ctx);
        transition.so_far.take(Link { event: id.as_uuid(), correlation: ctx.origin.correlation }, &event);
        transition.causes.push(ctx.origin);
        transition.events.push((id, event));
        transition
    }

    /// Records an event and lets the book change by it.
    pub fn push(&mut self, event: AllocationEvent) {
        let id = EventId::from(self.ctx.ids.fresh());
        let cause = self.cause_of(&event).map_or(self.ctx.origin, Cause::from);
        let link = Link { event: id.as_uuid(), correlation: cause.correlation };
        self.book.evolve(link, &event);
        self.so_far.take(link, &event);
        self.causes.push(cause);
        self.events.push((id, event));
    }

    /// Records an incidental event, which does not cause what is decided next.
    pub fn push_on_the_way(&mut self, event: AllocationEvent) {
        let fact = self.so_far.fact;
        self.push(event);
        self.so_far.fact = fact;
    }

    /// Nothing decided so far causes what is decided next.
    pub fn begin_anew(&mut self) {
        self.so_far = SoFar::default();
    }

    /// The event that leads to this one, where it is one of the same decision or one that the book remembers.
    fn cause_of(&self, event: &AllocationEvent) -> Option<Link> {
        let so_far = &self.so_far;
        let chains = &self.book.chains;
        match event {
            AllocationEvent::PolicyEvaluated(_)
            | AllocationEvent::EvaluationFailed(_)
            | AllocationEvent::PolicyWithdrawn(_)
            | AllocationEvent::HoldReleased(_) => so_far.fact,
            AllocationEvent::RestrictionChanged(changed) => {
                let policies = changed.policies.iter().find_map(|policy| so_far.of(*policy));
                policies.or(so_far.hold).or(so_far.fact).or_else(|| so_far.last_decided())
            }
            AllocationEvent::SettingsCommanded(commanded) => {
                let decided = so_far.restriction.or_else(|| so_far.of(commanded.policy));
                let now = decided.or_else(|| so_far.last_decided()).or(so_far.fact);
                // A waiting message is recomputed, without any other decision.
                now.or_else(|| chains.newest())
            }
            AllocationEvent::StompMessageSent(sent) => match sent.dispatch {
                Some(dispatch) => chains.of(dispatch).map(|told| told.order),
                None => chains.restrictions.map(|told| told.order).or_else(|| chains.newest()),
            },
            AllocationEvent::StompMessageFailed(failed) => chains.of(failed.dispatch).map(Told::newest),
            AllocationEvent::DispatchUnanswered(unanswered) => chains.of(unanswered.dispatch).map(Told::newest),
            AllocationEvent::CommandResultReported(result) => chains.of(result.dispatch).map(Told::newest),
            AllocationEvent::QosConfirmed(_) => {
                chains.restrictions.filter(|_| self.book.answers.asked).map(Told::newest)
            }
            AllocationEvent::LimitsEchoed(_) => chains.result,
            _ => None,
        }
    }

    /// Nothing has been decided yet.
    pub fn is_untouched(&self) -> bool {
        self.events.is_empty()
    }

    /// A policy has been evaluated, or failed to be.
    pub fn has_evaluated(&self) -> bool {
        let evaluation = |e: &AllocationEvent| {
            matches!(e, AllocationEvent::PolicyEvaluated(_) | AllocationEvent::EvaluationFailed(_))
        };
        self.events.iter().any(|(_, event)| evaluation(event))
    }

    /// The decision.
    pub fn finish(self) -> Decision {
        Decision { events: self.events, causes: self.causes, book: self.book }
    }
}
