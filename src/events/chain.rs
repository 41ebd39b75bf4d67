//! The causes that a book keeps for later events: handing a message over, answering it and giving it up happen in other
//! commands, often in other processes, and still name their cause.

use serde::{Deserialize, Serialize};

use super::allocation::{AllocationEvent, OpenDispatch};
use super::envelope::Link;
use crate::domain::ids::DispatchId;

/// Dispatches whose events are remembered; the oldest are forgotten first.
const DISPATCHES_MAX: usize = 64;

/// Something that the agent is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The event for which it is handed over.
    pub order: Link,
    /// The newest hand-over for it, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sent: Option<Link>,
}

impl Told {
    fn ordered(order: Link) -> Self {
        Self { order, sent: None }
    }

    /// What an answer, or its absence, comes of.
    pub fn newest(self) -> Link {
        self.sent.unwrap_or(self.order)
    }
}

/// Events that later ones come of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chains {
    /// Of dispatches, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub dispatches: Vec<(DispatchId, Told)>,
    /// Of the restrictions in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restrictions: Option<Told>,
    /// The last time that the agent said that it had done something.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Link>,
}

impl Chains {
    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is known of a dispatch.
    pub fn of(&self, dispatch: DispatchId) -> Option<Told> {
        self.dispatches.iter().rfind(|(known, _)| *known == dispatch).map(|(_, told)| *told)
    }

    /// What was done last about the newest dispatch.
    pub fn newest(&self) -> Option<Link> {
        self.dispatches.last().map(|(_, told)| told.newest())
    }

    fn order(&mut self, dispatch: DispatchId, order: Link) {
        self.dispatches.retain(|(known, _)| *known != dispatch);
        if self.dispatches.len() >= DISPATCHES_MAX {
            self.dispatches.remove(0);
        }
        self.dispatches.push((dispatch, Told::ordered(order)));
    }

    /// Takes down an event that others may come of.
    pub fn take(&mut self, link: Link, event: &AllocationEvent) {
        match event {
            AllocationEvent::RestrictionChanged(_) | AllocationEvent::RestrictionResendRequested(_) => {
                self.restrictions = Some(Told::ordered(link));
            }
            AllocationEvent::ResourceStateChanged(changed) if changed.from.is_live() != changed.to.is_live() => {
                self.restrictions = Some(Told::ordered(link));
            }
            AllocationEvent::SettingsCommanded(commanded) => {
                // Whoever takes an account over tells the agent how it stands, restricted or not.
                if commanded.inputs.as_ref().is_some_and(|inputs| inputs.takes_over) {
                    self.restrictions = Some(Told::ordered(link));
                }
                self.order(commanded.dispatch, link);
            }
            AllocationEvent::DispatchResendRequested(requested) => self.order(requested.dispatch, link),
            AllocationEvent::DispatchUnanswered(unanswered) => self.order(unanswered.dispatch, link),
            AllocationEvent::StompMessageSent(sent) => {
                let known = self.dispatches.iter_mut().find(|(known, _)| Some(*known) == sent.dispatch);
                if let Some((_, told)) = known {
                    told.sent = Some(link);
                }
                if let Some(told) = self.restrictions.as_mut().filter(|_| sent.flags.is_some()) {
                    told.sent = Some(link);
                }
            }
            AllocationEvent::CommandResultReported(_) | AllocationEvent::CommandResultUnmatched(_) => {
                self.result = Some(link);
            }
            _ => {}
        }
    }

    /// What the next book needs: dispatches that may still be answered, and the newest one.
    #[must_use]
    pub fn carried(&self, open: &[OpenDispatch]) -> Self {
        let newest = self.dispatches.last().map(|(dispatch, _)| *dispatch);
        let needed = |dispatch: DispatchId| Some(dispatch) == newest || open.iter().any(|o| o.dispatch == dispatch);
        let dispatches = self.dispatches.iter().filter(|(dispatch, _)| needed(*dispatch)).copied().collect();
        Self { dispatches, ..self.clone() }
    }
}
