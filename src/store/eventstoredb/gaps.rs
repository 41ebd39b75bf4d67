//! Scanned stretches of `$all` without events of this log, so that nobody scans them twice.
//!
//! The server filters as it reads, and does not say how far it scanned when nothing matched. Without this memory, every
//! poll would scan all foreign events after this log's newest one. A stretch remains valid forever: nothing is ever
//! written before the end of `$all`.

use crate::events::envelope::Position;

/// How many stretches are kept: the first, and the newest.
const KEPT_MAX: usize = 64;

/// Stretches without an event of this log, in order and apart from each other. Each begins at a position after which, and
/// ends at one up to which, there is none; both are places of events, this log's or somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gaps(Vec<(Position, Position)>);

impl Gaps {
    /// Where a read after this position has to begin.
    pub(super) fn skip(&self, after: Position) -> Position {
        let known = self.0.iter().rev().find(|(from, _)| *from <= after);
        known.map_or(after, |(_, to)| (*to).max(after))
    }

    /// The stretch that reaches furthest.
    pub(super) fn last(&self) -> (Position, Position) {
        self.0.last().copied().unwrap_or_default()
    }

    /// Remembers that there is none after one position and up to another.
    pub(super) fn learn(&mut self, from: Position, to: Position) {
        if to <= from {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.0.retain(|(start, end)| {
            let meets = *start <= to && from <= *end;
            if meets {
                from = from.min(*start);
                to = to.max(*end);
            }
            !meets
        });
        let place = self.0.partition_point(|(start, _)| *start < from);
        self.0.insert(place, (from, to));
        if self.0.len() > KEPT_MAX {
            // The first lies before the whole log, and everybody who begins there needs it.
            self.0.remove(1);
        }
    }

    /// Remembers what another one knows too.
    pub(super) fn add(&mut self, other: &Self) {
        for (from, to) in &other.0 {
            self.learn(*from, *to);
        }
    }

    /// How much of the server's log between two positions is known to hold no event of this one, in bytes.
    pub(super) fn bytes_within(&self, after: Position, to: Position) -> u64 {
        let overlap = |(from, until): &(Position, Position)| {
            let (from, until) = ((*from).max(after), (*until).min(to));
            until.halves().1.saturating_sub(from.halves().1)
        };
        self.0.iter().map(overlap).sum()
    }

    /// As text, for a restart.
    pub(super) fn to_text(&self) -> String {
        let stretch = |(from, to): &(Position, Position)| format!("{from}..{to}");
        self.0.iter().map(stretch).collect::<Vec<_>>().join(" ")
    }

    /// From such a text. What cannot be read is forgotten: it costs a look, and no event.
    pub(super) fn from_text(text: &str) -> Self {
        let mut gaps = Self::default();
        for stretch in text.split(' ') {
            if let Some((from, to)) = stretch.split_once("..")
                && let (Ok(from), Ok(to)) = (from.parse(), to.parse())
            {
                gaps.learn(from, to);
            }
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Gaps, Position};

    fn at(number: u64) -> Position {
        Position::from_halves(number, number)
    }

    #[test]
    fn what_was_looked_through_is_skipped_and_nothing_else() {
        let mut gaps = Gaps::default();
        gaps.learn(at(10), at(20));
        assert_eq!([5, 9, 10, 15, 20, 21].map(|place| gaps.skip(at(place)).halves().0), [5, 9, 20, 20, 20, 21]);
        gaps.learn(at(20), at(30));
        assert_eq!(gaps.skip(at(10)), at(30), "they grow together");
        assert_eq!(
            [(0, 40), (15, 40), (12, 13), (30, 40)].map(|(from, to)| gaps.bytes_within(at(from), at(to))),
            [20, 15, 1, 0]
        );
        assert_eq!((gaps.last(), Gaps::default().last()), ((at(10), at(30)), (at(0), at(0))));
        gaps.learn(at(40), at(40));
        assert_eq!(gaps, Gaps::from_text(&gaps.to_text()));
        assert_eq!(Gaps::from_text("nonsense 1..2 x..y"), Gaps::default());
    }

    proptest! {
        /// Whatever is learnt in whatever order: nothing is skipped that nobody looked at, and everything is kept as text.
        #[test]
        fn nothing_unseen_is_skipped(stretches in prop::collection::vec((0_u64..60, 0_u64..60), 0..20), after in 0_u64..60) {
            let mut gaps = Gaps::default();
            for (from, to) in &stretches {
                gaps.learn(at(*from), at(*to));
            }
            let begin = gaps.skip(at(after)).halves().0;
            prop_assert!(begin >= after);
            for place in after + 1..=begin {
                prop_assert!(stretches.iter().any(|(from, to)| *from < place && place <= *to), "{place}");
            }
            prop_assert_eq!(&gaps, &Gaps::from_text(&gaps.to_text()));
        }
    }
}
