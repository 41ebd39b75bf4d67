//! A resource's book about messages to the site agent: accepted by a queue, accepted by none, unanswered, resent by an
//! operator, and reported by the agent.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::allocation::AllocationEvent;
use crate::domain::dispatch::Step;
use crate::domain::evaluate::Flags;
use crate::domain::ids::{DispatchId, PolicyId};

impl AllocationEvent {
    /// The dispatch that the event is about, and what happened to it. That another dispatch supersedes it is not among it:
    /// that is what `SettingsCommanded` says to all of the resource before it.
    pub fn dispatch_step(&self) -> Option<(DispatchId, Step)> {
        Some(match self {
            Self::StompMessageSent(sent) => (sent.dispatch?, Step::Send),
            Self::StompMessageFailed(failed) => (failed.dispatch, Step::Refuse),
            Self::DispatchUnanswered(unanswered) => (unanswered.dispatch, Step::Miss),
            Self::DispatchResendRequested(requested) => (requested.dispatch, Step::Resend),
            Self::CommandResultReported(result) => (result.dispatch, result.report.step()),
            _ => return None,
        })
    }
}

/// What a message to the agent is about, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AgentMessage {
    /// The settings of a dispatch.
    #[serde(rename = "resource_periodic_limits")]
    Settings,
    /// The resource's restrictions.
    #[serde(rename = "resource")]
    Resource,
}

impl AgentMessage {
    /// The word on the wire, `object_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "resource_periodic_limits",
            Self::Resource => "resource",
        }
    }
}

/// A registered queue has taken messages: from here on they wait for the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StompMessageSent {
    /// The dispatch, if its settings are among them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dispatch: Option<DispatchId>,
    /// What was sent, in order.
    pub messages: Vec<AgentMessage>,
    /// Restrictions that a message on the resource told of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flags: Option<Flags>,
    /// The settings asked for a reset of raw usage.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub reset: bool,
    /// How often the dispatch had been sent before.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub resend: u32,
    /// The registrations whose queues took them.
    pub consumers: Vec<Uuid>,
    /// When.
    pub at: DateTime<Utc>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A dispatch was given up before any queue took it: the broker answered, and refused it each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StompMessageFailed {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Attempts made.
    pub attempts: u32,
    /// What the broker said last.
    pub error: String,
}

/// Nobody answered a dispatch in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchUnanswered {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// How often it had been sent again.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub resends: u32,
    /// It is not sent again by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub given_up: bool,
}

/// An operator has a dispatch sent again that was given up, failed or unanswered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchResendRequested {
    /// The dispatch.
    pub dispatch: DispatchId,
}

/// An operator has the message about a resource's restrictions sent again, which the site never confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestrictionResendRequested {
    /// The restrictions that it tells of.
    pub flags: Flags,
}

/// Somebody freed an account at the cluster that its resource had left restricted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFreed {
    /// The SLURM account.
    pub account: String,
}

/// How the agent executed commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// On the real cluster.
    #[default]
    Production,
    /// On an emulator.
    Emulator,
}

impl ExecutionMode {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Emulator => "emulator",
        }
    }
}

/// What the agent said of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandReport {
    /// It worked, says the agent.
    pub success: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub error_message: String,
    /// Where it ran.
    pub mode: ExecutionMode,
    /// The commands it ran, its own reads included.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub commands_executed: Vec<String>,
}

impl CommandReport {
    /// What it says of the dispatch that it answers.
    pub fn step(&self) -> Step {
        if self.success { Step::Succeed } else { Step::Fail }
    }
}

/// The agent reported on a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResultReported {
    /// The dispatch it was matched to.
    pub dispatch: DispatchId,
    /// The policy it was reported under.
    pub policy: PolicyId,
    /// What was said.
    #[serde(flatten)]
    pub report: CommandReport,
    /// Where what was run is not what was meant, in sentences; only of the newest dispatch.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub differences: Vec<String>,
}

/// The agent reported on nothing that is known; kept as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResultUnmatched {
    /// The policy it was reported under.
    pub policy: PolicyId,
    /// What was said.
    #[serde(flatten)]
    pub report: CommandReport,
}
