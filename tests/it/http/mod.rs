//! The HTTP API as a black box over a real listener; the tree mirrors that of the addresses.

mod access;
mod agents;
mod answers;
mod connections;
mod erasure;
mod events;
mod metrics;
mod notices;
mod permissions;
mod policies;
mod protocol;
mod registry;
mod resources;
mod scheduler;
mod schema;
mod service;
mod timeline;
mod tokens;
mod usages;
