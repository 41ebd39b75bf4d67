//! Commands on the registry: customers, groups, projects, offerings, policies.
//!
//! Each object has one stream whose newest event holds its current facts. A command gets the current facts, returns the
//! desired ones, and is decided again after a version conflict. If the facts are the same, nothing is appended.

mod agent;
mod policy;

pub use agent::{RegisteredPart, agent_id};
pub use policy::{PolicyChange, check_against_offering};

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::execute::CommandMeta;
use crate::clock::{Clock, IdSource};
use crate::domain::ids::{CustomerId, GroupId, OfferingId, PolicyId, ProjectId};
use crate::domain::validation::FieldErrors;
use crate::events::envelope::{DecodeError, NewEvent, Payload, Position, RecordedEvent, StreamName, Version};
use crate::events::registry::{CustomerFacts, GroupFacts, OfferingFacts, ProjectFacts, RegistryEvent};
use crate::registry::Registry;
use crate::store::{Appended, EventStore, ExpectedVersion, StoreError};

/// How often a command is decided again after somebody else wrote first.
const ATTEMPTS_MAX: usize = 4;

/// Events of a registry stream read at a time; only the newest says what is.
const PAGE: usize = 500;

/// Why a registry command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Something in it is not allowed; by field.
    #[error("{}", .0.0.iter().map(|(field, messages)| format!("{field}: {}", messages.join(" "))).collect::<Vec<_>>().join("; "))]
    Invalid(FieldErrors),
    /// There is no such object.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// Others kept writing first.
    #[error("{0} kept changing; try again")]
    Contended(String),
    /// The store failed.
    #[error("the event store failed")]
    Store(#[from] StoreError),
    /// A stored event cannot be read, and was not set aside.
    #[error(transparent)]
    Unsound(#[from] Box<DecodeError>),
}

impl From<FieldErrors> for RegistryError {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

/// What came of a registry command.
#[derive(Debug, Clone, PartialEq)]
pub struct Put<T> {
    /// The facts in force.
    pub facts: T,
    /// Version of the stream.
    pub version: Version,
    /// Position of the event; none if nothing changed.
    pub position: Option<Position>,
    /// The object is new.
    pub created: bool,
}

/// Executes commands on the registry.
pub struct RegistryCommands {
    store: Arc<dyn EventStore>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    ids: IdSource,
}

/// A kind of object that the registry keeps.
trait Kept: Sized + Clone + PartialEq {
    const NAME: &'static str;
    fn id(&self) -> Uuid;
    fn stream(&self) -> StreamName {
        stream_name(Self::NAME, self.id())
    }
    fn registered(self) -> RegistryEvent;
    fn changed(self) -> RegistryEvent;
    fn of(event: RegistryEvent) -> Option<Self>;
}

macro_rules! kept {
    ($facts:ident, $name:literal, $field:ident, $registered:ident, $changed:ident) => {
        impl Kept for $facts {
            const NAME: &'static str = $name;
            fn id(&self) -> Uuid {
                self.$field.as_uuid()
            }
            fn registered(self) -> RegistryEvent {
                RegistryEvent::$registered(self)
            }
            fn changed(self) -> RegistryEvent {
                RegistryEvent::$changed(self)
            }
            fn of(event: RegistryEvent) -> Option<Self> {
                match event {
                    RegistryEvent::$registered(facts) | RegistryEvent::$changed(facts) => Some(facts),
                    _ => None,
                }
            }
        }
    };
}

kept!(GroupFacts, "organization_group", group, GroupRegistered, GroupChanged);
kept!(CustomerFacts, "customer", customer, CustomerRegistered, CustomerChanged);
kept!(ProjectFacts, "project", project, ProjectRegistered, ProjectChanged);
kept!(OfferingFacts, "offering", offering, OfferingRegistered, OfferingChanged);

/// The complaint that an id is another object's.
pub fn taken(id: Uuid) -> String {
    format!("{} is the id of another object already; choose another, or leave it out.", id.as_simple())
}

/// `customer-{hex}` and the like.
///
/// # Panics
/// Never: a lower-case word and hex digits make a stream name.
pub fn stream_name(kind: &str, id: Uuid) -> StreamName {
    StreamName::new(format!("{kind}-{}", id.as_simple())).expect("a word and hex digits make a stream name")
}

impl RegistryCommands {
    /// Executes on `store`; what is appended is in `registry` when a call returns.
    pub fn new(store: Arc<dyn EventStore>, registry: Arc<Registry>, clock: Arc<dyn Clock>) -> Self {
        Self { store, registry, clock, ids: IdSource }
    }

    /// Registers or changes a group; `wanted` gets what is.
    pub async fn put_group(
        &self,
        group: GroupId,
        meta: &CommandMeta,
        wanted: impl Fn(Option<&GroupFacts>) -> Result<GroupFacts, RegistryError>,
    ) -> Result<Put<GroupFacts>, RegistryError> {
        self.put(stream_name(GroupFacts::NAME, group.as_uuid()), meta, wanted).await
    }

    /// Registers or changes a customer.
    pub async fn put_customer(
        &self,
        customer: CustomerId,
        meta: &CommandMeta,
        wanted: impl Fn(Option<&CustomerFacts>) -> Result<CustomerFacts, RegistryError>,
    ) -> Result<Put<CustomerFacts>, RegistryError> {
        self.put(stream_name(CustomerFacts::NAME, customer.as_uuid()), meta, wanted).await
    }

    /// Registers or changes a project.
    pub async fn put_project(
        &self,
        project: ProjectId,
        meta: &CommandMeta,
        wanted: impl Fn(Option<&ProjectFacts>) -> Result<ProjectFacts, RegistryError>,
    ) -> Result<Put<ProjectFacts>, RegistryError> {
        self.put(stream_name(ProjectFacts::NAME, project.as_uuid()), meta, wanted).await
    }

    /// Registers or changes an offering.
    pub async fn put_offering(
        &self,
        offering: OfferingId,
        meta: &CommandMeta,
        wanted: impl Fn(Option<&OfferingFacts>) -> Result<OfferingFacts, RegistryError>,
    ) -> Result<Put<OfferingFacts>, RegistryError> {
        self.put(stream_name(OfferingFacts::NAME, offering.as_uuid()), meta, wanted).await
    }

    async fn put<T: Kept>(
        &self,
        stream: StreamName,
        meta: &CommandMeta,
        wanted: impl Fn(Option<&T>) -> Result<T, RegistryError>,
    ) -> Result<Put<T>, RegistryError> {
        for _ in 0..ATTEMPTS_MAX {
            let events = self.read(&stream).await?;
            let version = events.last().map_or(0, |e| e.version);
            let current = events.iter().rev().find_map(|e| decode(e).transpose()).transpose()?.and_then(T::of);
            let facts = wanted(current.as_ref())?;
            debug_assert_eq!(facts.stream(), stream);
            if current.as_ref() == Some(&facts) {
                return Ok(Put { facts, version, position: None, created: false });
            }
            let created = current.is_none();
            if created {
                self.must_be_free(facts.id())?;
            }
            let event = if created { facts.clone().registered() } else { facts.clone().changed() };
            match self.append(&stream, version, event, meta).await {
                Ok((version, position)) => return Ok(Put { facts, version, position: Some(position), created }),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Contended(stream.to_string()))
    }

    /// An id that somebody chooses for a new object is nobody else's, of whatever kind: lists, links and addresses name
    /// objects by their ids alone.
    fn must_be_free(&self, id: Uuid) -> Result<(), RegistryError> {
        match self.registry.read().kind_of(id) {
            Some(_) => Err(FieldErrors::one("uuid", taken(id)).into()),
            None => Ok(()),
        }
    }

    async fn read(&self, stream: &StreamName) -> Result<Vec<RecordedEvent>, StoreError> {
        self.read_after(stream, 0).await
    }

    async fn read_after(&self, stream: &StreamName, known: Version) -> Result<Vec<RecordedEvent>, StoreError> {
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(known, |e: &RecordedEvent| e.version);
            let page = self.store.read_stream(stream, after, PAGE).await?;
            let done = page.is_empty();
            events.extend(page);
            if done {
                return Ok(events);
            }
        }
    }

    async fn append(
        &self,
        stream: &StreamName,
        version: Version,
        event: RegistryEvent,
        meta: &CommandMeta,
    ) -> Result<(Version, Position), StoreError> {
        let (appended, now) = self.append_any(stream, version, event.event_type(), event.to_append()?, meta).await?;
        self.registry.write().apply(&event, appended.version, now);
        Ok((appended.version, appended.position))
    }

    /// Appends one event of any family; what the registry makes of it is the caller's business.
    async fn append_any(
        &self,
        stream: &StreamName,
        version: Version,
        event_type: &'static str,
        payload: Payload,
        meta: &CommandMeta,
    ) -> Result<(Appended, DateTime<Utc>), StoreError> {
        let now: DateTime<Utc> = self.clock.now();
        let new =
            NewEvent { event_id: self.ids.fresh(), event_type, occurred_at: now, metadata: meta.metadata(), payload };
        let expected = ExpectedVersion::Exact(version);
        let appended = match self.store.append(stream, expected, vec![new.clone()]).await {
            Err(StoreError::Unknown(_)) => self.store.append(stream, expected, vec![new]).await?,
            other => other?,
        };
        Ok((appended, now))
    }
}

fn decode(recorded: &RecordedEvent) -> Result<Option<RegistryEvent>, RegistryError> {
    let decoded = RegistryEvent::decode(&recorded.event_type, &recorded.payload).transpose();
    decoded.map_err(|problem| RegistryError::from(Box::new(DecodeError::new(recorded, problem))))
}

/// A deleted policy stays deleted; the id of its stream is not used again.
fn is_deleted(events: &[RecordedEvent]) -> bool {
    events.last().is_some_and(|e| &*e.event_type == "policy_deleted.v1")
}

/// The stream of a policy.
pub fn policy_stream(policy: PolicyId) -> StreamName {
    stream_name("policy", policy.as_uuid())
}
