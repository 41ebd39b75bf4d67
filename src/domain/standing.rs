//! The standing of an allocation in one word: its most urgent state.

use super::evaluate::Flags;

/// The word, the most pressing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// An operator's hold restricts it.
    OnHold,
    /// An operator's exemption lifts every restriction, holds too.
    Exempt,
    /// A policy has stopped new jobs.
    Paused,
    /// A policy has slowed it down.
    SlowedDown,
    /// Usage is at or above a notification percentage.
    Warned,
    /// None of that.
    Normal,
}

/// What operators have placed on an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByHand {
    /// A hold that pauses or slows down.
    pub restricts: bool,
    /// An exemption.
    pub exempts: bool,
}

impl Standing {
    /// All of them, the most pressing first.
    pub const ALL: [Self; 6] = [Self::OnHold, Self::Exempt, Self::Paused, Self::SlowedDown, Self::Warned, Self::Normal];

    /// How an allocation stands: its restrictions, what operators did, and whether a percentage for notices is reached.
    pub fn of(flags: Flags, by_hand: ByHand, warned: bool) -> Self {
        if by_hand.exempts {
            Self::Exempt
        } else if by_hand.restricts {
            Self::OnHold
        } else if flags.paused {
            Self::Paused
        } else if flags.downscaled {
            Self::SlowedDown
        } else if warned {
            Self::Warned
        } else {
            Self::Normal
        }
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnHold => "on_hold",
            Self::Exempt => "exempt",
            Self::Paused => "paused",
            Self::SlowedDown => "slowed_down",
            Self::Warned => "warned",
            Self::Normal => "normal",
        }
    }

    /// The meaning of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == word)
    }

    /// The number that stands for it in tables: its place.
    pub fn code(self) -> i64 {
        Self::ALL.iter().zip(0..).find(|(known, _)| **known == self).map_or(0, |(_, code)| code)
    }

    /// What such a number stands for.
    pub fn of_code(code: i64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_do_comes_before_what_policies_do() {
        let slow = Flags { paused: false, downscaled: true };
        let both = Flags { paused: true, downscaled: true };
        let hold = ByHand { restricts: true, exempts: false };
        let exemption = ByHand { restricts: true, exempts: true };
        for (flags, by_hand, warned, word) in [
            (Flags::default(), ByHand::default(), false, "normal"),
            (Flags::default(), ByHand::default(), true, "warned"),
            (slow, ByHand::default(), true, "slowed_down"),
            (both, ByHand::default(), true, "paused"),
            (both, hold, true, "on_hold"),
            (Flags::default(), exemption, true, "exempt"),
        ] {
            assert_eq!(Standing::of(flags, by_hand, warned).as_str(), word, "{flags:?} {by_hand:?}");
        }
    }

    #[test]
    fn words_and_numbers_lead_back() {
        for standing in Standing::ALL {
            assert_eq!(Standing::parse(standing.as_str()), Some(standing));
            assert_eq!(Standing::of_code(standing.code()), Some(standing));
        }
        assert_eq!((Standing::parse("Paused"), Standing::of_code(6), Standing::of_code(-1)), (None, None, None));
    }
}
