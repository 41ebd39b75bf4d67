//! The rules of periodic usage policies, pure: no async, no I/O, no clock, no SQL, no HTTP.
//!
//! Every number another part of Sluice shows, records or sends is computed here, in decimal arithmetic, from arguments
//! alone, so that a recorded decision can be recomputed years later.

pub mod agreement;
pub mod carryover;
pub mod decimal;
pub mod evaluate;
pub mod explain;
pub mod ids;
pub mod period;
pub mod policy;
pub mod preview;
pub mod qos;
pub mod sacctmgr;
pub mod settings;
pub mod small_map;
pub mod threshold;
pub mod tres;
pub mod validation;
