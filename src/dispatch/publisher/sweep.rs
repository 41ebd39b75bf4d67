//! The sweep of the settings sync: marks messages that nobody answered in time and, if an agent listens, resends them,
//! up to a limit; likewise restrictions whose class of service the site has not confirmed.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::rows::{Row, RowState};
use super::{DispatchError, Publisher, alone};
use crate::commands::allocation::{AllocationCommand, DispatchRecord};
use crate::domain::ids::{OfferingId, ResourceId};
use crate::events::dispatch::{AgentMessage, DispatchUnanswered};

/// What one sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Dispatches that were marked as unanswered.
    pub marked: u64,
    /// Dispatches, and messages about restrictions, that are sent again.
    pub again: u64,
}

impl Publisher {
    /// Marks what nobody answered in time, and has sent again what may be.
    pub async fn sweep(&self) -> Result<Swept, DispatchError> {
        let mut swept = Swept::default();
        if !self.options.publishes {
            return Ok(swept);
        }
        let _alone = self.working.lock().await;
        let Some(_only) = alone(&self.parts.database)? else { return Ok(swept) };
        if !self.folded().await? {
            return Ok(swept);
        }
        swept.marked = self.mark_unanswered().await? as u64;
        if swept.marked > 0 && !self.folded().await? {
            return Ok(swept);
        }
        swept.again = self.send_again().await?;
        if swept.again > 0 {
            self.parts.wake.notify_one();
        }
        Ok(swept)
    }

    /// When a sweep will find something to do, by the service's clock; none if nothing is unanswered, or nobody listens
    /// who could be told again.
    pub async fn next_sweep(&self) -> Result<Option<DateTime<Utc>>, DispatchError> {
        if !self.options.publishes {
            return Ok(None);
        }
        let mut first: Option<DateTime<Utc>> = None;
        for (offering, sent_at) in self.outbox.oldest_unanswered().await? {
            if self.listens(offering, AgentMessage::Settings).await
                || self.listens(offering, AgentMessage::Resource).await
            {
                let due = sent_at + self.patience();
                first = Some(first.map_or(due, |known| known.min(due)));
            }
        }
        Ok(first)
    }

    /// How long an answer may take.
    pub(super) fn patience(&self) -> TimeDelta {
        TimeDelta::minutes(self.parts.settings.current().no_answer_minutes.into())
    }

    /// Records what nobody answered in time.
    pub(super) async fn mark_unanswered(&self) -> Result<usize, DispatchError> {
        let rows = self.outbox.unanswered(self.parts.clock.now() - self.patience()).await?;
        let (over, open): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.state == RowState::Superseded);
        if !over.is_empty() {
            self.outbox.forget(&over.iter().map(|row| row.no).collect::<Vec<_>>()).await?;
        }
        let command = |row: &Row| {
            let resends = u32::try_from(row.resends).unwrap_or(u32::MAX);
            let given_up = resends >= self.options.resends_max;
            let unanswered = DispatchUnanswered { dispatch: row.dispatch.into(), resends, given_up };
            let record = DispatchRecord::Unanswered(unanswered);
            (ResourceId::from(row.resource), AllocationCommand::RecordDispatch(record))
        };
        let commands: Vec<_> = open.iter().map(command).collect();
        for row in &open {
            tracing::warn!(dispatch = %row.dispatch.as_simple(), resends = row.resends, "an agent did not answer in time");
        }
        Ok(self.execute(&commands).await)
    }

    /// Queues again what nobody answered, where an agent listens: a queue that nobody reads has its message already, or
    /// will be asked about again.
    async fn send_again(&self) -> Result<u64, DispatchError> {
        let mut again = 0;
        for offering in self.outbox.unanswered_offerings().await? {
            if self.listens(offering, AgentMessage::Settings).await {
                again += self.outbox.send_again(offering).await?;
            }
        }
        let before = self.parts.clock.now() - self.patience();
        for offering in self.outbox.unconfirmed_offerings(before).await? {
            if self.listens(offering, AgentMessage::Resource).await {
                again += self.outbox.tell_again(offering, before, self.options.resends_max).await?;
            }
        }
        Ok(again)
    }

    /// Whether an agent of the offering listens to messages of a kind now.
    async fn listens(&self, offering: OfferingId, message: AgentMessage) -> bool {
        for queue in self.queues_for(offering, message) {
            match self.parts.broker.status(&queue).await {
                Ok(status) if status.consumers > 0 => return true,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, queue = queue.queue, "a queue cannot be asked how it stands"),
            }
        }
        false
    }
}
