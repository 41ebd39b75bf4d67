//! What the integration tests share.

pub mod cases;
pub mod world;
