//! `/api/scheduler-runs/`, `/api/scheduler-jobs/` and `/api/re-evaluations/`: background work and its results.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::access::{Access, Routes};
use super::context::{Context, Id};
use super::error::{ApiError, ApiResult, ErrorDetail, ErrorFields};
use super::paging::{Page, PageParams, listed, paged};
use crate::projections::Span;
use crate::reactions::ReactionProgress;
use crate::scheduler::{Job, Run, RunFilter, RunState, Upcoming};

/// The group in the API's description.
const TAG: &str = "Scheduler";

const JOBS: &str = "period_boundary, hold_expiry, settings_sync, evaluate_all, retention, replay, checkpoint";

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::Support, routes!(list))
        .add(Access::Support, routes!(retrieve))
        .add(Access::Support, routes!(jobs))
        .add(Access::Support, routes!(re_evaluations))
}

/// One run of a scheduled job.
#[derive(Debug, Serialize, ToSchema)]
pub struct SchedulerRun {
    uuid: String,
    /// `period_boundary`, `hold_expiry`, `settings_sync`, `evaluate_all`, `retention`, `replay` or `checkpoint`.
    job: &'static str,
    /// The instant for which it ran; of several that were missed the latest.
    due: DateTime<Utc>,
    /// 1, unless earlier runs for the same instant failed or were cut short.
    attempt: i64,
    /// `running`, `done`, `failed` or `interrupted`.
    state: &'static str,
    started: DateTime<Utc>,
    finished: Option<DateTime<Utc>>,
    /// By the machine's clock.
    duration_seconds: Option<f64>,
    /// Resources, rows or holds done so far.
    done: i64,
    /// Of so many, once they were counted.
    total: Option<i64>,
    /// Those among them that could not be; the settings sync tries them again.
    failed: i64,
    /// What was counted, by name.
    #[schema(value_type = std::collections::BTreeMap<String, i64>)]
    counts: serde_json::Map<String, serde_json::Value>,
    error: Option<String>,
}

impl From<Run> for SchedulerRun {
    #[expect(clippy::cast_precision_loss, reason = "seconds for people; microseconds beyond 2^53 are centuries")]
    fn from(run: Run) -> Self {
        Self {
            uuid: run.id.as_simple().to_string(),
            job: run.job.name(),
            due: run.due,
            attempt: run.attempt,
            state: run.state.as_str(),
            started: run.started_at,
            finished: run.finished_at,
            duration_seconds: run.took_micros.map(|micros| micros as f64 / 1e6),
            done: run.done,
            total: run.total,
            failed: run.failed,
            counts: run.counts,
            error: run.error,
        }
    }
}

/// A job, when it is due next, and how it went last.
#[derive(Debug, Serialize, ToSchema)]
pub struct SchedulerJob {
    job: &'static str,
    /// Minute, hour, day of the month, month, day of the week, in the site's time; none where the calendar does not say.
    schedule: Option<String>,
    /// In the past if it is overdue; none if there is nothing to do.
    next_due: Option<DateTime<Utc>>,
    last_run: Option<SchedulerRun>,
}

impl From<Upcoming> for SchedulerJob {
    fn from(upcoming: Upcoming) -> Self {
        Self {
            job: upcoming.job.name(),
            schedule: upcoming.cron,
            next_due: upcoming.next_due,
            last_run: upcoming.last_run.map(Into::into),
        }
    }
}

/// A re-evaluation that a change called for and that is not done yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReEvaluation {
    /// The event that called for it, as a position of the log.
    position: String,
    /// `policy`, `scope`, `offering`, `project`, `settings` or `request`.
    kind: String,
    /// Resources done.
    done: i64,
    /// Of so many, once they were counted.
    total: Option<i64>,
}

impl From<ReactionProgress> for ReEvaluation {
    fn from(progress: ReactionProgress) -> Self {
        let ReactionProgress { position, kind, done, total } = progress;
        Self { position: position.to_string(), kind, done, total }
    }
}

/// Runs of scheduled jobs, newest first. The newest thousand of each job are kept.
#[utoipa::path(get, path = "/api/scheduler-runs/", tag = TAG,
    params(PageParams, ("job" = Option<String>, Query, description = "Only of this job"),
        ("state" = Option<String>, Query, description = "`running`, `done`, `failed` or `interrupted`"),
        ("started_from" = Option<String>, Query, description = "Started at this instant or later"),
        ("started_before" = Option<String>, Query, description = "Started before this instant")),
    responses((status = 200, body = [SchedulerRun], headers(("X-Result-Count" = u64, description = "Number of rows"))),
        (status = 400, body = ErrorFields), (status = 403, body = ErrorDetail)))]
async fn list(ctx: Context) -> ApiResult {
    let page = Page::of(&ctx.query)?;
    let instant = "an instant such as 2026-03-01T00:00:00Z";
    let read = |text: &str| super::fields::parse_instant(text).map(|at| at.to_utc());
    let filter = RunFilter {
        job: ctx.query.read("job", JOBS, Job::parse)?,
        state: ctx.query.read("state", "running, done, failed, interrupted", RunState::parse)?,
        span: Span {
            from: ctx.query.read("started_from", instant, read)?,
            to: ctx.query.read("started_before", instant, read)?,
        },
    };
    let (runs, total) = ctx.app.scheduler.runs().list(&filter, page.of_rows()?).await?;
    let page = page.within(total.unsigned_abs())?;
    listed(&ctx, page, total.unsigned_abs(), &runs.into_iter().map(SchedulerRun::from).collect::<Vec<_>>())
}

/// One run of a scheduled job.
#[utoipa::path(get, path = "/api/scheduler-runs/{uuid}/", tag = TAG, params(("uuid" = String, Path)),
    responses((status = 200, body = SchedulerRun), (status = 403, body = ErrorDetail), (status = 404, body = ErrorDetail)))]
async fn retrieve(ctx: Context, Id(run): Id<Uuid>) -> ApiResult {
    let run = ctx.app.scheduler.runs().one(run).await?.ok_or(ApiError::NotFound)?;
    ctx.one(StatusCode::OK, &SchedulerRun::from(run))
}

/// Scheduled jobs with when each is due next.
#[utoipa::path(get, path = "/api/scheduler-jobs/", tag = TAG, params(PageParams),
    responses((status = 200, body = [SchedulerJob]), (status = 403, body = ErrorDetail)))]
async fn jobs(ctx: Context) -> ApiResult {
    let jobs = ctx.app.scheduler.upcoming().await.map_err(ApiError::internal)?;
    paged(&ctx, jobs, SchedulerJob::from)
}

/// Re-evaluations under way or waiting, oldest first.
#[utoipa::path(get, path = "/api/re-evaluations/", tag = TAG, params(PageParams),
    responses((status = 200, body = [ReEvaluation]), (status = 403, body = ErrorDetail)))]
async fn re_evaluations(ctx: Context) -> ApiResult {
    let pending = ctx.app.reactions.pending().await?;
    paged(&ctx, pending, ReEvaluation::from)
}
