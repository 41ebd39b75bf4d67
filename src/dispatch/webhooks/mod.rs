//! Webhook consumers: other systems that receive the agents' messages, as a POST of each message to their address.
//!
//! Each follows the log from its registration, in order and at least once. Failed deliveries are retried; a consumer
//! that fails for a day is blocked until somebody changes it or requests the current state.

mod store;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::ids::{CustomerId, OfferingId, ProjectId, UserId};
use crate::events::dispatch::AgentMessage;
use crate::events::envelope::Position;
use crate::registry::ResourceEntry;

pub use store::WebhookStore;
pub use worker::Webhooks;

/// Whose resources a consumer hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "uuid", rename_all = "snake_case")]
pub enum WebhookScope {
    /// Those of an organisation.
    Customer(CustomerId),
    /// Those of a project.
    Project(ProjectId),
    /// Those of an offering.
    Offering(OfferingId),
}

/// What a consumer wants.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookWishes {
    /// Where messages go. It may hold a key, and is never shown or logged.
    pub url: String,
    /// Kinds of messages; empty: all.
    pub object_types: BTreeSet<String>,
    /// Whose resources; empty: everybody's.
    pub scopes: Vec<WebhookScope>,
    /// A message is sent only if each of these of its fields has one of the values.
    pub payload_filters: BTreeMap<String, Vec<Value>>,
}

/// A consumer, and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Its id.
    pub id: Uuid,
    /// Who registered it.
    pub owner: UserId,
    /// What it wants.
    pub wishes: WebhookWishes,
    /// How much of the log it has heard of.
    pub position: Position,
    /// Kinds of messages of which the present state is still to be sent.
    pub resync: Option<BTreeSet<String>>,
    /// When a message was last taken.
    pub delivered_at: Option<DateTime<Utc>>,
    /// What went wrong last; empty: nothing.
    pub error: String,
    /// When.
    pub error_at: Option<DateTime<Utc>>,
    /// Attempts that failed since the last delivery.
    pub attempts: u32,
    /// Why nothing is sent any more.
    pub blocked: Option<String>,
    /// When it was registered.
    pub created: DateTime<Utc>,
    /// When it was last changed.
    pub modified: DateTime<Utc>,
}

impl WebhookWishes {
    /// Whether messages of a kind are wanted.
    pub fn takes(&self, message: AgentMessage) -> bool {
        self.object_types.is_empty() || self.object_types.contains(message.as_str())
    }

    /// Whether a resource is one of those that are wanted.
    pub fn concerns(&self, resource: &ResourceEntry) -> bool {
        let in_scope = |scope: &WebhookScope| match scope {
            WebhookScope::Customer(customer) => resource.customer == *customer,
            WebhookScope::Project(project) => resource.project == *project,
            WebhookScope::Offering(offering) => resource.offering == *offering,
        };
        self.scopes.is_empty() || self.scopes.iter().any(in_scope)
    }

    /// Whether a message passes the filters.
    pub fn passes(&self, message: &Value) -> bool {
        self.payload_filters
            .iter()
            .all(|(field, values)| message.get(field).is_some_and(|value| values.contains(value)))
    }

    /// Scheme and host of the address, which is all that may be shown.
    pub fn destination(&self) -> String {
        let host = |url: reqwest::Url| url.host_str().map(|host| format!("{}://{host}", url.scheme()));
        reqwest::Url::parse(&self.url).ok().and_then(host).unwrap_or_default()
    }
}

/// Every kind of message that there is here.
pub const MESSAGES: [AgentMessage; 2] = [AgentMessage::Resource, AgentMessage::Settings];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wishes(object_types: &[&str], filters: &Value) -> WebhookWishes {
        WebhookWishes {
            url: "https://hooks.example:8443/in?key=secret".into(),
            object_types: object_types.iter().map(|kind| (*kind).to_owned()).collect(),
            scopes: Vec::new(),
            payload_filters: serde_json::from_value(filters.clone()).unwrap(),
        }
    }

    #[test]
    fn a_message_passes_if_every_filter_has_its_value() {
        let all = wishes(&[], &json!({}));
        assert!(all.takes(AgentMessage::Resource) && all.takes(AgentMessage::Settings) && all.passes(&json!({})));
        let some = wishes(&["resource"], &json!({"paused": [true], "resource_state": ["OK", "Erred"]}));
        assert!(some.takes(AgentMessage::Resource) && !some.takes(AgentMessage::Settings));
        assert!(some.passes(&json!({"paused": true, "resource_state": "Erred"})));
        assert!(!some.passes(&json!({"paused": true, "resource_state": "Terminated"})));
        assert!(!some.passes(&json!({"paused": true})), "what is not there has none of the values");
    }

    #[test]
    fn no_more_than_scheme_and_host_of_an_address_is_shown() {
        assert_eq!(wishes(&[], &json!({})).destination(), "https://hooks.example");
    }
}
