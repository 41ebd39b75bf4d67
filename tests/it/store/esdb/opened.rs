//! Stores on the fixture, and on a real server where one is named.

use std::sync::Arc;

use sluice::clock::IdSource;
use sluice::limits::Limits;
use sluice::store::eventstoredb::{EventStoreAddress, EventStoreDb};

use super::Fixture;
use crate::store::support::ticking;

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
