//! Whether a server is there at all: what a process asks that waits for it to start.

use std::sync::Arc;
use std::time::Duration;

use super::link::{Silence, unavailable};
use super::{EventStoreAddress, EventStoreDb};
use crate::limits::Limits;
use crate::store::StoreError;

impl EventStoreDb {
    /// Whether the server answers within some time; it is asked once.
    ///
    /// # Errors
    /// It does not; the source says what is in the way.
    pub async fn answers(address: &EventStoreAddress, limits: &Limits, within: Duration) -> Result<(), StoreError> {
        let (address, limits) = (address.clone(), Limits { event_store_attempts_max: 1, ..limits.clone() });
        // Whoever asked may be told to end meanwhile.
        let (asks, gone) = tokio::sync::oneshot::channel::<()>();
        // A client never ends by itself (ADR 24): this one ends with a runtime of its own.
        let asked = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unavailable)?;
            let answer = runtime.block_on(async {
                tokio::select! {
                    answer = tokio::time::timeout(within, Self::ask(&address, limits)) => answer.ok(),
                    _ = gone => None,
                }
            });
            runtime.shutdown_background();
            answer.unwrap_or_else(|| Err(unavailable(Silence(within))))
        });
        let answer = asked.await.unwrap_or_else(|crashed| Err(unavailable(crashed)));
        drop(asks);
        answer
    }

    async fn ask(address: &EventStoreAddress, limits: Limits) -> Result<(), StoreError> {
        let store = Self::open(address, Arc::new(crate::clock::real_now), limits)?;
        // Looking takes less time than the client does to give up.
        match store.link.out_of_reach().await {
            Some(hindrance) => Err(unavailable(hindrance)),
            None => store.fetch_stream(&format!("#{}identity", store.prefix), 0, 1).await.map(drop),
        }
    }
}
