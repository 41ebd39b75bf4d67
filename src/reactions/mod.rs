//! Reactions to a registry change: the affected resources are evaluated again.
//!
//! The consumer only records the work; a worker does it in batches and advances a cursor, so that it continues there
//! after a restart. Finished work is a fact of the log, so that a new fold repeats nothing.

mod holds;
mod unsettled;
mod work;

pub use holds::{
    ManualHoldsConsumer, due_holds, forget_hold, held_resource, holds_ending, holds_on, manual_holds, next_expiry,
};
pub use unsettled::{Unsettled, UnsettledConsumer};
pub use work::{ReactionError, ReactionProgress, Reactions, Reload};

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::{Position, RecordedEvent};
use crate::events::registry::RegistryEvent;
use crate::events::site::{ReactionsFinished, SITE_STREAM, SettingChanged, SiteEvent};
use crate::registry::book_of;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlError, SqlValue};

/// The name of the consumer's checkpoint.
pub const CONSUMER: &str = "reactions";
/// The name of the checkpoint of what waits for the settings sync.
pub const UNSETTLED: &str = "unsettled";

/// Records what must be evaluated again, and drops what the log says is done.
pub struct ReactionConsumer {
    wake: Arc<Notify>,
    /// What is written down, by the event that called for it, and whether something came of it.
    pending: HashMap<Uuid, (Position, bool)>,
}

impl ReactionConsumer {
    /// A consumer that wakes the worker of `reactions`.
    pub fn new(reactions: &Reactions) -> Self {
        Self { wake: reactions.wake(), pending: HashMap::new() }
    }

    /// Something came of what an event called for. Work is done in the order in which it was called for, so what was called
    /// for before is done.
    async fn begun(&mut self, tx: &mut ReadTx, cause: Uuid) -> Result<(), SqlError> {
        let Some((position, begun)) = self.pending.get_mut(&cause).filter(|(_, begun)| !*begun) else { return Ok(()) };
        *begun = true;
        let position = *position;
        let update = "UPDATE reactions{g} SET begun = 1 WHERE position_hi = $1 AND position_lo = $2";
        tx.execute(update, &SqlValue::position(position)).await?;
        let delete = "DELETE FROM reactions{g} WHERE position_hi < $1 OR (position_hi = $1 AND position_lo < $2)";
        tx.execute(delete, &SqlValue::position(position)).await?;
        self.pending.retain(|_, (pending, _)| *pending >= position);
        Ok(())
    }

    /// Up to where everything is done, when an event at a position says so. In a log that was copied it may name a position
    /// of another log. Then the change itself counts; without it nothing is taken for done, and is done again.
    fn through(&self, finished: &ReactionsFinished, at: Position) -> Option<Position> {
        let change = finished.change.and_then(|change| self.pending.get(&change));
        change.map(|(position, _)| *position).or(Some(finished.through).filter(|through| *through < at))
    }

    async fn finished(&mut self, tx: &mut ReadTx, through: Position) -> Result<(), SqlError> {
        let delete = "DELETE FROM reactions{g} WHERE position_hi < $1 OR (position_hi = $1 AND position_lo <= $2)";
        tx.execute(delete, &SqlValue::position(through)).await?;
        self.pending.retain(|_, (pending, _)| *pending > through);
        mark(tx, "finished", through).await
    }
}

async fn mark(tx: &mut ReadTx, name: &'static str, position: Position) -> Result<(), SqlError> {
    let upsert = "INSERT INTO reaction_marks{g} (name, position_hi, position_lo) VALUES ($1, $2, $3) \
                  ON CONFLICT (name) DO UPDATE SET position_hi = excluded.position_hi, position_lo = excluded.position_lo";
    let [hi, lo] = SqlValue::position(position);
    tx.execute(upsert, &[SqlValue::Static(name), hi, lo]).await?;
    Ok(())
}

/// Settings that affect agents' settings: a change re-evaluates every resource.
const TOLD_SETTINGS: [&str; 2] = ["fairshare_divisor", "reset_total_at_takeover"];

/// What a changed setting calls for: that this process takes it over, and evaluates everybody where that matters.
fn called_for_by_setting(changed: &SettingChanged) -> [SqlValue; 5] {
    let everybody = TOLD_SETTINGS.contains(&changed.name.as_str());
    let kind = SqlValue::Static(if everybody { work::SETTINGS } else { work::SETTING });
    [kind, SqlValue::Null, SqlValue::Null, SqlValue::Null, SqlValue::Null]
}

/// What an event calls for: kind, offering, customer, policy, resource.
fn called_for(event: &RegistryEvent) -> Option<[SqlValue; 5]> {
    let id = |id: uuid::Uuid| SqlValue::Uuid(id);
    let kind = |kind: &'static str| SqlValue::Text(kind.into());
    Some(match event {
        RegistryEvent::PolicyCreated(f) | RegistryEvent::PolicyChanged(f) => {
            [kind("policy"), id(f.offering.as_uuid()), SqlValue::Null, id(f.policy.as_uuid()), SqlValue::Null]
        }
        RegistryEvent::PolicyDeleted(f) => {
            [kind("policy"), id(f.offering.as_uuid()), SqlValue::Null, id(f.policy.as_uuid()), SqlValue::Null]
        }
        RegistryEvent::CustomerChanged(f) => {
            [kind("scope"), SqlValue::Null, id(f.customer.as_uuid()), SqlValue::Null, SqlValue::Null]
        }
        RegistryEvent::OfferingChanged(f) => {
            [kind("offering"), id(f.offering.as_uuid()), SqlValue::Null, SqlValue::Null, SqlValue::Null]
        }
        RegistryEvent::EvaluationRequested(f) => [
            kind("request"),
            SqlValue::Null,
            SqlValue::Null,
            id(f.policy.as_uuid()),
            f.resource.map_or(SqlValue::Null, |r| id(r.as_uuid())),
        ],
        _ => return None,
    })
}

fn row(recorded: &RecordedEvent, what: [SqlValue; 5]) -> impl Iterator<Item = SqlValue> {
    let ids = [SqlValue::Uuid(recorded.metadata.correlation_id), SqlValue::Uuid(recorded.event_id)];
    SqlValue::position(recorded.position).into_iter().chain(what).chain(ids)
}

/// What an event calls for, if anything.
fn called_for_by(event: &Event) -> Option<[SqlValue; 5]> {
    match event {
        Event::Registry(event) => called_for(event),
        Event::Site(SiteEvent::SettingChanged(changed)) => Some(called_for_by_setting(changed)),
        Event::Site(SiteEvent::EventSetAside(aside)) => {
            if aside.stream.as_str() == SITE_STREAM {
                return Some([
                    SqlValue::Static(work::SETTINGS),
                    SqlValue::Null,
                    SqlValue::Null,
                    SqlValue::Null,
                    SqlValue::Null,
                ]);
            }
            // Without one of its events a book is a different one, for which everything is recomputed.
            let (resource, _) = book_of(aside.stream.as_str())?;
            let resource = SqlValue::Uuid(resource.as_uuid());
            Some([SqlValue::Static(work::BOOK), SqlValue::Null, SqlValue::Null, SqlValue::Null, resource])
        }
        _ => None,
    }
}

/// What the worker records, and nobody else with a change of the registry as its cause.
fn is_re_evaluation(event: &Event) -> bool {
    use AllocationEvent::{EvaluationFailed, PolicyEvaluated, PolicyWithdrawn};
    matches!(event, Event::Allocation(PolicyEvaluated(_) | PolicyWithdrawn(_) | EvaluationFailed(_)))
}

const INSERT: &str = "INSERT INTO reactions{g} (position_hi, position_lo, kind, offering, customer, policy, resource, \
     correlation_id, causation_id)";

#[async_trait]
impl Consumer<Event> for ReactionConsumer {
    fn name(&self) -> &'static str {
        CONSUMER
    }

    fn tables(&self) -> &'static [&'static str] {
        &["reactions", "reaction_marks"]
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let (mut rows, mut called) = (Vec::new(), None);
        for Decoded { recorded, event } in batch {
            if let Some(what) = called_for_by(event) {
                rows.extend(row(recorded, what));
                called = Some(recorded.position);
                self.pending.insert(recorded.event_id, (recorded.position, false));
                continue;
            }
            let through = match event {
                Event::Site(SiteEvent::ReactionsFinished(finished)) => self.through(finished, recorded.position),
                _ => None,
            };
            let cause = recorded.metadata.causation_id.filter(|_| is_re_evaluation(event));
            let cause = cause.filter(|cause| self.pending.contains_key(cause));
            if through.is_none() && cause.is_none() {
                continue;
            }
            // What was called for before stands in the table by then.
            tx.insert_many(INSERT, 9, std::mem::take(&mut rows), "").await?;
            match (through, cause) {
                (Some(through), _) => self.finished(tx, through).await?,
                (None, Some(cause)) => self.begun(tx, cause).await?,
                (None, None) => {}
            }
        }
        tx.insert_many(INSERT, 9, rows, "").await?;
        if let Some(called) = called {
            mark(tx, "called", called).await?;
        }
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.pending.clear();
        let select = "SELECT causation_id, position_hi, position_lo, begun FROM reactions{g}";
        for row in tx.query(select, &[]).await? {
            let position = row.position(1)?;
            self.pending.insert(row.uuid(0)?, (position, row.i64(3)? != 0));
        }
        Ok(())
    }

    fn committed(&mut self) {
        self.wake.notify_one();
    }
}
