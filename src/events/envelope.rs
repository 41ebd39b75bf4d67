//! The envelope of an event: its position, actor, cause and time, and the commitment to its payload.
//!
//! A payload is JSON text that only the event families decode. Its commitment covers a random salt and the text, so
//! that both can be disposed of later while the envelope, and every proof over it, stays valid.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use super::position::{Position, PositionError};

/// The longest stream name, in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 200;

/// The type under which an event that was set aside is read: nobody folds it. It is never stored.
pub const SET_ASIDE: &str = "set_aside";

/// How many events a stream holds: the first event is version 1, 0 means that the stream does not exist.
pub type Version = u64;

/// The name of a stream, such as `policy-<hex>` or `allocation-<hex>-2026-03`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StreamName(Arc<str>);

/// A text that is no stream name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no stream name: 1 to 200 of a-z, A-Z, 0-9, '-', '_' and '.', starting with a letter or digit")]
pub struct StreamNameError(String);

impl StreamName {
    /// Checks and takes a name: 1 to 200 bytes of ASCII letters, digits, `-`, `_` and `.`, the first one a letter or digit
    /// (what starts with `$` belongs to the store engine).
    pub fn new(name: impl AsRef<str>) -> Result<Self, StreamNameError> {
        let name = name.as_ref();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if starts_well && name.len() <= STREAM_NAME_BYTES_MAX && name.bytes().all(plain) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(StreamNameError(name.chars().take(STREAM_NAME_BYTES_MAX).collect()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The family of the stream: what stands before the first `-`.
    pub fn category(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StreamName {
    type Err = StreamNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for StreamName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(text).map_err(serde::de::Error::custom)
    }
}

/// In which role somebody, or something, caused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// May do everything.
    Staff,
    /// May read everything.
    Support,
    /// An owner of a customer.
    Owner,
    /// A member of a project.
    Member,
    /// A site agent, bound to one offering.
    Agent,
    /// Sluice itself: scheduler, reactions.
    System,
    /// Somebody at the command line of the server.
    Cli,
}

impl ActorKind {
    /// Every kind, in the order of the codes.
    pub const ALL: [Self; 7] =
        [Self::Staff, Self::Support, Self::Owner, Self::Member, Self::Agent, Self::System, Self::Cli];

    /// The number that stands for the kind in a store; never reused for another.
    pub const fn code(self) -> i16 {
        match self {
            Self::Staff => 1,
            Self::Support => 2,
            Self::Owner => 3,
            Self::Member => 4,
            Self::Agent => 5,
            Self::System => 6,
            Self::Cli => 7,
        }
    }

    /// The kind that a store keeps under this number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(kind.code()) == code)
    }

    /// The name, as JSON writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staff => "staff",
            Self::Support => "support",
            Self::Owner => "owner",
            Self::Member => "member",
            Self::Agent => "agent",
            Self::System => "system",
            Self::Cli => "cli",
        }
    }
}

/// Who caused an event: a role and an opaque id that only the directory resolves to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// The role.
    pub kind: ActorKind,
    /// The user or agent; none for the system and the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
}

impl Actor {
    /// Sluice itself.
    pub const SYSTEM: Self = Self { kind: ActorKind::System, id: None };
    /// Somebody at the command line.
    pub const CLI: Self = Self { kind: ActorKind::Cli, id: None };
}

/// Who and why, the same for all events of one command. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Who.
    pub actor: Actor,
    /// What binds everything that one request led to.
    pub correlation_id: Uuid,
    /// The event that led to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// Why, in somebody's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// What led to an event: the event before it, if there is one, and what binds everything that came of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The event that led to it; none if it is the first.
    pub event: Option<Uuid>,
    /// The correlation id of the first.
    pub correlation: Uuid,
}

/// An event as the cause of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The event.
    #[serde(with = "uuid::serde::simple")]
    pub event: Uuid,
    /// Its correlation id.
    #[serde(with = "uuid::serde::simple")]
    pub correlation: Uuid,
}

impl Link {
    /// An event that comes of nothing but itself.
    pub fn alone(event: Uuid) -> Self {
        Self { event, correlation: event }
    }
}

impl From<Link> for Cause {
    fn from(link: Link) -> Self {
        Self { event: Some(link.event), correlation: link.correlation }
    }
}

/// An event that nobody has stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Identifies the fact; deterministic where a retry must be the same fact.
    pub event_id: Uuid,
    /// Type and version of the shape, such as `usage_reported.v1`.
    pub event_type: &'static str,
    /// When it happened; kept to the microsecond.
    pub occurred_at: DateTime<Utc>,
    /// Who and why.
    pub metadata: Metadata,
    /// What it says, never empty.
    pub payload: Payload,
}

/// The text of a payload that was read back and says what was meant: what nobody could read must not get into a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(String);

/// A payload that does not say what it was made to say. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event_type} would not be read back as it was meant: {problem}")]
pub struct NotReadBack {
    /// The type of the event.
    pub event_type: &'static str,
    /// What came of reading it.
    pub problem: String,
}

impl Payload {
    /// Takes the text of an event if reading it gives what was meant.
    pub fn read_back<E: PartialEq>(
        event_type: &'static str,
        text: String,
        meant: &E,
        read: impl FnOnce(&str) -> Option<Result<E, serde_json::Error>>,
    ) -> Result<Self, NotReadBack> {
        let problem = match read(&text) {
            Some(Ok(found)) if found == *meant => return Ok(Self(text)),
            Some(Ok(_)) => "it says something else".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "the type belongs to another family".to_owned(),
        };
        Err(NotReadBack { event_type, problem })
    }

    /// Any text, of events that no family declares: for tests and measurements of the stores themselves.
    pub fn of_no_family(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Payload> for Arc<str> {
    fn from(payload: Payload) -> Self {
        payload.0.into()
    }
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its position in the log.
    pub position: Position,
    /// The stream it belongs to.
    pub stream: StreamName,
    /// Where it stands in the stream, from 1.
    pub version: Version,
    /// Identifies the fact.
    pub event_id: Uuid,
    /// Type and version of the shape; one allocation per type, not per event.
    pub event_type: Arc<str>,
    /// When it happened, to the microsecond.
    pub occurred_at: DateTime<Utc>,
    /// When the store took it, to the microsecond.
    pub recorded_at: DateTime<Utc>,
    /// Who and why.
    pub metadata: Metadata,
    /// JSON text; empty once disposed of.
    pub payload: Arc<str>,
    /// What the commitment hides the payload with; zeros once disposed of.
    pub salt: [u8; 16],
    /// SHA-256 over salt and payload.
    pub commitment: [u8; 32],
}

/// What stands before the words that say why a stored event makes no sense, in the place of its payload; no JSON begins so.
const DAMAGE: char = '\u{fffd}';

/// What a store gives for the payload of an event that it finds damaged: no family reads it.
pub fn damaged(problem: &str) -> Arc<str> {
    format!("{DAMAGE}{problem}").into()
}

impl RecordedEvent {
    /// Why the stored event makes no sense, if the store found that.
    pub fn damage(&self) -> Option<&str> {
        self.payload.strip_prefix(DAMAGE)
    }

    /// Whether payload and salt were disposed of; the envelope stays.
    pub fn is_disposed(&self) -> bool {
        self.payload.is_empty()
    }

    /// Whether the payload is the one that was committed to; a disposed one cannot be told.
    pub fn commitment_holds(&self) -> bool {
        self.is_disposed() || commitment(&self.salt, &self.payload) == self.commitment
    }
}

/// What a fold of one stream needs of an event: reading no more than that is most of the speed of reading many streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// Where it stands in the stream, from 1.
    pub version: Version,
    /// Identifies the fact.
    pub event_id: Uuid,
    /// What binds everything that one request led to.
    pub correlation_id: Uuid,
    /// Type and version of the shape.
    pub event_type: Arc<str>,
    /// JSON text; empty once disposed of.
    pub payload: Arc<str>,
}

/// Events of a stream from its first one on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStart {
    /// In order, from version 1.
    pub events: Vec<StreamEvent>,
    /// Whether that is all of it; else the rest is read page by page.
    pub whole: bool,
}

impl StreamEvent {
    /// The event as the cause of others.
    pub fn link(&self) -> Link {
        Link { event: self.event_id, correlation: self.correlation_id }
    }
}

impl RecordedEvent {
    /// The event as the cause of others.
    pub fn link(&self) -> Link {
        Link { event: self.event_id, correlation: self.metadata.correlation_id }
    }
}

impl From<&RecordedEvent> for StreamEvent {
    fn from(event: &RecordedEvent) -> Self {
        Self {
            version: event.version,
            event_id: event.event_id,
            correlation_id: event.metadata.correlation_id,
            event_type: Arc::clone(&event.event_type),
            payload: Arc::clone(&event.payload),
        }
    }
}

/// An event of the log that cannot be taken for what somebody recorded: it cannot be read, or it is another than was
/// committed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("event {version} of the stream {stream} ({event_type}, position {}) cannot be relied on: {problem}", .position.plain())]
pub struct DecodeError {
    /// Its position in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamName,
    /// Where it stands in its stream.
    pub version: Version,
    /// Its type.
    pub event_type: Arc<str>,
    /// What is wrong with it.
    pub problem: String,
}

impl DecodeError {
    /// What is wrong with this event.
    pub fn new(event: &RecordedEvent, problem: impl fmt::Display) -> Self {
        let problem = event.damage().map_or_else(|| problem.to_string(), str::to_owned);
        Self {
            position: event.position,
            stream: event.stream.clone(),
            version: event.version,
            event_type: Arc::clone(&event.event_type),
            problem,
        }
    }
}

/// An error with all that lies behind it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// SHA-256 over the salt and the bytes of the payload.
pub fn commitment(salt: &[u8; 16], payload: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(salt);
    hasher.update(payload.as_bytes());
    hasher.finalize().into()
}

/// A new salt from the thread's generator, which the operating system seeds.
pub fn random_salt() -> [u8; 16] {
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    salt
}

/// An instant as every store keeps it: cut to the microsecond.
pub fn to_the_microsecond(instant: DateTime<Utc>) -> DateTime<Utc> {
    instant.trunc_subsecs(6)
}
