//! The contribution of a resource and its policies to the counters of the status summary.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::domain::dispatch::Stage;
use crate::domain::evaluate::Flags;
use crate::domain::forecast::Trail;
use crate::domain::ids::{HoldId, ResourceId};
use crate::domain::standing::{ByHand, Standing};
use crate::events::allocation::HoldKind;

/// How the agent stands to a resource: its newest dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AgentStatus {
    /// Nothing was to be told.
    #[default]
    NotNeeded,
    /// Decided, not handed over yet.
    Queued,
    /// Handed over.
    Sent,
    /// It worked.
    Confirmed,
    /// It failed.
    Failed,
    /// Nobody answered in time.
    NoAnswer,
}

impl From<Stage> for AgentStatus {
    /// Of what was superseded the one that did it tells more; until that is known, the agent is owed something.
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Queued | Stage::Superseded => Self::Queued,
            Stage::Sent => Self::Sent,
            Stage::NoAnswer => Self::NoAnswer,
            Stage::Refused | Stage::RefusedAndSuperseded | Stage::Failed | Stage::FailedAndSuperseded => Self::Failed,
            Stage::Confirmed => Self::Confirmed,
        }
    }
}

impl AgentStatus {
    /// Where the newest dispatch stands; none: there is none. Who refused or failed goes on alike.
    pub(super) fn stage(self) -> Option<Stage> {
        Some(match self {
            Self::NotNeeded => return None,
            Self::Queued => Stage::Queued,
            Self::Sent => Stage::Sent,
            Self::Confirmed => Stage::Confirmed,
            Self::Failed => Stage::Failed,
            Self::NoAnswer => Stage::NoAnswer,
        })
    }

    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::NotNeeded, Self::Queued, Self::Sent, Self::Confirmed, Self::Failed, Self::NoAnswer];

    /// The meaning of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::NoAnswer => "no_answer",
        }
    }

    pub(super) fn code(self) -> i64 {
        match self {
            Self::NotNeeded => 0,
            Self::Queued => 1,
            Self::Sent => 2,
            Self::Confirmed => 3,
            Self::Failed => 4,
            Self::NoAnswer => 5,
        }
    }

    pub(super) fn of(code: i64) -> Self {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied().unwrap_or_default()
    }
}

/// Something counted over resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Counter {
    Evaluated,
    Paused,
    Downscaled,
    Affected,
    Fired,
    Full,
    Over(Decimal),
    Agent(AgentStatus),
}

impl Counter {
    /// The name under which it is kept.
    pub(super) fn name(self) -> String {
        match self {
            Self::Evaluated => "evaluated".to_owned(),
            Self::Paused => "paused".to_owned(),
            Self::Downscaled => "downscaled".to_owned(),
            Self::Affected => "affected".to_owned(),
            Self::Fired => "fired".to_owned(),
            Self::Full => "full".to_owned(),
            Self::Over(percent) => format!("over:{percent}"),
            Self::Agent(status) => format!("agent:{}", status.as_str()),
        }
    }
}

/// What one policy says of a resource.
#[derive(Debug, Clone)]
pub(super) struct PolicyLine {
    pub(super) version: i64,
    pub(super) percentage: Option<Decimal>,
    pub(super) period: String,
    pub(super) fired: bool,
    pub(super) full: bool,
    pub(super) held: Flags,
    pub(super) reached: Vec<Decimal>,
    pub(super) evaluated_at: DateTime<Utc>,
    pub(super) failed_at: Option<DateTime<Utc>>,
    pub(super) dispatch: Option<Uuid>,
    /// Weighted usage in the period; none before the first evaluation that worked.
    pub(super) used: Option<Decimal>,
    /// Weighted effective allocation.
    pub(super) may_use: Option<Decimal>,
    /// What was used at the end of the last days, as [`Trail`] writes it.
    pub(super) trail: String,
    /// How the resource stands under the policy, and since when.
    pub(super) standing: Option<(Standing, DateTime<Utc>)>,
    /// How it stood before that.
    pub(super) stood: Option<Standing>,
    pub(super) changed: bool,
}

impl PolicyLine {
    pub(super) fn trail(&self) -> Trail {
        Trail::read(&self.trail)
    }
}

/// Manual holds in force, as a text of kinds and ids with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Placed(BTreeMap<String, HoldKind>);

impl Placed {
    pub(super) fn place(&mut self, hold: HoldId, kind: HoldKind) {
        self.0.insert(hold.to_string(), kind);
    }

    pub(super) fn release(&mut self, hold: HoldId) {
        self.0.remove(&hold.to_string());
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(hold, kind)| format!("{}:{hold}", kind.as_str())).collect::<Vec<_>>().join(",")
    }

    pub(super) fn read(text: &str) -> Self {
        let hold = |part: &str| {
            let (kind, hold) = part.split_once(':')?;
            Some((hold.to_owned(), HoldKind::parse(kind)?))
        };
        Self(text.split(',').filter_map(hold).collect())
    }

    pub(super) fn by_hand(&self) -> ByHand {
        let exempts = |kind: &HoldKind| *kind == HoldKind::Exemption;
        ByHand { restricts: self.0.values().any(|kind| !exempts(kind)), exempts: self.0.values().any(exempts) }
    }
}

/// A resource with what its policies say of it.
#[derive(Debug, Clone)]
pub(super) struct ResourceState {
    pub(super) no: i64,
    pub(super) id: ResourceId,
    pub(super) offering: Uuid,
    pub(super) customer: Uuid,
    pub(super) live: bool,
    pub(super) flags: Flags,
    pub(super) dispatch: Option<Uuid>,
    pub(super) agent: AgentStatus,
    pub(super) by_hand: Placed,
    /// When usage was last reported.
    pub(super) reported_at: Option<DateTime<Utc>>,
    pub(super) lines: BTreeMap<Uuid, PolicyLine>,
    /// Policies whose line has to go from the table.
    pub(super) withdrawn: BTreeSet<Uuid>,
    pub(super) changed: bool,
}

/// What a resource adds to the counters: each of these once, by owner; and for whom it is at its limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contribution {
    pub(super) counters: BTreeSet<(Uuid, Counter)>,
    pub(super) at_limit: BTreeSet<(Uuid, Uuid)>,
}

impl ResourceState {
    /// Notes in every line how the resource stands now, and that it does so from now on where that is new.
    pub(super) fn stands(&mut self, at: DateTime<Utc>) {
        for line in self.lines.values_mut() {
            let standing = Standing::of(self.flags, self.by_hand.by_hand(), !line.reached.is_empty());
            if line.standing.is_none_or(|(before, _)| before != standing) {
                // Steps of one instant are one change.
                line.stood = line.standing.and_then(|(was, since)| if since == at { line.stood } else { Some(was) });
                line.standing = Some((standing, at));
                line.changed = true;
            }
        }
    }

    /// What it adds now. A resource that is gone adds nothing; an offering counts it once, whatever its policies.
    pub(super) fn contribution(&self) -> Contribution {
        let mut sum = Contribution::default();
        if !self.live {
            return sum;
        }
        for (policy, line) in &self.lines {
            for owner in [*policy, self.offering] {
                let mut add = |counter| sum.counters.insert((owner, counter));
                add(Counter::Evaluated);
                add(Counter::Agent(self.agent));
                let flags = [
                    (self.flags.paused, Counter::Paused),
                    (self.flags.downscaled, Counter::Downscaled),
                    (line.held.any(), Counter::Affected),
                    (line.fired, Counter::Fired),
                    (line.full, Counter::Full),
                ];
                for (_, counter) in flags.into_iter().filter(|(set, _)| *set) {
                    add(counter);
                }
                for percent in &line.reached {
                    add(Counter::Over(*percent));
                }
                if line.full {
                    sum.at_limit.insert((owner, self.customer));
                }
            }
        }
        // Holds of operators restrict resources without a policy too.
        if self.flags.paused {
            sum.counters.insert((self.offering, Counter::Paused));
        }
        if self.flags.downscaled {
            sum.counters.insert((self.offering, Counter::Downscaled));
        }
        sum
    }
}

/// Percents with commas between them.
pub(super) fn percents_text(percents: &[Decimal]) -> String {
    percents.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Percents from such a text.
pub(super) fn percents_of(text: &str) -> Vec<Decimal> {
    text.split(',').filter_map(|percent| percent.parse().ok()).collect()
}
