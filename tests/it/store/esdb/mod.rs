//! A test fixture: a small server in memory that speaks the protocol of `EventStoreDB` and `KurrentDB`, with faults on demand.
//!
//! It makes the client's code run over a real connection. It is no `EventStoreDB`: what it does about revisions, repeated
//! writes and filters is what the server's documentation says, written down by hand.
#![expect(clippy::result_large_err, reason = "a status of gRPC is as large as it is")]

mod calls;
mod engine;
mod faults;
mod log;
mod proto;
mod read;
mod server;
mod service;

pub use faults::Fault;
pub use server::Fixture;

use std::sync::Arc;

use sluice::clock::IdSource;
use sluice::limits::Limits;
use sluice::store::eventstoredb::{EventStoreAddress, EventStoreDb};

use super::support::ticking;

/// A store on the fixture.
pub fn store(fixture: &Fixture, limits: Limits) -> Arc<EventStoreDb> {
    store_at(&fixture.address(), limits)
}

/// A store at an address.
pub fn store_at(address: &str, limits: Limits) -> Arc<EventStoreDb> {
    let address: EventStoreAddress = address.parse().unwrap();
    Arc::new(EventStoreDb::open(&address, ticking(), limits).unwrap())
}

/// The address of a real server, if one is given, with a log of its own on it: real servers are never empty.
pub fn live_address() -> Option<String> {
    let address = std::env::var("SLUICE_TEST_ESDB").ok().filter(|address| !address.is_empty())?;
    let separator = if address.contains('?') { '&' } else { '?' };
    Some(format!("{address}{separator}streamPrefix=test.{}.", IdSource.fresh().simple()))
}
