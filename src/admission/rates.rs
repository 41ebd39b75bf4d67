//! Rate limits per caller and minute.
//!
//! Each caller has one token bucket per kind of cost, which holds a minute's allowance and refills continuously. The
//! cost of a request is often known only afterwards, so a request is admitted while no bucket is empty, and its cost is
//! deducted later; a bucket may then be in debt, by at most a minute's allowance.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

/// Callers that are remembered; one that was forgotten begins with full buckets.
const CALLERS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// A caller has used up what a minute allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Which kind of cost.
    pub kind: usize,
    /// What a minute allows of it.
    pub per_minute: u64,
    /// How long until there is some of it again.
    pub wait: Duration,
}

impl Exhausted {
    /// The wait in whole seconds, as `Retry-After` has it.
    pub fn seconds(&self) -> u64 {
        self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

#[expect(clippy::cast_precision_loss, reason = "bounds far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

impl Bucket {
    /// What is in it now.
    fn filled(self, per_minute: u64, now: Instant) -> Self {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        let left = (self.left + since * number(per_minute) / 60.0).min(number(per_minute));
        Self { left, at: now.max(self.at) }
    }

    fn take(&mut self, count: u64, per_minute: u64) {
        self.left = (self.left - number(count)).max(-number(per_minute));
    }

    /// How long until a whole one is in it; none if there is.
    fn wait(&self, per_minute: u64) -> Option<Duration> {
        let missing = 1.0 - self.left;
        (missing > 0.0).then(|| Duration::from_secs_f64(missing * 60.0 / number(per_minute)))
    }
}

/// What callers may ask for: `N` kinds of cost, each with what a minute allows; 0 allows any amount.
pub struct Rates<K, const N: usize> {
    per_minute: [u64; N],
    callers: Mutex<LruCache<K, [Bucket; N]>>,
}

impl<K: Hash + Eq, const N: usize> Rates<K, N> {
    /// Rates, with full buckets for everybody.
    pub fn new(per_minute: [u64; N]) -> Self {
        Self { per_minute, callers: Mutex::new(LruCache::new(CALLERS_MAX)) }
    }

    fn with<T>(&self, key: K, now: Instant, work: impl FnOnce(&mut [Bucket; N]) -> T) -> T {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || self.per_minute.map(|per_minute| Bucket { left: number(per_minute), at: now });
        let buckets = callers.get_or_insert_mut(key, full);
        for (bucket, per_minute) in buckets.iter_mut().zip(self.per_minute) {
            *bucket = bucket.filled(per_minute, now);
        }
        work(buckets)
    }

    /// Whether a caller may ask for something now; the emptiest bucket says when it may again.
    ///
    /// # Errors
    /// A bucket is empty.
    pub fn admit(&self, key: K, now: Instant) -> Result<(), Exhausted> {
        let empty = |(kind, (bucket, per_minute)): (usize, (&mut Bucket, u64))| {
            let wait = if per_minute > 0 { bucket.wait(per_minute)? } else { return None };
            Some(Exhausted { kind, per_minute, wait })
        };
        let found = self.with(key, now, |buckets| {
            buckets.iter_mut().zip(self.per_minute).enumerate().filter_map(empty).max_by_key(|empty| empty.wait)
        });
        found.map_or(Ok(()), Err)
    }

    /// Takes what something has cost a caller.
    pub fn charge(&self, key: K, cost: [u64; N], now: Instant) {
        self.with(key, now, |buckets| {
            for ((bucket, cost), per_minute) in buckets.iter_mut().zip(cost).zip(self.per_minute) {
                bucket.take(cost, per_minute);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minute_allows_so_much_and_time_brings_it_back() {
        let (rates, begun) = (Rates::new([60]), Instant::now());
        for _ in 0..60 {
            rates.admit("a", begun).unwrap();
            rates.charge("a", [1], begun);
        }
        let refused = rates.admit("a", begun).unwrap_err();
        assert_eq!((refused.kind, refused.per_minute, refused.seconds()), (0, 60, 1));
        rates.admit("b", begun).unwrap();
        assert!(rates.admit("a", begun + SECOND / 2).is_err());
        rates.admit("a", begun + SECOND).unwrap();
        // Nobody saves up more than a minute's worth.
        let later = begun + SECOND * 3_600;
        rates.charge("a", [60], later);
        assert!(rates.admit("a", later).is_err());
    }

    #[test]
    fn what_was_too_much_is_owed_up_to_a_minute() {
        let (rates, begun) = (Rates::new([1_000, 60]), Instant::now());
        rates.charge("a", [1, 1_000_000], begun);
        let refused = rates.admit("a", begun).unwrap_err();
        assert_eq!((refused.kind, refused.seconds()), (1, 61));
        rates.admit("a", begun + SECOND * 61).unwrap();
    }

    #[test]
    fn nothing_is_refused_where_there_is_no_bound() {
        let (rates, now) = (Rates::new([0]), Instant::now());
        rates.charge("a", [u64::MAX], now);
        rates.admit("a", now).unwrap();
    }
}
