//! Reports over a period: what was restricted and why, what each allocation was charged with, which rules changed, who was
//! told, whether agents did as they were told, who was treated otherwise than others.
//!
//! Each is made in one pass over the log, page by page, and keeps no more in memory than the site has objects and the report
//! has rows. Each number names the events that it comes of, so that whoever doubts it can look.

mod agents;
mod changes;
mod drift;
mod enforcement;
mod exceptions;
mod fairness;
mod known;
mod notices;
mod pass;
mod statement;
mod table;
mod written;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

pub use pass::{ReportError, report};
pub use table::{Cell, EventRef, REFS_MAX, ROWS_MAX, Refs, Row, Table, Value};

use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::Period;
use crate::events::envelope::Position;

/// What there is a report on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Every restriction: when, why, by which version of which rule, whether the cluster confirmed it.
    EnforcementRegister,
    /// What each allocation had, used, and was restricted for.
    Statement,
    /// What changed of policies, offerings and settings, by whom and why.
    PolicyChanges,
    /// Notices that went out, or could not.
    Notices,
    /// Whether site agents did what they were told, and what nobody confirmed.
    AgentReliability,
    /// Holds that people placed.
    Exceptions,
    /// Where the cluster was found otherwise than it should be.
    Drift,
    /// Allocations that were treated otherwise than others at the same percentage, and what explains it.
    Fairness,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EnforcementRegister,
        Self::Statement,
        Self::PolicyChanges,
        Self::Notices,
        Self::AgentReliability,
        Self::Exceptions,
        Self::Drift,
        Self::Fairness,
    ];

    /// The word for it in commands and addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnforcementRegister => "enforcement-register",
            Self::Statement => "statement",
            Self::PolicyChanges => "policy-changes",
            Self::Notices => "notices",
            Self::AgentReliability => "agent-reliability",
            Self::Exceptions => "exceptions",
            Self::Drift => "drift",
            Self::Fairness => "fairness",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What stands over it.
    pub fn title(self) -> &'static str {
        match self {
            Self::EnforcementRegister => "Enforcement register",
            Self::Statement => "Statement of allocations",
            Self::PolicyChanges => "Changes of rules",
            Self::Notices => "Notice register",
            Self::AgentReliability => "Agents and unconfirmed commands",
            Self::Exceptions => "Exceptions: holds by hand",
            Self::Drift => "Drift between cluster and record",
            Self::Fairness => "Equal usage, equal treatment",
        }
    }
}

/// The span that a report is about: from an instant on, before another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The first one that no longer belongs to it.
    pub to: DateTime<Utc>,
    /// The period that it is, if it was asked for as one.
    pub period: Option<Period>,
}

impl Span {
    /// A period at the site; `total` has no edges and is none.
    pub fn of(period: Period, zone: Tz) -> Option<Self> {
        Some(Self { from: period.starts_at(zone)?, to: period.ends_before(zone)?, period: Some(period) })
    }

    /// Whether an instant lies in it.
    pub fn holds(&self, at: DateTime<Utc>) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// How much of it lies between two instants.
    pub fn within(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> chrono::TimeDelta {
        (to.min(self.to) - from.max(self.from)).max(chrono::TimeDelta::zero())
    }
}

/// What is to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What on.
    pub kind: Kind,
    /// Of which time.
    pub span: Span,
    /// The site's time zone.
    pub zone: Tz,
    /// Only of this allocation.
    pub resource: Option<ResourceId>,
    /// Only by this policy.
    pub policy: Option<PolicyId>,
    /// As far as the log said up to here; none: all that it says now.
    pub as_of: Option<Position>,
    /// Rows of a table; what is more is counted.
    pub rows_max: usize,
}

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was asked for.
    pub asked: Asked,
    /// The log was read up to here.
    pub through: Position,
    /// What was found; the first table is the one that counts.
    pub tables: Vec<Table>,
}
