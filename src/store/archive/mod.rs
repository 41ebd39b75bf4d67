//! Old parts of the log as files: compressed, checked, and still read by everybody who reads the log.
//!
//! A segment is an unbroken piece of the log. What it says about an event never varies, so that its hash can be compared
//! with the rows that it replaces. The form does not depend on the engine; where segments are recorded does.

pub(in crate::store) mod line;
mod segment;

pub use line::hex;
pub use segment::{Frame, Segment, SegmentError, SegmentFacts};
pub(in crate::store) use segment::{SegmentWriter, read_frame, verify};
