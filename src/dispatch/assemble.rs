//! Assembles broker and publisher.

use std::sync::Arc;

use tokio::sync::Notify;

use super::broker::Broker;
use super::builtin::{Builtin, BuiltinLimits};
use super::rabbitmq::{RabbitMq, RabbitOptions};
use super::{DispatchError, DispatchOptions, KnownQueues, OutboxConsumer, Publisher, PublisherParts};
use crate::clock::Clock;
use crate::commands::execute::Allocations;
use crate::directory::Directory;
use crate::registry::{Follower, Registry};
use crate::site_settings::Settings;
use crate::store::EventStore;
use crate::store::address::Database;
use crate::store::sql::ReadDb;

/// What messages to agents rest on.
pub struct Foundation {
    /// The tables.
    pub read: ReadDb,
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// What exists.
    pub registry: Arc<Registry>,
    /// Keeps it in step.
    pub follower: Arc<Follower>,
    /// Where outcomes are recorded.
    pub allocations: Arc<Allocations>,
    /// Settings of the site.
    pub settings: Arc<Settings>,
    /// The service's clock.
    pub clock: Arc<dyn Clock>,
    /// Who may log in.
    pub directory: Directory,
    /// Where the database is.
    pub database: Database,
}

/// Everything about messages to agents.
pub struct Dispatching {
    /// Hands messages over.
    pub publisher: Arc<Publisher>,
    /// The queues that agents registered.
    pub queues: Arc<KnownQueues>,
    /// Where the queues are.
    pub broker: Arc<dyn Broker>,
    /// The broker of this process, if the site has no other.
    pub builtin: Option<Arc<Builtin>>,
    wake: Arc<Notify>,
}

impl Dispatching {
    /// Puts it together, with the site's `RabbitMQ` if it has one; nothing is sent yet.
    ///
    /// # Errors
    /// The `RabbitMQ` cannot be used as it is configured.
    pub fn new(
        on: &Foundation,
        options: DispatchOptions,
        limits: BuiltinLimits,
        rabbit: Option<RabbitOptions>,
    ) -> Result<Self, DispatchError> {
        if let Some(variable) = options.missing_secret.clone().filter(|_| options.publishes) {
            return Err(DispatchError::MissingSecret(variable));
        }
        let queues = Arc::new(KnownQueues::of(Arc::clone(&on.registry)));
        let (broker, builtin): (Arc<dyn Broker>, _) = if let Some(rabbit) = rabbit {
            (Arc::new(RabbitMq::new(rabbit, on.directory.clone())?), None)
        } else {
            let (clock, queues) = (Arc::clone(&on.clock), Arc::clone(&queues) as _);
            let builtin = Arc::new(Builtin::new(on.read.clone(), clock, on.directory.clone(), queues, limits));
            (Arc::clone(&builtin) as _, Some(builtin))
        };
        let wake = Arc::new(Notify::new());
        let parts = PublisherParts {
            read: on.read.clone(),
            store: Arc::clone(&on.store),
            registry: Arc::clone(&on.registry),
            follower: Arc::clone(&on.follower),
            allocations: Arc::clone(&on.allocations),
            settings: Arc::clone(&on.settings),
            clock: Arc::clone(&on.clock),
            broker: Arc::clone(&broker),
            queues: Arc::clone(&queues) as _,
            database: on.database.clone(),
            wake: Arc::clone(&wake),
        };
        Ok(Self { publisher: Arc::new(Publisher::new(parts, options)), queues, broker, builtin, wake })
    }

    /// The consumer that writes down what agents are owed.
    pub fn consumer(&self, on: &Foundation) -> OutboxConsumer {
        OutboxConsumer::new(Arc::clone(&on.registry), Arc::clone(&on.follower), Arc::clone(&self.wake))
    }
}
