//! Errors while reading accounting output, with messages that name the place and the remedy.

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
    /// Line number, the header's is 1; in a JSON document the number of the job in its list.
    pub line: u64,
    /// The input is a JSON document.
    pub in_json: bool,
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
        write!(f, "{}, {} {}", self.input, if self.in_json { "job" } else { "line" }, self.line)?;
        match &self.column {
            Some(column) if self.in_json => write!(f, ", {}", column.name)?,
            Some(column) => write!(f, ", column {} ({})", column.position, column.name)?,
            None => {}
        }
        write!(f, ": {:?}: {}", self.value, self.problem)
    }
}

fn quoted(first: Option<&str>) -> String {
    first.map(|line| format!("; the line is {line:?}")).unwrap_or_default()
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
    /// An input has no usable header.
    #[error("{name}, line {line}: {problem}{}", quoted(first.as_deref()))]
    Header {
        /// Name of the input.
        name: String,
        /// Line number of the header, or of the first line that is not blank.
        line: u64,
        /// What is missing or wrong, with the command that writes a usable one.
        problem: String,
        /// What stands in that line.
        first: Option<String>,
    },
    /// An input is no text.
    #[error("{name}: {what}; what is read is the text of sacct -P, or sacct --json")]
    Kind {
        /// Name of the input.
        name: String,
        /// What it looks like.
        what: &'static str,
    },
    /// A JSON document is not one of jobs.
    #[error("{name}: {problem}")]
    Json {
        /// Name of the input.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No row says what its job held.
    #[error(
        "none of the {rows} rows of jobs that ran has AllocTRES, so nothing can be counted: {}",
        super::header::SACCT_COMMAND
    )]
    NoAllocation {
        /// Rows of jobs that ran.
        rows: u64,
    },
    /// What a component counts is in no row, but something that is easily taken for it.
    #[error(
        "no row has {tres}, which the component {component} counts, but {rows} of them have {sibling}: correct the \
         component's slurm_tres, or say --component {component}={sibling}"
    )]
    Sibling {
        /// The component.
        component: String,
        /// What it counts.
        tres: String,
        /// What the rows have.
        sibling: String,
        /// How many have it.
        rows: u64,
    },
    /// One job in rows of two accounts at the same time.
    #[error(
        "job {job} is in rows of two accounts at the same time, {accounts}{}: two clusters in one file? Add Cluster to \
         sacct's -o and name the offering's clusters (slurm_clusters), or take files of one cluster (sacct -M NAME); a job \
         that was moved to another account is in both only if the files are of different days",
        if *others > 0 { format!(" ({others} more such jobs)") } else { String::new() }
    )]
    TwoAccounts {
        /// The job.
        job: String,
        /// The accounts.
        accounts: String,
        /// How many other jobs are like it.
        others: u64,
    },
    /// `sacct` could not be run, or failed.
    #[error("{problem}")]
    Sacct {
        /// What was run, how it ended, and what it said.
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
