//! The class of a dispatch: policy, period, status and the set of command types, packed into one number.

use crate::domain::dispatch::Stage;
use crate::domain::period::Period;
use crate::domain::sacctmgr::{Command, CommandType};
use crate::projections::kit::class_of;

/// How a dispatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DispatchStatus {
    /// Decided, not handed to a queue yet.
    Queued,
    /// Taken by a queue.
    Sent,
    /// Nobody answered in time; it is sent again.
    NoAnswer,
    /// The agent says that it worked.
    Confirmed,
    /// The agent says that it failed.
    Failed,
    /// Something newer was sent before anybody answered.
    Superseded,
}

impl From<Stage> for DispatchStatus {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Queued => Self::Queued,
            Stage::Sent => Self::Sent,
            Stage::NoAnswer => Self::NoAnswer,
            Stage::Confirmed => Self::Confirmed,
            Stage::Refused | Stage::RefusedAndSuperseded | Stage::Failed | Stage::FailedAndSuperseded => Self::Failed,
            Stage::Superseded => Self::Superseded,
        }
    }
}

impl DispatchStatus {
    /// Where such a dispatch stands. Who refused or failed goes on alike, unless something newer was decided since.
    pub(super) fn stage(self, is_newest: bool) -> Stage {
        match self {
            Self::Queued => Stage::Queued,
            Self::Sent => Stage::Sent,
            Self::NoAnswer => Stage::NoAnswer,
            Self::Confirmed => Stage::Confirmed,
            Self::Failed if is_newest => Stage::Failed,
            Self::Failed => Stage::FailedAndSuperseded,
            Self::Superseded => Stage::Superseded,
        }
    }

    const ALL: [Self; 6] = [Self::Queued, Self::Sent, Self::NoAnswer, Self::Confirmed, Self::Failed, Self::Superseded];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::NoAnswer => "no_answer",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The index of unanswered dispatches rests on these being the first three: queued, sent, no answer.
    fn code(self) -> i64 {
        match self {
            Self::Queued => 0,
            Self::Sent => 1,
            Self::NoAnswer => 2,
            Self::Confirmed => 3,
            Self::Failed => 4,
            Self::Superseded => 5,
        }
    }

    /// The status in a class.
    pub(super) fn of_class(class: i64) -> Self {
        usize::try_from(class >> 4 & 15).ok().and_then(|code| Self::ALL.get(code)).copied().unwrap_or(Self::Superseded)
    }
}

/// The bit of a type.
pub(super) fn bit(command_type: CommandType) -> i64 {
    match command_type {
        CommandType::Fairshare => 1,
        CommandType::Limits => 2,
        CommandType::Qos => 4,
        CommandType::ResetUsage => 8,
    }
}

/// Packs a class. A dispatch has at most one command of a type.
pub(super) fn pack(policy: i64, period: Period, status: DispatchStatus, commands: &[Command]) -> i64 {
    let types = commands.iter().fold(0, |bits, command| bits | bit(command.command_type));
    class_of(policy, period, status.code() << 4 | types)
}

/// The same class with another status.
pub(super) fn with_status(class: i64, status: DispatchStatus) -> i64 {
    class & !0xf0 | status.code() << 4
}

/// How many of a dispatch's commands are of one of these types.
pub(super) fn commands(class: i64, types: i64) -> i64 {
    i64::from((class & types & 15).count_ones())
}
