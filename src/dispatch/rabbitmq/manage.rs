//! The management API: virtual hosts, users, permissions, queues; and the broker's own password hashes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{RabbitError, RabbitOptions};
use crate::dispatch::broker::{BrokerError, QueueStatus};
use crate::dispatch::queues::AgentQueue;

/// Unread messages of a queue; further ones are refused.
pub(super) const QUEUE_MESSAGES_MAX: u64 = 10_000;

/// How long a message waits to be read.
const MESSAGE_LIVES_MS: u64 = 3_600_000;

/// Where messages go that nobody read in time.
const DEAD_LETTERS: &str = "waldur.dlq.messages";

/// How long they are kept there, and how many.
const DEAD_LETTERS_LIVE_MS: u64 = 30 * 24 * 3_600_000;
const DEAD_LETTERS_MAX: u64 = 10_000;

/// What an answer may say of a failure, characters.
const REASON_CHARS_MAX: usize = 300;

/// The API.
#[derive(Debug)]
pub(super) struct Management {
    http: reqwest::Client,
    options: RabbitOptions,
}

/// `RabbitMQ`'s own form of a password: base64 of a salt of four bytes, and SHA-256 over the salt and the password.
pub fn password_hash(password: &str, salt: [u8; 4]) -> String {
    let digest = Sha256::new_with_prefix(salt).chain_update(password.as_bytes()).finalize();
    STANDARD.encode([&salt[..], &digest[..]].concat())
}

/// Whether a hash is that of a password.
pub fn verify_hash(hash: &str, password: &str) -> bool {
    let Ok(bytes) = STANDARD.decode(hash) else { return false };
    let Some(salt) = bytes.first_chunk::<4>() else { return false };
    bool::from(subtle::ConstantTimeEq::ct_eq(password_hash(password, *salt).as_bytes(), hash.as_bytes()))
}

pub(super) fn fresh_salt() -> [u8; 4] {
    let mut salt = [0; 4];
    rand::rng().fill_bytes(&mut salt);
    salt
}

/// A part of a path; names are hex digits and the like, and anything else is escaped.
fn part(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut part, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            part.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(part, "%{byte:02X}");
        }
        part
    })
}

impl Management {
    pub(super) fn new(options: &RabbitOptions) -> Result<Self, RabbitError> {
        let mut builder = reqwest::Client::builder()
            .timeout(options.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &options.ca_file {
            let wrong = |problem: String| RabbitError::Authority { path: path.display().to_string(), problem };
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let authority = reqwest::Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
            builder = builder.tls_certs_merge([authority]);
        }
        Ok(Self { http: builder.build().map_err(RabbitError::Http)?, options: options.clone() })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, String), BrokerError> {
        let url = format!("{}/api/{path}", self.options.management_url.trim_end_matches('/'));
        let password = self.options.password.expose_secret();
        let request = self.http.request(method, url).basic_auth(&self.options.username, Some(password));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        // Without the address, in which a password could stand.
        let failed = |error: reqwest::Error| BrokerError::Unreachable(chain(&error.without_url()));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        Ok((status, response.text().await.map_err(failed)?))
    }

    async fn put(&self, path: &str, body: &Value) -> Result<(), BrokerError> {
        let (status, text) = self.ask(Method::PUT, path, Some(body)).await?;
        if status.is_success() { Ok(()) } else { Err(refusal(path, status, &text)) }
    }

    /// Whether something exists.
    async fn get(&self, path: &str) -> Result<Option<Value>, BrokerError> {
        let (status, text) = self.ask(Method::GET, path, None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(serde_json::from_str(&text).unwrap_or_default())),
            status => Err(refusal(path, status, &text)),
        }
    }

    /// Sets up whatever an agent needs; what is there stays.
    pub(super) async fn provision(&self, queue: &AgentQueue, hash: &str) -> Result<(), BrokerError> {
        let (vhost, login) = (part(&queue.vhost), part(&queue.login));
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.put(&format!("vhosts/{vhost}"), &json!({})).await?;
        self.put(&format!("permissions/{vhost}/{}", part(&self.options.username)), &all).await?;
        let user = json!({"password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""});
        self.put(&format!("users/{login}"), &user).await?;
        self.put(&format!("permissions/{vhost}/{login}"), &all).await?;
        let dead = json!({"durable": true, "auto_delete": false,
            "arguments": {"x-message-ttl": DEAD_LETTERS_LIVE_MS, "x-max-length": DEAD_LETTERS_MAX}});
        self.queue(&vhost, DEAD_LETTERS, &dead).await?;
        let arguments = json!({"x-message-ttl": MESSAGE_LIVES_MS, "x-max-length": QUEUE_MESSAGES_MAX,
            "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD_LETTERS});
        let body = json!({"durable": true, "auto_delete": false, "arguments": arguments});
        self.queue(&vhost, &queue.queue, &body).await
    }

    /// An existing queue keeps its arguments, since they cannot be changed.
    async fn queue(&self, vhost: &str, name: &str, body: &Value) -> Result<(), BrokerError> {
        let path = format!("queues/{vhost}/{}", part(name));
        if self.get(&path).await?.is_some() { Ok(()) } else { self.put(&path, body).await }
    }

    /// Whether everything is there that an agent needs, and the queue of dead letters.
    pub(super) async fn is_complete(&self, queue: &AgentQueue) -> Result<bool, BrokerError> {
        let (vhost, login) = (part(&queue.vhost), part(&queue.login));
        let needed = [
            format!("queues/{vhost}/{}", part(&queue.queue)),
            format!("users/{login}"),
            format!("permissions/{vhost}/{login}"),
            format!("queues/{vhost}/{DEAD_LETTERS}"),
        ];
        let found = futures::future::try_join_all(needed.iter().map(|path| self.get(path))).await?;
        Ok(found.iter().all(Option::is_some))
    }

    pub(super) async fn status(&self, queue: &AgentQueue) -> Result<QueueStatus, BrokerError> {
        let path = format!("queues/{}/{}", part(&queue.vhost), part(&queue.queue));
        let Some(found) = self.get(&path).await? else { return Ok(QueueStatus::default()) };
        let number = |key: &str| found.get(key).and_then(Value::as_u64).unwrap_or_default();
        Ok(QueueStatus { exists: true, consumers: number("consumers"), messages: number("messages") })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// An answer that says no. Without rights, and while it starts, it may say something else later.
fn refusal(path: &str, status: StatusCode, text: &str) -> BrokerError {
    let what = path.split('/').next().unwrap_or_default();
    let reason: String = text.chars().take(REASON_CHARS_MAX).collect();
    let said = format!("the management API answered {status} for {what}: {reason}");
    if status.is_server_error() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        BrokerError::Unreachable(said)
    } else {
        BrokerError::Refused(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_brokers_documentation() {
        // The worked example there: salt 0x908DC60A, password "test12".
        let hash = password_hash("test12", [0x90, 0x8d, 0xc6, 0x0a]);
        assert_eq!(hash, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
        assert!(verify_hash(&hash, "test12") && !verify_hash(&hash, "test13") && !verify_hash("no hash", "test12"));
    }

    #[test]
    fn parts_of_paths_are_escaped() {
        assert_eq!(part("consumer_00ff.x-y~"), "consumer_00ff.x-y~");
        assert_eq!(part("/a b%"), "%2Fa%20b%25");
    }
}
