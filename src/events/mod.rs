//! The vocabulary that the write and the read side share.
//!
//! `envelope` is what surrounds every event of the log, whatever it says; each stream family has its own file beside it.

pub mod envelope;
