//! What a verification finds: each with its kind and, as far as that can be told, the place.

use crate::events::envelope::{Position, StreamName, Version};

/// Findings that are named one by one; the rest is counted.
pub const NAMED_MAX: usize = 100;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A payload is not the one that its event committed to.
    PayloadChanged,
    /// The header of an event, or its commitment, is another than the tree holds.
    EventChanged,
    /// An event that the tree holds is gone.
    Deleted,
    /// An event stands in the log that the tree does not hold at this place.
    Inserted,
    /// Events stand in another order than in the tree.
    Reordered,
    /// The log ends before a checkpoint does.
    Truncated,
    /// The log, and the tree with it, is another than a checkpoint says.
    Rewritten,
    /// A checkpoint that its key did not sign.
    ForgedCheckpoint,
    /// A checkpoint of another key than the one that is trusted, without a rotation that both keys signed.
    SwappedKey,
    /// The same key signed two logs that cannot be one.
    SplitView,
    /// An event that cannot be read.
    Unreadable,
    /// The tree beside the log is damaged; the log itself is as its checkpoints say.
    TreeDamaged,
    /// A file of a pack is not the one that its manifest names.
    FileChanged,
}

impl Kind {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PayloadChanged => "payload_changed",
            Self::EventChanged => "event_changed",
            Self::Deleted => "deleted",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Rewritten => "rewritten",
            Self::ForgedCheckpoint => "forged_checkpoint",
            Self::SwappedKey => "swapped_key",
            Self::SplitView => "split_view",
            Self::Unreadable => "unreadable",
            Self::TreeDamaged => "tree_damaged",
            Self::FileChanged => "file_changed",
        }
    }
}

/// Where an event stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPlace {
    /// In the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamName,
    /// In its stream.
    pub version: Version,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// The number of the leaf, from 0; or how many leaves a checkpoint is about.
    pub index: Option<u64>,
    /// The event, where one stands there.
    pub event: Option<EventPlace>,
    /// The position, where no event stands there and the log counts.
    pub position: Option<Position>,
    /// What is wrong, in words.
    pub what: String,
}

impl Finding {
    /// Something wrong that is about no single event.
    pub fn of(kind: Kind, index: Option<u64>, what: impl Into<String>) -> Self {
        Self { kind, index, event: None, position: None, what: what.into() }
    }

    /// Something wrong with an event.
    pub fn at(kind: Kind, index: u64, event: &EventPlace, what: impl Into<String>) -> Self {
        Self { kind, index: Some(index), event: Some(event.clone()), position: Some(event.position), what: what.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind.as_str())?;
        if let Some(position) = self.position {
            write!(f, " at position {}", position.plain())?;
        }
        if let Some(event) = &self.event {
            write!(f, " (event {} of {})", event.version, event.stream)?;
        }
        write!(f, ": {}", self.what)
    }
}
