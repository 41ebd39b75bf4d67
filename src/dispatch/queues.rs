//! The queues that agents have registered, as far as messages are concerned.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use uuid::Uuid;

use crate::domain::ids::{OfferingId, UserId};
use crate::events::dispatch::AgentMessage;

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

/// Who knows the queues.
pub trait AgentQueues: Send + Sync {
    /// All of them.
    fn all(&self) -> Vec<AgentQueue>;

    /// Those of an offering.
    fn of_offering(&self, offering: OfferingId) -> Vec<AgentQueue> {
        self.all().into_iter().filter(|queue| queue.offering == offering).collect()
    }

    /// Those that a login opens.
    fn of_login(&self, vhost: &str, login: &str) -> Vec<AgentQueue> {
        self.all().into_iter().filter(|queue| queue.vhost == vhost && queue.login == login).collect()
    }
}

/// A list of queues that is kept by hand.
#[derive(Debug, Default)]
pub struct KnownQueues(RwLock<Vec<AgentQueue>>);

impl KnownQueues {
    /// Adds a queue, or replaces the one of the same registration.
    pub fn put(&self, queue: AgentQueue) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|known| known.consumer != queue.consumer);
        queues.push(queue);
    }
}

impl AgentQueues for KnownQueues {
    fn all(&self) -> Vec<AgentQueue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
