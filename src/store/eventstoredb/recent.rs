//! The newest events that were read from `$all`, so that of all who follow the log only the first has them fetched.
//!
//! Holds an unbroken run: everything of this log after one place and up to another. Nothing is ever written before the end
//! of `$all`, so a run stays whole.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;
use crate::store::room::cut;

pub(super) struct Recent {
    run: Mutex<Run>,
    events_max: usize,
    bytes_max: usize,
    read_bytes_max: usize,
}

#[derive(Default)]
struct Run {
    /// The place after which it begins.
    begins: Position,
    events: VecDeque<RecordedEvent>,
    bytes: usize,
}

impl Run {
    fn ends(&self) -> Position {
        self.events.back().map_or(self.begins, |last| last.position)
    }

    /// How many events stand before the first one after a position; none if that is no place of the run.
    fn place(&self, after: Position) -> Option<usize> {
        if after == self.begins {
            return Some(0);
        }
        let place = self.events.partition_point(|event| event.position <= after);
        let at = self.events.get(place.checked_sub(1)?)?;
        (at.position == after).then_some(place)
    }
}

impl Recent {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            run: Mutex::default(),
            events_max: limits.tail_events_max,
            bytes_max: limits.tail_bytes_max,
            read_bytes_max: limits.read_bytes_max,
        }
    }

    /// Nothing is done under the lock that could stop half way.
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what stands after a position, up to the last of these events. What does not follow what is held begins anew.
    pub(super) fn keep(&self, after: Position, events: &[RecordedEvent]) {
        let mut run = self.run();
        if run.place(after).is_none() {
            *run = Run { begins: after, ..Run::default() };
        }
        let ends = run.ends();
        for event in events.iter().filter(|event| event.position > ends) {
            run.bytes += event.payload.len();
            run.events.push_back(event.clone());
        }
        while run.events.len() > self.events_max || run.bytes > self.bytes_max {
            let Some(oldest) = run.events.pop_front() else { break };
            run.bytes -= oldest.payload.len();
            run.begins = oldest.position;
        }
    }

    /// The events after a position, if they are here and there is at least one.
    pub(super) fn after(&self, after: Position, limit: usize) -> Option<Vec<RecordedEvent>> {
        let run = self.run();
        let mut events: Vec<RecordedEvent> = run.events.iter().skip(run.place(after)?).take(limit).cloned().collect();
        drop(run);
        cut(&mut events, self.read_bytes_max);
        (!events.is_empty()).then_some(events)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Position, Recent, RecordedEvent};
    use crate::events::envelope::StreamName;
    use crate::limits::Limits;
    use crate::store::damaged_event;

    fn at(number: u64) -> Position {
        Position::from_halves(number, number)
    }

    fn event(number: u64) -> RecordedEvent {
        damaged_event(at(number), StreamName::new("a-1").unwrap(), number, "any.v1".into(), "of no matter")
    }

    /// This log's events stand at every third place.
    fn log(after: u64, limit: usize) -> Vec<RecordedEvent> {
        (after + 1..=60).filter(|place| place % 3 == 0).take(limit).map(event).collect()
    }

    #[test]
    fn a_place_that_is_none_of_the_run_is_not_known() {
        let recent = Recent::new(&Limits::default());
        assert_eq!(recent.after(at(0), 9), None, "nothing was read yet");
        recent.keep(at(3), &log(3, 4));
        assert_eq!(recent.after(at(3), 9), Some(log(3, 4)));
        assert_eq!(recent.after(at(9), 1), Some(log(9, 1)));
        for unknown in [0, 2, 4, 15, 18] {
            assert_eq!(recent.after(at(unknown), 9), None, "{unknown}");
        }
    }

    proptest! {
        /// Whatever is read in whatever order, what is held is what stands in the log.
        #[test]
        fn what_is_held_is_what_stands_there(
            reads in prop::collection::vec((0_u64..=20, 0_usize..9), 1..30),
            events_max in 1_usize..12,
        ) {
            let recent = Recent::new(&Limits { tail_events_max: events_max, ..Limits::default() });
            for (third, limit) in reads {
                let read = log(third * 3, limit);
                recent.keep(at(third * 3), &read);
                for after in 0..=60 {
                    if let Some(held) = recent.after(at(after), usize::MAX) {
                        prop_assert_eq!(after % 3, 0);
                        prop_assert!(held.len() <= events_max);
                        prop_assert_eq!(&held, &log(after, held.len()));
                    }
                }
            }
        }
    }
}
