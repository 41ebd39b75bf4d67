//! Messages to site agents: a consumer of the log writes the settings that a decision requires to an outbox, a
//! publisher hands them to the agents' queues, and they stay until they are answered.
//!
//! The queues belong to the built-in broker or to a `RabbitMQ`; one setting chooses. Nothing is sent while an event is
//! being applied, and what was sent is recorded in the resource's book before it is forgotten here.

mod accounts;
mod assemble;
pub mod broker;
pub mod builtin;
mod consumer;
mod fold;
pub mod message;
mod outbox;
mod publisher;
mod queues;
pub mod rabbitmq;
mod rows;
pub mod stomp;
pub mod webhooks;

pub use accounts::{LeftBecause, LeftRestricted};
pub use assemble::{Dispatching, Foundation};
pub use consumer::OutboxConsumer;
pub use outbox::{DeadLetter, DeadLetterReason, Depth};
pub use publisher::{DispatchOptions, Freed, Publisher, PublisherParts, Swept};
pub use queues::{AgentQueue, AgentQueues, KnownQueues};

use crate::commands::execute::CommandError;
use crate::registry::FollowError;
use crate::store::StoreError;
use crate::store::sql::SqlError;

/// The name of the outbox consumer's checkpoint.
pub const CONSUMER: &str = "outbox";

/// Why messages to agents cannot be worked on. What is owed stays written down.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The tables.
    #[error("the outbox failed")]
    Sql(#[from] SqlError),
    /// The log.
    #[error("the publisher cannot read the log")]
    Store(#[from] StoreError),
    /// The registry.
    #[error("the registry cannot follow the log")]
    Follow(#[from] FollowError),
    /// A book.
    #[error("an allocation cannot be read or written")]
    Command(#[from] CommandError),
    /// The file that keeps two processes from publishing at once.
    #[error("{} cannot be locked", path.display())]
    Lock {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret that the configuration names.
    #[error("the variable {0} is not set; the configuration says that it holds a secret")]
    MissingSecret(String),
    /// The broker as it is configured.
    #[error(transparent)]
    Broker(#[from] rabbitmq::RabbitError),
    /// A stored row or event that makes no sense.
    #[error("a message cannot be read: {0}")]
    Unreadable(String),
}
