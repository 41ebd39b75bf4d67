//! The work of each job, batch by batch, with recorded progress.

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
use crate::domain::period::Month;
use crate::events::checkpoint::CheckpointReason;
use crate::operations::BATCH;
use crate::projections::retention::Pruned;
use crate::projections::usage::without_report;
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
                self.fill_missing_usage(run, &meta, stop).await?;
                let resources = self.parts.operations.before_boundary().await?;
                let ended = self.evaluate(run, resources, Trigger::PeriodBoundary, &meta, stop).await?;
                let zone = self.parts.schedule.zone();
                let begins = Month::of_instant(run.due, zone).starts_at(zone) == run.due;
                if ended == Ended::Done && begins && self.parts.notary.signs() {
                    self.close_period(run, &meta).await;
                }
                Ok(ended)
            }
            Job::EvaluateAll => {
                let resources = self.parts.operations.all_governed().await?;
                self.evaluate(run, resources, Trigger::Scheduled, &meta, stop).await
            }
            Job::Retention => self.prune(run, &meta).await,
            Job::Replay => self.replay(run, &meta, stop).await,
            Job::Checkpoint => self.checkpoint(run, CheckpointReason::Schedule, &meta).await,
            Job::HoldExpiry => self.end_holds(run, &meta).await,
            Job::SettingsSync => self.sync(run, &meta, stop).await,
        }
    }

    /// Gives the months that have ended without a report what the last reports ask for. What is done is on no list any more,
    /// so that a run which was cut short goes on by itself.
    async fn fill_missing_usage(
        &self,
        run: &mut Run,
        meta: &CommandMeta,
        stop: &CancellationToken,
    ) -> Result<(), SchedulerError> {
        let operations = &self.parts.operations;
        let zone = operations.allocations.rules().zone;
        let ended = Month::of_instant(self.parts.clock.now(), zone).previous();
        let resources = without_report(&self.parts.read, ended).await?;
        let mut filled: i64 = 0;
        for batch in resources.chunks(BATCH) {
            if stop.is_cancelled() {
                break;
            }
            let commands: Vec<_> = batch.iter().map(|r| (*r, AllocationCommand::FillMissingUsage)).collect();
            for (resource, outcome) in batch.iter().zip(operations.allocations.execute_many(&commands, meta).await) {
                match outcome {
                    Ok(executed) => filled += i64::from(!executed.already_applied()),
                    Err(error) => {
                        tracing::error!(%resource, error = &error as &dyn Error, "a month without a report is not filled");
                        run.failed += 1;
                        run.error.get_or_insert_with(|| {
                            format!("{resource}: a month without a report is not filled: {error}")
                        });
                    }
                }
            }
        }
        if filled > 0 {
            run.counts.insert("filled".into(), filled.into());
        }
        Ok(())
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
        // The channel closes only when nobody needs the news.
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

    /// Makes the decisions again that were recorded since the last time, and records the verdict; of a run that is told to stop
    /// too, so that the next one goes on from there.
    async fn replay(
        &self,
        run: &mut Run,
        meta: &CommandMeta,
        stop: &CancellationToken,
    ) -> Result<Ended, SchedulerError> {
        let verifier = &self.parts.verifier;
        let mut pass = verifier.begin().await?;
        run.total = verifier.ahead(&pass).await.events().map(|events| i64::try_from(events).unwrap_or(i64::MAX));
        let mut ended = Ended::Done;
        while pass.step().await? {
            run.done = i64::try_from(pass.report().events).unwrap_or(i64::MAX);
            self.runs.progress(run).await?;
            if stop.is_cancelled() {
                ended = Ended::Stopped;
                break;
            }
        }
        let report = pass.into_report();
        verifier.record(&report, meta).await?;
        let total = report.total();
        run.done = i64::try_from(report.events).unwrap_or(i64::MAX);
        run.failed = i64::try_from(total.different + total.not_recomputed).unwrap_or(i64::MAX);
        run.counts.insert("same".into(), total.same.into());
        run.counts.insert("different".into(), total.different.into());
        run.counts.insert("not_recomputed".into(), total.not_recomputed.into());
        if let Some(complaint) = report.complaint() {
            tracing::error!(
                complaint,
                "recorded decisions do not follow from their inputs: docs/AUDIT.md says what to do"
            );
            run.error = Some(complaint);
        }
        Ok(ended)
    }

    /// Signs how the log stands, if anything happened.
    async fn checkpoint(
        &self,
        run: &mut Run,
        why: CheckpointReason,
        meta: &CommandMeta,
    ) -> Result<Ended, SchedulerError> {
        if let Some(made) = self.parts.notary.checkpoint(why, meta).await? {
            run.done += 1;
            run.counts.insert("signed_events".into(), made.checkpoint.size.into());
            if !made.failed.is_empty() {
                run.failed += 1;
                run.error = Some(format!("signed, and not handed on: {}", made.failed.join("; ")));
            }
        }
        Ok(Ended::Done)
    }

    /// Signs the end of a period. The period has begun all the same if that fails: the next checkpoint covers it too.
    async fn close_period(&self, run: &mut Run, meta: &CommandMeta) {
        match self.parts.notary.checkpoint(CheckpointReason::PeriodClose, meta).await {
            Ok(Some(made)) => drop(run.counts.insert("signed_events".into(), made.checkpoint.size.into())),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "the end of the period is not signed");
                run.error.get_or_insert_with(|| format!("the end of the period is not signed: {error}"));
            }
        }
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
