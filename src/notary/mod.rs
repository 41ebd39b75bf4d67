//! The notary: a Merkle tree over all events in the order of the log, and signed statements of how it stood.
//!
//! Hashing is that of RFC 6962, tiles, checkpoints and notes are those of C2SP. The tree is kept in tiles beside the log and
//! can be made again from it; checkpoints are events, are kept beside the log too, and go to wherever a site sends them.

pub mod alignment;
pub mod checkpoint;
pub mod cosign;
pub mod examination;
pub mod export;
pub mod finding;
pub mod key;
pub mod leaf;
pub mod options;
pub mod pack;
pub mod proof;
pub mod service;
pub mod sink;
pub mod tables;
pub mod tree;
pub mod trust;
pub mod unpack;
pub mod verify;

pub use finding::{Finding, Kind};
pub use service::{Made, Notary, NotaryError};
