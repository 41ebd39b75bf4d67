//! Jobs that run by the clock: the period boundary, the nightly evaluation, retention.
//!
//! When a job last ran is kept beside the log, so that a run missed while the server was down is caught up once at the
//! start. A simulated clock runs the same jobs in order on the way to its new time.

mod plan;

pub use plan::{Job, JobError, Schedule};

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, IdSource, SimulatedClock};
use crate::commands::allocation::{AllocationCommand, Refusal};
use crate::commands::execute::{CommandError, CommandMeta};
use crate::operations::{OperationError, Operations};
use crate::reactions;
use crate::retention::{Retention, RetentionError};
use crate::store::StoreError;
use crate::store::meta::Meta;
use crate::store::sql::{ReadDb, SqlError};

/// The longest the scheduler sleeps before it looks at the clock again: a machine may sleep or its clock be set.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// How long a failed job waits before it is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// An evaluation failed.
    #[error("the job {0} failed")]
    Operation(&'static str, #[source] OperationError),
    /// The time of a run could not be kept.
    #[error("the time of the last run cannot be kept")]
    Store(#[from] StoreError),
    /// Pruning failed.
    #[error("the job retention failed")]
    Retention(#[source] RetentionError),
    /// The list of what is due could not be read.
    #[error("the list of what is due cannot be read")]
    Sql(#[from] SqlError),
    /// Something else failed between two jobs.
    #[error("{0}")]
    Settle(String),
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The job.
    pub job: Job,
    /// When it was due.
    pub due: DateTime<Utc>,
    /// Resources evaluated, or rows pruned.
    pub count: u64,
}

/// Runs jobs when they are due.
pub struct Scheduler {
    schedule: Schedule,
    operations: Arc<Operations>,
    retention: Arc<Retention>,
    meta: Meta,
    db: ReadDb,
    clock: Arc<dyn Clock>,
    // A job that overlaps itself, or another, is not started twice.
    running: tokio::sync::Mutex<()>,
}

impl Scheduler {
    /// Runs the jobs of `schedule`.
    pub fn new(
        schedule: Schedule,
        operations: Arc<Operations>,
        retention: Arc<Retention>,
        meta: Meta,
        db: ReadDb,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { schedule, operations, retention, meta, db, clock, running: tokio::sync::Mutex::new(()) }
    }

    /// When each job is due next after the last run it remembers.
    pub async fn next_runs(&self) -> Result<Vec<(Job, DateTime<Utc>)>, SchedulerError> {
        let now = self.clock.now();
        let mut next = Vec::new();
        for job in Job::ALL {
            next.extend(self.next_run(job, now).await?.map(|due| (job, due)));
        }
        Ok(next)
    }

    async fn next_run(&self, job: Job, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, SchedulerError> {
        if job == Job::HoldExpiry {
            return Ok(reactions::next_expiry(&self.db).await?);
        }
        let last = self.last(job, now).await?;
        Ok(self.schedule.next_after(job, last))
    }

    /// When a job last ran; a database that has not seen it yet starts counting now.
    async fn last(&self, job: Job, now: DateTime<Utc>) -> Result<DateTime<Utc>, StoreError> {
        let known = self.meta.get_or_set(&key(job), &now.to_rfc3339()).await?;
        Ok(known.parse().unwrap_or(now))
    }

    /// Runs what was missed: each job once, however often it was due.
    pub async fn catch_up(&self) -> Result<Vec<Run>, SchedulerError> {
        let _alone = self.running.lock().await;
        let now = self.clock.now();
        let mut runs = Vec::new();
        for job in Job::ALL {
            if self.next_run(job, now).await?.is_some_and(|due| due <= now) {
                runs.push(self.run_job(job, now).await?);
            }
        }
        Ok(runs)
    }

    /// Moves a simulated clock to `to`, running on the way, in order, what is due. `settle` is called after each job and
    /// at the end, to let everything that follows the log catch up.
    pub async fn advance<F, Fut>(
        &self,
        clock: &SimulatedClock,
        to: DateTime<Utc>,
        settle: F,
    ) -> Result<Vec<Run>, SchedulerError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(), String>>,
    {
        let _alone = self.running.lock().await;
        let mut runs = Vec::new();
        settle().await.map_err(SchedulerError::Settle)?;
        while let Some((job, due)) = self.first_due(to).await? {
            clock.advance_to(due);
            self.keep_time().await?;
            runs.push(self.run_job(job, due).await?);
            settle().await.map_err(SchedulerError::Settle)?;
        }
        clock.advance_to(to);
        self.keep_time().await?;
        settle().await.map_err(SchedulerError::Settle)?;
        Ok(runs)
    }

    async fn keep_time(&self) -> Result<(), StoreError> {
        self.meta.set(crate::app::SIMULATED_NOW, &self.clock.now().to_rfc3339()).await
    }

    async fn first_due(&self, to: DateTime<Utc>) -> Result<Option<(Job, DateTime<Utc>)>, SchedulerError> {
        let due = self.next_runs().await?;
        Ok(due.into_iter().filter(|(_, due)| *due <= to).min_by_key(|(job, due)| (*due, *job)))
    }

    /// Runs jobs as the real clock makes them due, until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.catch_up().await {
                Ok(_) => self.pause().await,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a scheduled job failed and will be tried again"
                    );
                    RETRY
                }
            };
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
        }
    }

    async fn pause(&self) -> Duration {
        let now = self.clock.now();
        let next = self.next_runs().await.ok().and_then(|runs| runs.into_iter().map(|(_, due)| due).min());
        let until = next.and_then(|due| (due - now).to_std().ok()).unwrap_or_default();
        until.clamp(Duration::from_millis(10), LOOK_AGAIN)
    }

    async fn run_job(&self, job: Job, at: DateTime<Utc>) -> Result<Run, SchedulerError> {
        let begun = std::time::Instant::now();
        let run = self.do_job(job, at).await;
        crate::telemetry::metrics::job(job.name(), run.is_ok(), begun.elapsed(), at.timestamp());
        run
    }

    async fn do_job(&self, job: Job, at: DateTime<Utc>) -> Result<Run, SchedulerError> {
        let meta = CommandMeta::system(IdSource.fresh());
        let failed = |error| SchedulerError::Operation(job.name(), error);
        let count = match job {
            Job::PeriodBoundary => self.operations.period_boundary(&meta).await.map_err(failed)? as u64,
            Job::EvaluateAll => self.operations.evaluate_all(&meta).await.map_err(failed)? as u64,
            Job::Retention => {
                let pruned = self.retention.clean_up(&meta, |_| {}).await.map_err(SchedulerError::Retention)?;
                (pruned.evaluations + pruned.dispatches).cast_unsigned()
            }
            Job::HoldExpiry => self.end_holds(at, &meta).await?,
        };
        self.meta.set(&key(job), &at.to_rfc3339()).await?;
        tracing::info!(job = job.name(), count, "scheduled job done");
        Ok(Run { job, due: at, count })
    }
}

impl Scheduler {
    /// Ends every manual hold whose time is over. Says how many.
    async fn end_holds(&self, now: DateTime<Utc>, meta: &CommandMeta) -> Result<u64, SchedulerError> {
        let failed = |error: CommandError| SchedulerError::Operation(Job::HoldExpiry.name(), error.into());
        let mut ended = 0;
        for (resource, hold) in reactions::due_holds(&self.db, now).await? {
            let command = AllocationCommand::ReleaseHold { hold, expired: true };
            match self.operations.allocations.execute(resource, &command, meta).await {
                Ok(_) => ended += 1,
                // Somebody released it by hand, and the list has not heard of it yet.
                Err(CommandError::Refused(Refusal::NoSuchHold(_))) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(ended)
    }
}

fn key(job: Job) -> String {
    format!("job/{}", job.name())
}
