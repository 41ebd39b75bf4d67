//! What a change of the registry leads to: the resources it touches are evaluated again.
//!
//! The consumer only writes down what is to be done; a worker does it in batches and moves a cursor, so that a restart in
//! the middle goes on where it stopped.

mod holds;
mod unsettled;
mod work;

pub use holds::{ManualHoldsConsumer, due_holds, forget_hold, held_resource, holds_on, manual_holds, next_expiry};
pub use unsettled::{Unsettled, UnsettledConsumer};
pub use work::{ReactionError, ReactionProgress, Reactions, Reload};

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::events::Event;
use crate::events::envelope::RecordedEvent;
use crate::events::registry::RegistryEvent;
use crate::events::site::{SettingChanged, SiteEvent};
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlValue};

/// The name of the consumer's checkpoint.
pub const CONSUMER: &str = "reactions";

/// Writes down what is to be evaluated again.
pub struct ReactionConsumer {
    wake: Arc<Notify>,
}

impl ReactionConsumer {
    /// A consumer that wakes the worker of `reactions`.
    pub fn new(reactions: &Reactions) -> Self {
        Self { wake: reactions.wake() }
    }
}

/// Settings on which what agents are told depends: everybody is evaluated again.
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
    let (hi, lo) = recorded.position.parts();
    let position = [SqlValue::I64(hi.cast_signed()), SqlValue::I64(lo.cast_signed())];
    let ids = [SqlValue::Uuid(recorded.metadata.correlation_id), SqlValue::Uuid(recorded.event_id)];
    position.into_iter().chain(what).chain(ids)
}

#[async_trait]
impl Consumer<Event> for ReactionConsumer {
    fn name(&self) -> &'static str {
        CONSUMER
    }

    fn tables(&self) -> &'static [&'static str] {
        &["reactions"]
    }

    fn interested(&self, event_type: &str) -> bool {
        event_type == "setting_changed.v1" || RegistryEvent::TYPES.contains(&event_type)
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let rows: Vec<SqlValue> = batch
            .iter()
            .filter_map(|e| match &e.event {
                Event::Registry(event) => Some(row(&e.recorded, called_for(event)?)),
                Event::Site(SiteEvent::SettingChanged(changed)) => {
                    Some(row(&e.recorded, called_for_by_setting(changed)))
                }
                _ => None,
            })
            .flatten()
            .collect();
        tx.insert_many(
            "INSERT INTO reactions{g} (position_hi, position_lo, kind, offering, customer, policy, resource, \
             correlation_id, causation_id)",
            9,
            rows,
            "",
        )
        .await?;
        Ok(())
    }

    fn committed(&mut self) {
        self.wake.notify_one();
    }
}
