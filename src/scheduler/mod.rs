//! Scheduled jobs: period boundary, settings sync, nightly evaluation, retention, replay, checkpoints, the end
//! of holds.
//!
//! A mark beside the log records up to when each job is done, so that a single run at the start makes up for runs
//! missed while the server was down. Every run has a record; an interrupted one resumes where it stopped. A simulated
//! clock runs the same jobs in order on the way to its new time.

mod jobs;
mod plan;
mod records;

pub use jobs::{Sweep, SweepError};
pub use plan::{CronTexts, Job, JobError, Lane, Schedule};
pub use records::{RUNS_PER_JOB_MAX, Run, RunFilter, RunState, Runs};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::jobs::Ended;
use crate::clock::{Clock, SimulatedClock};
use crate::notary::{Notary, NotaryError};
use crate::operations::{OperationError, Operations};
use crate::reactions::{self, Unsettled};
use crate::replay::{ReplayError, Verifier};
use crate::retention::{Retention, RetentionError};
use crate::store::StoreError;
use crate::store::meta::Meta;
use crate::store::sql::{ReadDb, SqlError};
use crate::supervise::{Worker, chain, isolated};

/// The longest the scheduler sleeps before it looks at the clock again: a machine may sleep or its clock be set.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// The shortest it sleeps.
const BREATH: Duration = Duration::from_millis(10);

/// How long a failed job waits before it is tried again; it doubles with every attempt, by the machine's clock.
const RETRY_FIRST: Duration = Duration::from_secs(30);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_hours(1);

/// Why a job failed, or the scheduler.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// An evaluation failed.
    #[error("resources could not be evaluated")]
    Operation(#[from] OperationError),
    /// The time of a run could not be kept.
    #[error("the time of the last run cannot be kept")]
    Store(#[from] StoreError),
    /// Pruning failed.
    #[error("old rows could not be pruned")]
    Retention(#[from] RetentionError),
    /// Recorded decisions could not be recomputed.
    #[error("recorded decisions could not be made again")]
    Replay(#[from] ReplayError),
    /// The log could not be signed.
    #[error("the log could not be signed")]
    Notary(#[from] NotaryError),
    /// The list of what is due, or the records of runs, failed.
    #[error("the scheduler's tables failed")]
    Sql(#[from] SqlError),
    /// What is swept up with the settings sync failed.
    #[error("{0} could not be swept up")]
    Sweep(&'static str, #[source] SweepError),
    /// A hold could not be ended.
    #[error("a hold could not be ended")]
    Hold(#[source] crate::commands::execute::CommandError),
    /// A job failed on the way of a simulated clock, which stands at the instant when it was due.
    #[error("the job {0} failed: {1}")]
    Failed(&'static str, String),
    /// Something else failed between two jobs.
    #[error("{0}")]
    Settle(String),
}

/// A job as it stands.
#[derive(Debug, Clone)]
pub struct Upcoming {
    /// The job.
    pub job: Job,
    /// Its cron expression; none where it is no matter of the calendar.
    pub cron: Option<String>,
    /// The next due time; in the past if it is overdue, none if there is nothing to do.
    pub next_due: Option<DateTime<Utc>>,
    /// Its newest run.
    pub last_run: Option<Run>,
}

/// What a scheduler works with.
pub struct SchedulerParts {
    /// When jobs are due.
    pub schedule: Schedule,
    /// What evaluates.
    pub operations: Arc<Operations>,
    /// What prunes.
    pub retention: Arc<Retention>,
    /// What makes recorded decisions again.
    pub verifier: Arc<Verifier>,
    /// What signs the log.
    pub notary: Arc<Notary>,
    /// Where the time of the last run of each job is kept.
    pub meta: Meta,
    /// Records, and the lists of what is due.
    pub read: ReadDb,
    /// The present instant.
    pub clock: Arc<dyn Clock>,
    /// Told when a hold with an end was placed.
    pub wake: Arc<Notify>,
}

/// Runs jobs when they are due.
pub struct Scheduler {
    parts: SchedulerParts,
    runs: Runs,
    unsettled: Unsettled,
    sweeps: RwLock<Vec<Arc<dyn Sweep>>>,
    // A job that overlaps itself is not started twice; those of one lane take turns.
    bulk: tokio::sync::Mutex<()>,
    prompt: tokio::sync::Mutex<()>,
    /// Until when a failed job waits.
    waiting: Mutex<HashMap<Job, Instant>>,
}

impl Scheduler {
    /// Runs the jobs of a schedule.
    pub fn new(parts: SchedulerParts) -> Self {
        Self {
            runs: Runs::new(parts.read.clone()),
            unsettled: Unsettled::new(parts.read.clone()),
            parts,
            sweeps: RwLock::default(),
            bulk: tokio::sync::Mutex::new(()),
            prompt: tokio::sync::Mutex::new(()),
            waiting: Mutex::default(),
        }
    }

    /// Has something swept up with every settings sync.
    pub fn sweep_with(&self, sweep: Arc<dyn Sweep>) {
        self.sweeps.write().unwrap_or_else(PoisonError::into_inner).push(sweep);
    }

    fn sweeps(&self) -> Vec<Arc<dyn Sweep>> {
        self.sweeps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The records of runs.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    fn lane(&self, lane: Lane) -> &tokio::sync::Mutex<()> {
        match lane {
            Lane::Bulk => &self.bulk,
            Lane::Prompt => &self.prompt,
        }
    }

    /// Every job with when it is due next and how its newest run went.
    pub async fn upcoming(&self) -> Result<Vec<Upcoming>, SchedulerError> {
        let now = self.parts.clock.now();
        let mut all = Vec::with_capacity(Job::ALL.len());
        for job in Job::ALL {
            let next_due = match self.overdue(job, now).await? {
                Some(due) => Some(due),
                None if job == Job::HoldExpiry => reactions::next_expiry(&self.parts.read).await?,
                None => self.parts.schedule.next_after(job, now),
            };
            let last_run = self.runs.newest(job).await?;
            all.push(Upcoming { job, cron: self.parts.schedule.cron_text(job), next_due, last_run });
        }
        Ok(all)
    }

    /// Through when a job is done; a database that has not seen it yet starts counting now.
    async fn last(&self, job: Job, now: DateTime<Utc>) -> Result<DateTime<Utc>, StoreError> {
        let known = self.parts.meta.get_or_set(&key(job), &now.to_rfc3339()).await?;
        Ok(known.parse().unwrap_or(now))
    }

    /// The instant for which a job is due now, if it is.
    async fn overdue(&self, job: Job, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, SchedulerError> {
        if job == Job::HoldExpiry {
            return Ok(reactions::next_expiry(&self.parts.read).await?.filter(|due| *due <= now));
        }
        let last = self.last(job, now).await?;
        Ok(self.parts.schedule.latest_due(job, last, now))
    }

    /// Marks runs that a former process did not finish.
    pub async fn take_over(&self) -> Result<(), SchedulerError> {
        Ok(self.runs.cut_short(None, self.parts.clock.now()).await?)
    }

    /// Marks runs that a former process did not finish, and runs what was missed: each job once, however often it was due.
    /// What fails is a record, and tried again later.
    pub async fn start(&self, stop: &CancellationToken) -> Result<Vec<Run>, SchedulerError> {
        self.take_over().await?;
        self.catch_up(stop).await
    }

    /// Runs what is due: each job once, however often it was.
    pub async fn catch_up(&self, stop: &CancellationToken) -> Result<Vec<Run>, SchedulerError> {
        let mut runs = Vec::new();
        for lane in Lane::ALL {
            runs.extend(self.catch_up_lane(lane, stop).await?);
        }
        Ok(runs)
    }

    async fn catch_up_lane(&self, lane: Lane, stop: &CancellationToken) -> Result<Vec<Run>, SchedulerError> {
        let _alone = self.lane(lane).lock().await;
        let mut runs = Vec::new();
        for job in lane.jobs() {
            let now = self.parts.clock.now();
            if stop.is_cancelled() || self.waits(job).is_some() {
                continue;
            }
            if let Some(due) = self.overdue(job, now).await? {
                runs.extend(self.run_job(job, due, stop).await?);
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
        let _alone = (self.bulk.lock().await, self.prompt.lock().await);
        let never = CancellationToken::new();
        let mut runs = Vec::new();
        settle().await.map_err(SchedulerError::Settle)?;
        while let Some((job, due)) = self.first_due(to).await? {
            clock.advance_to(due);
            self.keep_time().await?;
            let run = self.run_job(job, due, &never).await?;
            if let Some(failed) = run.as_ref().filter(|run| run.state != RunState::Done) {
                return Err(SchedulerError::Failed(job.name(), failed.error.clone().unwrap_or_default()));
            }
            runs.extend(run);
            settle().await.map_err(SchedulerError::Settle)?;
        }
        clock.advance_to(to);
        self.keep_time().await?;
        settle().await.map_err(SchedulerError::Settle)?;
        Ok(runs)
    }

    async fn keep_time(&self) -> Result<(), StoreError> {
        self.parts.meta.set(crate::app::SIMULATED_NOW, &self.parts.clock.now().to_rfc3339()).await
    }

    async fn first_due(&self, to: DateTime<Utc>) -> Result<Option<(Job, DateTime<Utc>)>, SchedulerError> {
        let now = self.parts.clock.now();
        let mut first: Option<(DateTime<Utc>, Job)> = None;
        for job in Job::ALL {
            let due = match job {
                Job::HoldExpiry => reactions::next_expiry(&self.parts.read).await?,
                Job::SettingsSync => self.next_sync(now, to).await?,
                // Of many on the way the last: the end of a period is signed by its own job.
                Job::Checkpoint => self.parts.schedule.latest_due(job, self.last(job, now).await?, to),
                _ => self.parts.schedule.next_after(job, self.last(job, now).await?),
            };
            // What was due before (a failed run, a hold placed with an end in the past) is due at once.
            if let Some(due) = due.filter(|due| *due <= to) {
                first = Some(first.map_or((due, job), |known| known.min((due, job))));
            }
        }
        Ok(first.map(|(due, job)| (job, due)))
    }

    /// When a simulated clock has to stop for the settings sync: at the first of its instants with something to be done,
    /// else at the last one on the way. The many between would find nothing.
    async fn next_sync(&self, now: DateTime<Utc>, to: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, SchedulerError> {
        let last = self.last(Job::SettingsSync, now).await?;
        let mut work = self.unsettled.next_due().await?;
        for sweep in self.sweeps() {
            let due = sweep.next_due().await.map_err(|error| SchedulerError::Sweep(sweep.name(), error))?;
            work = [work, due].into_iter().flatten().min();
        }
        let schedule = &self.parts.schedule;
        let tick =
            work.and_then(|at| schedule.next_after(Job::SettingsSync, last.max(at - TimeDelta::microseconds(1))));
        Ok(tick.filter(|tick| *tick <= to).or_else(|| schedule.latest_due(Job::SettingsSync, last, to)))
    }

    /// Runs jobs as the real clock makes them due, until told to stop. What takes long does not keep the others waiting.
    pub async fn run(&self, stop: CancellationToken, worker: &Worker) {
        tokio::join!(self.run_lane(Lane::Bulk, &stop, worker), self.run_lane(Lane::Prompt, &stop, worker));
    }

    async fn run_lane(&self, lane: Lane, stop: &CancellationToken, worker: &Worker) {
        while !stop.is_cancelled() {
            let pause = match worker.pass(self.catch_up_lane(lane, stop)).await {
                Ok(_) => {
                    worker.goes_on();
                    self.pause(lane).await
                }
                Err(pause) => pause,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.parts.wake.notified(), if lane == Lane::Prompt => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn pause(&self, lane: Lane) -> Duration {
        let mut pause = LOOK_AGAIN;
        let now = self.parts.clock.now();
        for job in lane.jobs() {
            let next = match job {
                Job::HoldExpiry => reactions::next_expiry(&self.parts.read).await.ok().flatten(),
                _ => self.parts.schedule.next_after(job, now),
            };
            let until = self.waits(job).or(next.map(|due| (due - now).to_std().unwrap_or_default()));
            pause = until.map_or(pause, |until| pause.min(until));
        }
        pause.max(BREATH)
    }

    /// How long a failed job still waits.
    fn waits(&self, job: Job) -> Option<Duration> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = waiting.get(&job)?.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some(rest)
    }

    fn wait(&self, job: Job, how_long: Option<Duration>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match how_long {
            Some(pause) => waiting.insert(job, Instant::now() + pause),
            None => waiting.remove(&job),
        };
    }

    /// One run with its record. None: it had been done, and only the mark was missing.
    async fn run_job(
        &self,
        job: Job,
        due: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<Option<Run>, SchedulerError> {
        let Some(mut run) = self.runs.begin(job, due, self.parts.clock.now()).await? else {
            self.mark(job, due).await?;
            return Ok(None);
        };
        let began = Instant::now();
        let outcome = isolated(Box::pin(self.carry_out(&mut run, stop))).await;
        let took = began.elapsed();
        run.took_micros = i64::try_from(took.as_micros()).ok();
        run.finished_at = Some(self.parts.clock.now());
        match outcome {
            Ok(Ok(Ended::Done)) => (run.state, run.cursor) = (RunState::Done, None),
            Ok(Ok(Ended::Stopped)) => {
                run.state = RunState::Interrupted;
                run.error = Some("told to stop; the next attempt goes on from here".to_owned());
            }
            Ok(Err(error)) => {
                run.state = RunState::Failed;
                run.error = Some(chain(&error));
            }
            Err(crashed) => {
                run.state = RunState::Failed;
                run.error = Some(crashed.to_string());
            }
        }
        self.runs.finish(&run).await?;
        if run.state == RunState::Done {
            self.mark(job, due).await?;
        }
        self.wait(job, (run.state == RunState::Failed).then(|| back_off(run.attempt)));
        let ended = run.finished_at.map_or(0, |at| at.timestamp());
        crate::telemetry::metrics::job(job.name(), run.state != RunState::Failed, took, ended);
        report(&run);
        Ok(Some(run))
    }

    async fn mark(&self, job: Job, due: DateTime<Utc>) -> Result<(), StoreError> {
        if job == Job::HoldExpiry {
            // Due by its list, not by the calendar.
            return Ok(());
        }
        self.parts.meta.set(&key(job), &due.to_rfc3339()).await
    }
}

fn report(run: &Run) {
    let job = run.job.name();
    match run.state {
        RunState::Failed => {
            let error = run.error.as_deref().unwrap_or_default();
            tracing::error!(job, run = %run.id, attempt = run.attempt, error, "scheduled job failed; it will be tried again");
        }
        state => {
            let state = state.as_str();
            tracing::info!(job, run = %run.id, state, done = run.done, failed = run.failed, "scheduled job ended");
        }
    }
}

fn back_off(attempt: i64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1).clamp(0, 12)).unwrap_or(12);
    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_MAX)
}

fn key(job: Job) -> String {
    format!("job/{}", job.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_job_waits_longer_every_time_and_an_hour_at_most() {
        let seconds: Vec<u64> = [1, 2, 3, 7, 8, 1_000].map(|attempt| back_off(attempt).as_secs()).to_vec();
        assert_eq!(seconds, [30, 60, 120, 1_920, 3_600, 3_600]);
    }
}
