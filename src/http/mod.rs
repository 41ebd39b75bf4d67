//! The HTTP API: Waldur's endpoints for SLURM periodic usage policies, and what belongs around them.
//!
//! One file per group of endpoints, each with its handlers and the shapes they read and write. Every route is registered
//! together with its rule of access.

mod access;
mod context;
mod error;
mod fields;
mod json;
mod layers;
mod paging;
mod query;
mod reference;
mod sight;
mod state;

pub use access::{Access, Rule};
pub use error::ApiError;
pub use state::{ApiState, HttpLimits};
mod number;
mod policies;
mod resolve;
