//! The status summary: the current state of every resource under every policy, and counters over it.
//!
//! The counters are maintained, never recounted: each event changes one resource, and the difference between its
//! contribution before and after goes into the counters. Their cost therefore does not grow with the number of
//! resources.

mod fold;
mod model;
mod query;
mod rows;
mod standings;

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::kit::{Mark, MarkSql, mark_sql};
use crate::events::Event;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::ReadTx;

pub use model::AgentStatus;
pub use query::{
    OwnerStatus, StatusFilter, StatusRow, at_limit, list, offering_status, policies_of, policy_status, site_totals,
};
pub use standings::{StandingFilter, StandingLine, StandingRow, standings};

/// The consumer's name.
pub const NAME: &str = "status_summary";

const TABLES: &[&str] = &[
    "status_mark",
    "status_resources",
    "status_rows",
    "status_thresholds",
    "status_policies",
    "status_counters",
    "status_at_limit",
];

static MARK: MarkSql = mark_sql!("status_mark");

/// The consumer.
#[derive(Debug, Default)]
pub struct StatusSummary {
    mark: Mark,
    /// Notification thresholds by policy and version.
    thresholds: HashMap<(Uuid, i64), Vec<Decimal>>,
}

fn matters(event_type: &str) -> bool {
    matches!(
        event_type,
        "resource_registered.v1"
            | "resource_state_changed.v1"
            | "restriction_changed.v1"
            | "hold_placed.v1"
            | "hold_released.v1"
            | "usage_reported.v1"
            | "policy_evaluated.v1"
            | "evaluation_failed.v1"
            | "policy_withdrawn.v1"
            | "settings_commanded.v1"
            | "settings_commanded.v2"
            | "stomp_message_sent.v1"
            | "stomp_message_failed.v1"
            | "dispatch_unanswered.v1"
            | "dispatch_resend_requested.v1"
            | "command_result_reported.v1"
            | "policy_created.v1"
            | "policy_changed.v1"
            | "policy_deleted.v1"
    )
}

#[async_trait]
impl Consumer<Event> for StatusSummary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    fn interested(&self, event_type: &str) -> bool {
        matters(event_type)
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let events = self.mark.unseen(batch, matters);
        if events.is_empty() {
            return Ok(());
        }
        let mut fold = fold::Fold::load(tx, &events).await?;
        for event in events {
            fold.take(self, event);
        }
        fold.save(tx).await?;
        self.mark.save(tx, &MARK).await?;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.mark = Mark::load(tx, &MARK).await?;
        self.thresholds.clear();
        for row in tx.query("SELECT policy, version, notify FROM status_thresholds{g}", &[]).await? {
            self.thresholds.insert((row.uuid(0)?, row.i64(1)?), model::percents_of(row.text(2)?));
        }
        Ok(())
    }
}

/// Changes of counters, by owner and name.
type Deltas<K> = BTreeMap<(Uuid, K), i64>;
