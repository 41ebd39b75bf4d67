//! Commands on one allocation: usage, limits, state, holds, evaluations, and what the agent reports.

mod book;
mod command;
mod consequences;
mod decide;
mod desk;
mod results;
mod tell;

pub use book::{Book, BookError, PolicyPage, stream_of};
pub use command::{
    AllocationCommand, DecideContext, DispatchRecord, OfferingInForce, PolicyInForce, Refusal, SiteRules,
};
pub use decide::{Decision, decide, register};
pub use results::ran_reset;
