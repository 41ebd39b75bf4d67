//! Two timelines beside each other: what was decided, how long what was in force, how many notices were called for.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use crate::domain::evaluate::{Flags, Verb};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::events::allocation::{PolicyEvaluated, Recorded};
use crate::events::envelope::Position;
use crate::events::notice::NoticeTemplate;

/// What an evaluation decided, as far as anybody feels it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Percent of the effective allocation.
    pub percentage: Decimal,
    /// What was called for.
    pub verbs: Vec<Verb>,
    /// Thresholds for which a notice became due.
    pub notified: Vec<Decimal>,
    /// The policy's holds after.
    pub holds: Flags,
    /// The class of service of the rung that was reached, where it names one.
    pub qos: Option<String>,
}

impl Decided {
    pub(super) fn of(evaluated: &PolicyEvaluated) -> Self {
        let outcome = &evaluated.outcome;
        Self {
            percentage: outcome.percentage,
            verbs: outcome.verbs.clone(),
            notified: outcome.notified.clone(),
            holds: outcome.holds,
            qos: outcome.qos.clone(),
        }
    }

    /// Whether two evaluations say the same in everything that an event records, but for what it refers to.
    pub(super) fn word_for_word(one: &PolicyEvaluated, other: &PolicyEvaluated) -> bool {
        let PolicyEvaluated { policy, policy_version, trigger, period, month, basis: _, usage: _, .. } = one;
        let same_inputs = (&one.basis, &other.basis);
        let same_basis = match same_inputs {
            (Recorded::Full(one), Recorded::Full(other)) => one == other,
            _ => true,
        };
        same_basis
            && (policy, policy_version, trigger, period, month)
                == (&other.policy, &other.policy_version, &other.trigger, &other.period, &other.month)
            && (&one.notices, one.held, one.before, one.after, &one.outcome)
                == (&other.notices, other.held, other.before, other.after, &other.outcome)
    }
}

/// A decision that comes out otherwise: as it was recorded, and under the other rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Where the recorded one stands in the log.
    pub position: Position,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// On which allocation.
    pub resource: ResourceId,
    /// By which policy.
    pub policy: PolicyId,
    /// Both; none where there was no evaluation.
    pub decided: [Option<Decided>; 2],
    /// Restrictions of the allocation after it.
    pub restricted: [Flags; 2],
}

/// What is in force on an allocation from an instant on, and what was so far.
#[derive(Debug, Clone, Default)]
pub struct Lived {
    since: DateTime<Utc>,
    flags: Flags,
    slowed: TimeDelta,
    paused: TimeDelta,
    notices: u64,
}

impl Lived {
    pub(super) fn beginning(since: DateTime<Utc>, flags: Flags) -> Self {
        Self { since, flags, ..Self::default() }
    }

    pub(super) fn flags(&self) -> Flags {
        self.flags
    }

    /// Takes what one command led to into account.
    pub(super) fn take<'a>(
        &mut self,
        at: DateTime<Utc>,
        restricted: Option<Flags>,
        evaluated: impl Iterator<Item = &'a PolicyEvaluated>,
    ) {
        self.notices += evaluated.filter(|one| !one.outcome.notified.is_empty()).count() as u64;
        if let Some(to) = restricted {
            self.notices += u64::from(NoticeTemplate::of_restriction(self.flags, to).is_some());
            self.end(at);
            self.flags = to;
        }
    }

    /// Counts what is in force up to an instant.
    pub(super) fn end(&mut self, at: DateTime<Utc>) {
        let time = (at - self.since).max(TimeDelta::zero());
        if self.flags.paused {
            self.paused += time;
        }
        if self.flags.downscaled {
            self.slowed += time;
        }
        self.since = at;
    }
}

/// What an allocation went through on one timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How long it was slowed down.
    pub slowed: TimeDelta,
    /// How long it was paused.
    pub paused: TimeDelta,
    /// Notices that were called for: of thresholds and of restrictions.
    pub notices: u64,
    /// Restrictions at the end.
    pub at_the_end: Flags,
}

impl Outcome {
    pub(super) fn of(lived: &Lived) -> Self {
        Self { slowed: lived.slowed, paused: lived.paused, notices: lived.notices, at_the_end: lived.flags }
    }
}

/// How an allocation fares under the other rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is paused for a shorter time; or for as long, and slowed down for a shorter time.
    Better,
    /// The other way round.
    Worse,
    /// It is restricted for as long.
    Same,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
        }
    }
}

/// An allocation on both timelines.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// The allocation.
    pub resource: ResourceId,
    /// Its slug.
    pub name: String,
    /// Evaluations in the span, by all of its policies.
    pub decisions: u64,
    /// Those that come out otherwise.
    pub differing: u64,
    /// Those that decide the same in other words: the sentence names a limit that is another one.
    pub in_words: u64,
    /// As it was recorded, and under the other rules.
    pub outcomes: [Outcome; 2],
    /// The first decision that differs.
    pub first: Option<Decision>,
}

impl Allocation {
    /// How it fares.
    pub fn verdict(&self) -> Verdict {
        let [recorded, other] = self.outcomes.map(|outcome| (outcome.paused, outcome.slowed));
        match other.cmp(&recorded) {
            std::cmp::Ordering::Less => Verdict::Better,
            std::cmp::Ordering::Greater => Verdict::Worse,
            std::cmp::Ordering::Equal => Verdict::Same,
        }
    }
}

/// All allocations together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many they are.
    pub allocations: u64,
    /// Evaluations.
    pub decisions: u64,
    /// Those that come out otherwise.
    pub differing: u64,
    /// Those that decide the same in other words.
    pub in_words: u64,
    /// Allocations that fare better.
    pub better: u64,
    /// Allocations that fare worse.
    pub worse: u64,
    /// As it was recorded, and under the other rules.
    pub outcomes: [Outcome; 2],
}

impl Sums {
    pub(super) fn add(&mut self, one: &Allocation) {
        self.allocations += 1;
        self.decisions += one.decisions;
        self.differing += one.differing;
        self.in_words += one.in_words;
        match one.verdict() {
            Verdict::Better => self.better += 1,
            Verdict::Worse => self.worse += 1,
            Verdict::Same => {}
        }
        for (sum, outcome) in self.outcomes.iter_mut().zip(one.outcomes) {
            sum.slowed += outcome.slowed;
            sum.paused += outcome.paused;
            sum.notices += outcome.notices;
        }
    }
}
