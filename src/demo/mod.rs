//! `sluice demo`: two quarters of a small cluster, played through in seconds on a simulated clock.
//!
//! Nothing is staged: the sample site is applied, invented `sacct` output is imported day by day, the clock runs the same
//! jobs as a server would, and what is printed is read back from the event log.

mod narrate;
mod story;

pub use narrate::Narrator;
pub use story::{DemoError, Story};
