//! The site file: the desired state of a site, compared with the current state and applied.
//!
//! [`SiteFile::read`] parses the text, `validate` checks it against itself and the registry, `plan` shows the changes,
//! [`Site::apply`] carries them out. An omitted key keeps the current value, or takes the default on a new object; null
//! restores the default. Everything is checked before the first event is appended.

mod accounts;
mod apply;
mod file;
mod known;
mod merge;
mod plan;
mod plan_resources;
mod policy_keys;
mod prune;
mod rules;
mod users;
mod validate;
mod yaml;

use std::fmt;

pub use apply::{Applied, ApplyError, MadeKey, Site};
pub use file::{Kind, SiteFile};
pub use plan::{Change, ChangeKind, FieldDiff, Plan};
pub use rules::Rules;

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
