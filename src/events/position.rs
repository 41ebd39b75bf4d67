//! The position of an event in the log: it can be compared and stored, but not used in arithmetic.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where an event stands in the whole log. Positions of one log can be compared, and nothing else: how many events lie
/// between two of them, and which stands next to one, only the store can say.
///
/// The SQL engines and memory use (sequence number, 0), `EventStoreDB` (commit, prepare). Written as `hi-lo` in hex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    hi: u64,
    lo: u64,
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is two groups of up to 16 hex digits with a dash between them")]
pub struct PositionError;

impl Position {
    /// Before the first event.
    pub const START: Self = Self { hi: 0, lo: 0 };

    /// Puts a position together from the halves that a store or a table keeps. For the store alone.
    pub(crate) const fn from_halves(hi: u64, lo: u64) -> Self {
        Self { hi, lo }
    }

    /// The halves, for a store or a table to keep. For the store alone.
    pub(crate) const fn halves(self) -> (u64, u64) {
        (self.hi, self.lo)
    }

    /// As people read it: the sequence number, in a log that counts.
    pub fn plain(self) -> String {
        if self.lo == 0 { self.hi.to_string() } else { self.to_string() }
    }

    /// Reads what people write: a sequence number, or two groups of hex digits.
    ///
    /// # Errors
    /// What is allowed, for anything else.
    pub fn read_plain(text: &str) -> Result<Self, String> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten().map(|number| Self { hi: number, lo: 0 });
        let wrong = "a position is a number, or two groups of hex digits with a dash between them";
        number.or_else(|| text.parse().ok()).ok_or_else(|| wrong.to_owned())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.hi, self.lo)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| {
            let hex = (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hex { u64::from_str_radix(digits, 16).map_err(|_| PositionError) } else { Err(PositionError) }
        };
        let (hi, lo) = text.split_once('-').ok_or(PositionError)?;
        Ok(Self { hi: half(hi)?, lo: half(lo)? })
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
