//! A test fixture: a small server in memory that speaks the protocol of `EventStoreDB` and `KurrentDB`, with faults on demand.
//!
//! It makes the client's code run over a real connection. It is no `EventStoreDB`: it answers as a server of version
//! 23.10.6 was seen to answer (ADR 24), and about revisions and repeated writes as the server's documentation says.
#![expect(clippy::result_large_err, reason = "a status of gRPC is as large as it is")]

mod calls;
mod chain;
mod cluster;
mod engine;
mod faults;
mod hindrances;
mod leader;
mod log;
mod opened;
mod read;
mod rpc;
mod server;
mod service;
mod wire;

pub use cluster::Standing;
pub use faults::Fault;
pub use server::Fixture;

pub use opened::{live_address, store, store_at};
