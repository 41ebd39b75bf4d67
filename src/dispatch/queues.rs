//! The queues that agents have registered, as message targets.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use crate::domain::ids::{OfferingId, UserId};
use crate::events::agent::QueueFacts;
use crate::events::dispatch::AgentMessage;
use crate::registry::Registry;

/// An agent's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentQueue {
    /// The registration; queue names are made of it.
    pub consumer: Uuid,
    /// The queue's name, `consumer_<hex>`.
    pub queue: String,
    /// The virtual host it is in: the owner's id, hex.
    pub vhost: String,
    /// What the agent logs in with, hex.
    pub login: String,
    /// The offering whose resources it hears of.
    pub offering: OfferingId,
    /// Whose token registered it, and opens it.
    pub owner: UserId,
    /// What it wants to hear of; none = everything.
    pub object_types: Option<BTreeSet<String>>,
}

impl AgentQueue {
    /// Whether messages of this kind belong into it.
    pub fn takes(&self, message: AgentMessage) -> bool {
        self.object_types.as_ref().is_none_or(|types| types.is_empty() || types.contains(message.as_str()))
    }
}

/// A source of queues.
pub trait AgentQueues: Send + Sync {
    /// All of them.
    fn all(&self) -> Vec<AgentQueue>;

    /// Those of an offering.
    fn of_offering(&self, offering: OfferingId) -> Vec<AgentQueue> {
        self.all().into_iter().filter(|queue| queue.offering == offering).collect()
    }

    /// Those in a virtual host, which is one user's.
    fn of_vhost(&self, vhost: &str) -> Vec<AgentQueue> {
        self.all().into_iter().filter(|queue| queue.vhost == vhost).collect()
    }
}

/// The queues of the registry, and further ones that are kept by hand.
#[derive(Debug, Default)]
pub struct KnownQueues {
    registry: Arc<Registry>,
    others: RwLock<Vec<AgentQueue>>,
}

impl KnownQueues {
    /// Those of a registry.
    pub fn of(registry: Arc<Registry>) -> Self {
        Self { registry, others: RwLock::default() }
    }

    /// Adds a queue for as long as the process runs, or replaces the one of the same registration.
    pub fn put(&self, queue: AgentQueue) {
        let mut queues = self.others.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|known| known.consumer != queue.consumer);
        queues.push(queue);
    }
}

impl From<&QueueFacts> for AgentQueue {
    fn from(facts: &QueueFacts) -> Self {
        Self {
            consumer: facts.consumer.as_uuid(),
            queue: facts.queue.clone(),
            vhost: facts.vhost.clone(),
            login: facts.login.clone(),
            offering: facts.offering,
            owner: facts.owner,
            object_types: facts.object_types.clone(),
        }
    }
}

impl AgentQueues for KnownQueues {
    fn all(&self) -> Vec<AgentQueue> {
        let mut queues: Vec<AgentQueue> =
            self.registry.read().agents().queues().map(|queue| AgentQueue::from(&queue.facts)).collect();
        queues.extend(self.others.read().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        queues
    }
}
