//! The only place that reads the wall clock or creates random ids.
//!
//! Everything else gets time and ids as arguments, or from the [`Clock`] and [`IdSource`] it was built with, so that a
//! test can simulate a year and repeat a decision exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A source of the present instant.
pub trait Clock: Send + Sync + 'static {
    /// The present instant, UTC, never earlier than an answer given before by a simulated clock.
    fn now(&self) -> DateTime<Utc>;

    /// True if time moves only when told.
    fn is_simulated(&self) -> bool {
        false
    }
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> DateTime<Utc> {
        let now = Utc::now();
        // Microseconds are what every store keeps; an instant must not change by being stored.
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }
}

/// A clock that only moves when it is set, and never backwards.
#[derive(Debug)]
pub struct SimulatedClock {
    micros: AtomicI64,
}

impl SimulatedClock {
    /// A clock standing at `start`.
    pub fn new(start: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self { micros: AtomicI64::new(start.timestamp_micros()) })
    }

    /// Moves the clock to `to`; an earlier instant leaves it where it is and answers false.
    pub fn advance_to(&self, to: DateTime<Utc>) -> bool {
        let to = to.timestamp_micros();
        self.micros.fetch_max(to, Ordering::SeqCst) <= to
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros.load(Ordering::SeqCst)).unwrap_or(DateTime::UNIX_EPOCH)
    }

    fn is_simulated(&self) -> bool {
        true
    }
}

/// The machine's clock whatever the service's clock is: for leases, time-outs and retries, which always run in real time.
pub fn real_now() -> DateTime<Utc> {
    SystemClock.now()
}

/// Makes ids; time-ordered ones so that rows written together lie together.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdSource;

impl IdSource {
    /// A fresh `UUIDv7`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that makes random ids")]
    pub fn fresh(self) -> Uuid {
        Uuid::now_v7()
    }
}
