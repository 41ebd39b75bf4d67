//! What the notary records of the log itself: signed checkpoints, and which key signs from when on.

use serde::{Deserialize, Serialize};

/// The name of the stream.
pub const NOTARY_STREAM: &str = "notary";

/// Why a checkpoint was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointReason {
    /// It was time.
    Schedule,
    /// A period ended.
    PeriodClose,
    /// Somebody asked for it.
    Request,
    /// The first of a new key.
    KeyRotation,
}

impl CheckpointReason {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::PeriodClose => "period_close",
            Self::Request => "request",
            Self::KeyRotation => "key_rotation",
        }
    }
}

/// How the log stood was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSigned {
    /// The first so many events of the log.
    pub size: u64,
    /// The root of the tree over them, hex.
    pub root: String,
    /// Why now.
    pub reason: CheckpointReason,
    /// The signed note.
    pub note: String,
}

/// Another key signs from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotaryKeyRotated {
    /// The key that signed until now.
    pub from: String,
    /// The key that signs from now on.
    pub to: String,
    /// The statement of this, signed by both.
    pub note: String,
}

/// Events were written into a pack that leaves the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogExported {
    /// Which events, in the words of the command.
    pub what: String,
    /// How many.
    pub events: u64,
    /// The checkpoint that the pack is proved against: the first so many events of the log.
    pub size: u64,
    /// SHA-256 of the pack's manifest, hex.
    pub manifest: String,
}
