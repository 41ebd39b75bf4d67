//! Settings of the message broker for agents.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::dispatch::rabbitmq::RabbitOptions;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokerKind {
    /// Sluice itself, at `/rmqws-stomp`.
    #[default]
    Builtin,
    /// A `RabbitMQ` of the site.
    Rabbitmq,
}

/// The broker; all but `kind` is for a `RabbitMQ`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// Which.
    pub kind: BrokerKind,
    /// Its management API.
    pub management_url: String,
    /// Who sets up queues and sends.
    pub username: String,
    /// Variable that holds the password.
    pub password_env: Option<String>,
    /// Where STOMP is spoken.
    pub stomp_host: String,
    /// On which port; none = 61613, or 61614 with TLS.
    pub stomp_port: Option<u16>,
    /// STOMP goes through TLS.
    pub tls: bool,
    /// A further certificate authority, PEM.
    pub ca_file: Option<PathBuf>,
    /// Seconds for an answer.
    pub timeout_seconds: u32,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            kind: BrokerKind::Builtin,
            management_url: "http://localhost:15672".to_owned(),
            username: "sluice".to_owned(),
            password_env: None,
            stomp_host: "localhost".to_owned(),
            stomp_port: None,
            tls: false,
            ca_file: None,
            timeout_seconds: 10,
        }
    }
}

impl Config {
    /// The site's `RabbitMQ`, if it has one, and the variable of its password if that is not set.
    pub(super) fn rabbit_options(&self) -> (Option<RabbitOptions>, Option<String>) {
        let broker = &self.broker;
        if broker.kind == BrokerKind::Builtin {
            return (None, None);
        }
        let mut missing = Vec::new();
        let password = broker.password_env.as_ref().and_then(|name| self.secrets.get(name, &mut missing));
        let options = RabbitOptions {
            management_url: broker.management_url.clone(),
            username: broker.username.clone(),
            password: password.unwrap_or_default(),
            stomp_host: broker.stomp_host.clone(),
            stomp_port: broker.stomp_port.unwrap_or(if broker.tls { 61_614 } else { 61_613 }),
            tls: broker.tls,
            ca_file: broker.ca_file.clone(),
            timeout: Duration::from_secs(broker.timeout_seconds.into()),
            heart_beat_ms: 10_000,
        };
        (Some(options), missing.pop())
    }

    pub(super) fn check_broker(&self) -> Result<(), ConfigError> {
        let broker = &self.broker;
        if !(1..=600).contains(&broker.timeout_seconds) {
            let value = broker.timeout_seconds.to_string();
            return Err(ConfigError::OutOfRange { key: "broker.timeout_seconds", value, allowed: "1 to 600" });
        }
        if broker.kind == BrokerKind::Builtin {
            return Ok(());
        }
        super::check::web_address(&broker.management_url)
            .map_err(|problem| ConfigError::Unfit { key: "broker.management_url", problem })?;
        if broker.password_env.is_none() {
            return Err(ConfigError::Value(format!(
                "broker.password_env: name the variable that holds the password of {:?} at the RabbitMQ",
                broker.username
            )));
        }
        Ok(())
    }
}
