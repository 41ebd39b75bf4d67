//! `sluice scheduler runs|jobs|work`: scheduled jobs, their due times and their results.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Out, time};
use super::paging::{Paging, Shown};
use super::session::{CliError, Session};
use crate::projections::Span;
use crate::scheduler::{Job, Run, RunFilter, RunState};

/// Runs in a table.
const LISTED: u32 = 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List runs of jobs, newest first
    Runs(Runs),
    /// List jobs with when each is due next
    Jobs,
    /// List re-evaluations under way or waiting
    Work,
}

/// Options of `scheduler runs`.
#[derive(Debug, Args)]
pub(super) struct Runs {
    /// Of one job, by the name it has in the list of jobs
    #[arg(long, value_parser = job)]
    job: Option<Job>,
    /// In one state: running, done, failed, interrupted
    #[arg(long, value_parser = state)]
    state: Option<RunState>,
    #[command(flatten)]
    paging: Paging,
}

fn job(name: &str) -> Result<Job, String> {
    Job::parse(name).ok_or_else(|| format!("one of {} is allowed", Job::ALL.map(Job::name).join(", ")))
}

fn state(word: &str) -> Result<RunState, String> {
    let allowed = || format!("one of {} is allowed", RunState::ALL.map(RunState::as_str).join(", "));
    RunState::parse(word).ok_or_else(allowed)
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::Runs(options) => runs(session, &options, out).await,
        Command::Jobs => jobs(session, out).await,
        Command::Work => work(session, out).await,
    }
}

fn document(run: &Run) -> Value {
    json!({
        "uuid": run.id.as_simple().to_string(), "job": run.job.name(), "due": time(run.due), "attempt": run.attempt,
        "state": run.state.as_str(), "started": time(run.started_at), "finished": run.finished_at.map(time),
        "took_microseconds": run.took_micros, "done": run.done, "total": run.total, "failed": run.failed,
        "counts": run.counts, "error": run.error,
    })
}

/// How far a run is, in a few words.
fn progress(run: &Run) -> String {
    let of = run.total.filter(|total| *total != run.done).map(|total| format!(" of {total}")).unwrap_or_default();
    let failed = if run.failed > 0 { format!(", {} failed", run.failed) } else { String::new() };
    format!("{}{of}{failed}", run.done)
}

async fn runs(session: &Session, options: &Runs, out: &Out) -> Result<(), CliError> {
    let page = options.paging.page(LISTED, out);
    let filter = RunFilter { job: options.job, state: options.state, span: Span::default() };
    let found = session.app.scheduler.runs().list(&filter, page).await;
    let (runs, total) = found.map_err(|error| CliError::because("the records of runs cannot be read", error))?;
    let listed = Shown::new(page, runs.len(), total.max(0).unsigned_abs());
    out.json(&runs.iter().map(document).collect::<Vec<_>>());
    if listed.total == 0 {
        out.text("no job has run");
        return Ok(());
    }
    let rows = runs.iter().map(|run| {
        [
            run.job.name().to_owned(),
            time(run.due),
            run.state.as_str().to_owned(),
            run.attempt.to_string(),
            time(run.started_at),
            progress(run),
            run.error.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    out.table(["job", "due", "state", "attempt", "started", "done", "error"], rows.collect());
    listed.tell("older", out);
    Ok(())
}

async fn jobs(session: &Session, out: &Out) -> Result<(), CliError> {
    let upcoming = session.app.scheduler.upcoming().await;
    let upcoming = upcoming.map_err(|error| CliError::because("the schedule cannot be read", error))?;
    let shown = upcoming.iter().map(|job| {
        json!({
            "job": job.job.name(), "schedule": job.cron, "next_due": job.next_due.map(time),
            "last_run": job.last_run.as_ref().map(document),
        })
    });
    out.json(&shown.collect::<Vec<_>>());
    let rows = upcoming.iter().map(|job| {
        let last = job.last_run.as_ref();
        [
            job.job.name().to_owned(),
            job.cron.clone().unwrap_or_else(|| "-".to_owned()),
            job.next_due.map_or_else(|| "-".to_owned(), time),
            last.map_or_else(|| "never".to_owned(), |run| time(run.started_at)),
            last.map_or_else(|| "-".to_owned(), |run| format!("{}, {}", run.state.as_str(), progress(run))),
        ]
    });
    out.table(["job", "schedule", "next", "last", "how it went"], rows.collect());
    Ok(())
}

async fn work(session: &Session, out: &Out) -> Result<(), CliError> {
    let pending = session.app.reactions.pending().await;
    let pending = pending.map_err(|error| CliError::because("the list of re-evaluations cannot be read", error))?;
    let shown = pending.iter().map(|task| {
        json!({"position": task.position.to_string(), "kind": task.kind, "done": task.done, "total": task.total})
    });
    out.json(&shown.collect::<Vec<_>>());
    if pending.is_empty() {
        out.text("no re-evaluation is under way");
        return Ok(());
    }
    let rows = pending.iter().map(|task| {
        let total = task.total.map_or_else(|| "not counted yet".to_owned(), |total| total.to_string());
        [task.position.to_string(), task.kind.clone(), task.done.to_string(), total]
    });
    out.table(["event", "kind", "done", "of"], rows.collect());
    Ok(())
}
