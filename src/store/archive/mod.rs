//! Old parts of the log as segments: compressed, verified, and still available to every reader of the log.
//!
//! A segment is an unbroken piece of the log. Its representation of an event is canonical, so that its hash can be
//! compared with the rows that it replaces. Its format and the steps of archiving do not depend on the engine; the
//! place of segments and the deletion of rows do: files beside an `SQLite` file, rows of bytes in a `PostgreSQL`
//! database.

mod engine;
pub(in crate::store) mod line;
mod reader;
pub(in crate::store) mod recorded;
mod segment;
mod work;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

pub(in crate::store) use engine::{ArchiveEngine, Catalogue, Session};
pub use line::hex;
pub(in crate::store) use reader::{ArchiveReader, StreamRows, unarchived};
pub(in crate::store) use recorded::Placed;
pub use segment::{Frame, Segment, SegmentError, SegmentFacts};
pub(in crate::store) use segment::{SegmentCheck, SegmentMaker, read_frame};
pub use work::Archive;

use super::StoreError;

/// The months of a site's calendar: the name of the month that an instant lies in, and when it ends.
pub type MonthOf<'a> = &'a (dyn Fn(DateTime<Utc>) -> (String, DateTime<Utc>) + Sync);

/// A step of archiving, after which a test can stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveStep {
    /// Half of the segment is written.
    Writing,
    /// The segment is written, a file under another name.
    Written,
    /// The file has its name.
    Named,
    /// The segment was read back and is what the rows say.
    Verified,
    /// The segment is recorded.
    Recorded,
    /// Some of the rows are removed.
    Removing,
}

/// Stops archiving as a crash would, if it answers true.
pub type ArchiveFaults = Arc<dyn Fn(ArchiveStep) -> bool + Send + Sync>;

/// Where segments lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// As files in a folder.
    Folder(PathBuf),
    /// In the database.
    Database,
}

impl Place {
    /// The folder, where there is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Database => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Database => f.write_str("the database"),
        }
    }
}

/// Why archiving went no further.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The database.
    #[error("the log cannot be archived")]
    Store(#[from] StoreError),
    /// A segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The folder of the archive.
    #[error("the folder {} of the archive cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else is at it.
    #[error("another process is archiving into {0}")]
    Busy(Place),
    /// Events in the segments and in the rows differ.
    #[error("the archive and the log do not agree: {0}")]
    Differs(String),
    /// A test stopped it.
    #[error("stopped after {0:?} by a test")]
    Injected(ArchiveStep),
}

/// A segment to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The month, as `2025-01`.
    pub month: String,
    /// Position of the first event.
    pub first: u64,
    /// Position of the last event.
    pub last: u64,
    /// How many events it will hold.
    pub events: u64,
}

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// Segments written, verified and recorded.
    pub segments: Vec<Segment>,
    /// Rows removed from the log, those of earlier runs included.
    pub removed: u64,
}
