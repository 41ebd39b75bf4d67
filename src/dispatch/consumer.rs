//! The consumer `outbox`: from events to pending messages, and from recorded outcomes to settled rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;

use super::CONSUMER;
use super::fold::{Fold, book_about};
use crate::domain::ids::ResourceId;
use crate::events::Event;
use crate::events::envelope::Position;
use crate::registry::{Follower, Registry};
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlValue};

const INTERESTING: [&str; 16] = [
    "settings_commanded.v1",
    "settings_commanded.v2",
    "restriction_changed.v1",
    "resource_registered.v1",
    "resource_details_changed.v1",
    "resource_state_changed.v1",
    "stomp_message_sent.v1",
    "stomp_message_failed.v1",
    "dispatch_unanswered.v1",
    "dispatch_resend_requested.v1",
    "restriction_resend_requested.v1",
    "qos_confirmed.v1",
    "account_freed.v1",
    "command_result_reported.v1",
    "command_result_unmatched.v1",
    "event_set_aside.v1",
];

/// How far the tables are, in the tables themselves: what comes again changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    position: Position,
    pub rows: i64,
    pub sent: i64,
}

/// Writes down what agents are owed.
pub struct OutboxConsumer {
    registry: Arc<Registry>,
    follower: Arc<Follower>,
    wake: Arc<Notify>,
    mark: Mark,
    changed: bool,
}

impl OutboxConsumer {
    /// A consumer that wakes a publisher through `wake`. Which offering a resource belongs to, the registry says.
    pub fn new(registry: Arc<Registry>, follower: Arc<Follower>, wake: Arc<Notify>) -> Self {
        Self { registry, follower, wake, mark: Mark::default(), changed: false }
    }

    /// Makes sure that the registry knows these resources.
    async fn known(&self, resources: &[Uuid]) -> Result<(), ConsumerError> {
        let all = |registry: &Registry| {
            let state = registry.read();
            resources.iter().all(|id| state.resource(ResourceId::from(*id)).is_some())
        };
        if !all(&self.registry) {
            self.follower.catch_up().await.map_err(|error| ConsumerError::Other(error.to_string()))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer<Event> for OutboxConsumer {
    fn name(&self) -> &'static str {
        CONSUMER
    }

    fn tables(&self) -> &'static [&'static str] {
        &["outbox_mark", "outbox", "outbox_flags", "outbox_resets", "outbox_agents", "outbox_accounts", "outbox_left"]
    }

    fn interested(&self, event_type: &str) -> bool {
        INTERESTING.contains(&event_type)
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let after = self.mark.position;
        let events: Vec<&Decoded<Event>> =
            batch.iter().filter(|e| e.recorded.position > after && self.interested(&e.recorded.event_type)).collect();
        let Some(last) = events.last() else { return Ok(()) };
        let touched: BTreeSet<Uuid> =
            events.iter().filter_map(|event| book_about(event)).map(|(id, _)| id.as_uuid()).collect();
        let touched: Vec<Uuid> = touched.into_iter().collect();
        self.known(&touched).await?;
        let mut fold = Fold::load(tx, &touched, &events, &self.registry, self.mark).await?;
        for event in &events {
            fold.take(event);
        }
        self.mark = Mark { position: last.recorded.position, ..fold.save(tx).await? };
        let [hi, lo] = SqlValue::position(self.mark.position);
        let save = "INSERT INTO outbox_mark{g} (one, position_hi, position_lo, rows, sent) VALUES (1, $1, $2, $3, $4) \
                    ON CONFLICT (one) DO UPDATE SET position_hi = excluded.position_hi, \
                    position_lo = excluded.position_lo, rows = excluded.rows, sent = excluded.sent";
        let values = [hi, lo, self.mark.rows.into(), self.mark.sent.into()];
        tx.execute(save, &values).await?;
        self.changed = true;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        let row = tx.query_one("SELECT position_hi, position_lo, rows, sent FROM outbox_mark{g}", &[]).await?;
        self.mark = match row {
            None => Mark::default(),
            Some(row) => Mark { position: row.position(0)?, rows: row.i64(2)?, sent: row.i64(3)? },
        };
        Ok(())
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.wake.notify_one();
        }
    }
}
