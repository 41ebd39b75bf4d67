//! The vocabulary of the write side and the read side: the envelope and one file per family of events.
//!
//! Type names are never renamed; every name ever written stays decodable.

pub mod agent;
pub mod allocation;
pub mod chain;
pub mod checkpoint;
pub mod commanded;
pub mod dispatch;
pub mod envelope;
mod family;
pub mod notice;
mod position;
mod recorded;
pub mod registry;
pub mod resolve;
mod resource_state;
pub mod site;
pub mod site_answer;

use agent::AgentEvent;
use allocation::AllocationEvent;
use envelope::{DecodeError, NotReadBack, Payload, RecordedEvent};
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

    /// Reads a stored event of whichever family; `None` if this release knows no such type.
    pub fn read(event_type: &str, payload: &str) -> Option<Result<Self, serde_json::Error>> {
        AllocationEvent::decode(event_type, payload)
            .map(|r| r.map(Self::Allocation))
            .or_else(|| RegistryEvent::decode(event_type, payload).map(|r| r.map(Self::Registry)))
            .or_else(|| AgentEvent::decode(event_type, payload).map(|r| r.map(Self::Agent)))
            .or_else(|| SiteEvent::decode(event_type, payload).map(|r| r.map(Self::Site)))
    }

    /// The payload as it may be appended.
    pub fn to_append(&self) -> Result<Payload, NotReadBack> {
        match self {
            Self::Allocation(event) => event.to_append(),
            Self::Registry(event) => event.to_append(),
            Self::Agent(event) => event.to_append(),
            Self::Site(event) => event.to_append(),
        }
    }

    /// Decodes a recorded event.
    pub fn decode(recorded: &RecordedEvent) -> Result<Self, DecodeError> {
        match Self::read(&recorded.event_type, &recorded.payload) {
            _ if recorded.is_disposed() => Err(DecodeError::new(recorded, "its payload was disposed of")),
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(DecodeError::new(recorded, error)),
            None => Err(DecodeError::new(recorded, "the type is unknown to this release")),
        }
    }
}
