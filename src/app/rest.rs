//! Frees the memory of an idle server: caches that only serve speed are dropped when nothing has happened for a while.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::App;

/// After this long without a command, memory that only serves speed is freed.
const REST_AFTER: Duration = Duration::from_mins(5);

impl App {
    /// Lets go of everything that is in memory for speed alone; it comes back when it is wanted.
    pub async fn rest(&self) {
        self.allocations.forget_books();
        self.store.rest().await;
        if let Err(error) = self.read.rest() {
            tracing::warn!(error = &error as &dyn std::error::Error, "the read models keep their pages");
        }
    }

    /// Rests whenever no command came for some time, until told to stop: a server at rest is small.
    pub(super) async fn rest_when_idle(&self, stop: CancellationToken) {
        let (mut seen, mut rested) = (self.allocations.activity(), None);
        loop {
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(REST_AFTER) => {} }
            let activity = self.allocations.activity();
            if activity == seen && rested != Some(activity) {
                self.rest().await;
                rested = Some(activity);
            }
            seen = activity;
        }
    }
}
