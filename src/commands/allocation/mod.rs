//! Commands on one allocation: usage, limits, state, holds, evaluations, and agent reports.

mod agent_settings;
mod book;
mod command;
mod consequences;
mod counter;
mod decide;
mod page;
mod results;
mod transition;
mod usage;

pub use book::{Book, BookError, stream_of};
pub use command::{
    AllocationCommand, DecideContext, DispatchRecord, EarlierComponentLimits, OfferingInForce, PolicyInForce, Refusal,
    SiteRules, UsageReport,
};
pub use consequences::decide_policies;
pub use decide::{Decision, decide, register};
pub use page::PolicyPage;
pub use results::ran_reset;
pub use usage::check_usage_month;
