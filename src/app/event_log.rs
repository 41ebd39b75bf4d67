//! The log to which a database belongs: its own, or one in `EventStoreDB`. Directory, tokens and read models refer to
//! one log only, so the database remembers which one, and refuses any other.

use std::sync::Arc;

use crate::clock::IdSource;
use crate::events::envelope::Position;
use crate::limits::Limits;
use crate::store::eventstoredb::{EventStoreAddress, EventStoreDb};
use crate::store::meta::{EVENT_LOG, Meta};
use crate::store::{EventStore, Now, StoreError};

/// Why a database and a log do not go together.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// The event store does not answer, or not as it should.
    #[error("the event store cannot be used")]
    Store(#[from] StoreError),
    /// The database goes with a log elsewhere, and none was named.
    #[error("the events of this database are in an event store (log {0}): name it with --event-store")]
    Elsewhere(String),
    /// The database goes with another log.
    #[error(
        "this database was made from the log {kept}, and {address} holds the log {found}: use the database that belongs to it, or a new one"
    )]
    Another {
        /// The log that the database goes with.
        kept: String,
        /// The log that was found.
        found: String,
        /// Where.
        address: String,
    },
    /// The database has events of its own.
    #[error(
        "this database holds a log of its own: with --event-store, use a new database, or take the log along with `sluice store copy`"
    )]
    OwnEvents,
}

/// The log that goes with a database: `own`, or the one at an address.
pub(super) async fn choose(
    own: Arc<dyn EventStore>,
    address: Option<&EventStoreAddress>,
    meta: &Meta,
    now: &Now,
    limits: &Limits,
) -> Result<Arc<dyn EventStore>, EventLogError> {
    let kept = meta.get(EVENT_LOG).await?;
    let Some(address) = address else {
        return kept.map_or(Ok(own), |kept| Err(EventLogError::Elsewhere(kept)));
    };
    if own.head().await? > Position::START {
        return Err(EventLogError::OwnEvents);
    }
    let store = EventStoreDb::open(address, Arc::clone(now), limits.clone())?;
    let found = store.identity(IdSource.fresh()).await?.to_string();
    // Of two processes that open a new database at once, the second finds what the first has kept.
    let kept = meta.get_or_set(EVENT_LOG, &found).await?;
    if kept == found {
        Ok(Arc::new(store.remember_in(meta.clone()).await?))
    } else {
        Err(EventLogError::Another { kept, found, address: address.to_string() })
    }
}
