//! The worked numbers of the pure rules, case by case.

mod carryover;
mod cases;
mod period;
mod preview;
mod settings;
mod threshold;
