//! The versions of the streams that the writer has seen, so that an append usually needs no query.
//!
//! Bounded and compact: 100,000 resources have one open book each, and their heads must not cost tens of megabytes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Where a stream stands. A stream that no event has reached yet has version 0 and no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of the stream in the tables; 0 before it has one.
    pub(super) stream_id: i64,
    /// Events in the stream.
    pub(super) version: u64,
}

impl Head {
    pub(super) const NONE: Self = Self { stream_id: 0, version: 0 };
}

/// Heads by a 128-bit keyed hash of the name. The keys are random per process, so names that collide can be neither found
/// nor made: for a billion streams the chance is below 10^-20.
pub(super) struct Heads {
    by_name: HashMap<u128, Head>,
    keys: [RandomState; 2],
    max: usize,
}

impl Heads {
    pub(super) fn new(max: usize) -> Self {
        Self { by_name: HashMap::new(), keys: [RandomState::new(), RandomState::new()], max }
    }

    fn key(&self, name: &str) -> u128 {
        let [high, low] = &self.keys;
        u128::from(high.hash_one(name)) << 64 | u128::from(low.hash_one(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<Head> {
        self.by_name.get(&self.key(name)).copied()
    }

    /// Remembers a head. A full cache starts over: what is in use comes back with one batched query.
    pub(super) fn put(&mut self, name: &str, head: Head) {
        if self.by_name.len() >= self.max {
            self.by_name.clear();
        }
        self.by_name.insert(self.key(name), head);
    }

    pub(super) fn clear(&mut self) {
        self.by_name = HashMap::new();
    }
}
