//! The envelope of an event: where it stands, who caused it, when, and the commitment to what it says.
//!
//! A payload is JSON text that only the event families read. Its commitment covers a random salt and the text, so that
//! both can be disposed of later while the envelope, and every proof over it, stays valid.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The longest stream name, in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 200;

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

/// Where an event stands in the whole log. Opaque: positions of one log can be compared, and nothing else.
///
/// The SQL engines and memory use (sequence number, 0), `EventStoreDB` (commit, prepare). Written as `hi-lo` in hex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    hi: u64,
    lo: u64,
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is two groups of up to 16 hex digits with a dash between them")]
pub struct PositionError;

impl Position {
    /// Before the first event.
    pub const START: Self = Self { hi: 0, lo: 0 };

    /// The position of the event with this sequence number; numbers start at 1.
    pub const fn seq(number: u64) -> Self {
        Self { hi: number, lo: 0 }
    }

    /// The sequence number, in a log that counts.
    pub const fn as_seq(self) -> u64 {
        self.hi
    }

    /// Puts a position together from the two halves that a store keeps.
    pub const fn from_parts(hi: u64, lo: u64) -> Self {
        Self { hi, lo }
    }

    /// The two halves, for a store to keep.
    pub const fn parts(self) -> (u64, u64) {
        (self.hi, self.lo)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.hi, self.lo)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| {
            let hex = (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hex { u64::from_str_radix(digits, 16).map_err(|_| PositionError) } else { Err(PositionError) }
        };
        let (hi, lo) = text.split_once('-').ok_or(PositionError)?;
        Ok(Self { hi: half(hi)?, lo: half(lo)? })
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
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
    /// JSON text, never empty.
    pub payload: String,
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Where it stands in the log.
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

impl RecordedEvent {
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
    /// Type and version of the shape.
    pub event_type: Arc<str>,
    /// JSON text; empty once disposed of.
    pub payload: Arc<str>,
}

impl From<&RecordedEvent> for StreamEvent {
    fn from(event: &RecordedEvent) -> Self {
        Self {
            version: event.version,
            event_id: event.event_id,
            event_type: Arc::clone(&event.event_type),
            payload: Arc::clone(&event.payload),
        }
    }
}

/// An event of the log whose payload this program cannot read.
#[derive(Debug, thiserror::Error)]
#[error("event {event_type} at position {position} cannot be read")]
pub struct DecodeError {
    /// Its type.
    pub event_type: Arc<str>,
    /// Where it stands.
    pub position: Position,
    /// What is wrong with it.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl DecodeError {
    /// What is wrong with this event.
    pub fn new(event: &RecordedEvent, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { event_type: Arc::clone(&event.event_type), position: event.position, source: source.into() }
    }
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
