//! The read models: tables folded from the event log, and typed queries on them.
//!
//! Each consumer owns tables with a mark (the last event that mattered), so that a repeated event changes nothing, and
//! a rebuild produces the same rows with the same numbers. Time and identity come only from the events.

pub mod account;
pub mod command_history;
pub mod evaluation_log;
pub mod event_chains;
mod kit;
pub mod rebuild;
pub mod registry;
pub mod retention;
pub mod site_answers;
pub mod status_summary;
pub mod usage;

use crate::events::Event;
use crate::store::consumer::ConsumerLoop;

pub(crate) use kit::id_list;
pub use kit::{Page, Span};

/// The names of the consumers, which are the names under which each can be rebuilt.
pub const NAMES: [&str; 7] = [
    registry::NAME,
    usage::NAME,
    evaluation_log::NAME,
    command_history::NAME,
    status_summary::NAME,
    site_answers::NAME,
    event_chains::NAME,
];

/// Adds every read model to the loop that feeds them.
#[must_use]
pub fn consumers(to: ConsumerLoop<Event>) -> ConsumerLoop<Event> {
    to.with(registry::Registry::default())
        .with(usage::Usage::default())
        .with(evaluation_log::EvaluationLog::default())
        .with(command_history::CommandHistory::default())
        .with(status_summary::StatusSummary::default())
        .with(site_answers::SiteAnswers)
        .with(event_chains::EventChains::default())
}
