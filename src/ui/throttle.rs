//! Limits failed attempts to sign in, by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Failures of one address within [`WINDOW`]; after that many it waits.
const FAILURES_MAX: u32 = 10;

/// How long failures count.
const WINDOW: Duration = Duration::from_mins(5);

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Failures by address. A key has 160 random bits and cannot be guessed; this keeps attempts from costing anything.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Throttle {
    /// How long an address has to wait, if it has.
    pub fn wait(&self, from: IpAddr) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (since, count) = failures.get(&from)?;
        let left = WINDOW.checked_sub(since.elapsed())?;
        (*count >= FAILURES_MAX).then_some(left)
    }

    /// Remembers a failure.
    pub fn failed(&self, from: IpAddr) {
        let mut failures = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX {
            failures.retain(|_, (since, _)| since.elapsed() < WINDOW);
        }
        if failures.len() >= ADDRESSES_MAX {
            // Somebody has thousands of addresses: who failed before is forgotten rather than memory filled.
            failures.clear();
        }
        let entry = failures.entry(from).or_insert_with(|| (Instant::now(), 0));
        if entry.0.elapsed() >= WINDOW {
            *entry = (Instant::now(), 0);
        }
        entry.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_make_one_address_wait_and_no_other() {
        let (throttle, bad, good) = (Throttle::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 1..FAILURES_MAX {
            throttle.failed(bad);
        }
        assert_eq!(throttle.wait(bad), None);
        throttle.failed(bad);
        assert!(throttle.wait(bad).is_some_and(|left| left <= WINDOW));
        assert_eq!(throttle.wait(good), None);
    }
}
