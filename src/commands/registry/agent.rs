//! Commands on site agents. An agent registers the same things at every start; repeating a registration adds nothing.

use chrono::TimeDelta;

use super::{ATTEMPTS_MAX, RegistryCommands, RegistryError, stream_name};
use crate::commands::execute::CommandMeta;
use crate::domain::ids::{
    AgentId, AgentProcessorId, AgentServiceId, OfferingId, QueueId, SubscriptionId, UserId, slug_uuid,
};
use crate::domain::validation::FieldErrors;
use crate::events::agent::{
    AgentEvent, IdentityFacts, IdentityRemoved, ProcessorFacts, QueueFacts, ServiceFacts, SubscriptionFacts,
};
use crate::events::envelope::{DecodeError, Position, RecordedEvent, SET_ASIDE};
use crate::registry::Agents;
use crate::store::StoreError;

/// Agents of an offering at most.
const AGENTS_MAX: usize = 100;
/// Services of an agent, processors of a service, subscriptions of an agent at most.
const PARTS_MAX: usize = 100;

/// An agent that says nothing new but that it was started within this time of what is known has said nothing.
const SAME_START: TimeDelta = TimeDelta::minutes(1);

/// What a registration came to.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredPart<T> {
    /// What is registered now.
    pub part: T,
    /// It was not before.
    pub created: bool,
    /// Position of the event; none if nothing changed.
    pub position: Option<Position>,
}

/// The agent of this name on an offering.
pub fn agent_id(offering: OfferingId, name: &str) -> AgentId {
    slug_uuid("agent", &format!("{offering}/{name}")).into()
}

fn too_many(what: &str, most: usize) -> RegistryError {
    FieldErrors::one("non_field_errors", format!("There are {most} {what} already, which is the most allowed.")).into()
}

fn missing() -> RegistryError {
    RegistryError::Missing("agent")
}

/// The facts to record, if any, and the resulting registration; whether it is new.
type Decided<T> = Result<(Option<AgentEvent>, T, bool), RegistryError>;

impl RegistryCommands {
    async fn on_agent<T>(
        &self,
        agent: AgentId,
        meta: &CommandMeta,
        decide: impl Fn(&Agents) -> Decided<T>,
    ) -> Result<RegisteredPart<T>, RegistryError> {
        let stream = stream_name("agent", agent.as_uuid());
        for _ in 0..ATTEMPTS_MAX {
            let known = self.registry.read().agents().version(agent);
            for recorded in self.read_after(&stream, known).await? {
                if &*recorded.event_type == SET_ASIDE {
                    continue;
                }
                let event = decode(&recorded)?;
                self.registry.write().apply_agent(&event, recorded.version, recorded.occurred_at);
            }
            let (version, (event, part, created)) = {
                let state = self.registry.read();
                (state.agents().version(agent), decide(state.agents())?)
            };
            let Some(event) = event else { return Ok(RegisteredPart { part, created, position: None }) };
            let payload = event.to_append().map_err(StoreError::from)?;
            match self.append_any(&stream, version, event.event_type(), payload, meta).await {
                Ok((appended, now)) => {
                    self.registry.write().apply_agent(&event, appended.version, now);
                    return Ok(RegisteredPart { part, created, position: Some(appended.position) });
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Contended(stream.to_string()))
    }

    /// Registers an agent, or takes over what it says of itself now.
    pub async fn put_agent(
        &self,
        facts: IdentityFacts,
        meta: &CommandMeta,
    ) -> Result<RegisteredPart<IdentityFacts>, RegistryError> {
        self.on_agent(facts.agent, meta, |agents| {
            let Some(known) = agents.identity(facts.agent) else {
                if agents.identities().filter(|known| known.facts.offering == facts.offering).count() >= AGENTS_MAX {
                    return Err(too_many("agents on the offering", AGENTS_MAX));
                }
                return Ok((Some(AgentEvent::IdentityRegistered(facts.clone())), facts.clone(), true));
            };
            let same_start = match (known.facts.last_restarted, facts.last_restarted) {
                (Some(was), Some(is)) => (is - was).abs() < SAME_START,
                (was, is) => was == is,
            };
            let but_for_the_start = IdentityFacts { last_restarted: known.facts.last_restarted, ..facts.clone() };
            if same_start && but_for_the_start == known.facts {
                return Ok((None, known.facts.clone(), false));
            }
            Ok((Some(AgentEvent::IdentityChanged(facts.clone())), facts.clone(), false))
        })
        .await
    }

    /// Registers a service of an agent, by its name.
    pub async fn register_service(
        &self,
        agent: AgentId,
        name: &str,
        mode: &str,
        meta: &CommandMeta,
    ) -> Result<RegisteredPart<ServiceFacts>, RegistryError> {
        let service = AgentServiceId::from(slug_uuid("agent_service", &format!("{agent}/{name}")));
        let facts = ServiceFacts { service, agent, name: name.to_owned(), mode: mode.to_owned() };
        self.on_agent(agent, meta, |agents| {
            agents.identity(agent).ok_or_else(missing)?;
            let known = agents.service(service);
            if known.is_some_and(|known| known.facts == facts) {
                return Ok((None, facts.clone(), false));
            }
            if known.is_none() && agents.services().filter(|s| s.facts.agent == agent).count() >= PARTS_MAX {
                return Err(too_many("services of the agent", PARTS_MAX));
            }
            Ok((Some(AgentEvent::ServiceRegistered(facts.clone())), facts.clone(), known.is_none()))
        })
        .await
    }

    /// Registers a processor of a service, by its name.
    pub async fn register_processor(
        &self,
        service: &ServiceFacts,
        name: &str,
        backend: (&str, &str),
        meta: &CommandMeta,
    ) -> Result<RegisteredPart<ProcessorFacts>, RegistryError> {
        let facts = ProcessorFacts {
            processor: AgentProcessorId::from(slug_uuid("agent_processor", &format!("{}/{name}", service.service))),
            service: service.service,
            agent: service.agent,
            name: name.to_owned(),
            backend_type: backend.0.to_owned(),
            backend_version: backend.1.to_owned(),
        };
        self.on_agent(service.agent, meta, |agents| {
            agents.service(service.service).ok_or_else(missing)?;
            let known = agents.processor(facts.processor);
            if known.is_some_and(|known| known.facts == facts) {
                return Ok((None, facts.clone(), false));
            }
            let same_service = |p: &&crate::registry::Registered<ProcessorFacts>| p.facts.service == service.service;
            if known.is_none() && agents.processors().filter(same_service).count() >= PARTS_MAX {
                return Err(too_many("processors of the service", PARTS_MAX));
            }
            Ok((Some(AgentEvent::ProcessorRegistered(facts.clone())), facts.clone(), known.is_none()))
        })
        .await
    }

    /// Registers the one queue of an agent. `object_types`: none keeps the filter that is known; an empty list is all kinds.
    /// Somebody else's token gets a login of its own.
    pub async fn register_queue(
        &self,
        agent: AgentId,
        owner: UserId,
        object_types: Option<&std::collections::BTreeSet<String>>,
        meta: &CommandMeta,
    ) -> Result<RegisteredPart<QueueFacts>, RegistryError> {
        let consumer = QueueId::from(slug_uuid("agent_queue", &agent.to_string()));
        let fresh = self.ids.fresh();
        self.on_agent(agent, meta, |agents| {
            let identity = agents.identity(agent).ok_or_else(missing)?;
            let known = agents.queue(consumer).map(|known| &known.facts);
            let login = known.filter(|known| known.owner == owner).map(|known| known.login.clone());
            let facts = QueueFacts {
                consumer,
                agent,
                offering: identity.facts.offering,
                queue: format!("consumer_{consumer}"),
                vhost: owner.to_string(),
                login: login.unwrap_or_else(|| fresh.as_simple().to_string()),
                owner,
                object_types: match object_types {
                    Some(types) => Some(types.clone()).filter(|types| !types.is_empty()),
                    None => known.and_then(|known| known.object_types.clone()),
                },
                subscription: None,
            };
            if known == Some(&facts) {
                return Ok((None, facts, false));
            }
            Ok((Some(AgentEvent::QueueRegistered(facts.clone())), facts, known.is_none()))
        })
        .await
    }

    /// Subscribes an older agent to a kind of message.
    pub async fn subscribe(
        &self,
        agent: AgentId,
        owner: UserId,
        object_type: &str,
        description: &str,
        meta: &CommandMeta,
    ) -> Result<RegisteredPart<SubscriptionFacts>, RegistryError> {
        let fresh = SubscriptionId::from(self.ids.fresh());
        self.on_agent(agent, meta, |agents| {
            agents.identity(agent).ok_or_else(missing)?;
            let own = || agents.subscriptions().map(|s| &s.facts).filter(|s| s.agent == agent);
            if let Some(known) = own().find(|s| s.object_type == object_type && s.owner == owner) {
                return Ok((None, known.clone(), false));
            }
            if own().count() >= PARTS_MAX {
                return Err(too_many("subscriptions of the agent", PARTS_MAX));
            }
            let facts = SubscriptionFacts {
                subscription: fresh,
                agent,
                object_type: object_type.to_owned(),
                description: description.to_owned(),
                owner,
            };
            Ok((Some(AgentEvent::SubscriptionRegistered(facts.clone())), facts, true))
        })
        .await
    }

    /// Registers the queue of a subscription.
    pub async fn create_queue(
        &self,
        subscription: &SubscriptionFacts,
        offering: OfferingId,
        meta: &CommandMeta,
    ) -> Result<RegisteredPart<QueueFacts>, RegistryError> {
        let id = subscription.subscription;
        let facts = QueueFacts {
            consumer: QueueId::from(slug_uuid("agent_queue", &format!("{id}/{offering}"))),
            agent: subscription.agent,
            offering,
            queue: format!("subscription_{id}_offering_{offering}_{}", subscription.object_type),
            vhost: subscription.owner.to_string(),
            login: id.to_string(),
            owner: subscription.owner,
            object_types: Some([subscription.object_type.clone()].into()),
            subscription: Some(id),
        };
        self.on_agent(subscription.agent, meta, |agents| {
            agents.subscription(id).ok_or_else(missing)?;
            let known = agents.queue(facts.consumer).map(|known| &known.facts);
            if known == Some(&facts) {
                return Ok((None, facts.clone(), false));
            }
            Ok((Some(AgentEvent::QueueRegistered(facts.clone())), facts.clone(), known.is_none()))
        })
        .await
    }

    /// What an agent that was forgotten last said of itself; none where the agent is known, or never was.
    pub async fn forgotten_agent(&self, agent: AgentId) -> Result<Option<IdentityFacts>, RegistryError> {
        let stream = stream_name("agent", agent.as_uuid());
        let mut last = None;
        let mut forgotten = false;
        for recorded in self.read_after(&stream, 0).await? {
            match decode(&recorded)? {
                AgentEvent::IdentityRegistered(facts) | AgentEvent::IdentityChanged(facts) => {
                    (last, forgotten) = (Some(facts), false);
                }
                AgentEvent::IdentityRemoved(_) => forgotten = true,
                _ => {}
            }
        }
        Ok(last.filter(|_| forgotten))
    }

    /// Forgets an agent with its queues.
    pub async fn remove_agent(&self, agent: AgentId, meta: &CommandMeta) -> Result<RegisteredPart<()>, RegistryError> {
        self.on_agent(agent, meta, |agents| {
            let offering = agents.identity(agent).ok_or_else(missing)?.facts.offering;
            Ok((Some(AgentEvent::IdentityRemoved(IdentityRemoved { agent, offering })), (), false))
        })
        .await
    }
}

fn decode(recorded: &RecordedEvent) -> Result<AgentEvent, RegistryError> {
    let decoded = AgentEvent::decode(&recorded.event_type, &recorded.payload)
        .unwrap_or_else(|| Err(serde::de::Error::custom("the type is none of an agent's")));
    decoded.map_err(|problem| RegistryError::from(Box::new(DecodeError::new(recorded, problem))))
}
