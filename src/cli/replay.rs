//! `sluice replay --verify`: recomputes recorded decisions from their recorded inputs, and lists those that differ.
//! Without `--verify` it replays a span under other rules (`what_if.rs`).
//!
//! Like `store verify` it opens only the log, as it is stored, beside a running server or without one.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::output::{Out, count};
use super::session::{CliError, Session, config_of};
use super::store_soundness::{document as unread_document, open, options_of, unread};
use super::{Globals, what_if};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::{day_complaint, day_starts_at, instant_complaint};
use crate::events::envelope::Position;
use crate::replay::{Counts, Difference, Effort, Pass, Report, Spent, Wanted};
use crate::store::private;

/// Default number of books in memory.
const BOOKS: usize = 131_072;

/// Pages after which the resume file is rewritten.
const PAGES_BETWEEN: u32 = 16;

/// Options of `replay`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Compare each decision with what its recorded inputs give: status 1 if one comes out otherwise
    #[arg(long, conflicts_with_all = ["set", "rules", "decisions", "csv"])]
    verify: bool,
    /// Decisions of one policy, by id or slug
    #[arg(long, value_name = "POLICY")]
    pub(super) policy: Option<String>,
    /// Decisions on one resource, by id or slug
    #[arg(long, value_name = "RESOURCE")]
    pub(super) resource: Option<String>,
    /// Live the span again with another rule of the policy, in the keys of a site file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// The same with rules from a file, in the keys that a policy has in a site file
    #[arg(long, value_name = "FILE")]
    pub(super) rules: Option<PathBuf>,
    /// Decisions that differ, listed one by one
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(super) decisions: usize,
    /// Print a line of comma-separated values for each allocation
    #[arg(long)]
    pub(super) csv: bool,
    /// Begin after this position of the log
    #[arg(long, value_name = "POSITION", value_parser = Position::read_plain, requires = "verify")]
    after: Option<Position>,
    /// End with this position
    #[arg(long, value_name = "POSITION", value_parser = Position::read_plain, requires = "verify")]
    through: Option<Position>,
    /// Decisions made on this day at the site or later, or at an instant, as in 2026-03-01T00:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = edge)]
    pub(super) from: Option<Edge>,
    /// Decisions made before this day or instant
    #[arg(long, value_name = "WHEN", value_parser = edge)]
    pub(super) to: Option<Edge>,
    /// Store progress in this file; if it exists, resume from it
    #[arg(long, value_name = "FILE", conflicts_with = "after", requires = "verify")]
    resume: Option<PathBuf>,
    /// Threads that decide side by side [default: one for each processor]
    #[arg(long, value_name = "NUMBER")]
    pub(super) workers: Option<NonZeroUsize>,
    /// Books kept in memory; more resources than that are verified more slowly
    #[arg(long, value_name = "NUMBER", default_value_t = NonZeroUsize::new(BOOKS).unwrap_or(NonZeroUsize::MIN))]
    books: NonZeroUsize,
}

/// Where a span begins or ends: at an instant, or with a day at the site.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edge {
    Day(NaiveDate),
    At(DateTime<Utc>),
}

impl Edge {
    pub(super) fn at(self, zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Day(day) => day_starts_at(day, zone),
            Self::At(at) => at,
        }
    }
}

/// Reads a day or an instant.
pub(super) fn edge(text: &str) -> Result<Edge, String> {
    if let Ok(day) = text.parse() {
        return day_complaint(day).map_or(Ok(Edge::Day(day)), Err);
    }
    let read = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    let allowed = "a day such as 2026-03-01, or an instant such as 2026-03-01T00:00:00Z is allowed";
    let at = read.map_err(|error| format!("{error}; {allowed}"))?;
    instant_complaint(&at).map_or(Ok(Edge::At(at)), Err)
}

/// The content of the resume file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The release that made the decisions again.
    release: String,
    wanted: Wanted,
    report: Report,
}

pub(super) async fn run(globals: &Globals, options: &Options, out: &Out) -> Result<(), CliError> {
    let zone = config_of(globals, None)?.time_zone;
    let (from, to) = (options.from.map(|edge| edge.at(zone)), options.to.map(|edge| edge.at(zone)));
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(CliError::Usage(format!("--to {} must lie after --from {}", instant_text(to), instant_text(from))));
    }
    if !options.verify {
        return match (&options.policy, from, to) {
            (Some(policy), Some(from), Some(to)) => what_if::run(globals, options, (policy, from, to, zone), out).await,
            _ => Err(CliError::Usage(
                "--verify compares each decision with what its inputs give; --policy, --from and --to, with --set or \
                 --rules, live a span again under other rules: one of both is needed"
                    .to_owned(),
            )),
        };
    }
    let (policy, resource) = named(globals, options.policy.as_deref(), options.resource.as_deref()).await?;
    let wanted = Wanted { policy, resource, from, to };
    let log = open(&options_of(globals)?).await?;
    let head = log.head().await.map_err(unread)?;
    let end = options.through.map_or(head, |through| through.min(head));
    let so_far = so_far(options, &wanted)?;
    if so_far.after > end {
        return Err(CliError::Usage(format!(
            "--after {} lies behind the last position to be verified, which is {}",
            so_far.after.plain(),
            end.plain()
        )));
    }
    let bar = out.progress(log.distance(so_far.through, end).await.events().unwrap_or_default(), "deciding again");
    let workers = options.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let effort = Effort { workers, books_max: options.books };
    let failed = |error| CliError::because("decisions cannot be verified", error);
    let mut pass = Pass::begin(Arc::clone(&log), wanted.clone(), (so_far, end), effort).await.map_err(failed)?;
    let begun = Instant::now();
    let (stop, before) = (stopped(), pass.report().clone());
    let (mut pages, mut complete) = (0_u32, false);
    while !complete && !stop.is_cancelled() {
        let seen = pass.report().events;
        complete = !pass.step().await.map_err(failed)?;
        bar.inc(pass.report().events - seen);
        pages += 1;
        if pages.is_multiple_of(PAGES_BETWEEN) || complete {
            keep(options.resume.as_deref(), &wanted, pass.report())?;
        }
    }
    bar.finish_and_clear();
    keep(options.resume.as_deref(), &wanted, pass.report())?;
    let decided = pass.report().total().total() - before.total().total();
    let (took, spent) = (begun.elapsed().as_secs_f64(), pass.spent());
    let report = pass.into_report();
    out.json(&document(&report, complete, (decided, took, spent)));
    show(&report, complete, out);
    if let Some(complaint) = report.complaint() {
        return Err(CliError::Failed(complaint));
    }
    if complete { Ok(()) } else { Err(CliError::Failed("it was told to stop before the end".to_owned())) }
}

/// Cancelled by Ctrl-C: finishes the current page and shows the findings.
fn stopped() -> CancellationToken {
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            signal.cancel();
        }
    });
    stop
}

/// A policy and a resource by id or slug. Only a slug needs more than the log to be known.
pub(super) async fn named(
    globals: &Globals,
    policy: Option<&str>,
    resource: Option<&str>,
) -> Result<(Option<PolicyId>, Option<ResourceId>), CliError> {
    let (mut policy_id, mut resource_id) =
        (policy.and_then(|name| name.parse().ok()), resource.and_then(|name| name.parse().ok()));
    let (policy, resource) = (policy.filter(|_| policy_id.is_none()), resource.filter(|_| resource_id.is_none()));
    if policy.is_some() || resource.is_some() {
        let session = Session::open(globals).await?;
        if let Some(name) = policy {
            policy_id = Some(session.policy(name)?);
        }
        if let Some(name) = resource {
            resource_id = Some(session.resource(name).await?);
        }
    }
    Ok((policy_id, resource_id))
}

/// Where to begin: after a position, or where an earlier run stopped according to its file.
fn so_far(options: &Options, wanted: &Wanted) -> Result<Report, CliError> {
    let after = options.after.unwrap_or(Position::START);
    let fresh = Report { after, through: after, ..Report::default() };
    let Some(path) = options.resume.as_deref().filter(|path| path.exists()) else { return Ok(fresh) };
    let failed = |error: std::io::Error| CliError::because(format!("{} cannot be read", path.display()), error);
    let kept: Kept = serde_json::from_str(&std::fs::read_to_string(path).map_err(failed)?).map_err(|error| {
        CliError::Usage(format!("--resume {}: this file is none that `sluice replay` wrote: {error}", path.display()))
    })?;
    let other = |what: &str| {
        Err(CliError::Usage(format!("--resume {}: {what}; remove the file to begin anew", path.display())))
    };
    if kept.release != env!("CARGO_PKG_VERSION") {
        return other(&format!("sluice {} wrote it, and this is {}", kept.release, env!("CARGO_PKG_VERSION")));
    }
    if kept.wanted != *wanted {
        return other("it is about other decisions than --policy, --resource, --from and --to name now");
    }
    Ok(kept.report)
}

/// Writes the resume file: to a temporary file first, so that an interruption leaves the old one.
fn keep(path: Option<&Path>, wanted: &Wanted, report: &Report) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    let kept = Kept { release: env!("CARGO_PKG_VERSION").to_owned(), wanted: wanted.clone(), report: report.clone() };
    let beside = path.with_extension("new");
    let write = || {
        let mut file = private::file(&beside)?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| CliError::because(format!("{} cannot be written", path.display()), error))
}

pub(super) fn instant_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A difference as a document.
fn difference(one: &Difference) -> Value {
    json!({
        "position": one.position.plain(), "stream": one.stream.as_str(), "version": one.version, "type": one.event_type,
        "field": one.field, "recorded": one.recorded, "recomputed": one.recomputed,
    })
}

fn document(report: &Report, complete: bool, (decided, took, spent): (u64, f64, Spent)) -> Value {
    let total = report.total();
    json!({
        "agrees": report.agrees(),
        "complete": complete,
        "after": report.after.plain(),
        "through": report.through.plain(),
        "events": report.events,
        "decisions": total.total(),
        "total": total,
        "kinds": report.kinds,
        "differences": report.differences.iter().map(difference).collect::<Vec<_>>(),
        "not_recomputed": report.not_recomputed.iter().map(unread_document).collect::<Vec<_>>(),
        "run": {
            "decisions": decided,
            "seconds": took,
            "reading_seconds": spent.reading.as_secs_f64(),
            "decoding_seconds": spent.decoding.as_secs_f64(),
            "deciding_seconds": spent.deciding.as_secs_f64(),
        },
    })
}

fn show(report: &Report, complete: bool, out: &Out) {
    let total = report.total();
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (decisions, events) =
        (count(number(total.total()), "decision", "decisions"), count(number(report.events), "event", "events"));
    out.text(format!(
        "{decisions} among {events}, after position {} up to {}",
        report.after.plain(),
        report.through.plain()
    ));
    let row = |(kind, counts): (&String, &Counts)| {
        let cells = [
            counts.same,
            counts.different,
            counts.without_inputs,
            counts.disposed,
            counts.set_aside,
            counts.not_recomputed,
        ];
        let [same, different, without, disposed, aside, not] = cells.map(|cell| cell.to_string());
        [kind.clone(), same, different, without, disposed, aside, not]
    };
    if !report.kinds.is_empty() {
        let header = ["event", "same", "different", "no inputs", "disposed of", "set aside", "not recomputed"];
        out.table(header, report.kinds.iter().map(row).collect());
    }
    for one in &report.differences {
        out.text(format!(
            "position {}, {} {} of {}: {} is recorded as {} and comes out as {}",
            one.position.plain(),
            one.event_type,
            one.version,
            one.stream,
            one.field,
            one.recorded,
            one.recomputed
        ));
    }
    for problem in &report.not_recomputed {
        out.text(problem.to_string());
    }
    match (report.agrees(), complete) {
        (true, true) if total.same == 0 => out.text("there was nothing to recompute"),
        (true, true) => out.text("every decision that records its inputs comes out as it was recorded"),
        (true, false) => out.text(format!("no difference so far; go on with --after {}", report.through.plain())),
        (false, _) => {}
    }
}
