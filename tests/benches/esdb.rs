//! The test fixture that speaks the protocol of `EventStoreDB`, without the tests that stand beside it.
#![expect(dead_code, reason = "the fixture of the tests can do more than is measured")]
#![expect(clippy::result_large_err, reason = "a status of gRPC is as large as it is")]

#[path = "../it/store/esdb/calls.rs"]
mod calls;
#[path = "../it/store/esdb/chain.rs"]
mod chain;
#[path = "../it/store/esdb/cluster.rs"]
mod cluster;
#[path = "../it/store/esdb/faults.rs"]
mod faults;
#[path = "../it/store/esdb/log.rs"]
mod log;
#[path = "../it/store/esdb/read.rs"]
mod read;
#[path = "../it/store/esdb/rpc.rs"]
mod rpc;
#[path = "../it/store/esdb/server.rs"]
mod server;
#[path = "../it/store/esdb/wire.rs"]
mod wire;

pub use cluster::Cluster;
pub use server::Fixture;
