//! What can go wrong while reading accounting output, in words that lead to the place and to the remedy.

use std::fmt;
use std::io;

use thiserror::Error;

/// A column of an input: its place, counted from 1, and the name its header gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Place in the line, the first is 1.
    pub position: usize,
    /// Name in the header.
    pub name: String,
}

/// A line that cannot be read, where it is and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Name of the input.
    pub input: String,
    /// Line number, the header's is 1.
    pub line: u64,
    /// The column, unless the line as a whole is wrong.
    pub column: Option<Column>,
    /// What stands there, shortened to [`BadLine::SHOWN_CHARS`].
    pub value: String,
    /// What is wrong with it, or what would be right.
    pub problem: String,
}

impl BadLine {
    /// Characters of a value that are kept for the message.
    pub const SHOWN_CHARS: usize = 80;

    /// The beginning of `text`, marked where something was left out.
    pub(super) fn shorten(text: &str) -> String {
        let mut shown: String = text.chars().take(Self::SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.input, self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column {} ({})", column.position, column.name)?;
        }
        write!(f, ": {:?}: {}", self.value, self.problem)
    }
}

/// Why an import stopped. Nothing has been handed out when it does.
#[derive(Debug, Error)]
pub enum ImportError {
    /// An input could not be opened or read.
    #[error("cannot read {name}")]
    Io {
        /// Name of the input.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The first line of an input is not a usable header.
    #[error("{name}, line {line}: {problem}")]
    Header {
        /// Name of the input.
        name: String,
        /// Line number of the header.
        line: u64,
        /// What is missing or wrong, with the command that writes a usable one.
        problem: String,
    },
    /// A malformed line, and those are not skipped.
    #[error("{0}")]
    BadLine(Box<BadLine>),
    /// More job rows than [`super::ImportLimits::rows`].
    #[error("more than {limit} job rows in one import; import fewer months at a time")]
    TooManyRows {
        /// The limit that was reached.
        limit: usize,
    },
    /// `-` was named more than once.
    #[error("standard input can be named only once")]
    StandardInputTwice,
    /// A total has more digits than a decimal holds.
    #[error("the total of {component} for account {account:?} in {month} is too large")]
    TooLarge {
        /// The account.
        account: String,
        /// The month, `2026-03`.
        month: String,
        /// The component.
        component: String,
    },
}
