//! Commands: load a stream, fold it, decide, append with the version the decision rests on, and again on a conflict.
//!
//! Deciding and folding are pure and synchronous; only [`execute`] and [`registry`] touch the store. Commands never read
//! projections: a decision rests on its own stream and on the registry's facts, not on a view that may lag.

pub mod allocation;
pub mod execute;
pub mod registry;
