//! `sluice store copy|archive|segments|verify|quarantine`: copies the log to another database, archives old months as
//! compressed segments, and checks whether the log is sound.

use clap::Subcommand;
use serde_json::json;

use super::output::{Out, count, time};
use super::session::{CliError, Session};
use super::store_soundness::Quarantine;
use super::{Globals, store_copy, store_soundness};
use crate::domain::period::Month;
use crate::store::archive::{Archive, Planned, Segment, hex};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Copy a database to a new one, of any engine, and compare the two; resumes an interrupted copy
    Copy(Box<store_copy::Options>),
    /// Move the events of old months out of the log's table into compressed segments, which are still read
    Archive {
        /// The first month that stays, as in 2025-01
        #[arg(long, value_name = "MONTH")]
        before: Month,
        /// Say what would be archived; change nothing
        #[arg(long, alias = "dry_run")]
        dry_run: bool,
        /// A consumer that is no longer run and may stay behind
        #[arg(long, value_name = "CONSUMER")]
        ignore: Vec<String>,
    },
    /// List the segments
    Segments,
    /// Check every event and every segment: readable, matching its commitment, none missing
    Verify,
    /// Go on without an event that cannot be relied on; this is recorded
    Quarantine(Quarantine),
}

pub(super) async fn start(globals: &Globals, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::Copy(options) => store_copy::run(globals, *options, out).await,
        Command::Verify => store_soundness::verify(globals, out).await,
        Command::Quarantine(asked) => store_soundness::quarantine(globals, &asked, out).await,
        command => run(&Session::open(globals).await?, command, out).await,
    }
}

async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    let archive = open(session).await?;
    match command {
        Command::Archive { before, dry_run, ignore } => {
            archive_months(session, &archive, before, dry_run, &ignore, out).await?;
        }
        Command::Segments => {
            let segments =
                archive.segments().await.map_err(|error| CliError::because("segments cannot be read", error))?;
            let place = archive.place();
            let folder = place.folder().map(|folder| folder.display().to_string());
            out.json(&json!({"folder": folder, "segments": segments.iter().map(document).collect::<Vec<_>>()}));
            out.text(format!("{} in {place}", count(segments.len(), "segment", "segments")));
            show(&segments, out);
        }
        Command::Copy(_) | Command::Verify | Command::Quarantine(_) => {
            return Err(CliError::Usage("this needs no session".to_owned()));
        }
    }
    archive.close().await;
    Ok(())
}

async fn open(session: &Session) -> Result<Archive, CliError> {
    let options = &session.app.options;
    if options.event_store.is_some() {
        return Err(CliError::Usage(
            "there is no archive of a log in an event store: EventStoreDB looks after its own files".to_owned(),
        ));
    }
    let archive = Archive::open(&options.database, options.limits.clone()).await;
    archive.map_err(|error| CliError::because("the archive cannot be opened", error))
}

fn document(segment: &Segment) -> serde_json::Value {
    let facts = &segment.facts;
    json!({
        "segment": segment.number,
        "month": segment.month,
        "file": segment.file,
        "first_position": facts.first,
        "last_position": facts.last,
        "events": facts.events,
        "bytes": facts.bytes,
        "bytes_uncompressed": facts.raw_bytes,
        "rows_sha256": hex(&facts.rows_sha256),
        "file_sha256": hex(&facts.file_sha256),
        "verified_at": segment.recorded_at,
    })
}

fn show(segments: &[Segment], out: &Out) {
    let row = |segment: &Segment| {
        let facts = &segment.facts;
        [
            segment.month.clone(),
            facts.events.to_string(),
            format!("{} to {}", facts.first, facts.last),
            facts.bytes.to_string(),
            time(segment.recorded_at),
            segment.file.clone(),
        ]
    };
    out.table(["month", "events", "positions", "bytes", "verified at", "file"], segments.iter().map(row).collect());
}

async fn archive_months(
    session: &Session,
    archive: &Archive,
    before: Month,
    dry_run: bool,
    ignore: &[String],
    out: &Out,
) -> Result<(), CliError> {
    let zone = session.app.options.schedule.zone();
    let this_month = Month::of_instant(session.now(), zone);
    if before > this_month {
        return Err(CliError::Usage(format!(
            "--before {before} lies ahead: {this_month} or an earlier month is allowed"
        )));
    }
    let month_of = move |at| {
        let month = Month::of_instant(at, zone);
        (month.to_string(), month.next().starts_at(zone))
    };
    session.settle().await?;
    let failed = |error| CliError::because("the log cannot be archived", error);
    let planned = archive.plan(before.starts_at(zone), &month_of).await.map_err(failed)?;
    nobody_needs(session, &planned, ignore).await?;
    if dry_run {
        let pieces: Vec<_> = planned
            .iter()
            .map(|p| json!({"month": p.month, "first_position": p.first, "last_position": p.last, "events": p.events}))
            .collect();
        let events: u64 = planned.iter().map(|piece| piece.events).sum();
        out.json(&json!({"dry_run": true, "before": before.to_string(), "events": events, "segments": pieces}));
        out.text(format!("would archive {} from before {before}", events_of(events)));
        let rows =
            planned.iter().map(|p| [p.month.clone(), p.events.to_string(), format!("{} to {}", p.first, p.last)]);
        out.table(["month", "events", "positions"], rows.collect());
        return Ok(());
    }
    let bar = out.progress(planned.iter().map(|piece| piece.events).sum(), "archiving");
    let now: crate::store::Now = {
        let clock = std::sync::Arc::clone(&session.app.clock);
        std::sync::Arc::new(move || clock.now())
    };
    let done = archive.run(&planned, &now, |segment| bar.inc(segment.facts.events)).await;
    let done = done.map_err(|error| CliError::because("the log was not archived to the end; run it again", error))?;
    bar.finish_and_clear();
    let events: u64 = done.segments.iter().map(|segment| segment.facts.events).sum();
    let segments: Vec<_> = done.segments.iter().map(document).collect();
    out.json(&json!({
        "dry_run": false, "before": before.to_string(), "events": events, "rows_removed": done.removed, "segments": segments,
    }));
    out.text(format!(
        "archived {} from before {before}; {} rows left the table of events",
        events_of(events),
        done.removed
    ));
    show(&done.segments, out);
    Ok(())
}

fn events_of(events: u64) -> String {
    count(usize::try_from(events).unwrap_or(usize::MAX), "event", "events")
}

/// No consumer has yet to see what would be archived. It could, more slowly; but one that is so far behind is in trouble.
async fn nobody_needs(session: &Session, planned: &[Planned], ignore: &[String]) -> Result<(), CliError> {
    let (Some(last), Some(numbers)) = (planned.last().map(|piece| piece.last), session.app.store.numbers()) else {
        return Ok(());
    };
    let checkpoints = session.app.consumers.checkpoints().await;
    let checkpoints = checkpoints.map_err(|error| CliError::because("the checkpoints cannot be read", error))?;
    let behind = checkpoints.into_iter().filter(|(name, at)| numbers.of(*at) < last && !ignore.contains(name));
    let behind: Vec<String> = behind.map(|(name, at)| format!("{name} (at {})", at.plain())).collect();
    if behind.is_empty() {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "nothing was archived: what lies up to position {last} is still ahead of {}; let them catch up (sluice projections \
         status), or name who is no longer run with --ignore",
        behind.join(", ")
    )))
}
