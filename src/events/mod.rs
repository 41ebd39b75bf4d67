//! The vocabulary that the writing and the reading side share: the envelope and one file per family of events.
//!
//! Type names are never renamed; every name ever written stays decodable.

pub mod agent;
pub mod allocation;
pub mod dispatch;
pub mod envelope;
mod family;
pub mod notice;
mod recorded;
pub mod registry;
pub mod resolve;
pub mod site;
pub mod site_answer;

use agent::AgentEvent;
use allocation::AllocationEvent;
use envelope::{DecodeError, RecordedEvent};
use registry::RegistryEvent;
use site::SiteEvent;

/// Any event of the log, decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Of an allocation book.
    Allocation(AllocationEvent),
    /// Of the registry.
    Registry(RegistryEvent),
    /// Of a site agent.
    Agent(AgentEvent),
    /// Of the site.
    Site(SiteEvent),
}

impl Event {
    /// Every stored type name, in the order of the families.
    pub fn types() -> impl Iterator<Item = &'static str> {
        AllocationEvent::TYPES
            .iter()
            .chain(RegistryEvent::TYPES)
            .chain(AgentEvent::TYPES)
            .chain(SiteEvent::TYPES)
            .copied()
    }

    /// Decodes a recorded event.
    pub fn decode(recorded: &RecordedEvent) -> Result<Self, DecodeError> {
        let (event_type, payload) = (&*recorded.event_type, &*recorded.payload);
        let decoded = AllocationEvent::decode(event_type, payload)
            .map(|r| r.map(Self::Allocation))
            .or_else(|| RegistryEvent::decode(event_type, payload).map(|r| r.map(Self::Registry)))
            .or_else(|| AgentEvent::decode(event_type, payload).map(|r| r.map(Self::Agent)))
            .or_else(|| SiteEvent::decode(event_type, payload).map(|r| r.map(Self::Site)));
        match decoded {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(DecodeError::new(recorded, error)),
            None => Err(DecodeError::new(recorded, "the type is unknown to this release")),
        }
    }
}
