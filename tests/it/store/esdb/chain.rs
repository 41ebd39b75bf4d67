//! How many calls a client makes one after the other: each call is held for a while, so that those that do not wait for each
//! other are under way together, and whoever begins after another has ended is the next of a chain.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct Chain(Mutex<State>);

#[derive(Default)]
struct State {
    /// How long a call is held; none: calls are neither held nor counted.
    hold: Option<Duration>,
    /// The longest chain of calls that have ended.
    longest: usize,
}

impl Chain {
    /// Holds every call for so long from now on, and counts from here.
    pub fn hold(&self, hold: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { hold: Some(hold), longest: 0 };
    }

    /// How many calls were made one after the other at most.
    pub fn longest(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).longest
    }

    /// To be awaited at the beginning of a call; the answer goes to `end`.
    pub async fn begin(&self) -> usize {
        let (hold, place) = {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (state.hold, state.longest + 1)
        };
        if let Some(hold) = hold {
            tokio::time::sleep(hold).await;
        }
        place
    }

    /// The call at this place of a chain is answered.
    pub fn end(&self, place: usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.hold.is_some() {
            state.longest = state.longest.max(place);
        }
    }
}
