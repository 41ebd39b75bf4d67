//! Manual holds in force: listed, and ended automatically when they expire, so that nobody has to search for them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::domain::ids::{HoldId, ResourceId};
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, HoldKind, HoldPlaced};
use crate::projections::{Page, id_list};
use crate::registry::book_of;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// Holds ended in one go.
const BATCH: i64 = 500;

/// Keeps the list.
pub struct ManualHoldsConsumer {
    wake: Arc<Notify>,
    changed: bool,
}

impl ManualHoldsConsumer {
    /// A consumer that wakes the waiter for the end of the next hold.
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, changed: false }
    }
}

#[async_trait]
impl Consumer<Event> for ManualHoldsConsumer {
    fn name(&self) -> &'static str {
        "manual_holds"
    }

    fn tables(&self) -> &'static [&'static str] {
        &["manual_holds"]
    }

    fn interested(&self, event_type: &str) -> bool {
        matches!(event_type, "hold_placed.v1" | "hold_released.v1")
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        for decoded in batch {
            match &decoded.event {
                Event::Allocation(AllocationEvent::HoldPlaced(placed)) => {
                    self.changed |= placed.expires_at.is_some();
                    if let Some((resource, _)) = book_of(decoded.recorded.stream.as_str()) {
                        put(tx, resource, placed).await?;
                    }
                }
                Event::Allocation(AllocationEvent::HoldReleased(released)) => {
                    let hold = SqlValue::Uuid(released.hold.as_uuid());
                    tx.execute("DELETE FROM manual_holds{g} WHERE hold = $1", &[hold]).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.wake.notify_one();
        }
    }
}

async fn put(tx: &mut ReadTx, resource: ResourceId, placed: &HoldPlaced) -> Result<(), SqlError> {
    let insert = "INSERT INTO manual_holds{g} (hold, resource, kind, reason, ticket, placed_at, expires_at, public) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let values = [
        SqlValue::Uuid(placed.hold.as_uuid()),
        SqlValue::Uuid(resource.as_uuid()),
        SqlValue::Static(placed.kind.as_str()),
        placed.reason.as_str().into(),
        placed.ticket.as_deref().into(),
        SqlValue::Time(placed.placed_at),
        placed.expires_at.into(),
        placed.public.into(),
    ];
    tx.execute(insert, &values).await?;
    Ok(())
}

/// Holds whose time is over, the oldest first, a bounded number.
pub async fn due_holds(db: &ReadDb, now: DateTime<Utc>) -> Result<Vec<(ResourceId, HoldId)>, SqlError> {
    let rows = db
        .query(
            "SELECT resource, hold FROM manual_holds WHERE expires_at <= $1 ORDER BY expires_at, hold LIMIT $2",
            &[SqlValue::Time(now), SqlValue::I64(BATCH)],
        )
        .await?;
    rows.iter().map(|row| Ok((row.uuid(0)?.into(), row.uuid(1)?.into()))).collect()
}

/// Takes a hold that ended off the list.
pub async fn forget_hold(db: &ReadDb, hold: HoldId) -> Result<(), SqlError> {
    let mut tx = db.begin().await?;
    tx.execute("DELETE FROM manual_holds WHERE hold = $1", &[SqlValue::Uuid(hold.as_uuid())]).await?;
    tx.commit().await
}

/// When the next hold ends.
pub async fn next_expiry(db: &ReadDb) -> Result<Option<DateTime<Utc>>, SqlError> {
    let row = db.query_one("SELECT MIN(expires_at) FROM manual_holds WHERE expires_at IS NOT NULL", &[]).await?;
    Ok(row.map(|row| row.opt_time(0)).transpose()?.flatten())
}

/// The resource that a hold in force is on.
pub async fn held_resource(db: &ReadDb, hold: HoldId) -> Result<Option<ResourceId>, SqlError> {
    let row =
        db.query_one("SELECT resource FROM manual_holds WHERE hold = $1", &[SqlValue::Uuid(hold.as_uuid())]).await?;
    row.map(|row| row.uuid(0).map(ResourceId::from)).transpose()
}

/// Holds in force on these resources, oldest first on each; those without one are left out.
pub async fn holds_on(
    db: &ReadDb,
    resources: impl Iterator<Item = ResourceId>,
) -> Result<HashMap<ResourceId, Vec<HoldPlaced>>, SqlError> {
    let select = "SELECT resource, hold, kind, reason, ticket, placed_at, expires_at, public FROM manual_holds \
                  WHERE resource IN (SELECT unhex(value) FROM json_each($1)) ORDER BY placed_at, hold";
    let rows = db.query(select, &[id_list(resources.map(|resource| resource.as_uuid())).into()]).await?;
    let mut holds: HashMap<ResourceId, Vec<HoldPlaced>> = HashMap::new();
    for row in &rows {
        let (resource, hold) = read(row)?;
        holds.entry(resource).or_default().push(hold);
    }
    Ok(holds)
}

/// Holds in force that end by themselves before an instant, the first to end first, a bounded number.
pub async fn holds_ending(db: &ReadDb, before: DateTime<Utc>) -> Result<Vec<(ResourceId, HoldPlaced)>, SqlError> {
    let select = "SELECT resource, hold, kind, reason, ticket, placed_at, expires_at, public FROM manual_holds \
                  WHERE expires_at < $1 ORDER BY expires_at, hold LIMIT $2";
    db.query(select, &[SqlValue::Time(before), SqlValue::I64(BATCH)]).await?.iter().map(read).collect()
}

/// A page of the holds in force, of all resources or of one, oldest first, and how many there are.
pub async fn manual_holds(
    db: &ReadDb,
    resource: Option<ResourceId>,
    kind: Option<HoldKind>,
    page: Page,
) -> Result<(Vec<(ResourceId, HoldPlaced)>, i64), SqlError> {
    let mut values =
        vec![SqlValue::from(resource.map(|resource| resource.as_uuid())), SqlValue::from(kind.map(HoldKind::as_str))];
    let count = "SELECT count(*) FROM manual_holds WHERE ($1 IS NULL OR resource = $1) AND ($2 IS NULL OR kind = $2)";
    let total = db.query_one(count, &values).await?.map_or(Ok(0), |row| row.i64(0))?;
    let select = "SELECT resource, hold, kind, reason, ticket, placed_at, expires_at, public FROM manual_holds \
                  WHERE ($1 IS NULL OR resource = $1) AND ($2 IS NULL OR kind = $2) \
                  ORDER BY placed_at, hold LIMIT $3 OFFSET $4";
    values.extend([page.size.into(), page.offset().into()]);
    let rows = db.query(select, &values).await?;
    Ok((rows.iter().map(read).collect::<Result<_, SqlError>>()?, total))
}

fn read(row: &SqlRow) -> Result<(ResourceId, HoldPlaced), SqlError> {
    let kind = HoldKind::parse(row.text(2)?).ok_or(SqlError::Column { index: 2, expected: "a kind of hold" })?;
    let hold = HoldPlaced {
        hold: row.uuid(1)?.into(),
        kind,
        reason: row.text(3)?.to_owned(),
        ticket: row.opt_text(4)?.map(str::to_owned),
        expires_at: row.opt_time(6)?,
        placed_at: row.time(5)?,
        public: row.bool(7)?,
    };
    Ok((row.uuid(0)?.into(), hold))
}
