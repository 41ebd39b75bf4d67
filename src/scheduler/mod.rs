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
use crate::commands::execute::CommandMeta;
use crate::operations::{OperationError, Operations};
use crate::store::StoreError;
use crate::store::sqlite::Meta;

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
    meta: Meta,
    clock: Arc<dyn Clock>,
    // A job that overlaps itself, or another, is not started twice.
    running: tokio::sync::Mutex<()>,
}

impl Scheduler {
    /// Runs the jobs of `schedule`.
    pub fn new(schedule: Schedule, operations: Arc<Operations>, meta: Meta, clock: Arc<dyn Clock>) -> Self {
        Self { schedule, operations, meta, clock, running: tokio::sync::Mutex::new(()) }
    }

    /// When each job is due next after the last run it remembers.
    pub async fn next_runs(&self) -> Result<Vec<(Job, DateTime<Utc>)>, StoreError> {
        let now = self.clock.now();
        let mut next = Vec::new();
        for job in Job::ALL {
            let last = self.last(job, now).await?;
            next.extend(self.schedule.next_after(job, last).map(|due| (job, due)));
        }
        Ok(next)
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
            let last = self.last(job, now).await?;
            if self.schedule.next_after(job, last).is_some_and(|due| due <= now) {
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

    async fn first_due(&self, to: DateTime<Utc>) -> Result<Option<(Job, DateTime<Utc>)>, StoreError> {
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
        let meta = CommandMeta::system(IdSource.fresh());
        let failed = |error| SchedulerError::Operation(job.name(), error);
        let count = match job {
            Job::PeriodBoundary => self.operations.period_boundary(&meta).await.map_err(failed)? as u64,
            Job::EvaluateAll => self.operations.evaluate_all(&meta).await.map_err(failed)? as u64,
            Job::Retention => 0,
        };
        self.meta.set(&key(job), &at.to_rfc3339()).await?;
        tracing::info!(job = job.name(), count, "scheduled job done");
        Ok(Run { job, due: at, count })
    }
}

fn key(job: Job) -> String {
    format!("job/{}", job.name())
}
