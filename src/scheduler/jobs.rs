//! What each job does, batch by batch, with its progress on record.

use std::error::Error;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::plan::Job;
use super::records::Run;
use super::{Scheduler, SchedulerError};
use crate::commands::allocation::{AllocationCommand, Refusal};
use crate::commands::execute::{CommandError, CommandMeta};
use crate::domain::evaluate::Trigger;
use crate::domain::ids::ResourceId;
use crate::operations::BATCH;
use crate::projections::retention::Pruned;
use crate::reactions;

/// Why something could not be swept up.
pub type SweepError = Box<dyn Error + Send + Sync>;

/// Something that is looked after with every settings sync, from a list of its own: dispatches that nobody answered.
#[async_trait]
pub trait Sweep: Send + Sync {
    /// What is swept up, in a word; it names the count in the record of the run.
    fn name(&self) -> &'static str;

    /// When there will be something to do, if ever; a simulated clock stops there.
    async fn next_due(&self) -> Result<Option<DateTime<Utc>>, SweepError>;

    /// Does what is due now, and says how much it was.
    async fn sweep(&self, now: DateTime<Utc>, meta: &CommandMeta) -> Result<u64, SweepError>;
}

/// How a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is done.
    Done,
    /// It was told to stop before that.
    Stopped,
}

impl Scheduler {
    pub(super) async fn carry_out(&self, run: &mut Run, stop: &CancellationToken) -> Result<Ended, SchedulerError> {
        // All that a run leads to carries its id.
        let meta = CommandMeta::system(run.id);
        match run.job {
            Job::PeriodBoundary => {
                let resources = self.parts.operations.before_boundary().await?;
                self.evaluate(run, resources, Trigger::PeriodBoundary, &meta, stop).await
            }
            Job::EvaluateAll => {
                let resources = self.parts.operations.all_governed().await?;
                self.evaluate(run, resources, Trigger::Scheduled, &meta, stop).await
            }
            Job::Retention => self.prune(run, &meta).await,
            Job::HoldExpiry => self.end_holds(run, &meta).await,
            Job::SettingsSync => self.sync(run, &meta, stop).await,
        }
    }

    /// Evaluates resources in the order of their ids, from the cursor on.
    async fn evaluate(
        &self,
        run: &mut Run,
        mut resources: Vec<ResourceId>,
        trigger: Trigger,
        meta: &CommandMeta,
        stop: &CancellationToken,
    ) -> Result<Ended, SchedulerError> {
        if let Some(cursor) = run.cursor {
            resources.retain(|resource| *resource > cursor);
        }
        run.total = Some(run.done + count(resources.len()));
        self.runs.progress(run).await?;
        let now = self.parts.clock.now();
        for batch in resources.chunks(BATCH) {
            if stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let done = self.parts.operations.evaluate_batch(batch, trigger, meta).await?;
            for (resource, _) in &done.failed {
                self.unsettled.put_off(*resource, now).await?;
            }
            run.done += count(batch.len());
            run.failed += count(done.failed.len());
            run.cursor = batch.last().copied();
            self.runs.progress(run).await?;
            if let (Some((resource, error)), true) = (done.failed.first(), run.error.is_none()) {
                run.error = Some(format!("not every resource could be evaluated; the first: {resource}: {error}"));
            }
        }
        run.counts.insert("resources".into(), run.done.into());
        Ok(Ended::Done)
    }

    async fn prune(&self, run: &mut Run, meta: &CommandMeta) -> Result<Ended, SchedulerError> {
        let (tell, mut told) = tokio::sync::watch::channel(Pruned::default());
        let rows = |pruned: Pruned| pruned.evaluations + pruned.dispatches;
        let before = run.done;
        // Nobody listens any more only when nobody is left to tell.
        let progress = move |pruned| {
            let _ = tell.send(pruned);
        };
        let work = self.parts.retention.clean_up(meta, progress);
        // Side by side: the record is written with the connection that pruning gives back after each transaction.
        let keep_record = async {
            while told.changed().await.is_ok() {
                run.done = before + rows(*told.borrow_and_update());
                self.runs.progress(run).await?;
            }
            Ok::<(), SchedulerError>(())
        };
        let (pruned, kept) = tokio::join!(work, keep_record);
        let pruned = pruned?;
        kept?;
        run.done = before + rows(pruned);
        run.counts.insert("evaluations".into(), pruned.evaluations.into());
        run.counts.insert("dispatches".into(), pruned.dispatches.into());
        Ok(Ended::Done)
    }

    /// Ends every manual hold whose time is over. One that cannot be ended does not keep the others.
    async fn end_holds(&self, run: &mut Run, meta: &CommandMeta) -> Result<Ended, SchedulerError> {
        let now = self.parts.clock.now();
        let mut failed = None;
        loop {
            let due = reactions::due_holds(&self.parts.read, now).await?;
            let mut ended = 0;
            for (resource, hold) in due {
                let command = AllocationCommand::ReleaseHold { hold, expired: true };
                match self.parts.operations.allocations.execute(resource, &command, meta).await {
                    Ok(_) => run.done += 1,
                    // Somebody released it by hand, and the list has not heard of it yet.
                    Err(CommandError::Refused(Refusal::NoSuchHold(_)) | CommandError::NoSuchResource(_)) => {}
                    Err(error) => {
                        run.failed += 1;
                        failed.get_or_insert(error);
                        continue;
                    }
                }
                // The log has it; the list need not wait for its consumer.
                reactions::forget_hold(&self.parts.read, hold).await?;
                ended += 1;
            }
            if ended == 0 {
                break;
            }
        }
        run.counts.insert("holds".into(), run.done.into());
        failed.map_or(Ok(Ended::Done), |error| Err(SchedulerError::Hold(error)))
    }

    /// Tries again what failed, and sweeps up what others have on their lists.
    async fn sync(&self, run: &mut Run, meta: &CommandMeta, stop: &CancellationToken) -> Result<Ended, SchedulerError> {
        let now = self.parts.clock.now();
        let mut after = None;
        loop {
            let batch = self.unsettled.due(now, after, BATCH).await?;
            let Some(last) = batch.last().copied() else { break };
            if stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let done = self.parts.operations.evaluate_batch(&batch, Trigger::Scheduled, meta).await?;
            for resource in &batch {
                if done.failed.iter().any(|(failed, _)| failed == resource) {
                    self.unsettled.put_off(*resource, now).await?;
                } else {
                    self.unsettled.settle(*resource).await?;
                }
            }
            run.done += count(batch.len());
            run.failed += count(done.failed.len());
            self.runs.progress(run).await?;
            after = Some(last);
        }
        run.counts.insert("retried".into(), run.done.into());
        for sweep in self.sweeps() {
            let swept = sweep.sweep(now, meta).await.map_err(|error| SchedulerError::Sweep(sweep.name(), error))?;
            run.done += i64::try_from(swept).unwrap_or(i64::MAX);
            run.counts.insert(sweep.name().into(), swept.into());
        }
        Ok(Ended::Done)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
