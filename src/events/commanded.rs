//! Commands to the agent: the message with all its inputs, the start of SLURM's counter, and what a book keeps of
//! messages that may still be answered.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::commanded::{CommandInputs, ToldQos};
use crate::domain::dispatch::{Stage, Step, next};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{DispatchId, PolicyId};
use crate::domain::period::{Month, Period, PeriodKind};
use crate::domain::qos::QosClass;
use crate::domain::sacctmgr::Command;
use crate::domain::settings::AgentSettings;
use crate::domain::small_map::SmallMap;
use crate::domain::tres::Amounts;

/// The agent was told (or is to be told) what `sacctmgr` must do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingsCommanded {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// The policy whose decision caused it.
    pub policy: PolicyId,
    /// Other policies evaluated with it, that refer to this dispatch.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub others: Vec<PolicyId>,
    /// The period of the causing policy.
    pub period: Period,
    /// The settings.
    pub settings: AgentSettings,
    /// Class of service.
    pub qos: QosClass,
    /// The QoS name that goes with it: the rung's own, else the site's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub qos_name: Option<String>,
    /// Restrictions the resource has with it.
    pub flags: Flags,
    /// The intended commands, in order.
    pub commands: Vec<Command>,
    /// The unanswered dispatch whose reset it inherits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inherits_reset: Option<DispatchId>,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// Usage counted when the raw-usage counter is reset by this dispatch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reset: Option<CounterReset>,
    /// Usage counted when the inherited reset was taken up: SLURM's counter begins with this message, not with the first one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rebased: Option<CounterReset>,
    /// What all of it was worked out from; absent in events of version 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inputs: Option<Box<CommandInputs>>,
}

/// The moment from which SLURM's raw-usage counter counts, and what was counted before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterReset {
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The current period of each kind for which a reset is thereby done.
    pub periods: SmallMap<PeriodKind, Period>,
    /// Usage by month then, months of the running calendar year.
    pub usage: SmallMap<Month, Amounts>,
    /// Usage of all months before them.
    #[serde(skip_serializing_if = "SmallMap::is_empty", default)]
    pub before: Amounts,
}

/// What the agent was told last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commanded {
    /// In which dispatch.
    pub dispatch: DispatchId,
    /// By which policy.
    pub policy: PolicyId,
    /// The settings.
    pub settings: AgentSettings,
    /// Class of service.
    pub qos: QosClass,
    /// Site's or rung's QoS name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub qos_name: Option<String>,
    /// The class of service that the account was told before; what follows is compared with it as long as no queue has taken
    /// this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub told: Option<ToldQos>,
    /// It took the account over.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub takes_over: bool,
}

/// How a dispatch stands, as far as matching a report needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DispatchState {
    /// Not answered.
    Open,
    /// Answered: failed.
    Failed,
}

impl DispatchState {
    /// What a book keeps of a stage; none: a dispatch that worked is kept no more.
    pub fn of(stage: Stage) -> Option<Self> {
        match stage {
            Stage::Queued
            | Stage::Sent
            | Stage::NoAnswer
            | Stage::Refused
            | Stage::Superseded
            | Stage::RefusedAndSuperseded => Some(Self::Open),
            Stage::Failed | Stage::FailedAndSuperseded => Some(Self::Failed),
            Stage::Confirmed => None,
        }
    }
}

/// A dispatch that may still be answered.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, left out where it does not hold")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenDispatch {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Its policy.
    pub policy: PolicyId,
    /// It resets raw usage.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub reset: bool,
    /// The dispatch for which that reset was decided, until it is known to be done: who supersedes this one inherits it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reset_of: Option<DispatchId>,
    /// When a queue first took a message that carried this reset.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reset_since: Option<DateTime<Utc>>,
    /// It was sent again without the reset; the report may be on either.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub reset_dropped: bool,
    /// No queue has taken it yet.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub waits: bool,
    /// It was handed over more than once.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub resent: bool,
    /// What was counted when its reset was decided or taken up; kept while it waits and another one has superseded it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counter: Option<CounterReset>,
    /// How it stands.
    pub state: DispatchState,
    /// When it was commanded.
    pub at: DateTime<Utc>,
}

impl OpenDispatch {
    /// Takes it on by a step that leaves it in the book. Of the stages that the book does not tell apart, one stands for all:
    /// they go on alike.
    pub fn take(&mut self, step: Step, is_newest: bool) {
        let stage = match self.state {
            DispatchState::Failed if is_newest => Stage::Failed,
            DispatchState::Failed => Stage::FailedAndSuperseded,
            DispatchState::Open if !is_newest => Stage::Superseded,
            DispatchState::Open if self.waits => Stage::Queued,
            DispatchState::Open => Stage::Sent,
        };
        if let Some(state) = DispatchState::of(next(stage, step)) {
            self.state = state;
        }
    }
}
