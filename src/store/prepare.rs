//! Prepares an append before any engine sees it: the checks that need no store, the salt and the commitment.
//!
//! This runs in the caller's task, so that hashing uses every core and one bad request cannot spoil a group.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AppendRequest, ExpectedVersion, StoreError};
use crate::events::envelope::{
    Metadata, NewEvent, Position, RecordedEvent, StreamName, Version, commitment, random_salt, to_the_microsecond,
};
use crate::limits::Limits;

/// An append that can only fail for its version or for the store.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) stream: StreamName,
    pub(super) expected: ExpectedVersion,
    pub(super) events: Vec<PreparedEvent>,
}

/// An event with salt and commitment, without its place in the log.
#[derive(Debug)]
pub(super) struct PreparedEvent {
    pub(super) event_id: Uuid,
    pub(super) event_type: &'static str,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) metadata: Metadata,
    pub(super) payload: Arc<str>,
    pub(super) salt: [u8; 16],
    pub(super) commitment: [u8; 32],
}

impl Prepared {
    /// Checks a request against the limits and makes the commitments.
    pub(super) fn new(request: AppendRequest, limits: &Limits) -> Result<Self, StoreError> {
        let AppendRequest { stream, expected, events } = request;
        if events.is_empty() || events.len() > limits.append_events_max {
            let max = limits.append_events_max;
            return Err(StoreError::Rejected(format!("an append holds 1 to {max} events, not {}", events.len())));
        }
        for event in &events {
            if event.event_id.is_nil() {
                return Err(StoreError::Rejected(
                    "an event has the nil id, which EventStoreDB does not take".to_owned(),
                ));
            }
            let (max, size) = (limits.payload_bytes_max, event.payload.as_str().len());
            if !(1..=max).contains(&size) {
                return Err(StoreError::Rejected(format!("a payload holds 1 to {max} bytes, not {size}")));
            }
        }
        Ok(Self { stream, expected, events: events.into_iter().map(PreparedEvent::new).collect() })
    }

    /// The ids of the events, in order.
    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.events.iter().map(|event| event.event_id).collect()
    }
}

impl PreparedEvent {
    fn new(event: NewEvent) -> Self {
        let salt = random_salt();
        let commitment = commitment(&salt, event.payload.as_str());
        Self {
            event_id: event.event_id,
            event_type: event.event_type,
            occurred_at: to_the_microsecond(event.occurred_at),
            metadata: event.metadata,
            payload: event.payload.into(),
            salt,
            commitment,
        }
    }

    /// Gives the event its place.
    pub(super) fn record(
        self,
        stream: StreamName,
        version: Version,
        position: Position,
        event_type: Arc<str>,
        recorded_at: DateTime<Utc>,
    ) -> RecordedEvent {
        RecordedEvent {
            position,
            stream,
            version,
            event_id: self.event_id,
            event_type,
            occurred_at: self.occurred_at,
            recorded_at: to_the_microsecond(recorded_at),
            metadata: self.metadata,
            payload: self.payload,
            salt: self.salt,
            commitment: self.commitment,
        }
    }
}
