//! Waits, up to a limit, until the read side shows what was recorded.

use std::time::Duration;

use super::{App, AppError};
use crate::events::envelope::Position;
use crate::reactions;
use crate::registry::served_position;
use crate::store::StoreError;
use crate::store::lease::Leases;

/// How long a request waits for the read side to show what it wrote, beside the time in which somebody leads again.
const VISIBLE_WITHIN: Duration = Duration::from_secs(5);

impl App {
    /// Waits, within a bound, until the read side shows what stands at `position`; with none, see `recorded`. False:
    /// not in time.
    pub async fn visible(&self, position: Option<Position>) -> bool {
        match self.recorded(position).await {
            Ok(Some(position)) => self.consumers.wait_for(position, &[], self.visible_within()).await,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// The same, and until re-evaluations that the event calls for are done and shown too.
    pub async fn consequences_visible(&self, position: Option<Position>) -> bool {
        let position = match self.recorded(position).await {
            Ok(Some(position)) => position,
            Ok(None) => return true,
            Err(_) => return false,
        };
        if !self.consumers.wait_for(position, &[reactions::CONSUMER], self.visible_within()).await
            || !self.reactions.wait_done(position, self.visible_within()).await
        {
            return false;
        }
        match self.store.head().await {
            Ok(head) => self.visible(Some(head)).await,
            Err(_) => false,
        }
    }

    /// The position up to which reads have to show what a request was answered for. A request that recorded nothing, since it
    /// stood in the log already, may repeat one that went to another process, which died before that was shown: then it is
    /// everything recorded by now. A process on its own shows it in a moment.
    async fn recorded(&self, position: Option<Position>) -> Result<Option<Position>, StoreError> {
        match position {
            None if self.leases.is_some() => self.store.head().await.map(Some),
            given => Ok(given),
        }
    }

    /// Who feeds the read side may have died just now; then another takes over first.
    fn visible_within(&self) -> Duration {
        VISIBLE_WITHIN + self.leases.as_ref().map_or(Duration::ZERO, Leases::lasts)
    }

    /// Waits, beside a running server, until it knows and shows everything that is in the log now. False: not in time.
    pub async fn known_to_server(&self, at_most: Duration) -> Result<bool, AppError> {
        let until = tokio::time::Instant::now() + at_most;
        loop {
            // Read again each time: the server may append events in response.
            let head = self.store.head().await?;
            if served_position(&self.read).await? >= head && self.reactions.pending().await?.is_empty() {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
