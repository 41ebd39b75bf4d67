//! Decisions on one allocation: given facts, when a command, then events. Pure, no store.

mod agent;
mod books;
mod carryover;
mod cases;
mod causes;
mod counter;
mod evaluations;
mod holds;
mod limits;
mod properties;
mod resets;
mod results;
mod usage;
