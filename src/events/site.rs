//! Events of the whole site, in the stream `site`: settings changed over the API, the pruning horizon. And events about
//! the log itself: events set aside in the stream `quarantine`, finished re-evaluations in the stream `reactions`,
//! verdicts on recorded decisions in the stream `replay`, checkpoints and exports in the stream `notary`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checkpoint::{CheckpointSigned, LogExported, NotaryKeyRotated};
use super::envelope::{Position, StreamName, Version};
use crate::event_family;

/// The name of the stream.
pub const SITE_STREAM: &str = "site";

/// A setting was changed over the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingChanged {
    /// Its name.
    pub name: String,
    /// What it was.
    pub from: serde_json::Value,
    /// What it is.
    pub to: serde_json::Value,
}

/// Rows of the evaluation log and the command history older than the horizon were compacted and pruned.
///
/// The event log itself is untouched; a rebuild leaves out what is older than the newest horizon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionApplied {
    /// Rows strictly older are gone.
    pub horizon: DateTime<Utc>,
    /// The setting in force, days.
    pub retention_days: u32,
}

/// The name of the stream in which the events stand that were set aside.
pub const QUARANTINE_STREAM: &str = "quarantine";

/// An event that cannot be relied on was set aside: whoever folds the log goes on without it. Who and why is in the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSetAside {
    /// Its position in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamName,
    /// Where it stands in its stream.
    pub version: Version,
    /// Its type.
    pub event_type: String,
    /// What was wrong with it.
    pub problem: String,
}

/// The name of the stream that says how far reactions are finished.
pub const REACTIONS_STREAM: &str = "reactions";

/// Everything that changes of the registry and of settings called for is done, up to here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionsFinished {
    /// The position of the last of those changes, in the log that this was recorded in.
    pub through: Position,
    /// The event of the last of those changes, which is the same in a copy of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Uuid>,
}

/// The name of the stream of verdicts on recorded decisions.
pub const REPLAY_STREAM: &str = "replay";

/// Recorded decisions were made again from their recorded inputs, and compared with what is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionsReplayed {
    /// The release that made them again.
    pub release: String,
    /// It began after this position.
    pub after: Position,
    /// The last position that it looked at.
    pub through: Position,
    /// Decisions that came out as recorded.
    pub same: u64,
    /// Decisions that came out otherwise.
    pub different: u64,
    /// Decisions whose events record no inputs.
    pub without_inputs: u64,
    /// Decisions whose payloads were disposed of.
    pub disposed: u64,
    /// Decisions whose events were set aside.
    pub set_aside: u64,
    /// Decisions that cannot be read, or refer to what their stream does not hold.
    pub not_recomputed: u64,
    /// Where the first decision stands that came out otherwise or could not be made again, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first: Option<Position>,
}

event_family! {
    /// The events of the site stream.
    SiteEvent {
        /// A setting changed.
        SettingChanged(SettingChanged) = "setting_changed.v1",
        /// Old rows were pruned.
        RetentionApplied(RetentionApplied) = "retention_applied.v1",
        /// An event was set aside.
        EventSetAside(EventSetAside) = "event_set_aside.v1",
        /// What was called for is done.
        ReactionsFinished(ReactionsFinished) = "reactions_finished.v1",
        /// Recorded decisions were made again.
        DecisionsReplayed(DecisionsReplayed) = "decisions_replayed.v1",
        /// How the log stood was signed.
        CheckpointSigned(CheckpointSigned) = "checkpoint_signed.v1",
        /// Another key signs.
        NotaryKeyRotated(NotaryKeyRotated) = "notary_key_rotated.v1",
        /// Events left the service in a pack.
        LogExported(LogExported) = "log_exported.v1",
    }
}
