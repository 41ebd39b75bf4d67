//! Usage as last reported: month-to-date totals per resource and component, and users' shares in them.
//!
//! A row's id derives from what it is about, so that it stays the same whoever builds the table. Users are opaque ids.

mod query;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::kit::{Interner, Mark, MarkSql, book_of, in_list, mark_sql, month_code};
use crate::domain::ids::{ResourceId, UserId, slug_uuid};
use crate::domain::period::Month;
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlError, SqlValue};

pub use query::{UsageFilter, UsageRow, UserUsageFilter, UserUsageRow, get, list, list_users};

/// The consumer's name.
pub const NAME: &str = "usage";

const TABLES: &[&str] = &["usage_mark", "usage_resources", "component_usage", "user_usage"];

static MARK: MarkSql = mark_sql!("usage_mark");
static FIND_RESOURCE: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT no, id FROM usage_resources{g} WHERE id IN", ""));

/// The id of the row for a component's month on a resource.
pub fn usage_uuid(resource: ResourceId, month: Month, component: &str) -> Uuid {
    slug_uuid("usage", &format!("{resource}/{month}/{component}"))
}

/// The id of a user's share in such a row.
pub fn user_usage_uuid(usage: Uuid, user: UserId) -> Uuid {
    Uuid::new_v5(&usage, user.as_uuid().as_bytes())
}

/// The consumer.
#[derive(Debug)]
pub struct Usage {
    resources: Interner,
    mark: Mark,
}

impl Default for Usage {
    fn default() -> Self {
        let resources = Interner::new(
            &FIND_RESOURCE,
            "INSERT INTO usage_resources{g} (no, id)",
            "SELECT coalesce(max(no), 0) FROM usage_resources{g}",
        );
        Self { resources, mark: Mark::default() }
    }
}

/// A total as the batch leaves it.
struct Total {
    /// Of a new row: its number.
    order: usize,
    resource: i64,
    month: Month,
    component: String,
    amount: Decimal,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
    /// The row this is a share of, and whose it is.
    share: Option<(Uuid, UserId)>,
}

fn matters(event_type: &str) -> bool {
    matches!(event_type, "usage_reported.v1" | "user_usage_reported.v1")
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
        save_totals(tx, fold.totals).await?;
        save_shares(tx, fold.shares).await?;
        self.mark.save(tx, &MARK).await?;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.mark = Mark::load(tx, &MARK).await?;
        self.resources.reload(tx).await?;
        Ok(())
    }
}

#[derive(Default)]
struct Fold {
    totals: BTreeMap<Uuid, Total>,
    shares: BTreeMap<Uuid, Total>,
}

impl Fold {
    fn take(&mut self, id: ResourceId, resource: i64, event: &Decoded<Event>) {
        let at = event.recorded.occurred_at;
        match &event.event {
            Event::Allocation(AllocationEvent::UsageReported(reported)) => {
                for (component, reported_amount) in &reported.amounts {
                    let uuid = usage_uuid(id, reported.month, component);
                    let (month, amount) = (reported.month, reported_amount.amount);
                    put(&mut self.totals, uuid, (resource, month, component), amount, at, None);
                }
            }
            Event::Allocation(AllocationEvent::UserUsageReported(reported)) => {
                let usage = usage_uuid(id, reported.month, &reported.component);
                for (user, amount) in &reported.amounts {
                    let about = (resource, reported.month, reported.component.as_str());
                    let share = Some((usage, *user));
                    put(&mut self.shares, user_usage_uuid(usage, *user), about, *amount, at, share);
                }
            }
            _ => {}
        }
    }
}

fn put(
    totals: &mut BTreeMap<Uuid, Total>,
    uuid: Uuid,
    (resource, month, component): (i64, Month, &str),
    amount: Decimal,
    at: DateTime<Utc>,
    share: Option<(Uuid, UserId)>,
) {
    let order = totals.len();
    let component = || component.to_owned();
    let total = totals.entry(uuid).or_insert_with(|| Total {
        order,
        resource,
        month,
        component: component(),
        amount,
        first_at: at,
        last_at: at,
        share,
    });
    total.amount = amount;
    total.last_at = at;
}

/// In the order of first appearance, since the table numbers new rows in the order in which they come.
fn in_order(totals: BTreeMap<Uuid, Total>) -> Vec<(Uuid, Total)> {
    let mut totals: Vec<(Uuid, Total)> = totals.into_iter().collect();
    totals.sort_by_key(|(_, total)| total.order);
    totals
}

async fn save_totals(tx: &mut ReadTx, totals: BTreeMap<Uuid, Total>) -> Result<(), SqlError> {
    if totals.is_empty() {
        return Ok(());
    }
    let values = |(uuid, total): (Uuid, Total)| -> [SqlValue; 7] {
        [
            SqlValue::Uuid(uuid),
            total.resource.into(),
            month_code(total.month).into(),
            total.component.into(),
            total.amount.into(),
            total.first_at.into(),
            total.last_at.into(),
        ]
    };
    let rows = in_order(totals).into_iter().flat_map(values).collect();
    let insert = "INSERT INTO component_usage{g} (id, resource, month, component, amount, created_at, modified_at)";
    let update = "ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, modified_at = excluded.modified_at";
    tx.insert_many(insert, 7, rows, update).await?;
    Ok(())
}

async fn save_shares(tx: &mut ReadTx, shares: BTreeMap<Uuid, Total>) -> Result<(), SqlError> {
    if shares.is_empty() {
        return Ok(());
    }
    let values = |(uuid, total): (Uuid, Total)| -> [SqlValue; 9] {
        let (usage, user) = total.share.map_or((None, None), |(usage, user)| (Some(usage), Some(user.as_uuid())));
        [
            SqlValue::Uuid(uuid),
            usage.into(),
            total.resource.into(),
            month_code(total.month).into(),
            total.component.into(),
            user.into(),
            total.amount.into(),
            total.first_at.into(),
            total.last_at.into(),
        ]
    };
    let rows = in_order(shares).into_iter().flat_map(values).collect();
    let insert = "INSERT INTO user_usage{g} \
                  (id, usage_id, resource, month, component, user_id, amount, created_at, modified_at)";
    let update = "ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, modified_at = excluded.modified_at";
    tx.insert_many(insert, 9, rows, update).await?;
    Ok(())
}
