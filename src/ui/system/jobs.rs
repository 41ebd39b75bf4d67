//! Jobs with when each is due, their runs, and re-evaluations under way.

use askama::Template;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{System, Tab, reads};
use crate::ui::frame::Frame;
use crate::ui::sheet::{self, ROWS, Sheet};
use crate::ui::standing::Tone;
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

#[derive(Deserialize)]
struct RunRead {
    uuid: String,
    job: String,
    state: String,
    attempt: i64,
    started: DateTime<Utc>,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    duration_seconds: Option<Decimal>,
    done: u64,
    total: Option<u64>,
    failed: u64,
    counts: Map<String, Value>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct JobRead {
    job: String,
    schedule: Option<String>,
    next_due: Option<DateTime<Utc>>,
    last_run: Option<RunRead>,
}

#[derive(Deserialize)]
struct ReEvaluationRead {
    position: String,
    kind: String,
    done: u64,
    total: Option<u64>,
}

/// A run of a job.
pub struct Run {
    /// Its job.
    pub job: &'static str,
    /// How it stands.
    pub state: Tone,
    /// When it started.
    pub at: Moment,
    /// How long it took.
    pub took: String,
    /// How far it is: done, and of how many.
    pub progress: Option<(u64, u64)>,
    /// The same in words.
    pub done: String,
    /// What was counted.
    pub counts: String,
    /// What went wrong.
    pub error: String,
    /// All that it led to.
    pub chain: String,
}

struct JobRow {
    name: &'static str,
    what: &'static str,
    schedule: String,
    due: Option<(Moment, String)>,
    last: Option<Run>,
    runs: String,
}

struct Under {
    kind: String,
    done: u64,
    total: Option<u64>,
    href: String,
}

/// The page.
#[derive(Template)]
#[template(path = "system_jobs.html")]
struct JobsPage {
    frame: Frame,
    tabs: Vec<Tab>,
    path: String,
    jobs: Vec<JobRow>,
    under: Vec<Under>,
    list: Sheet,
    runs: Vec<Run>,
}

/// A job in words: its name and what it does.
fn job(name: &str) -> (&'static str, &'static str) {
    match name {
        "period_boundary" => {
            ("Period boundary", "Starts a new month, quarter or year: applies carryover and resets usage.")
        }
        "hold_expiry" => ("Hold expiry", "Ends manual holds when they expire."),
        "settings_sync" => ("Settings sync", "Resends what failed or was not answered, a limited number of times."),
        "evaluate_all" => ("Evaluate all", "Evaluates every allocation once a day."),
        "retention" => ("Retention", "Prunes old rows of the logs. Events stay."),
        "replay" => ("Replay", "Repeats recorded decisions and compares the results."),
        _ => ("Another job", ""),
    }
}

fn state(name: &str) -> Tone {
    let tone = |class, icon, word| Tone { class, icon, word };
    match name {
        "running" => tone("plain", "hourglass", "Running"),
        "done" => tone("normal", "circle-check", "Done"),
        "failed" => tone("pause", "circle-x", "Failed"),
        _ => tone("warn", "triangle-alert", "Interrupted"),
    }
}

impl Run {
    fn of(read: &RunRead) -> Self {
        let counts = read.counts.iter().filter(|(_, n)| n.as_u64() != Some(0));
        let counts: Vec<String> = counts.map(|(name, n)| format!("{n} {}", name.replace('_', " "))).collect();
        let attempt = if read.attempt > 1 { format!(", attempt {}", read.attempt) } else { String::new() };
        let failed = if read.failed > 0 { format!(", {} failed", words::whole(read.failed)) } else { String::new() };
        let of = read.total.map(|total| format!(" of {}", words::whole(total))).unwrap_or_default();
        Self {
            job: job(&read.job).0,
            state: state(&read.state),
            at: Moment::of(read.started),
            took: read.duration_seconds.map(|s| format!("{}{}s", words::amount(s, 1), words::NBSP)).unwrap_or_default(),
            progress: read.total.filter(|_| read.state == "running").map(|total| (read.done, total)),
            done: format!("{}{of}{failed}{attempt}", words::whole(read.done)),
            counts: counts.join(", "),
            error: read.error.clone().unwrap_or_default(),
            chain: format!("/events?correlation={}", read.uuid),
        }
    }
}

const JOBS: [(&str, &str); 6] = [
    ("period_boundary", "Period boundary"),
    ("evaluate_all", "Evaluate all"),
    ("settings_sync", "Settings sync"),
    ("hold_expiry", "Hold expiry"),
    ("retention", "Retention"),
    ("replay", "Replay"),
];

const STATES: [(&str, &str); 4] =
    [("running", "Running"), ("done", "Done"), ("failed", "Failed"), ("interrupted", "Interrupted")];

/// The page of jobs.
pub async fn show(visit: Visit) -> Shown {
    reads(&visit)?;
    let asked = sheet::asked(&visit, &[("job", "job"), ("state", "state")]);
    let path = format!("/api/scheduler-runs/?{asked}&page={}&page_size={ROWS}", visit.page()?);
    let runs = visit.api.list::<RunRead>(&path).await?;
    let jobs = visit.api.list::<JobRead>("/api/scheduler-jobs/?page_size=100").await?;
    let under = visit.api.list::<ReEvaluationRead>("/api/re-evaluations/?page_size=20").await?;
    let row = |read: &JobRead| {
        let (name, what) = job(&read.job);
        let due = read.next_due.map(|at| {
            let away = at - visit.now;
            let when = if away < chrono::TimeDelta::zero() { "overdue".to_owned() } else { words::duration(away) };
            (Moment::of(at), when)
        });
        JobRow {
            name,
            what,
            schedule: read.schedule.clone().unwrap_or_default(),
            due,
            last: read.last_run.as_ref().map(Run::of),
            runs: format!("/system/jobs?job={}", read.job),
        }
    };
    let list = Sheet::plain(&visit, runs.rows.len(), runs.total)?;
    let filters = vec![sheet::filter(&visit, "Job", "job", &JOBS), sheet::filter(&visit, "State", "state", &STATES)];
    let reaction = |read: &ReEvaluationRead| Under {
        kind: read.kind.replace('_', " "),
        done: read.done,
        total: read.total,
        href: format!("/events/{}", read.position),
    };
    let system = System::of(&visit, "Jobs", "/system/jobs").await;
    page(&JobsPage {
        frame: system.frame,
        tabs: system.tabs,
        path: system.path,
        // A job that this page has no name for, and that never ran, is none of its business.
        jobs: jobs.rows.iter().map(row).filter(|row| !row.what.is_empty() || row.last.is_some()).collect(),
        under: under.rows.iter().map(reaction).collect(),
        list: list.filtered(&visit, filters, None, &[]),
        runs: runs.rows.iter().map(Run::of).collect(),
    })
}
