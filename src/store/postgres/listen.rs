//! Notices the work of other processes: a notification makes it fast, a poll makes it reliable.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rows;
use crate::events::envelope::Position;
use crate::store::numbers::NUMBERS;

/// The channel on which an append announces itself.
const CHANNEL: &str = "sluice_log";

/// The shortest pause before a lost connection is opened again.
const BREATH: Duration = Duration::from_millis(200);

/// Listens to one channel, on a connection of its own. Trouble with the connection only makes it slower.
#[derive(Debug)]
pub struct NotifyListener {
    pool: PgPool,
    channel: &'static str,
    listener: Option<PgListener>,
}

impl NotifyListener {
    /// Listens in the database that a pool is for, as the pool's connections do.
    pub(in crate::store) fn of(pool: &PgPool, channel: &'static str) -> Self {
        let options = (*pool.connect_options()).clone();
        let own = PgPoolOptions::new().max_connections(1).acquire_timeout(pool.options().get_acquire_timeout());
        Self { pool: own.connect_lazy_with(options), channel, listener: None }
    }

    /// Returns what was said; nothing when something may have been said, or the time is over: look.
    pub async fn next(&mut self, at_most: Duration) -> Option<String> {
        let Some(listener) = &mut self.listener else {
            self.listener = self.connect().await;
            if self.listener.is_none() {
                tokio::time::sleep(at_most).await;
            }
            return None;
        };
        match tokio::time::timeout(at_most, listener.try_recv()).await {
            Ok(Ok(Some(said))) => return Some(said.payload().to_owned()),
            Err(_) => {}
            Ok(Ok(None) | Err(_)) => {
                // The connection is gone; whatever was said meanwhile is found by looking.
                self.listener = None;
                tokio::time::sleep(at_most.min(BREATH)).await;
            }
        }
        None
    }

    async fn connect(&self) -> Option<PgListener> {
        let connected = async {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            listener.ignore_pool_close_event(true);
            listener.listen(self.channel).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        connected.await.ok()
    }

    /// Ends the connection.
    pub async fn close(self) {
        drop(self.listener);
        self.pool.close().await;
    }
}

/// Moves `head` to wherever the log ends, until it is told to stop.
pub(super) async fn follow(readers: PgPool, head: watch::Sender<Position>, poll: Duration, stop: CancellationToken) {
    let mut listener = NotifyListener::of(&readers, CHANNEL);
    while !stop.is_cancelled() {
        let said = tokio::select! {
            said = listener.next(poll) => said,
            () = stop.cancelled() => break,
        };
        let announced = said.and_then(|said| said.parse().ok()).map(|number| NUMBERS.at(number));
        let now = match announced {
            Some(position) => Ok(position),
            None => rows::head(&readers).await,
        };
        if let Ok(now) = now {
            head.send_if_modified(|head| {
                let moved = *head < now;
                *head = now.max(*head);
                moved
            });
        }
    }
    listener.close().await;
}
