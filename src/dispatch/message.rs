//! The two messages, as the site agent reads them.

use serde_json::{Value, json};

use crate::commands::allocation::Book;
use crate::domain::evaluate::Flags;
use crate::events::allocation::{ResourceFacts, SettingsCommanded};
use crate::events::dispatch::AgentMessage;

/// The version of the messages' shape.
const SCHEMA_VERSION: u32 = 1;

/// Settings for an account. `reset` says whether raw usage is to be reset with them: a resend may leave that out.
pub fn settings(facts: &ResourceFacts, commanded: &SettingsCommanded, reset: bool) -> Value {
    let settings =
        crate::domain::settings::AgentSettings { reset_raw_usage: reset, ..commanded.settings.clone() }.to_wire();
    json!({
        "object_type": AgentMessage::Settings.as_str(),
        "schema_version": SCHEMA_VERSION,
        "resource_uuid": facts.resource,
        "backend_id": facts.account(),
        "offering_uuid": facts.offering,
        "policy_uuid": commanded.policy,
        "dispatch_uuid": commanded.dispatch,
        "action": "apply_periodic_settings",
        "timestamp": commanded.at.format("%Y-%m-%dT%H:%M:%S").to_string(),
        "settings": settings,
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
