//! Following what other processes append: a notification makes it quick, a poll makes it sure.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rows;
use crate::events::envelope::Position;

/// The channel on which an append announces itself.
const CHANNEL: &str = "sluice_log";

/// Moves `head` to wherever the log ends, until it is told to stop. Trouble with the connection only makes it slower.
pub(super) async fn follow(
    listen: PgPool,
    readers: PgPool,
    head: watch::Sender<Position>,
    poll: Duration,
    stop: CancellationToken,
) {
    let mut listener = None;
    while !stop.is_cancelled() {
        if listener.is_none() {
            listener = connect(&listen).await;
        }
        let notified = async {
            match &mut listener {
                Some(listener) => listener.try_recv().await.is_ok_and(|notification| notification.is_some()),
                None => std::future::pending().await,
            }
        };
        let news = tokio::select! {
            came = notified => Some(came),
            () = tokio::time::sleep(poll) => None,
            () = stop.cancelled() => break,
        };
        if news == Some(false) {
            // The connection is gone; whatever was said meanwhile is found by looking.
            listener = None;
            tokio::time::sleep(poll.min(Duration::from_millis(200))).await;
        }
        if let Ok(now) = rows::head(&readers).await {
            head.send_if_modified(|head| {
                let moved = *head < now;
                *head = now.max(*head);
                moved
            });
        }
    }
    drop(listener);
    listen.close().await;
}

async fn connect(pool: &PgPool) -> Option<PgListener> {
    let connected = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.ignore_pool_close_event(true);
        listener.listen(CHANNEL).await?;
        Ok::<_, sqlx::Error>(listener)
    };
    connected.await.ok()
}
