//! The header `heart-beat`: what each side offers and wants, and the resulting intervals.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The header's two numbers, milliseconds: how often one can send at least, and how often one wants to hear. 0 = not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeartBeat {
    /// What this side can send.
    pub sends_ms: u32,
    /// What this side wants to get.
    pub wants_ms: u32,
}

/// A header that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("heart-beat is two numbers of milliseconds with a comma between them")]
pub struct HeartBeatError;

impl FromStr for HeartBeat {
    type Err = HeartBeatError;

    fn from_str(text: &str) -> Result<Self, HeartBeatError> {
        let number = |digits: &str| {
            let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).ok_or(HeartBeatError)
        };
        let (sends, wants) = text.split_once(',').ok_or(HeartBeatError)?;
        Ok(Self { sends_ms: number(sends)?, wants_ms: number(wants)? })
    }
}

impl fmt::Display for HeartBeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.sends_ms, self.wants_ms)
    }
}

impl HeartBeat {
    /// How often this side has to send, given what the other said; none = never.
    pub fn sending(self, other: Self) -> Option<Duration> {
        agreed(self.sends_ms, other.wants_ms)
    }

    /// How often this side may expect to hear; none = never.
    pub fn receiving(self, other: Self) -> Option<Duration> {
        agreed(other.sends_ms, self.wants_ms)
    }
}

fn agreed(can_ms: u32, wants_ms: u32) -> Option<Duration> {
    (can_ms > 0 && wants_ms > 0).then(|| Duration::from_millis(can_ms.max(wants_ms).into()))
}
