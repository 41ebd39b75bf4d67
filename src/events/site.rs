//! Events of the site as a whole, in the stream `site`: settings changed over the API, the pruning horizon.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

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

event_family! {
    /// The events of the site stream.
    SiteEvent {
        /// A setting changed.
        SettingChanged(SettingChanged) = "setting_changed.v1",
        /// Old rows were pruned.
        RetentionApplied(RetentionApplied) = "retention_applied.v1",
    }
}
