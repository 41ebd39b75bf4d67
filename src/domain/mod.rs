//! The rules of periodic usage policies, pure: no async, no I/O, no clock, no SQL, no HTTP.
//!
//! Every number that Sluice shows, records or sends is computed here, in decimal arithmetic, from arguments alone, so
//! that a recorded decision can be recomputed years later.

pub mod agreement;
pub mod carryover;
pub mod clusters;
pub mod commanded;
pub mod decimal;
pub mod dispatch;
pub mod evaluate;
pub mod explain;
pub mod forecast;
pub mod formula;
pub mod ids;
pub mod limit_history;
pub mod period;
pub mod policy;
pub mod preview;
pub mod qos;
pub mod sacctmgr;
pub mod series;
pub mod settings;
pub mod small_map;
pub mod standing;
pub mod text;
pub mod threshold;
pub mod tres;
pub mod validation;
