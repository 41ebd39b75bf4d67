//! What is stored: every type of event stays readable as it was written, and is described in one page.

mod described;
pub mod golden;
