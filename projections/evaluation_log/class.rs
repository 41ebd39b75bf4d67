//! The class of an evaluation: policy, period, verbs and outcome, packed into one number; and the numbers of triggers.

use crate::domain::evaluate::{Trigger, Verb};
use crate::domain::period::Period;
use crate::projections::kit::class_of;

/// What became of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvaluationOutcome {
    /// The restrictions of the resource changed.
    Changed,
    /// They stayed as they were.
    Unchanged,
    /// It could not be carried out.
    Failed,
}

impl EvaluationOutcome {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Changed, Self::Unchanged, Self::Failed].into_iter().find(|outcome| outcome.as_str() == word)
    }

    pub(super) fn code(self) -> i64 {
        match self {
            Self::Changed => 0,
            Self::Unchanged => 1,
            Self::Failed => 2,
        }
    }

    pub(super) fn of_class(class: i64) -> Self {
        match class & 3 {
            0 => Self::Changed,
            1 => Self::Unchanged,
            _ => Self::Failed,
        }
    }
}

/// Evaluations that listed a verb, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActionFilter {
    /// This verb, whatever else.
    Verb(Verb),
    /// No verb at all.
    None,
}

impl ActionFilter {
    /// Reads `pause`, `downscale`, `notify` or `none`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::None),
            word => VERBS.into_iter().find(|verb| verb.as_str() == word).map(Self::Verb),
        }
    }

    /// Which bits of the verbs to look at, and what they must be.
    pub(super) fn mask(self) -> (i64, i64) {
        match self {
            Self::Verb(verb) => (bit(verb), bit(verb)),
            Self::None => (7, 0),
        }
    }
}

/// Verbs in the order in which they are listed.
const VERBS: [Verb; 3] = [Verb::Pause, Verb::Downscale, Verb::Notify];

fn bit(verb: Verb) -> i64 {
    match verb {
        Verb::Pause => 1,
        Verb::Downscale => 2,
        Verb::Notify => 4,
    }
}

/// Packs a class.
pub(super) fn pack(policy: i64, period: Period, verbs: &[Verb], outcome: EvaluationOutcome) -> i64 {
    let bits = verbs.iter().fold(0, |bits, verb| bits | bit(*verb));
    class_of(policy, period, bits << 2 | outcome.code())
}

/// The bits of the verbs in a class.
pub(super) fn verb_bits(class: i64) -> i64 {
    (class >> 2) & 7
}

/// The verbs in a class, in the order in which they are listed.
pub(super) fn verbs(class: i64) -> Vec<Verb> {
    VERBS.into_iter().filter(|verb| verb_bits(class) & bit(*verb) != 0).collect()
}

/// Triggers by number; a number is never given to another.
const TRIGGERS: [Trigger; 11] = [
    Trigger::UsageReported,
    Trigger::LimitsChanged,
    Trigger::ResourceChanged,
    Trigger::PolicyChanged,
    Trigger::ScopeChanged,
    Trigger::HoldChanged,
    Trigger::Requested,
    Trigger::ForcedPeriodReset,
    Trigger::Scheduled,
    Trigger::PeriodBoundary,
    Trigger::MissingUsage,
];

pub(super) fn trigger_code(trigger: Trigger) -> i64 {
    TRIGGERS.iter().zip(0..).find(|(known, _)| **known == trigger).map_or(-1, |(_, code)| code)
}

pub(super) fn trigger_of(code: i64) -> Option<Trigger> {
    usize::try_from(code).ok().and_then(|code| TRIGGERS.get(code)).copied()
}
