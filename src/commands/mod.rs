//! Commands: load a stream, fold it, decide, append with the version of the decision, and repeat on a conflict.
//!
//! Deciding and folding are pure and synchronous; only [`execute`] and [`registry`] access the store. Commands never
//! read projections: a decision depends on its own stream and on the registry's facts, not on a view that may lag.

pub mod allocation;
pub mod execute;
pub mod registry;
