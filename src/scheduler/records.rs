//! Records of job runs: begun, advanced, finished; bounded in number; and where an interrupted run resumes.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::plan::Job;
use crate::clock::IdSource;
use crate::domain::ids::ResourceId;
use crate::projections::{Page, Span};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Records kept of each job; older ones go.
pub const RUNS_PER_JOB_MAX: i64 = 1_000;

/// Characters of an error that are kept.
const ERROR_CHARS_MAX: usize = 2_000;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Under way.
    Running,
    /// Finished.
    Done,
    /// Gave up; tried again later.
    Failed,
    /// The process ended, or was told to, before the run did; the next attempt resumes there.
    Interrupted,
}

impl RunState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Done, Self::Failed, Self::Interrupted];

    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The state of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// The job.
    pub job: Job,
    /// When it was due; of several missed instants the latest.
    pub due: DateTime<Utc>,
    /// Attempts so far for that instant, with this one.
    pub attempt: i64,
    /// How it stands.
    pub state: RunState,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long it took by the machine's clock, microseconds.
    pub took_micros: Option<i64>,
    /// Resources, rows or holds done.
    pub done: i64,
    /// How many there are to do, once counted.
    pub total: Option<i64>,
    /// Those among the done ones that could not be; they are tried again by the settings sync.
    pub failed: i64,
    /// The last resource done.
    pub cursor: Option<ResourceId>,
    /// What was counted, by name.
    pub counts: Map<String, Value>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this job.
    pub job: Option<Job>,
    /// In this state.
    pub state: Option<RunState>,
    /// Started in this span.
    pub span: Span,
}

/// The table of runs.
#[derive(Debug, Clone)]
pub struct Runs {
    db: ReadDb,
}

impl Runs {
    /// The table in `db`.
    pub fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// Begins a run, or resumes a failed or interrupted one for the same instant. None: it is already done.
    pub async fn begin(&self, job: Job, due: DateTime<Utc>, now: DateTime<Utc>) -> Result<Option<Run>, SqlError> {
        self.cut_short(Some(job), now).await?;
        let mut last = self.newest(job).await?.filter(|last| last.due == due);
        if last.as_ref().is_some_and(|last| last.state == RunState::Done) {
            if job != Job::HoldExpiry {
                return Ok(None);
            }
            // Another hold that ends at the same instant.
            last = None;
        }
        let run = Run {
            id: IdSource.fresh(),
            job,
            due,
            attempt: last.as_ref().map_or(1, |last| last.attempt + 1),
            state: RunState::Running,
            started_at: now,
            finished_at: None,
            took_micros: None,
            done: last.as_ref().map_or(0, |last| last.done),
            total: last.as_ref().and_then(|last| last.total),
            failed: last.as_ref().map_or(0, |last| last.failed),
            cursor: last.as_ref().and_then(|last| last.cursor),
            counts: Map::new(),
            error: None,
        };
        let insert = "INSERT INTO scheduler_runs (run, job, due, attempt, state, started_at, done, total, failed, cursor) \
                      VALUES ($1, $2, $3, $4, 'running', $5, $6, $7, $8, $9)";
        let values = [
            run.id.into(),
            SqlValue::Static(job.name()),
            due.into(),
            run.attempt.into(),
            now.into(),
            run.done.into(),
            run.total.into(),
            run.failed.into(),
            run.cursor.map(|cursor| cursor.as_uuid()).into(),
        ];
        self.write(insert, &values).await?;
        Ok(Some(run))
    }

    /// Runs that this process no longer continues: those of one job, or all.
    pub async fn cut_short(&self, job: Option<Job>, now: DateTime<Utc>) -> Result<(), SqlError> {
        let update = "UPDATE scheduler_runs SET state = 'interrupted', finished_at = $2, \
                      error = 'the server ended before the run did' WHERE state = 'running' AND ($1 IS NULL OR job = $1)";
        self.write(update, &[job.map(Job::name).into(), now.into()]).await
    }

    /// Notes how far a run is.
    pub async fn progress(&self, run: &Run) -> Result<(), SqlError> {
        let update = "UPDATE scheduler_runs SET done = $2, total = $3, failed = $4, cursor = $5 WHERE run = $1";
        let cursor = run.cursor.map(|cursor| cursor.as_uuid());
        self.write(update, &[run.id.into(), run.done.into(), run.total.into(), run.failed.into(), cursor.into()]).await
    }

    /// Notes how a run ended, and lets the oldest records of the job go.
    pub async fn finish(&self, run: &Run) -> Result<(), SqlError> {
        let error: Option<String> = run.error.as_ref().map(|error| error.chars().take(ERROR_CHARS_MAX).collect());
        let cursor = run.cursor.map(|cursor| cursor.as_uuid());
        let values = [
            run.id.into(),
            SqlValue::Static(run.state.as_str()),
            run.finished_at.into(),
            run.took_micros.into(),
            run.done.into(),
            run.total.into(),
            run.failed.into(),
            cursor.into(),
            Value::Object(run.counts.clone()).to_string().into(),
            error.into(),
        ];
        let update = "UPDATE scheduler_runs SET state = $2, finished_at = $3, took_micros = $4, done = $5, total = $6, \
                      failed = $7, cursor = $8, counts = $9, error = $10 WHERE run = $1";
        let prune = "DELETE FROM scheduler_runs WHERE job = $1 AND run NOT IN \
                     (SELECT run FROM scheduler_runs WHERE job = $1 ORDER BY started_at DESC, run DESC LIMIT $2)";
        let mut tx = self.db.begin().await?;
        tx.execute(update, &values).await?;
        tx.execute(prune, &[SqlValue::Static(run.job.name()), RUNS_PER_JOB_MAX.into()]).await?;
        tx.commit().await
    }

    async fn write(&self, sql: &'static str, values: &[SqlValue]) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        tx.execute(sql, values).await?;
        tx.commit().await
    }

    /// The newest run of a job.
    pub async fn newest(&self, job: Job) -> Result<Option<Run>, SqlError> {
        let select = "SELECT run, job, due, attempt, state, started_at, finished_at, took_micros, done, total, failed, cursor, \
                      counts, error FROM scheduler_runs WHERE job = $1 ORDER BY started_at DESC, run DESC LIMIT 1";
        self.db.query_one(select, &[SqlValue::Static(job.name())]).await?.as_ref().map(read).transpose()
    }

    /// One run.
    pub async fn one(&self, run: Uuid) -> Result<Option<Run>, SqlError> {
        let select = "SELECT run, job, due, attempt, state, started_at, finished_at, took_micros, done, total, failed, cursor, \
                      counts, error FROM scheduler_runs WHERE run = $1";
        self.db.query_one(select, &[run.into()]).await?.as_ref().map(read).transpose()
    }

    /// A page of runs, newest first, and how many there are.
    pub async fn list(&self, filter: &RunFilter, page: Page) -> Result<(Vec<Run>, i64), SqlError> {
        let (from, to) = (filter.span.from, filter.span.to);
        let mut values = vec![
            SqlValue::from(filter.job.map(Job::name)),
            SqlValue::from(filter.state.map(RunState::as_str)),
            from.into(),
            to.into(),
        ];
        let count = "SELECT count(*) FROM scheduler_runs WHERE ($1 IS NULL OR job = $1) AND ($2 IS NULL OR state = $2) \
                     AND ($3 IS NULL OR started_at >= $3) AND ($4 IS NULL OR started_at < $4)";
        let total = self.db.query_one(count, &values).await?.map_or(Ok(0), |row| row.i64(0))?;
        let select = "SELECT run, job, due, attempt, state, started_at, finished_at, took_micros, done, total, failed, cursor, \
                      counts, error FROM scheduler_runs WHERE ($1 IS NULL OR job = $1) AND ($2 IS NULL OR state = $2) \
                      AND ($3 IS NULL OR started_at >= $3) AND ($4 IS NULL OR started_at < $4) \
                      ORDER BY started_at DESC, run DESC LIMIT $5 OFFSET $6";
        values.extend([page.size.into(), page.offset().into()]);
        let rows = self.db.query(select, &values).await?;
        Ok((rows.iter().map(read).collect::<Result<_, SqlError>>()?, total))
    }
}

fn read(row: &SqlRow) -> Result<Run, SqlError> {
    let wrong = |index, expected| SqlError::Column { index, expected };
    Ok(Run {
        id: row.uuid(0)?,
        job: Job::parse(row.text(1)?).ok_or_else(|| wrong(1, "a job"))?,
        due: row.time(2)?,
        attempt: row.i64(3)?,
        state: RunState::parse(row.text(4)?).ok_or_else(|| wrong(4, "a state"))?,
        started_at: row.time(5)?,
        finished_at: row.opt_time(6)?,
        took_micros: row.opt_i64(7)?,
        done: row.i64(8)?,
        total: row.opt_i64(9)?,
        failed: row.i64(10)?,
        cursor: row.opt_uuid(11)?.map(ResourceId::from),
        counts: serde_json::from_str(row.text(12)?).map_err(|_| wrong(12, "counts by name"))?,
        error: row.opt_text(13)?.map(str::to_owned),
    })
}
