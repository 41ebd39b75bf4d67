//! The life of one dispatch, the settings that an agent is told: from its decision to its end, in one table.
//!
//! What the outbox, the command history, the status summary and the book of a resource keep of a dispatch are views of it.
//! `docs/DISPATCH.md` shows the table and says why.

/// Where a dispatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Decided, or to be sent again at an operator's request; no queue has taken it since.
    Queued,
    /// A queue has it.
    Sent,
    /// Nobody answered in time.
    NoAnswer,
    /// The broker refused it each time.
    Refused,
    /// The agent said that it failed.
    Failed,
    /// The agent said that it worked.
    Confirmed,
    /// Something newer was decided before anybody answered.
    Superseded,
    /// The broker refused it, and something newer was decided.
    RefusedAndSuperseded,
    /// The agent said that it failed, and something newer was decided.
    FailedAndSuperseded,
}

/// What happens to a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Another dispatch of the resource was decided.
    Supersede,
    /// A queue took it.
    Send,
    /// No queue took it, and no further attempt is made.
    Refuse,
    /// Nobody answered in time.
    Miss,
    /// An operator wants it sent again.
    Resend,
    /// The agent said that it worked.
    Succeed,
    /// The agent said that it failed.
    Fail,
}

impl Stage {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Sent,
        Self::NoAnswer,
        Self::Refused,
        Self::Failed,
        Self::Confirmed,
        Self::Superseded,
        Self::RefusedAndSuperseded,
        Self::FailedAndSuperseded,
    ];

    /// True while an answer may come that nothing has overtaken.
    pub fn is_unanswered(self) -> bool {
        matches!(self, Self::Queued | Self::Sent | Self::NoAnswer)
    }

    /// The word for it, as in the table of the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::NoAnswer => "no_answer",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Confirmed => "confirmed",
            Self::Superseded => "superseded",
            Self::RefusedAndSuperseded => "refused, superseded",
            Self::FailedAndSuperseded => "failed, superseded",
        }
    }
}

impl Step {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] =
        [Self::Supersede, Self::Send, Self::Refuse, Self::Miss, Self::Resend, Self::Succeed, Self::Fail];
}

/// Where a dispatch stands after a step. A step that cannot follow leaves it where it is: records may come late, twice, and
/// from a process that has lost the lead without knowing it.
pub fn next(stage: Stage, step: Step) -> Stage {
    use Stage::{
        Confirmed, Failed, FailedAndSuperseded, NoAnswer, Queued, Refused, RefusedAndSuperseded, Sent, Superseded,
    };
    match (stage, step) {
        // What worked has worked, whatever is said of it afterwards.
        (Confirmed, _) | (_, Step::Succeed) => Confirmed,
        (Queued | Sent | NoAnswer, Step::Supersede) => Superseded,
        (Refused, Step::Supersede) => RefusedAndSuperseded,
        (Failed, Step::Supersede) | (Superseded | RefusedAndSuperseded, Step::Fail) => FailedAndSuperseded,
        // An agent may be quicker than the record of the hand-over: what failed already waits for no answer.
        (Queued | NoAnswer, Step::Send) => Sent,
        // A queue that has the message outweighs a broker's refusal.
        (Queued | NoAnswer, Step::Refuse) => Refused,
        // Nobody can have missed to answer what no queue has: such a record is about an earlier hand-over.
        (Sent, Step::Miss) => NoAnswer,
        // What is superseded is not sent again.
        (NoAnswer | Refused | Failed, Step::Resend) => Queued,
        (Queued | Sent | NoAnswer | Refused, Step::Fail) => Failed,
        _ => stage,
    }
}

#[cfg(test)]
mod tests {
    use super::{Stage, Step, next};

    /// The rows of the table in the documentation, each with its cells.
    fn documented() -> Vec<Vec<String>> {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/DISPATCH.md")).unwrap();
        let rows = page.lines().skip_while(|line| !line.starts_with("| stage |")).skip(2);
        let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        rows.take_while(|line| line.starts_with('|')).map(cells).collect()
    }

    #[test]
    fn every_cell_is_as_the_documentation_has_it() {
        let table = documented();
        assert_eq!(table.len(), Stage::ALL.len());
        for (stage, row) in Stage::ALL.into_iter().zip(table) {
            assert_eq!((row[0].as_str(), row.len()), (stage.as_str(), Step::ALL.len() + 1));
            for (step, cell) in Step::ALL.into_iter().zip(&row[1..]) {
                let meant = if cell == "–" { stage.as_str() } else { cell };
                assert_eq!(next(stage, step).as_str(), meant, "{stage:?}, {step:?}");
            }
        }
    }

    #[test]
    fn what_comes_twice_changes_nothing_the_second_time() {
        for stage in Stage::ALL {
            for step in Step::ALL {
                let once = next(stage, step);
                assert_eq!(next(once, step), once, "{stage:?}, {step:?}");
            }
        }
    }
}
