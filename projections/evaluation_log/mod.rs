//! The evaluation log: one row per evaluation, including failed ones, with maintained counts by class and time.
//!
//! A row links to the dispatch that the same append commanded; the command history has its result. Rows older than the
//! retention horizon are never written, or are pruned later; either way the monthly totals include them.

mod class;
mod fold;
mod query;
mod totals;

use std::collections::HashMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::kit::{CountSql, Interner, Mark, MarkSql, book_of, count_sql, in_list, mark_sql};
use crate::domain::ids::PolicyId;
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::registry::RegistryEvent;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlError};

pub use class::{ActionFilter, EvaluationOutcome};
pub use query::{EvaluationFilter, EvaluationRow, count, list, newest_reasons};
pub(super) use totals::{Delta, add as add_totals, key as totals_key};
pub use totals::{MonthlyTotal, TotalsFilter, list as monthly_totals};

/// The consumer's name.
pub const NAME: &str = "evaluation_log";

const TABLES: &[&str] = &[
    "evaluation_log_mark",
    "evaluation_log_resources",
    "evaluation_log_policies",
    "evaluation_log_grace",
    "evaluation_log",
    "evaluation_log_counts",
    "evaluation_log_totals",
    "evaluation_log_restricted",
];

pub(super) static MARK: MarkSql = mark_sql!("evaluation_log_mark");
pub(super) static COUNTS: CountSql = count_sql!("evaluation_log");

static FIND_RESOURCE: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT no, id FROM evaluation_log_resources{g} WHERE id IN", ""));
static FIND_POLICY: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT no, id FROM evaluation_log_policies{g} WHERE id IN", ""));

/// The consumer.
#[derive(Debug)]
pub struct EvaluationLog {
    resources: Interner,
    policies: Interner,
    /// Grace limits by policy and version, 0 for the newest; as text, since they are only passed on.
    grace: HashMap<(i64, u64), String>,
    mark: Mark,
    /// Known before the log says so: a rebuild need not write what would be pruned at once.
    horizon: Option<DateTime<Utc>>,
}

impl Default for EvaluationLog {
    fn default() -> Self {
        Self::with_horizon(None)
    }
}

impl EvaluationLog {
    /// A consumer that does not write rows strictly older than a horizon that the log is known to hold.
    pub fn with_horizon(horizon: Option<DateTime<Utc>>) -> Self {
        let resources = Interner::new(
            &FIND_RESOURCE,
            "INSERT INTO evaluation_log_resources{g} (no, id)",
            "SELECT coalesce(max(no), 0) FROM evaluation_log_resources{g}",
        );
        let policies = Interner::new(
            &FIND_POLICY,
            "INSERT INTO evaluation_log_policies{g} (no, id)",
            "SELECT coalesce(max(no), 0) FROM evaluation_log_policies{g}",
        );
        Self { resources, policies, grace: HashMap::new(), mark: Mark::default(), horizon }
    }

    fn is_pruned(&self, at: DateTime<Utc>) -> bool {
        self.mark.is_pruned(at) || self.horizon.is_some_and(|horizon| at < horizon)
    }

    /// Gives numbers to the resources and policies of these events, in their order.
    async fn intern(&mut self, tx: &mut ReadTx, events: &[&Decoded<Event>]) -> Result<(), SqlError> {
        let book = |e: &&Decoded<Event>| book_of(&e.recorded.stream).map(|(resource, _)| resource.as_uuid());
        let resources: Vec<Uuid> = events.iter().filter_map(book).collect();
        self.resources.ensure(tx, &resources).await?;
        let policies: Vec<Uuid> = events.iter().flat_map(|e| policies_of(&e.event)).map(|p| p.as_uuid()).collect();
        self.policies.ensure(tx, &policies).await
    }
}

/// The policies that an event names.
fn policies_of(event: &Event) -> Vec<PolicyId> {
    match event {
        Event::Registry(RegistryEvent::PolicyCreated(facts) | RegistryEvent::PolicyChanged(facts)) => {
            vec![facts.policy]
        }
        Event::Allocation(AllocationEvent::PolicyEvaluated(evaluated)) => vec![evaluated.policy],
        Event::Allocation(AllocationEvent::EvaluationFailed(failed)) => vec![failed.policy],
        Event::Allocation(AllocationEvent::SettingsCommanded(commanded)) => {
            std::iter::once(commanded.policy).chain(commanded.others.iter().copied()).collect()
        }
        _ => Vec::new(),
    }
}

fn matters(event_type: &str) -> bool {
    matches!(
        event_type,
        "policy_created.v1"
            | "policy_changed.v1"
            | "policy_evaluated.v1"
            | "evaluation_failed.v1"
            | "settings_commanded.v1"
            | "settings_commanded.v2"
            | "restriction_changed.v1"
            | "books_opened.v1"
            | "retention_applied.v1"
    )
}

#[async_trait]
impl Consumer<Event> for EvaluationLog {
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
        self.intern(tx, &events).await?;
        let mut fold = fold::Fold::default();
        for event in events {
            fold.take(self, event);
        }
        fold.save(tx).await?;
        self.mark.save(tx, &MARK).await?;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.mark = Mark::load(tx, &MARK).await?;
        self.resources.reload(tx).await?;
        self.policies.reload(tx).await?;
        self.grace.clear();
        for row in tx.query("SELECT policy, version, percent FROM evaluation_log_grace{g}", &[]).await? {
            self.grace.insert((row.i64(0)?, row.i64(1)?.cast_unsigned()), row.text(2)?.to_owned());
        }
        Ok(())
    }
}
