//! The registry's site agents: their identities, services and queues. There are few, so they are in memory.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::ids::{AgentId, AgentProcessorId, AgentServiceId, OfferingId, QueueId, SubscriptionId};
use crate::events::agent::{AgentEvent, IdentityFacts, ProcessorFacts, QueueFacts, ServiceFacts, SubscriptionFacts};
use crate::events::envelope::Version;

/// Facts with their history.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered<T> {
    /// The facts.
    pub facts: T,
    /// Version of the agent's stream that has them.
    pub version: Version,
    /// When they were first registered.
    pub created: DateTime<Utc>,
    /// When they last changed.
    pub modified: DateTime<Utc>,
}

/// Everything that is known of agents.
#[derive(Debug, Default)]
pub struct Agents {
    versions: HashMap<AgentId, Version>,
    removed: HashMap<AgentId, Version>,
    identities: BTreeMap<AgentId, Registered<IdentityFacts>>,
    services: BTreeMap<AgentServiceId, Registered<ServiceFacts>>,
    processors: BTreeMap<AgentProcessorId, Registered<ProcessorFacts>>,
    subscriptions: BTreeMap<SubscriptionId, Registered<SubscriptionFacts>>,
    queues: BTreeMap<QueueId, Registered<QueueFacts>>,
}

fn put<K: Ord, T: Clone>(map: &mut BTreeMap<K, Registered<T>>, key: K, facts: &T, at: &At) {
    match map.get_mut(&key) {
        Some(known) if known.version >= at.version => {}
        Some(known) => {
            known.facts = facts.clone();
            (known.version, known.modified) = (at.version, at.modified);
        }
        None => {
            let facts = facts.clone();
            let at = at.clone();
            map.insert(key, Registered { facts, version: at.version, created: at.created, modified: at.modified });
        }
    }
}

/// Where and when facts come from.
#[derive(Debug, Clone)]
pub struct At {
    /// Version of the agent's stream.
    pub version: Version,
    /// When they were first registered, if they are new.
    pub created: DateTime<Utc>,
    /// When they changed.
    pub modified: DateTime<Utc>,
}

/// The agent that an event is about.
pub fn agent_of(event: &AgentEvent) -> AgentId {
    match event {
        AgentEvent::IdentityRegistered(f) | AgentEvent::IdentityChanged(f) => f.agent,
        AgentEvent::ServiceRegistered(f) => f.agent,
        AgentEvent::ProcessorRegistered(f) => f.agent,
        AgentEvent::SubscriptionRegistered(f) => f.agent,
        AgentEvent::QueueRegistered(f) => f.agent,
        AgentEvent::IdentityRemoved(f) => f.agent,
    }
}

impl Agents {
    /// Folds an event; one that comes again or late changes nothing.
    pub fn apply(&mut self, event: &AgentEvent, at: &At) {
        let agent = agent_of(event);
        if self.removed.get(&agent).is_some_and(|removed| *removed >= at.version) {
            return;
        }
        let newest = self.versions.entry(agent).or_default();
        *newest = at.version.max(*newest);
        match event {
            AgentEvent::IdentityRegistered(f) | AgentEvent::IdentityChanged(f) => {
                put(&mut self.identities, agent, f, at);
            }
            AgentEvent::ServiceRegistered(f) => put(&mut self.services, f.service, f, at),
            AgentEvent::ProcessorRegistered(f) => put(&mut self.processors, f.processor, f, at),
            AgentEvent::SubscriptionRegistered(f) => put(&mut self.subscriptions, f.subscription, f, at),
            AgentEvent::QueueRegistered(f) => put(&mut self.queues, f.consumer, f, at),
            AgentEvent::IdentityRemoved(_) => {
                self.removed.insert(agent, at.version);
                self.identities.retain(|id, known| *id != agent || known.version > at.version);
                self.services.retain(|_, known| known.facts.agent != agent || known.version > at.version);
                self.processors.retain(|_, known| known.facts.agent != agent || known.version > at.version);
                self.subscriptions.retain(|_, known| known.facts.agent != agent || known.version > at.version);
                self.queues.retain(|_, known| known.facts.agent != agent || known.version > at.version);
            }
        }
    }

    /// How much of an agent's stream is known.
    pub fn version(&self, agent: AgentId) -> Version {
        self.versions.get(&agent).copied().unwrap_or_default()
    }

    /// An agent.
    pub fn identity(&self, agent: AgentId) -> Option<&Registered<IdentityFacts>> {
        self.identities.get(&agent)
    }

    /// All agents, in the order of their ids.
    pub fn identities(&self) -> impl Iterator<Item = &Registered<IdentityFacts>> {
        self.identities.values()
    }

    /// A service.
    pub fn service(&self, service: AgentServiceId) -> Option<&Registered<ServiceFacts>> {
        self.services.get(&service)
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Registered<ServiceFacts>> {
        self.services.values()
    }

    /// A processor.
    pub fn processor(&self, processor: AgentProcessorId) -> Option<&Registered<ProcessorFacts>> {
        self.processors.get(&processor)
    }

    /// All processors.
    pub fn processors(&self) -> impl Iterator<Item = &Registered<ProcessorFacts>> {
        self.processors.values()
    }

    /// A subscription of an older agent.
    pub fn subscription(&self, subscription: SubscriptionId) -> Option<&Registered<SubscriptionFacts>> {
        self.subscriptions.get(&subscription)
    }

    /// All subscriptions of older agents.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Registered<SubscriptionFacts>> {
        self.subscriptions.values()
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = &Registered<QueueFacts>> {
        self.queues.values()
    }

    /// A queue.
    pub fn queue(&self, queue: QueueId) -> Option<&Registered<QueueFacts>> {
        self.queues.get(&queue)
    }

    /// Queues that hear of an offering's resources.
    pub fn queues_of(&self, offering: OfferingId) -> impl Iterator<Item = &QueueFacts> {
        self.queues.values().map(|known| &known.facts).filter(move |facts| facts.offering == offering)
    }
}
