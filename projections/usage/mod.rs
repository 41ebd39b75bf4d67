//! Usage as last reported: month-to-date totals per resource and component, and users' shares in them.
//!
//! A row's id derives from its key, so that it stays the same whoever builds the table; it begins like the id of its
//! resource, so that a total is found by its id without an index on ids. Users are opaque ids.

mod query;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::kit::{Interner, Mark, MarkSql, book_of, in_list, mark_sql, month_code};
use crate::domain::ids::{ResourceId, UserId, slug_uuid};
use crate::domain::period::Month;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, MissingUsage};
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlError, SqlValue};

pub use query::{UsageFilter, UsageRow, UserUsageFilter, UserUsageRow, get, list, list_users, without_report};

/// The consumer's name.
pub const NAME: &str = "usage";

const TABLES: &[&str] = &["usage_mark", "usage_resources", "usage_months", "component_usage", "user_usage"];

static MARK: MarkSql = mark_sql!("usage_mark");
static FIND_RESOURCE: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT no, id FROM usage_resources{g} WHERE id IN", ""));

/// The first bytes of a total's id, which it shares with its resource.
const SHARED_BYTES: usize = 6;

/// The id of the row for a component's month on a resource.
pub fn usage_uuid(resource: ResourceId, month: Month, component: &str) -> Uuid {
    let mut bytes = slug_uuid("usage", &format!("{resource}/{month}/{component}")).into_bytes();
    bytes[..SHARED_BYTES].copy_from_slice(&resource.as_uuid().as_bytes()[..SHARED_BYTES]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The id of a user's share in such a row.
pub fn user_usage_uuid(usage: Uuid, user: UserId) -> Uuid {
    Uuid::new_v5(&usage, user.as_uuid().as_bytes())
}

/// The consumer.
#[derive(Debug)]
pub struct Usage {
    resources: Interner,
    /// Months known to have totals.
    months: BTreeSet<i64>,
    mark: Mark,
}

impl Default for Usage {
    fn default() -> Self {
        let resources = Interner::new(
            &FIND_RESOURCE,
            "INSERT INTO usage_resources{g} (no, id)",
            "SELECT coalesce(max(no), 0) FROM usage_resources{g}",
        );
        Self { resources, months: BTreeSet::new(), mark: Mark::default() }
    }
}

/// A total as the batch leaves it.
struct Total {
    amount: Decimal,
    /// Of a component's total; of shares it says nothing.
    missing: MissingUsage,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
}

/// What a total is of: month, resource, component.
type Key = (Month, i64, String);

/// A user's share as the batch leaves it.
struct Share {
    /// Of a new row: its place in the order of appearance.
    order: usize,
    of: Key,
    /// The total it is a share of, and whose it is.
    usage: Uuid,
    user: UserId,
    total: Total,
}

/// A policy for months without a report as a number.
fn missing_code(policy: MissingUsage) -> i64 {
    MissingUsage::ALL.iter().zip(0..).find(|(known, _)| **known == policy).map_or(0, |(_, code)| code)
}

/// The policy of such a number.
fn missing_of(code: i64) -> MissingUsage {
    usize::try_from(code).ok().and_then(|code| MissingUsage::ALL.get(code)).copied().unwrap_or_default()
}

fn matters(event_type: &str) -> bool {
    matches!(event_type, "usage_reported.v1" | "missing_usage_filled.v1" | "user_usage_reported.v1")
}

#[async_trait]
impl Consumer<Event> for Usage {
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
        let resources: Vec<Uuid> =
            events.iter().filter_map(|e| book_of(&e.recorded.stream)).map(|(r, _)| r.as_uuid()).collect();
        self.resources.ensure(tx, &resources).await?;
        let mut fold = Fold::default();
        for event in events {
            let Some((id, _)) = book_of(&event.recorded.stream) else { continue };
            let Some(resource) = self.resources.get(id.as_uuid()) else { continue };
            fold.take(id, resource, event);
        }
        self.save_months(tx, &fold.totals).await?;
        save_totals(tx, fold.totals).await?;
        save_shares(tx, fold.shares).await?;
        self.mark.save(tx, &MARK).await?;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.mark = Mark::load(tx, &MARK).await?;
        self.resources.reload(tx).await?;
        let months = tx.query("SELECT month FROM usage_months{g}", &[]).await?;
        self.months = months.iter().map(|row| row.i64(0)).collect::<Result<_, SqlError>>()?;
        Ok(())
    }
}

impl Usage {
    async fn save_months(&mut self, tx: &mut ReadTx, totals: &BTreeMap<Key, Total>) -> Result<(), SqlError> {
        let months = totals.keys().map(|(month, ..)| month_code(*month));
        let new: Vec<SqlValue> = months.filter(|month| self.months.insert(*month)).map(SqlValue::I64).collect();
        if !new.is_empty() {
            tx.insert_many("INSERT INTO usage_months{g} (month)", 1, new, "ON CONFLICT (month) DO NOTHING").await?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Fold {
    totals: BTreeMap<Key, Total>,
    shares: BTreeMap<Uuid, Share>,
}

impl Fold {
    fn total(&mut self, key: Key, amount: Decimal, missing: MissingUsage, at: DateTime<Utc>) {
        let new = Total { amount, missing, first_at: at, last_at: at };
        let total = self.totals.entry(key).or_insert(new);
        total.put(amount, at);
        total.missing = missing;
    }

    fn take(&mut self, id: ResourceId, resource: i64, event: &Decoded<Event>) {
        let at = event.recorded.occurred_at;
        match &event.event {
            Event::Allocation(AllocationEvent::UsageReported(reported)) => {
                for (component, reported_amount) in &reported.amounts {
                    let key = (reported.month, resource, component.clone());
                    let missing = reported.missing_usage.get(component).copied().unwrap_or_default();
                    self.total(key, reported_amount.amount, missing, at);
                }
            }
            Event::Allocation(AllocationEvent::MissingUsageFilled(filled)) => {
                for (component, total) in &filled.amounts {
                    self.total((filled.month, resource, component.clone()), total.amount, total.policy, at);
                }
            }
            Event::Allocation(AllocationEvent::UserUsageReported(reported)) => {
                let usage = usage_uuid(id, reported.month, &reported.component);
                for (user, amount) in &reported.amounts {
                    let order = self.shares.len();
                    let share = self.shares.entry(user_usage_uuid(usage, *user)).or_insert_with(|| Share {
                        order,
                        of: (reported.month, resource, reported.component.clone()),
                        usage,
                        user: *user,
                        total: Total { amount: *amount, missing: MissingUsage::None, first_at: at, last_at: at },
                    });
                    share.total.put(*amount, at);
                }
            }
            _ => {}
        }
    }
}

impl Total {
    fn put(&mut self, amount: Decimal, at: DateTime<Utc>) {
        self.amount = amount;
        self.last_at = at;
    }
}

async fn save_totals(tx: &mut ReadTx, totals: BTreeMap<Key, Total>) -> Result<(), SqlError> {
    if totals.is_empty() {
        return Ok(());
    }
    let values = |((month, resource, component), total): (Key, Total)| -> [SqlValue; 7] {
        let Total { amount, missing, first_at, last_at } = total;
        [
            month_code(month).into(),
            resource.into(),
            component.into(),
            amount.into(),
            first_at.into(),
            last_at.into(),
            missing_code(missing).into(),
        ]
    };
    let rows = totals.into_iter().flat_map(values).collect();
    let insert =
        "INSERT INTO component_usage{g} (month, resource, component, amount, created_at, modified_at, missing)";
    let update = "ON CONFLICT (month, resource, component) DO UPDATE SET amount = excluded.amount, \
                  modified_at = excluded.modified_at, missing = excluded.missing";
    tx.insert_many(insert, 7, rows, update).await?;
    Ok(())
}

async fn save_shares(tx: &mut ReadTx, shares: BTreeMap<Uuid, Share>) -> Result<(), SqlError> {
    if shares.is_empty() {
        return Ok(());
    }
    // In the order of first appearance, since the table numbers new rows in the order in which they come.
    let mut shares: Vec<(Uuid, Share)> = shares.into_iter().collect();
    shares.sort_by_key(|(_, share)| share.order);
    let values = |(uuid, share): (Uuid, Share)| -> [SqlValue; 9] {
        let (month, resource, component) = share.of;
        [
            SqlValue::Uuid(uuid),
            SqlValue::Uuid(share.usage),
            resource.into(),
            month_code(month).into(),
            component.into(),
            SqlValue::Uuid(share.user.as_uuid()),
            share.total.amount.into(),
            share.total.first_at.into(),
            share.total.last_at.into(),
        ]
    };
    let rows = shares.into_iter().flat_map(values).collect();
    let insert = "INSERT INTO user_usage{g} \
                  (id, usage_id, resource, month, component, user_id, amount, created_at, modified_at)";
    let update = "ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, modified_at = excluded.modified_at";
    tx.insert_many(insert, 9, rows, update).await?;
    Ok(())
}
