//! The site file: what a site should be, compared with what it is, and brought about.
//!
//! [`SiteFile::read`] takes the text, `validate` holds it against itself and the registry, `plan` says what would change,
//! [`Site::apply`] does it. A key that is left out leaves what is, or takes the default on a new object; null goes back to
//! the default. Everything is checked before the first event is appended.

mod apply;
mod file;
mod known;
mod merge;
mod plan;
mod policy_keys;
mod prune;
mod users;
mod validate;
mod yaml;

use std::fmt;

pub use apply::{Applied, ApplyError, MadeKey, Site};
pub use file::{Kind, SiteFile};
pub use plan::{Change, ChangeKind, FieldDiff, Plan};

/// Something that is wrong with a site file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteProblem {
    /// The line, from 1; 0 where none can be named.
    pub line: u64,
    /// The key, such as `policies[0].grace_ratio`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for SiteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

/// Everything that is wrong with a site file, by line. Nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SiteErrors(pub Vec<SiteProblem>);

impl SiteErrors {
    pub(crate) fn one(problem: SiteProblem) -> Self {
        Self(vec![problem])
    }
}
