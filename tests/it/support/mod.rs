//! What the integration tests share.

pub mod cases;
pub mod events;
pub mod fleet;
pub mod server;
pub mod world;
