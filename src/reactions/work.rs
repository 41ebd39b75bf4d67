//! The worker that carries out the work recorded by the reaction consumer.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::{Allocations, CommandError, CommandMeta};
use crate::domain::evaluate::Trigger;
use crate::domain::ids::{CustomerId, OfferingId, PolicyId, ResourceId};
use crate::events::envelope::{Actor, NewEvent, Position, StreamName};
use crate::events::site::{REACTIONS_STREAM, ReactionsFinished, SiteEvent};
use crate::registry::{FollowError, Follower, Registry};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};
use crate::store::{EventStore, ExpectedVersion, StoreError, is_outage};
use crate::supervise::{Worker, chain, isolated, pause_after};

/// Resources evaluated together.
const BATCH: usize = 500;

/// Tasks looked at in one pass.
const PASS_MAX: i64 = 1_000;

/// How long the worker rests if nobody wakes it, and after a failure.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Why a reaction could not be carried out; it stays written down and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReactionError {
    /// The work list failed.
    #[error("the list of re-evaluations failed")]
    Sql(#[from] SqlError),
    /// The registry is behind.
    #[error("the registry cannot follow the log")]
    Follow(#[from] FollowError),
    /// The log failed.
    #[error("the event store failed")]
    Store(#[from] StoreError),
    /// A resource could not be evaluated.
    #[error("a resource could not be re-evaluated")]
    Command(#[from] CommandError),
}

/// A setting changed that nobody has to be evaluated for.
pub(super) const SETTING: &str = "setting";
/// A setting changed that affects agents' settings.
pub(super) const SETTINGS: &str = "settings";

/// An event of a resource's book was set aside.
pub(super) const BOOK: &str = "book";

/// Takes over settings that were changed, perhaps by another process.
pub type Reload = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>> + Send + Sync>;

/// How far a re-evaluation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionProgress {
    /// The event that called for it.
    pub position: Position,
    /// policy, scope, offering, request, setting, settings or book.
    pub kind: String,
    /// Resources done.
    pub done: i64,
    /// Resources to do, once counted.
    pub total: Option<i64>,
}

/// The work list, and the work on it.
pub struct Reactions {
    db: ReadDb,
    registry: Arc<Registry>,
    follower: Arc<Follower>,
    allocations: Arc<Allocations>,
    wake: Arc<Notify>,
    working: Mutex<()>,
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    whole: Mutex<ListEnd>,
    /// What this process recorded as finished; the tables show it a moment later.
    recorded: Mutex<Position>,
    reload: OnceLock<Reload>,
    /// Failed tasks, oldest first, each paused for a while.
    set_aside: std::sync::Mutex<BTreeMap<Position, SetAside>>,
}

struct SetAside {
    failures: u32,
    until: tokio::time::Instant,
    reason: String,
}

/// Where the log ended when the list was first asked for.
#[derive(Default)]
enum ListEnd {
    #[default]
    Unknown,
    At(Position),
    Reached,
}

/// How far reactions were called for and recorded as finished, and how many are left.
#[derive(Default)]
struct Marks {
    called: Position,
    finished: Position,
    pending: i64,
}

struct Task {
    position: Position,
    kind: String,
    offering: Option<OfferingId>,
    customer: Option<CustomerId>,
    policy: Option<PolicyId>,
    resource: Option<ResourceId>,
    correlation_id: Uuid,
    causation_id: Uuid,
    cursor: Option<ResourceId>,
    counted: bool,
    begun: bool,
}

impl Reactions {
    /// Works on the list in `db`.
    pub fn new(
        db: ReadDb,
        (store, clock): (Arc<dyn EventStore>, Arc<dyn Clock>),
        registry: Arc<Registry>,
        follower: Arc<Follower>,
        allocations: Arc<Allocations>,
    ) -> Self {
        Self {
            store,
            clock,
            whole: Mutex::default(),
            recorded: Mutex::new(Position::START),
            db,
            registry,
            follower,
            allocations,
            wake: Arc::new(Notify::new()),
            working: Mutex::new(()),
            reload: OnceLock::new(),
            set_aside: std::sync::Mutex::default(),
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
    pub async fn run(&self, stop: CancellationToken, worker: &Worker) {
        // Another process may have worked, and lost the list, since this one did.
        *self.whole.lock().await = ListEnd::Unknown;
        while !stop.is_cancelled() {
            match worker.pass(self.work(&stop)).await {
                Ok(done) => {
                    match self.set_aside_for() {
                        Some(reason) => worker.hindered(&reason),
                        None => worker.goes_on(),
                    }
                    if done > 0 {
                        continue;
                    }
                }
                Err(pause) => {
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
                    continue;
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Works until the list is empty, or until told to stop after the current batch, and records completion. Returns
    /// how much work there was. It starts only after the list has followed the log to its end at this call: a rebuilt
    /// list does not yet know what the log says is done.
    pub async fn work(&self, stop: &CancellationToken) -> Result<usize, ReactionError> {
        let _alone = self.working.lock().await;
        if !self.is_list_whole().await? {
            return Ok(0);
        }
        let mut finished = 0;
        for task in self.tasks().await? {
            if self.waits(task.position) {
                continue;
            }
            self.follower.catch_up().await?;
            if task.begun && task.cursor.is_none() && self.marks().await?.finished == Position::START {
                // A log from before finished work was recorded. Something came of this, so it was carried out then.
                self.finish(&task).await?;
                finished += 1;
                continue;
            }
            // One that cannot be carried out keeps no other back.
            let (position, kind) = (task.position, task.kind.clone());
            let failed = match isolated(self.carry_out(task, stop)).await {
                Ok(Ok(true)) => {
                    self.note(position, None);
                    finished += 1;
                    continue;
                }
                Ok(Ok(false)) => break,
                Ok(Err(error)) if is_outage(&error) => return Err(error),
                Ok(Err(error)) => chain(&error),
                Err(crashed) => crashed.to_string(),
            };
            tracing::error!(kind, reason = failed, "a re-evaluation failed and will be tried again");
            self.note(position, Some(failed));
        }
        Ok(finished + usize::from(self.record().await?))
    }

    /// Whether the list has come to where the log ended when it was first asked for.
    async fn is_list_whole(&self) -> Result<bool, ReactionError> {
        let mut whole = self.whole.lock().await;
        let end = match &*whole {
            ListEnd::Reached => return Ok(true),
            ListEnd::At(end) => *end,
            ListEnd::Unknown => self.store.head().await?,
        };
        let select = "SELECT position_hi, position_lo FROM consumers WHERE name = 'reactions' AND building = 0";
        let row = self.db.query_one(select, &[]).await?;
        let at = row.map_or(Ok(Position::START), |row| row.position(0))?;
        *whole = if at >= end { ListEnd::Reached } else { ListEnd::At(end) };
        Ok(at >= end)
    }

    /// Records that everything that was called for is done, if it is and nobody has recorded it yet.
    async fn record(&self) -> Result<bool, ReactionError> {
        let marks = self.marks().await?;
        let mut recorded = self.recorded.lock().await;
        if marks.pending > 0 || marks.called <= marks.finished.max(*recorded) {
            return Ok(false);
        }
        let change = self.store.event_at(marks.called).await?.map(|change| change.event_id);
        let said = SiteEvent::ReactionsFinished(ReactionsFinished { through: marks.called, change });
        // The same fact for every process.
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("sluice/{REACTIONS_STREAM}/{}", marks.called).as_bytes());
        let event = NewEvent {
            event_id: id,
            event_type: said.event_type(),
            occurred_at: self.clock.now(),
            metadata: CommandMeta::system(id).metadata(),
            payload: said.to_append().map_err(StoreError::from)?,
        };
        let stream = StreamName::new(REACTIONS_STREAM).map_err(|error| StoreError::Rejected(error.to_string()))?;
        self.store.append(&stream, ExpectedVersion::Any, vec![event]).await?;
        *recorded = marks.called;
        Ok(true)
    }

    async fn marks(&self) -> Result<Marks, SqlError> {
        let select = "SELECT name, position_hi, position_lo, (SELECT count(*) FROM reactions) FROM reaction_marks";
        let mut marks = Marks::default();
        for row in self.db.query(select, &[]).await? {
            let at = row.position(1)?;
            marks.pending = row.i64(3)?;
            if row.text(0)? == "called" { marks.called = at } else { marks.finished = at }
        }
        Ok(marks)
    }

    /// Waits until what is under way is done, or was put off.
    pub async fn at_rest(&self) {
        drop(self.working.lock().await);
    }

    /// Whether a failed task is still paused.
    fn waits(&self, position: Position) -> bool {
        let set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        set_aside.get(&position).is_some_and(|failed| tokio::time::Instant::now() < failed.until)
    }

    fn note(&self, position: Position, failed: Option<String>) {
        let mut set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = failed else {
            set_aside.remove(&position);
            return;
        };
        let failures = set_aside.get(&position).map_or(0, |failed| failed.failures);
        let until = tokio::time::Instant::now() + pause_after(failures);
        set_aside.insert(position, SetAside { failures: failures.saturating_add(1), until, reason });
    }

    /// Why the oldest failed task is paused.
    fn set_aside_for(&self) -> Option<String> {
        let set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        set_aside.values().next().map(|failed| failed.reason.clone())
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
                    position: row.position(0)?,
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

    async fn tasks(&self) -> Result<Vec<Task>, ReactionError> {
        let select = "SELECT position_hi, position_lo, kind, offering, customer, policy, resource, correlation_id, \
                      causation_id, cursor, total, begun FROM reactions ORDER BY position_hi, position_lo LIMIT $1";
        let rows = self.db.query(select, &[SqlValue::I64(PASS_MAX)]).await?;
        rows.iter().map(task).collect::<Result<_, _>>().map_err(ReactionError::from)
    }

    /// True when done, false when stopped before.
    async fn carry_out(&self, task: Task, stop: &CancellationToken) -> Result<bool, ReactionError> {
        if task.kind.starts_with(SETTING)
            && let Some(reload) = self.reload.get()
        {
            reload().await?;
        }
        if task.kind == BOOK {
            // The book in memory has the event in it.
            self.allocations.forget_books();
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
            "request" | BOOK => Trigger::Requested,
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
                        error @ (CommandError::Refused(_)
                        | CommandError::NoSuchResource(_)
                        | CommandError::Book(_)
                        | CommandError::Unsound(_)
                        | CommandError::Crashed(_)),
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
        let [hi, lo] = SqlValue::position(task.position);
        self.update(
            "UPDATE reactions SET total = $3 WHERE position_hi = $1 AND position_lo = $2",
            &[hi, lo, SqlValue::I64(total)],
        )
        .await
    }

    async fn advance(&self, task: &Task, cursor: ResourceId, done: usize) -> Result<(), SqlError> {
        let done = i64::try_from(done).unwrap_or(i64::MAX);
        let [hi, lo] = SqlValue::position(task.position);
        self.update(
            "UPDATE reactions SET cursor = $3, done = done + $4 WHERE position_hi = $1 AND position_lo = $2",
            &[hi, lo, SqlValue::Uuid(cursor.as_uuid()), SqlValue::I64(done)],
        )
        .await
    }

    async fn finish(&self, task: &Task) -> Result<(), SqlError> {
        self.update(
            "DELETE FROM reactions WHERE position_hi = $1 AND position_lo = $2",
            &SqlValue::position(task.position),
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
        position: row.position(0)?,
        kind: row.text(2)?.to_owned(),
        offering: row.opt_uuid(3)?.map(OfferingId::from),
        customer: row.opt_uuid(4)?.map(CustomerId::from),
        policy: row.opt_uuid(5)?.map(PolicyId::from),
        resource: row.opt_uuid(6)?.map(ResourceId::from),
        correlation_id: row.uuid(7)?,
        causation_id: row.uuid(8)?,
        cursor: row.opt_uuid(9)?.map(ResourceId::from),
        counted: row.opt_i64(10)?.is_some(),
        begun: row.i64(11)? != 0,
    })
}
