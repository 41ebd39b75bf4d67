//! `RabbitMQ`: creates agents' queues over its management API, and sends messages over STOMP.
//!
//! A receipt alone guarantees nothing, so Sluice checks that the queue exists before and after. It stores an agent's
//! credentials as the broker's own hash, so that it can set up a broker that lost everything without any token.

mod connect;
mod manage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use self::connect::Connector;
use self::manage::Management;
use super::broker::{Broker, BrokerError, Outgoing, QueueStatus};
use super::queues::AgentQueue;
use super::stomp::{Client, ClientError, ClientOptions, ToSend};
use crate::directory::Directory;

pub use manage::{password_hash, verify_hash};

/// How a `RabbitMQ` is reached.
#[derive(Debug, Clone)]
pub struct RabbitOptions {
    /// The management API.
    pub management_url: String,
    /// Who sets up queues and sends; may administrate.
    pub username: String,
    /// With what.
    pub password: SecretString,
    /// Where STOMP is spoken.
    pub stomp_host: String,
    /// And on which port.
    pub stomp_port: u16,
    /// STOMP goes through TLS.
    pub tls: bool,
    /// A further certificate authority, PEM; for the management API too.
    pub ca_file: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Heart-beats, milliseconds.
    pub heart_beat_ms: u32,
}

/// Why a `RabbitMQ` cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// The HTTP client.
    #[error("the client for the broker's management API cannot be made")]
    Http(#[source] reqwest::Error),
    /// The certificate authority.
    #[error("the certificate authority {path} cannot be used: {problem}")]
    Authority {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// A `RabbitMQ`.
pub struct RabbitMq {
    options: RabbitOptions,
    management: Management,
    connector: Connector,
    directory: Directory,
    clients: Mutex<HashMap<String, Arc<Client>>>,
}

impl RabbitMq {
    /// A broker at these addresses; nothing is asked yet. Hashes of what agents log in with are kept in the directory.
    ///
    /// # Errors
    /// The certificate authority cannot be read.
    pub fn new(options: RabbitOptions, directory: Directory) -> Result<Self, RabbitError> {
        Ok(Self {
            management: Management::new(&options)?,
            connector: Connector::new(&options)?,
            directory,
            clients: Mutex::default(),
            options,
        })
    }

    /// The connection into a virtual host, opened if there is none.
    async fn client(&self, vhost: &str) -> Result<Arc<Client>, BrokerError> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(vhost).filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let options = ClientOptions {
            host: vhost.to_owned(),
            login: self.options.username.clone(),
            passcode: self.options.password.clone(),
            heart_beat_ms: self.options.heart_beat_ms,
            answer_within: self.options.timeout,
        };
        let client = Arc::new(self.connector.open(&options).await.map_err(|error| failed(&error))?);
        clients.insert(vhost.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// Makes sure that a queue exists, and sets everything up again that is missing.
    async fn repaired(&self, queue: &AgentQueue) -> Result<(), BrokerError> {
        if self.management.is_complete(queue).await? {
            return Ok(());
        }
        let kept = self.directory.broker_hash(&queue.login).await.map_err(|error| {
            BrokerError::Unreachable(format!("the hash of what the agent logs in with cannot be read: {error}"))
        })?;
        let Some(hash) = kept else {
            return Err(BrokerError::Refused(format!(
                "the queue {} or its user does not exist, and nothing is known to set it up with: restart the agent",
                queue.queue
            )));
        };
        tracing::warn!(queue = queue.queue, "the broker does not know a queue; it is set up again");
        self.management.provision(queue, &hash).await
    }

    async fn hand_over(
        &self,
        queue: &AgentQueue,
        messages: &[Outgoing],
    ) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        self.repaired(queue).await?;
        let client = self.client(&queue.vhost).await?;
        let destination = format!("/amq/queue/{}", queue.queue);
        let to_send: Vec<ToSend<'_>> = messages
            .iter()
            .map(|message| ToSend { destination: destination.clone(), id: &message.id, body: &message.body })
            .collect();
        let outcomes = client.send(&to_send).await;
        let status = self.management.status(queue).await?;
        if !status.exists {
            return Err(BrokerError::Unreachable(format!("the queue {} vanished meanwhile", queue.queue)));
        }
        // A full queue answers neither yes nor no.
        let full = status.messages >= manage::QUEUE_MESSAGES_MAX;
        Ok(outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Err(ClientError::NoReceipt) if full => {
                    Err(BrokerError::Refused(format!("the queue holds {} unread messages", status.messages)))
                }
                other => other.map_err(|error| failed(&error)),
            })
            .collect())
    }
}

fn failed(error: &ClientError) -> BrokerError {
    BrokerError::Unreachable(error.to_string())
}

#[async_trait]
impl Broker for RabbitMq {
    async fn provision(&self, queue: &AgentQueue, passcode: &SecretString) -> Result<(), BrokerError> {
        let kept = self.directory.broker_hash(&queue.login).await.ok().flatten();
        let hash = kept.filter(|hash| verify_hash(hash, passcode.expose_secret()));
        let hash = hash.unwrap_or_else(|| password_hash(passcode.expose_secret(), manage::fresh_salt()));
        let keep = self.directory.keep_broker_hash(&queue.login, &hash, crate::clock::real_now()).await;
        keep.map_err(|error| BrokerError::Unreachable(format!("the directory does not keep the hash: {error}")))?;
        self.management.provision(queue, &hash).await
    }

    async fn publish(&self, queue: &AgentQueue, messages: &[Outgoing]) -> Vec<Result<(), BrokerError>> {
        match self.hand_over(queue, messages).await {
            Ok(outcomes) => outcomes,
            Err(error) => messages.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn status(&self, queue: &AgentQueue) -> Result<QueueStatus, BrokerError> {
        self.management.status(queue).await
    }
}
