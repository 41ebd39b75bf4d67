//! The working copy on which one decision is made: the book as it becomes, event by event.

use super::book::Book;
use super::command::DecideContext;
use super::decide::Decision;
use crate::domain::ids::EventId;
use crate::events::allocation::AllocationEvent;

/// A book being written on.
pub struct Desk<'a> {
    /// The book as it is with the events so far.
    pub book: Book,
    /// What the decision may look at.
    pub ctx: &'a DecideContext<'a>,
    /// Tell the agent everything, whatever it was told before.
    pub forget_commanded: bool,
    /// Start the counter of raw usage again, due or not.
    pub force_reset: bool,
    events: Vec<(EventId, AllocationEvent)>,
}

impl<'a> Desk<'a> {
    /// Starts from an open book.
    pub fn new(book: Book, ctx: &'a DecideContext<'a>) -> Self {
        Self { book, ctx, forget_commanded: false, force_reset: false, events: Vec::with_capacity(4) }
    }

    /// Starts from the event that begins the book.
    pub fn beginning(book: Book, id: EventId, event: AllocationEvent, ctx: &'a DecideContext<'a>) -> Self {
        let mut desk = Self::new(book, ctx);
        desk.events.push((id, event));
        desk
    }

    /// Records an event and lets the book change by it.
    pub fn push(&mut self, event: AllocationEvent) {
        let id = EventId::from(self.ctx.ids.fresh());
        self.book.evolve(id, &event);
        self.events.push((id, event));
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
        Decision { events: self.events, book: self.book }
    }
}
