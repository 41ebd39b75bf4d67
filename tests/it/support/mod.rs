//! What the integration tests share.

pub mod cases;
pub mod causes;
pub mod database;
pub mod events;
pub mod fleet;
pub mod positions;
pub mod server;
pub mod world;
