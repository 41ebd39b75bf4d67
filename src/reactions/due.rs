//! Manual holds that end by themselves: which end when, kept so that nobody has to search for them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::ids::{HoldId, ResourceId};
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::registry::book_of;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlValue};

/// Holds ended in one go.
const BATCH: i64 = 500;

/// Keeps the list.
#[derive(Debug, Default)]
pub struct DueHoldsConsumer;

#[async_trait]
impl Consumer<Event> for DueHoldsConsumer {
    fn name(&self) -> &'static str {
        "due_holds"
    }

    fn tables(&self) -> &'static [&'static str] {
        &["due_holds"]
    }

    fn interested(&self, event_type: &str) -> bool {
        matches!(event_type, "hold_placed.v1" | "hold_released.v1")
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        for decoded in batch {
            match &decoded.event {
                Event::Allocation(AllocationEvent::HoldPlaced(placed)) => {
                    let resource = book_of(decoded.recorded.stream.as_str()).map(|(resource, _)| resource);
                    if let (Some(resource), Some(expires_at)) = (resource, placed.expires_at) {
                        tx.execute(
                            "INSERT INTO due_holds{g} (hold, resource, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                            &[
                                SqlValue::Uuid(placed.hold.as_uuid()),
                                SqlValue::Uuid(resource.as_uuid()),
                                SqlValue::Time(expires_at),
                            ],
                        )
                        .await?;
                    }
                }
                Event::Allocation(AllocationEvent::HoldReleased(released)) => {
                    let hold = SqlValue::Uuid(released.hold.as_uuid());
                    tx.execute("DELETE FROM due_holds{g} WHERE hold = $1", &[hold]).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Holds whose time is over, the oldest first, a bounded number.
pub async fn due_holds(db: &ReadDb, now: DateTime<Utc>) -> Result<Vec<(ResourceId, HoldId)>, SqlError> {
    let rows = db
        .query(
            "SELECT resource, hold FROM due_holds WHERE expires_at <= $1 ORDER BY expires_at, hold LIMIT $2",
            &[SqlValue::Time(now), SqlValue::I64(BATCH)],
        )
        .await?;
    rows.iter().map(|row| Ok((row.uuid(0)?.into(), row.uuid(1)?.into()))).collect()
}

/// When the next hold ends.
pub async fn next_expiry(db: &ReadDb) -> Result<Option<DateTime<Utc>>, SqlError> {
    let row = db.query_one("SELECT MIN(expires_at) FROM due_holds", &[]).await?;
    Ok(row.map(|row| row.opt_time(0)).transpose()?.flatten())
}
