//! Resources whose last evaluation failed: a list, so that nobody has to search the fleet for them.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::ids::{PolicyId, ResourceId};
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::registry::book_of;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlValue};

/// First pause before a resource is tried again; it doubles.
const FIRST: TimeDelta = TimeDelta::minutes(10);
/// Longest pause.
const LONGEST: TimeDelta = TimeDelta::days(1);

/// Keeps the list: a resource is on it as long as the newest evaluation under some policy failed.
#[derive(Debug, Default)]
pub struct UnsettledConsumer {
    failing: HashSet<(ResourceId, PolicyId)>,
}

impl UnsettledConsumer {
    async fn failed(
        &mut self,
        tx: &mut ReadTx,
        resource: ResourceId,
        policy: PolicyId,
        due: DateTime<Utc>,
    ) -> Result<(), SqlError> {
        let id = SqlValue::Uuid(resource.as_uuid());
        if self.failing.insert((resource, policy)) {
            let insert = "INSERT INTO failing{g} (resource, policy) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            tx.execute(insert, &[id.clone(), SqlValue::Uuid(policy.as_uuid())]).await?;
        }
        let insert = "INSERT INTO unsettled{g} (resource, due_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(insert, &[id, SqlValue::Time(due)]).await?;
        Ok(())
    }

    async fn well(&mut self, tx: &mut ReadTx, resource: ResourceId, policy: PolicyId) -> Result<(), SqlError> {
        if !self.failing.remove(&(resource, policy)) {
            return Ok(());
        }
        let id = SqlValue::Uuid(resource.as_uuid());
        let delete = "DELETE FROM failing{g} WHERE resource = $1 AND policy = $2";
        tx.execute(delete, &[id.clone(), SqlValue::Uuid(policy.as_uuid())]).await?;
        if !self.failing.iter().any(|(failing, _)| *failing == resource) {
            tx.execute("DELETE FROM unsettled{g} WHERE resource = $1", &[id]).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer<Event> for UnsettledConsumer {
    fn name(&self) -> &'static str {
        super::UNSETTLED
    }

    fn tables(&self) -> &'static [&'static str] {
        &["unsettled", "failing"]
    }

    fn interested(&self, event_type: &str) -> bool {
        event_type == "evaluation_failed.v1"
            || (!self.failing.is_empty() && matches!(event_type, "policy_evaluated.v1" | "policy_withdrawn.v1"))
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        for decoded in batch {
            let Event::Allocation(event) = &decoded.event else { continue };
            let Some((resource, _)) = book_of(decoded.recorded.stream.as_str()) else { continue };
            match event {
                AllocationEvent::EvaluationFailed(failed) => {
                    self.failed(tx, resource, failed.policy, decoded.recorded.occurred_at + FIRST).await?;
                }
                AllocationEvent::PolicyEvaluated(evaluated) => self.well(tx, resource, evaluated.policy).await?,
                AllocationEvent::PolicyWithdrawn(withdrawn) => self.well(tx, resource, withdrawn.policy).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.failing.clear();
        for row in tx.query("SELECT resource, policy FROM failing{g}", &[]).await? {
            self.failing.insert((row.uuid(0)?.into(), row.uuid(1)?.into()));
        }
        Ok(())
    }
}

/// The list, for those that work it off.
#[derive(Debug, Clone)]
pub struct Unsettled {
    db: ReadDb,
}

impl Unsettled {
    /// The list in `db`.
    pub fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// Resources to be tried again now, after the given one in the order of their ids, so many at most.
    pub async fn due(
        &self,
        now: DateTime<Utc>,
        after: Option<ResourceId>,
        most: usize,
    ) -> Result<Vec<ResourceId>, SqlError> {
        let select = "SELECT resource FROM unsettled WHERE due_at <= $1 AND ($2 IS NULL OR resource > $2) \
                      ORDER BY resource LIMIT $3";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let values = [SqlValue::Time(now), after.map(|after| after.as_uuid()).into(), most.into()];
        self.db.query(select, &values).await?.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
    }

    /// When the next one is due for a retry.
    pub async fn next_due(&self) -> Result<Option<DateTime<Utc>>, SqlError> {
        let row = self.db.query_one("SELECT MIN(due_at) FROM unsettled", &[]).await?;
        Ok(row.map(|row| row.opt_time(0)).transpose()?.flatten())
    }

    /// How many there are, due or not.
    pub async fn count(&self) -> Result<i64, SqlError> {
        self.db.query_one("SELECT count(*) FROM unsettled", &[]).await?.map_or(Ok(0), |row| row.i64(0))
    }

    /// A resource is well again.
    pub async fn settle(&self, resource: ResourceId) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        tx.execute("DELETE FROM unsettled WHERE resource = $1", &[SqlValue::Uuid(resource.as_uuid())]).await?;
        tx.commit().await
    }

    /// A resource failed (again): it is retried with exponential back-off.
    pub async fn put_off(&self, resource: ResourceId, now: DateTime<Utc>) -> Result<(), SqlError> {
        let id = SqlValue::Uuid(resource.as_uuid());
        let mut tx = self.db.begin().await?;
        let known =
            tx.query_one("SELECT attempts FROM unsettled WHERE resource = $1", std::slice::from_ref(&id)).await?;
        let attempts = known.map_or(Ok(0), |row| row.i64(0))?;
        let upsert = "INSERT INTO unsettled (resource, due_at, attempts) VALUES ($1, $2, $3) \
                      ON CONFLICT (resource) DO UPDATE SET due_at = excluded.due_at, attempts = excluded.attempts";
        tx.execute(upsert, &[id, SqlValue::Time(now + pause(attempts)), (attempts + 1).into()]).await?;
        tx.commit().await
    }
}

fn pause(attempts: i64) -> TimeDelta {
    let doublings = u32::try_from(attempts.clamp(0, 10)).unwrap_or(10);
    FIRST.checked_mul(1 << doublings).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_day() {
        let minutes: Vec<i64> = [0, 1, 2, 7, 8, 1_000].map(|attempts| pause(attempts).num_minutes()).to_vec();
        assert_eq!(minutes, [10, 20, 40, 1_280, 1_440, 1_440]);
    }
}
