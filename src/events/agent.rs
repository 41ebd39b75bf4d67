//! Events of site agents: one stream per agent, `agent-{uuid}`, with its identity, its services and its queue.
//!
//! They contain no key and nothing of the agent's configuration file, since both may be secret. The owner of an agent's
//! token is an opaque id of the directory.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::ids::{AgentId, AgentProcessorId, AgentServiceId, OfferingId, QueueId, SubscriptionId, UserId};
use crate::event_family;

/// A site agent as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityFacts {
    /// The agent.
    pub agent: AgentId,
    /// The offering it works for.
    pub offering: OfferingId,
    /// The name it gives itself; one agent per offering and name.
    pub name: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub version: String,
    /// When it says that it was started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_restarted: Option<DateTime<Utc>>,
    /// Versions of the packages it is made of.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub dependencies: BTreeMap<String, String>,
}

/// Something that an agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// The service.
    pub service: AgentServiceId,
    /// The agent.
    pub agent: AgentId,
    /// Its name; one service per agent and name.
    pub name: String,
    /// The agent's mode: `event_process`, `report`, `membership_sync`, `order_process`.
    pub mode: String,
}

/// A part of a service, with the backend that it works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorFacts {
    /// The processor.
    pub processor: AgentProcessorId,
    /// The service.
    pub service: AgentServiceId,
    /// The agent.
    pub agent: AgentId,
    /// Its name; one processor per service and name.
    pub name: String,
    /// The class of the backend.
    pub backend_type: String,
    /// The backend's version.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub backend_version: String,
}

/// A subscription of an older agent: one per kind of message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionFacts {
    /// The subscription; the agent logs in with it.
    pub subscription: SubscriptionId,
    /// The agent.
    pub agent: AgentId,
    /// The kind of message, such as `resource`.
    pub object_type: String,
    /// What it is for, in the agent's words.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub description: String,
    /// Whose token subscribed.
    pub owner: UserId,
}

/// A queue that an agent listens to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueFacts {
    /// The registration.
    pub consumer: QueueId,
    /// The agent.
    pub agent: AgentId,
    /// The offering whose resources it hears of.
    pub offering: OfferingId,
    /// The queue's name.
    pub queue: String,
    /// The virtual host it is in: the owner's id, in hex.
    pub vhost: String,
    /// What the agent logs in with.
    pub login: String,
    /// Whose token registered it, and opens it.
    pub owner: UserId,
    /// Kinds of messages that belong into it; none: all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object_types: Option<BTreeSet<String>>,
    /// The subscription it belongs to, of an older agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subscription: Option<SubscriptionId>,
}

impl QueueFacts {
    /// Whether messages of this kind belong into it.
    pub fn takes(&self, object_type: &str) -> bool {
        self.object_types.as_ref().is_none_or(|types| types.is_empty() || types.contains(object_type))
    }
}

/// An agent is no longer in use; nothing is sent to its queues any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRemoved {
    /// The agent.
    pub agent: AgentId,
    /// The offering it worked for.
    pub offering: OfferingId,
}

event_family! {
    /// The events of site agents.
    AgentEvent {
        /// An agent exists.
        IdentityRegistered(IdentityFacts) = "agent_identity_registered.v1",
        /// An agent was started again, or is another version.
        IdentityChanged(IdentityFacts) = "agent_identity_changed.v1",
        /// An agent runs something.
        ServiceRegistered(ServiceFacts) = "agent_service_registered.v1",
        /// A part of a service works on a backend.
        ProcessorRegistered(ProcessorFacts) = "agent_processor_registered.v1",
        /// An older agent subscribed to a kind of message.
        SubscriptionRegistered(SubscriptionFacts) = "agent_subscription_registered.v1",
        /// An agent's queue is to be there, or is to get other messages.
        QueueRegistered(QueueFacts) = "agent_queue_registered.v1",
        /// An agent is no longer in use.
        IdentityRemoved(IdentityRemoved) = "agent_identity_removed.v1",
    }
}
