//! The formulas of carryover: their parameters, their recorded ids, and the base that each uses.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Which allocation the past usage of a component is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarryoverBase {
    /// The base of the previous period as it stood at the end of that period.
    #[default]
    Previous,
    /// The base of now: a raise counts as if it had been there in the previous period.
    Current,
}

impl CarryoverBase {
    /// The word on the wire.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Current => "current",
        }
    }

    /// The base of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Previous, Self::Current].into_iter().find(|base| base.wire_name() == name)
    }
}

/// A carryover formula with its parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "id")]
pub enum Formula {
    /// Past usage is discounted by its age; the base of now less what remains of it is carried over.
    #[serde(rename = "decayed_usage/1")]
    DecayedUsage {
        /// Days in which past usage loses half its weight, above 0.
        half_life_days: Decimal,
    },
    /// What was not used of the base of now is carried over, up to a part of it.
    #[serde(rename = "capped_unused/1")]
    CappedUnused {
        /// That part, 0 to 100 percent.
        factor_percent: Decimal,
    },
    /// Past usage is discounted by its age; the base of the previous period less what remains of it is carried over.
    #[serde(rename = "decayed_usage/2")]
    DecayedUsageOfPrevious {
        /// Days in which past usage loses half its weight, above 0.
        half_life_days: Decimal,
    },
    /// What was not used of the base of the previous period is carried over, up to a part of it.
    #[serde(rename = "capped_unused/2")]
    CappedUnusedOfPrevious {
        /// That part, 0 to 100 percent.
        factor_percent: Decimal,
    },
}

impl Formula {
    /// The decaying formula on this base.
    pub fn decayed(base: CarryoverBase, half_life_days: Decimal) -> Self {
        match base {
            CarryoverBase::Previous => Self::DecayedUsageOfPrevious { half_life_days },
            CarryoverBase::Current => Self::DecayedUsage { half_life_days },
        }
    }

    /// The capped formula on this base.
    pub fn capped(base: CarryoverBase, factor_percent: Decimal) -> Self {
        match base {
            CarryoverBase::Previous => Self::CappedUnusedOfPrevious { factor_percent },
            CarryoverBase::Current => Self::CappedUnused { factor_percent },
        }
    }

    /// The same formula on another base.
    #[must_use]
    pub fn on(&self, base: CarryoverBase) -> Self {
        match self {
            Self::DecayedUsage { half_life_days } | Self::DecayedUsageOfPrevious { half_life_days } => {
                Self::decayed(base, *half_life_days)
            }
            Self::CappedUnused { factor_percent } | Self::CappedUnusedOfPrevious { factor_percent } => {
                Self::capped(base, *factor_percent)
            }
        }
    }

    /// The id under which its numbers are recorded.
    pub fn id(&self) -> &'static str {
        match self {
            Self::DecayedUsage { .. } => "decayed_usage/1",
            Self::CappedUnused { .. } => "capped_unused/1",
            Self::DecayedUsageOfPrevious { .. } => "decayed_usage/2",
            Self::CappedUnusedOfPrevious { .. } => "capped_unused/2",
        }
    }

    /// The base that it looks at.
    pub fn base(&self) -> CarryoverBase {
        match self {
            Self::DecayedUsage { .. } | Self::CappedUnused { .. } => CarryoverBase::Current,
            Self::DecayedUsageOfPrevious { .. } | Self::CappedUnusedOfPrevious { .. } => CarryoverBase::Previous,
        }
    }

    /// The half-life in days, where the formula has one.
    pub fn half_life_days(&self) -> Option<Decimal> {
        match self {
            Self::DecayedUsage { half_life_days } | Self::DecayedUsageOfPrevious { half_life_days } => {
                Some(*half_life_days)
            }
            Self::CappedUnused { .. } | Self::CappedUnusedOfPrevious { .. } => None,
        }
    }

    /// The cap in percent of the base, where the formula has one.
    pub fn factor_percent(&self) -> Option<Decimal> {
        match self {
            Self::DecayedUsage { .. } | Self::DecayedUsageOfPrevious { .. } => None,
            Self::CappedUnused { factor_percent } | Self::CappedUnusedOfPrevious { factor_percent } => {
                Some(*factor_percent)
            }
        }
    }
}
