//! The two kinds of messages, in the site agent's format.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::commands::allocation::Book;
use crate::domain::evaluate::Flags;
use crate::domain::ids::{DispatchId, PolicyId};
use crate::domain::settings::AgentSettings;
use crate::events::allocation::{Commanded, ResourceFacts, SettingsCommanded};
use crate::events::dispatch::AgentMessage;

/// The version of the messages' shape.
const SCHEMA_VERSION: u32 = 1;

/// Settings for an account. `reset` says whether they include a reset of raw usage; a resend may omit it.
pub fn settings(facts: &ResourceFacts, commanded: &SettingsCommanded, reset: bool) -> Value {
    let settings = AgentSettings { reset_raw_usage: reset, ..commanded.settings.clone() };
    apply(facts, commanded.policy, commanded.dispatch, commanded.at, &settings)
}

/// The last commanded settings, for a caller who asks for the current ones: this resets nothing.
pub fn settings_now(facts: &ResourceFacts, last: &Commanded, now: DateTime<Utc>) -> Value {
    let settings = AgentSettings { reset_raw_usage: false, ..last.settings.clone() };
    apply(facts, last.policy, last.dispatch, now, &settings)
}

fn apply(
    facts: &ResourceFacts,
    policy: PolicyId,
    dispatch: DispatchId,
    at: DateTime<Utc>,
    settings: &AgentSettings,
) -> Value {
    json!({
        "object_type": AgentMessage::Settings.as_str(),
        "schema_version": SCHEMA_VERSION,
        "resource_uuid": facts.resource,
        "backend_id": facts.account(),
        "offering_uuid": facts.offering,
        "policy_uuid": policy,
        "dispatch_uuid": dispatch,
        "action": "apply_periodic_settings",
        "timestamp": at.format("%Y-%m-%dT%H:%M:%S").to_string(),
        "settings": settings.to_wire(),
    })
}

/// The restrictions of a resource changed. The agent asks for the resource then; what stands here is for people.
/// `sequence` grows with every message; `project` is the project's name.
pub fn resource(book: &Book, flags: Flags, sequence: u64, project: &str) -> Value {
    let facts = &book.facts;
    json!({
        "object_type": AgentMessage::Resource.as_str(),
        "schema_version": SCHEMA_VERSION,
        "resource_uuid": facts.resource,
        "resource_backend_id": facts.account(),
        "resource_name": facts.name,
        "resource_state": facts.state.as_str(),
        "project_uuid": facts.project,
        "project_name": project,
        "offering_uuid": facts.offering,
        "limits": facts.limits.iter().map(|(c, amount)| (c.clone(), crate::domain::decimal::number(*amount)))
            .collect::<serde_json::Map<String, Value>>(),
        "paused": flags.paused,
        "downscaled": flags.downscaled,
        "restrict_member_access": false,
        "sequence_number": sequence,
    })
}
