//! The worker that carries out what the reaction consumer wrote down.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::{Allocations, CommandError, CommandMeta};
use crate::domain::evaluate::Trigger;
use crate::domain::ids::{CustomerId, OfferingId, PolicyId, ResourceId};
use crate::events::envelope::{Actor, Position};
use crate::registry::{FollowError, Follower, Registry};
use crate::store::StoreError;
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Resources evaluated together.
const BATCH: usize = 500;

/// How long the worker rests if nobody wakes it, and after a failure.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Why a reaction could not be carried out; it stays written down and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReactionError {
    /// The list of what is to be done failed.
    #[error("the list of re-evaluations failed")]
    Sql(#[from] SqlError),
    /// The registry is behind.
    #[error("the registry cannot follow the log")]
    Follow(#[from] FollowError),
    /// The settings could not be read.
    #[error("the settings cannot be read")]
    Settings(#[from] StoreError),
    /// A resource could not be evaluated.
    #[error("a resource could not be re-evaluated")]
    Command(#[from] CommandError),
}

/// A setting changed that nobody has to be evaluated for.
pub(super) const SETTING: &str = "setting";
/// A setting changed on which what agents are told depends.
pub(super) const SETTINGS: &str = "settings";

/// Takes over settings that were changed, perhaps by another process.
pub type Reload = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>> + Send + Sync>;

/// How far a re-evaluation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionProgress {
    /// The event that called for it.
    pub position: Position,
    /// policy, scope, offering or request.
    pub kind: String,
    /// Resources done.
    pub done: i64,
    /// Resources to do, once counted.
    pub total: Option<i64>,
}

/// The list of what is to be done, and the work on it.
pub struct Reactions {
    db: ReadDb,
    registry: Arc<Registry>,
    follower: Arc<Follower>,
    allocations: Arc<Allocations>,
    wake: Arc<Notify>,
    working: Mutex<()>,
    reload: OnceLock<Reload>,
}

struct Task {
    position: (i64, i64),
    kind: String,
    offering: Option<OfferingId>,
    customer: Option<CustomerId>,
    policy: Option<PolicyId>,
    resource: Option<ResourceId>,
    correlation_id: Uuid,
    causation_id: Uuid,
    cursor: Option<ResourceId>,
    counted: bool,
}

impl Reactions {
    /// Works on the list in `db`.
    pub fn new(db: ReadDb, registry: Arc<Registry>, follower: Arc<Follower>, allocations: Arc<Allocations>) -> Self {
        Self {
            db,
            registry,
            follower,
            allocations,
            wake: Arc::new(Notify::new()),
            working: Mutex::new(()),
            reload: OnceLock::new(),
        }
    }

    /// Has changed settings taken over before what they call for is done.
    pub fn reload_with(&self, reload: Reload) {
        // The composition root calls this once.
        let _ = self.reload.set(reload);
    }

    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Works until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.work(&stop).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a re-evaluation failed and will be tried again"
                );
                tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(LOOK_AGAIN) => {} }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Does what is written down until nothing is left, or told to stop after the batch at hand. Says how many tasks.
    pub async fn work(&self, stop: &CancellationToken) -> Result<usize, ReactionError> {
        let _alone = self.working.lock().await;
        let mut finished = 0;
        while let Some(task) = self.next().await? {
            self.follower.catch_up().await?;
            if !self.carry_out(task, stop).await? {
                break;
            }
            finished += 1;
        }
        Ok(finished)
    }

    /// What is written down, oldest first.
    pub async fn pending(&self) -> Result<Vec<ReactionProgress>, SqlError> {
        let rows = self
            .db
            .query(
                "SELECT position_hi, position_lo, kind, done, total FROM reactions ORDER BY position_hi, position_lo",
                &[],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(ReactionProgress {
                    position: Position::from_parts(row.i64(0)?.cast_unsigned(), row.i64(1)?.cast_unsigned()),
                    kind: row.text(2)?.to_owned(),
                    done: row.i64(3)?,
                    total: row.opt_i64(4)?,
                })
            })
            .collect()
    }

    /// Waits until nothing written down at or before `position` is left. False: not in time.
    pub async fn wait_done(&self, position: Position, at_most: Duration) -> bool {
        let until = tokio::time::Instant::now() + at_most;
        loop {
            match self.pending().await {
                Ok(left) if left.iter().all(|task| task.position > position) => return true,
                _ if tokio::time::Instant::now() >= until => return false,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    async fn next(&self) -> Result<Option<Task>, ReactionError> {
        let row = self
            .db
            .query_one(
                "SELECT position_hi, position_lo, kind, offering, customer, policy, resource, correlation_id, causation_id, \
                 cursor, total FROM reactions ORDER BY position_hi, position_lo LIMIT 1",
                &[],
            )
            .await?;
        row.map(|row| task(&row)).transpose().map_err(ReactionError::from)
    }

    /// True when done, false when stopped before.
    async fn carry_out(&self, task: Task, stop: &CancellationToken) -> Result<bool, ReactionError> {
        if task.kind.starts_with(SETTING)
            && let Some(reload) = self.reload.get()
        {
            reload().await?;
        }
        let mut resources = self.touched(&task);
        if !task.counted {
            self.count(&task, resources.len()).await?;
        }
        if let Some(cursor) = task.cursor {
            resources.retain(|r| *r > cursor);
        }
        let trigger = match task.kind.as_str() {
            "scope" => Trigger::ScopeChanged,
            "request" => Trigger::Requested,
            _ => Trigger::PolicyChanged,
        };
        let command = AllocationCommand::Evaluate { policy: task.policy, trigger };
        let meta = CommandMeta {
            actor: Actor::SYSTEM,
            correlation_id: task.correlation_id,
            causation_id: Some(task.causation_id),
            reason: None,
        };
        for batch in resources.chunks(BATCH) {
            if stop.is_cancelled() {
                return Ok(false);
            }
            let commands: Vec<_> = batch.iter().map(|r| (*r, command.clone())).collect();
            for outcome in self.allocations.execute_many(&commands, &meta).await {
                match outcome {
                    Ok(_) => {}
                    // Trying again would not help, and one resource must not hold up all the others.
                    Err(
                        error @ (CommandError::Refused(_) | CommandError::NoSuchResource(_) | CommandError::Book(_)),
                    ) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "a resource is not re-evaluated");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some(last) = batch.last() {
                self.advance(&task, *last, batch.len()).await?;
            }
        }
        self.finish(&task).await?;
        Ok(true)
    }

    /// Resources that a task touches, in the order of their ids.
    fn touched(&self, task: &Task) -> Vec<ResourceId> {
        let state = self.registry.read();
        if task.kind == SETTINGS {
            return state.resources().filter(|(_, e)| e.state.is_live()).map(|(id, _)| id).collect();
        }
        if let Some(resource) = task.resource {
            return state.resource(resource).map(|_| resource).into_iter().collect();
        }
        if let Some(offering) = task.offering {
            return state.live_resources(offering);
        }
        if let Some(customer) = task.customer {
            return state
                .resources()
                .filter(|(_, e)| e.customer == customer && e.state.is_live())
                .map(|(id, _)| id)
                .collect();
        }
        task.policy.and_then(|p| state.policy(p)).map(|p| state.resources_in_scope(p)).unwrap_or_default()
    }

    async fn count(&self, task: &Task, total: usize) -> Result<(), SqlError> {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        self.update(
            "UPDATE reactions SET total = $3 WHERE position_hi = $1 AND position_lo = $2",
            &[SqlValue::I64(task.position.0), SqlValue::I64(task.position.1), SqlValue::I64(total)],
        )
        .await
    }

    async fn advance(&self, task: &Task, cursor: ResourceId, done: usize) -> Result<(), SqlError> {
        let done = i64::try_from(done).unwrap_or(i64::MAX);
        self.update(
            "UPDATE reactions SET cursor = $3, done = done + $4 WHERE position_hi = $1 AND position_lo = $2",
            &[
                SqlValue::I64(task.position.0),
                SqlValue::I64(task.position.1),
                SqlValue::Uuid(cursor.as_uuid()),
                SqlValue::I64(done),
            ],
        )
        .await
    }

    async fn finish(&self, task: &Task) -> Result<(), SqlError> {
        self.update(
            "DELETE FROM reactions WHERE position_hi = $1 AND position_lo = $2",
            &[SqlValue::I64(task.position.0), SqlValue::I64(task.position.1)],
        )
        .await
    }

    async fn update(&self, sql: &'static str, values: &[SqlValue]) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        tx.execute(sql, values).await?;
        tx.commit().await
    }
}

fn task(row: &SqlRow) -> Result<Task, SqlError> {
    Ok(Task {
        position: (row.i64(0)?, row.i64(1)?),
        kind: row.text(2)?.to_owned(),
        offering: row.opt_uuid(3)?.map(OfferingId::from),
        customer: row.opt_uuid(4)?.map(CustomerId::from),
        policy: row.opt_uuid(5)?.map(PolicyId::from),
        resource: row.opt_uuid(6)?.map(ResourceId::from),
        correlation_id: row.uuid(7)?,
        causation_id: row.uuid(8)?,
        cursor: row.opt_uuid(9)?.map(ResourceId::from),
        counted: row.opt_i64(10)?.is_some(),
    })
}
