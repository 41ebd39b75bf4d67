//! Events of the log as the API shows them: the envelope, the payload, and a sentence.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::events::Event;
use crate::events::envelope::RecordedEvent;
use crate::operations::sentences;
use crate::registry::book_of;

/// The name under which Waldur's users know an evaluation.
const POLICY_EVALUATION: &str = "SLURM_POLICY_EVALUATION";

/// Who caused an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventActor {
    /// staff, support, owner, member, agent, system or cli.
    kind: &'static str,
    /// Opaque id; the directory resolves it.
    uuid: Option<String>,
}

/// An event of the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoggedEvent {
    /// Where it stands in the log; opaque, in order.
    position: String,
    uuid: String,
    /// The stored type with its version.
    #[serde(rename = "type")]
    stored_type: String,
    /// The name on Waldur's feed, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_name: Option<&'static str>,
    /// As Waldur's clients read it: its own name in small letters, else the type without its version.
    event_type: String,
    /// As Waldur's clients read it: when it occurred.
    created: DateTime<Utc>,
    /// As Waldur's clients read it: which objects it is about.
    context: EventContext,
    /// What it says, in one sentence; left out where this release cannot read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    stream: String,
    /// Where it stands in the stream, from 1.
    version: u64,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    actor: EventActor,
    correlation_id: String,
    causation_id: Option<String>,
    reason: Option<String>,
    resource_uuid: Option<String>,
    /// What it says; null once disposed of.
    payload: serde_json::Value,
    /// SHA-256 over salt and payload, hex.
    commitment: String,
}

/// Which objects an event is about.
#[expect(clippy::struct_field_names, reason = "the names are those of the wire")]
#[derive(Debug, Serialize, ToSchema)]
pub struct EventContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offering_uuid: Option<String>,
}

impl EventContext {
    fn of(payload: &serde_json::Value, resource_uuid: Option<String>) -> Self {
        let id = |name: &str| payload.get(name).and_then(|id| id.as_str()).map(str::to_owned);
        Self { resource_uuid, policy_uuid: id("policy"), offering_uuid: id("offering") }
    }
}

impl LoggedEvent {
    /// An event as it is shown.
    pub fn of(event: &RecordedEvent) -> Self {
        let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap_or_default();
        let name = waldur_name(&event.event_type);
        let bare = event.event_type.rsplit_once('.').map_or(&*event.event_type, |(bare, _)| bare);
        let resource_uuid = book_of(event.stream.as_str()).map(|(resource, _)| resource.to_string());
        let context = EventContext::of(&payload, resource_uuid.clone());
        Self {
            position: event.position.to_string(),
            uuid: event.event_id.as_simple().to_string(),
            event_name: name,
            event_type: name.map_or_else(|| bare.to_owned(), str::to_ascii_lowercase),
            created: event.occurred_at,
            message: sentence(name, &payload, context.policy_uuid.as_deref())
                .or_else(|| Event::decode(event).ok().map(|event| sentences::sentence(&event))),
            context,
            stored_type: event.event_type.to_string(),
            stream: event.stream.to_string(),
            version: event.version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            actor: EventActor {
                kind: event.metadata.actor.kind.as_str(),
                uuid: event.metadata.actor.id.map(|id| id.as_simple().to_string()),
            },
            correlation_id: event.metadata.correlation_id.as_simple().to_string(),
            causation_id: event.metadata.causation_id.map(|id| id.as_simple().to_string()),
            reason: event.metadata.reason.as_deref().map(str::to_owned),
            resource_uuid,
            payload,
            commitment: hex(&event.commitment),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The name under which Waldur's users know what an event says.
pub fn waldur_name(event_type: &str) -> Option<&'static str> {
    match event_type.rsplit_once('.').map_or(event_type, |(bare, _)| bare) {
        "policy_evaluated" | "evaluation_failed" => Some(POLICY_EVALUATION),
        "policy_created" => Some("policy_created"),
        "policy_changed" => Some("policy_updated"),
        "policy_deleted" => Some("policy_deleted"),
        _ => None,
    }
}

/// What an event says in one sentence, where it has a name on Waldur's feed.
fn sentence(name: Option<&str>, payload: &serde_json::Value, policy: Option<&str>) -> Option<String> {
    let name = name?;
    if name == POLICY_EVALUATION {
        let said = payload.pointer("/outcome/explanation").or_else(|| payload.get("error"));
        return said.and_then(|said| said.as_str()).map(str::to_owned);
    }
    let slug = payload.get("slug").and_then(|slug| slug.as_str()).filter(|slug| !slug.is_empty());
    let policy = slug.or(policy)?;
    match name {
        "policy_created" => Some(format!("Policy {policy} has been created.")),
        "policy_updated" => Some(format!("Policy {policy} has been updated.")),
        _ => Some(format!("Policy {policy} has been deleted.")),
    }
}

/// An event, and whether it is the one that was committed to.
#[derive(Debug, Serialize, ToSchema)]
pub struct OneEvent {
    #[serde(flatten)]
    event: LoggedEvent,
    /// Whether payload and salt give the commitment; null once the payload was disposed of.
    commitment_holds: Option<bool>,
}

impl OneEvent {
    /// An event as it is shown alone.
    pub fn of(event: &RecordedEvent) -> Self {
        let commitment_holds = (!event.is_disposed()).then(|| event.commitment_holds());
        Self { event: LoggedEvent::of(event), commitment_holds }
    }
}
