//! The leaves of the events that are there, held against the leaves of the tree that was kept: what was changed, taken out,
//! put in or moved is told by the leaves around it.

use std::collections::VecDeque;

use tlog_tiles::Hash;

use super::finding::{EventPlace, Finding, Kind};

/// How far a leaf is looked for from where it should be.
const WINDOW: usize = 1_024;

/// An event that is there.
#[derive(Debug, Clone)]
pub struct Present {
    /// Where it stands.
    pub place: EventPlace,
    /// Its leaf.
    pub leaf: Hash,
}

/// Two sequences of leaves, as far as they are not compared yet.
#[derive(Debug, Default)]
pub struct Alignment {
    present: VecDeque<Option<Present>>,
    kept: VecDeque<Option<Hash>>,
    /// The number of the next leaf of each.
    at: u64,
    kept_at: u64,
    present_ends: bool,
    kept_ends: bool,
    last: Option<EventPlace>,
}

impl Alignment {
    /// Takes events of the log that follow those before.
    pub fn present(&mut self, events: impl IntoIterator<Item = Present>) {
        self.present.extend(events.into_iter().map(Some));
    }

    /// Takes leaves of the kept tree that follow those before.
    pub fn kept(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        self.kept.extend(leaves.into_iter().map(Some));
    }

    /// How many leaves of the kept tree are wanted, so that there are as many as of the log.
    pub fn wants(&self) -> usize {
        if self.kept_ends { 0 } else { (self.present.len() + WINDOW).saturating_sub(self.kept.len()) }
    }

    /// No more leaves are kept.
    pub fn kept_ends(&mut self) {
        self.kept_ends = true;
    }

    /// No more events are there.
    pub fn present_ends(&mut self) {
        self.present_ends = true;
    }

    /// Compares as far as both sides are known.
    pub fn compare(&mut self, found: &mut Vec<Finding>) {
        loop {
            while self.present.front().is_some_and(Option::is_none) {
                self.present.pop_front();
                self.at += 1;
            }
            while self.kept.front().is_some_and(Option::is_none) {
                self.kept.pop_front();
                self.kept_at += 1;
            }
            match (self.present.front(), self.kept.front()) {
                (Some(Some(event)), Some(Some(kept))) if event.leaf == *kept => {
                    self.next_present();
                    self.next_kept();
                }
                (Some(Some(_)), Some(Some(_))) => {
                    let enough = (self.present_ends || self.present.len() > WINDOW)
                        && (self.kept_ends || self.kept.len() > WINDOW);
                    if !enough {
                        return;
                    }
                    self.differ(found);
                }
                // What lies behind the kept tree is not covered by it.
                (Some(_), None) if self.kept_ends => {
                    self.next_present();
                }
                (None, Some(_)) if self.present_ends => {
                    let missing = self.kept.iter().flatten().count();
                    let what = format!("the log ends here; the tree holds {missing} more events");
                    found.push(Finding::of(Kind::Truncated, Some(self.at), what));
                    self.kept.clear();
                }
                _ => return,
            }
        }
    }

    fn next_present(&mut self) -> Option<Present> {
        let next = self.present.pop_front().flatten();
        self.at += 1;
        if let Some(next) = &next {
            self.last = Some(next.place.clone());
        }
        next
    }

    fn next_kept(&mut self) {
        self.kept.pop_front();
        self.kept_at += 1;
    }

    /// Two leaves that differ, with those around them in sight.
    fn differ(&mut self, found: &mut Vec<Finding>) {
        let (Some(Some(event)), Some(Some(kept))) = (self.present.front().cloned(), self.kept.front().copied()) else {
            return;
        };
        let in_kept = self.kept.iter().take(WINDOW).position(|leaf| *leaf == Some(event.leaf));
        let in_present =
            self.present.iter().take(WINDOW).position(|there| there.as_ref().is_some_and(|there| there.leaf == kept));
        match (in_kept, in_present) {
            (None, None) => {
                let what = "its header or its commitment is another than the tree holds";
                found.push(Finding::at(Kind::EventChanged, self.kept_at, &event.place, what));
                self.next_present();
                self.next_kept();
            }
            (None, Some(_)) => {
                found.push(Finding::at(Kind::Inserted, self.at, &event.place, "the tree holds no such event"));
                self.next_present();
            }
            (Some(_), None) => {
                let after = self.last.as_ref().map_or_else(
                    || "at the start of the log".to_owned(),
                    |last| format!("after the one at position {}", last.position.plain()),
                );
                found.push(Finding::of(Kind::Deleted, Some(self.kept_at), format!("an event is gone {after}")));
                self.next_kept();
            }
            (Some(place), Some(_)) => {
                let should = self.kept_at + place as u64;
                let what = format!("it stood at number {should} of the log, and stands at {}", self.at);
                found.push(Finding::at(Kind::Reordered, self.at, &event.place, what));
                self.next_present();
                self.kept[place] = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::record_hash;

    use super::*;
    use crate::events::envelope::{Position, StreamName};

    fn leaf(number: u64) -> Hash {
        record_hash(&number.to_be_bytes())
    }

    fn compared(there: &[u64], kept: &[u64]) -> Vec<(Kind, u64)> {
        let mut alignment = Alignment::default();
        let mut found = Vec::new();
        let stream = StreamName::new("a").unwrap();
        for (at, number) in there.iter().enumerate() {
            let place = EventPlace {
                position: Position::read_plain(&(at + 1).to_string()).unwrap(),
                stream: stream.clone(),
                version: 1,
            };
            alignment.present([Present { place, leaf: leaf(*number) }]);
            alignment.compare(&mut found);
        }
        alignment.kept(kept.iter().map(|number| leaf(*number)));
        alignment.kept_ends();
        alignment.compare(&mut found);
        alignment.present_ends();
        alignment.compare(&mut found);
        found.into_iter().map(|finding| (finding.kind, finding.index.unwrap())).collect()
    }

    #[test]
    fn each_change_is_told_from_the_others() {
        let kept: Vec<u64> = (0..3_000).collect();
        let with = |change: &dyn Fn(&mut Vec<u64>)| {
            let mut there = kept.clone();
            change(&mut there);
            compared(&there, &kept)
        };
        assert_eq!(with(&|_| ()), []);
        assert_eq!(with(&|there| there[7] = 9_999), [(Kind::EventChanged, 7)]);
        assert_eq!(
            with(&|there| {
                there.remove(7);
            }),
            [(Kind::Deleted, 7)]
        );
        assert_eq!(with(&|there| there.insert(7, 9_999)), [(Kind::Inserted, 7)]);
        assert_eq!(with(&|there| there.swap(7, 9)), [(Kind::Reordered, 7), (Kind::Reordered, 8)]);
        assert_eq!(with(&|there| there.swap(7, 8)), [(Kind::Reordered, 7)]);
        assert_eq!(with(&|there| there.truncate(2_900)), [(Kind::Truncated, 2_900)]);
        assert_eq!(with(&|there| there.extend(3_000..3_010)), [], "what came after the tree is not covered by it");
        let both = with(&|there| {
            there.remove(2_000);
            there[5] = 9_999;
            there.insert(1_000, 8_888);
        });
        assert_eq!(both, [(Kind::EventChanged, 5), (Kind::Inserted, 1_000), (Kind::Deleted, 2_000)]);
        assert_eq!(compared(&[], &[1]), [(Kind::Truncated, 0)]);
    }
}
