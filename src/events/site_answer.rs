//! The site's statements, through its agent: the class of service of an account, the limits read back.
//!
//! They are evidence, and never change an allocation.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::tres::Amounts;

/// The class of service that the agent found on the account after it had seen to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosConfirmed {
    /// The name in SLURM; empty if the account has none.
    pub qos: String,
    /// The site's name for the class that the restrictions called for then.
    pub expected: String,
    /// When it was said.
    pub at: DateTime<Utc>,
}

impl QosConfirmed {
    /// Whether the account has the class that it should have.
    pub fn agrees(&self) -> bool {
        self.qos == self.expected
    }
}

/// Limits that the agent read back from SLURM, in units of components. What was ordered stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsEchoed {
    /// What it read.
    pub limits: Amounts,
    /// What is ordered.
    pub ordered: Amounts,
    /// Whether they are the limits that the agent was told last, in whole units.
    pub agrees: bool,
    /// When it was said.
    pub at: DateTime<Utc>,
}

/// The agent has looked after the resource's account, and came to the end of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSynced {
    /// When it said so.
    pub at: DateTime<Utc>,
}

/// What the site said last, as one book hands it to the next.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteAnswers {
    /// Of the class of service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub qos: Option<QosConfirmed>,
    /// Of the limits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limits: Option<LimitsEchoed>,
    /// The agent was told of restrictions, and has not said since which class of service the account has.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub asked: bool,
    /// When the agent last came to the end of looking after the account.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub synced_at: Option<DateTime<Utc>>,
}

impl SiteAnswers {
    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
