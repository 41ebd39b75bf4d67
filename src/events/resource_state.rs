//! The states of a resource at its site, and what each means for policies and for the agent.

use serde::{Deserialize, Serialize};

/// State of a resource, spelled as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub enum ResourceState {
    /// Being created at the site.
    Creating,
    /// In use.
    #[default]
    #[serde(rename = "OK")]
    Ok,
    /// The site reported a failure.
    Erred,
    /// Being changed at the site.
    Updating,
    /// Being removed.
    Terminating,
    /// Gone.
    Terminated,
}

impl ResourceState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Creating, Self::Ok, Self::Erred, Self::Updating, Self::Terminating, Self::Terminated];

    /// The spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Ok => "OK",
            Self::Erred => "Erred",
            Self::Updating => "Updating",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }

    /// Reads the spelling on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// True while policies apply.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::Terminating | Self::Terminated)
    }

    /// True in the states in which the agent takes settings.
    pub fn takes_settings(self) -> bool {
        matches!(self, Self::Ok | Self::Updating)
    }
}
