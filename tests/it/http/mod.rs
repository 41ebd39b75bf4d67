//! The HTTP API as a black box over a real listener; the tree mirrors that of the addresses.

mod access;
mod events;
mod metrics;
mod permissions;
mod policies;
mod protocol;
mod registry;
mod resources;
mod schema;
mod service;
mod usages;
