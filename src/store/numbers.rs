//! Arithmetic on positions, for logs whose positions are numbers; not all are.

use std::fmt;

use serde::Serialize;

use super::{EventStore, StoreError};
use crate::events::envelope::{Position, RecordedEvent};

/// The right to count with the positions of a log: they are numbers from 1, without holes. A log that counts hands it out
/// ([`EventStore::numbers`]); of any other log there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers(());

/// For the engines that count.
pub(in crate::store) const NUMBERS: Numbers = Numbers(());

impl Numbers {
    /// The number of the event at a position; 0 for the start.
    pub const fn of(self, position: Position) -> u64 {
        position.halves().0
    }

    /// Whether it can be a position of a log that counts, and not one of another kind.
    pub const fn fits(self, position: Position) -> bool {
        position.halves().1 == 0
    }

    /// The position of the event with this number.
    pub const fn at(self, number: u64) -> Position {
        Position::from_halves(number, 0)
    }
}

/// Events of a log that counts right before a position, or up to its end, the newest first: so many, or all that there are.
pub(in crate::store) async fn read_back(
    store: &(impl EventStore + ?Sized),
    numbers: Numbers,
    before: Option<Position>,
    limit: usize,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let last = match before {
        Some(before) => numbers.at(numbers.of(before).saturating_sub(1)),
        None => store.head().await?,
    };
    let mut after = numbers.at(numbers.of(last).saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX)));
    let mut events: Vec<RecordedEvent> = Vec::new();
    // A read may end before its last event, which is the newest here.
    while after < last {
        let read = store.read_up_to(after, last, limit).await?;
        let Some(newest) = read.last() else { break };
        after = newest.position;
        events.extend(read);
    }
    events.reverse();
    Ok(events)
}

/// How many events lie after one position up to another, as well as the store can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// So many.
    Exact(u64),
    /// About so many: the first were counted, and the rest is taken to lie as close together as they do.
    Estimated(u64),
    /// Some; the store did not say in time.
    Unknown,
}

/// How well a distance is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Counted.
    Exact,
    /// Estimated.
    Estimated,
    /// Nobody knows.
    Unknown,
}

impl Distance {
    /// None at all.
    pub const NONE: Self = Self::Exact(0);

    /// The number, where there is one.
    pub const fn events(self) -> Option<u64> {
        match self {
            Self::Exact(events) | Self::Estimated(events) => Some(events),
            Self::Unknown => None,
        }
    }

    /// How well it is known.
    pub const fn known(self) -> Known {
        match self {
            Self::Exact(_) => Known::Exact,
            Self::Estimated(_) => Known::Estimated,
            Self::Unknown => Known::Unknown,
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(events) => write!(f, "{events}"),
            Self::Estimated(events) => write!(f, "about {events} (estimated)"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
