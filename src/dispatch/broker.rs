//! The operations that the publisher needs from any broker.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use super::queues::AgentQueue;

/// A message for a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The same each time this hand-over is tried: a broker that can takes it once.
    pub id: String,
    /// What it is about; where a broker can, a newer message replaces one on the same subject that nobody has read.
    pub subject: String,
    /// JSON.
    pub body: Arc<str>,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStatus {
    /// It exists.
    pub exists: bool,
    /// Agents that listen to it now.
    pub consumers: u64,
    /// Messages that nobody has read.
    pub messages: u64,
}

/// Why a broker did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// It could not be asked, or did not answer: later it may.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    /// It answered, and did not take it.
    #[error("the broker refused: {0}")]
    Refused(String),
}

/// A broker.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Makes sure that an agent can log in with `passcode` and finds its queue; any number of times.
    async fn provision(&self, queue: &AgentQueue, passcode: &SecretString) -> Result<(), BrokerError>;

    /// Hands messages to a queue, in order, with one outcome each. `Ok` means that an existing queue has it: it waits there
    /// for the agent, a restart of this service or of the broker notwithstanding. After the first message of a subject that
    /// is not taken, later ones may be taken all the same.
    async fn publish(&self, queue: &AgentQueue, messages: &[Outgoing]) -> Vec<Result<(), BrokerError>>;

    /// How a queue stands.
    async fn status(&self, queue: &AgentQueue) -> Result<QueueStatus, BrokerError>;
}
