//! The read models of a log: derived from this log, not ahead of it, undamaged, and of this version.
//!
//! A defect in them is no loss: they are moved aside and rebuilt. An operator must decide only if the log itself may be
//! the wrong one, or is damaged.

use std::time::Duration;

use super::{App, AppError, AppOptions, shared};
use crate::clock::IdSource;
use crate::events::envelope::{Position, chain};
use crate::store::address::Database;
use crate::store::consumer::{made_from, set_made_from, stood};
use crate::store::meta::{EVENT_LOG, Meta, OWN_LOG};
use crate::store::sound;
use crate::store::sql::{ReadDb, SqlError};
use crate::store::sqlite::{DatabaseFiles, inspect_read};
use crate::store::{EventStore, StoreError, is_outage};

/// Read models of this size or less are read page by page when a server starts, bytes: a second or two.
const CHECKED_BYTES_MAX: u64 = 1 << 30;

/// The newest events of a log that is looked at before it replaces what read models say, and runs of the others.
const NEWEST: u64 = 20_000;
const RUNS: u64 = 100;

/// How much longer than a lease lasts it may be seen, and how often to look.
const LEASE_ENDS_WITHIN: Duration = Duration::from_secs(1);
const LEASE_POLL: Duration = Duration::from_millis(100);

/// Why read models are not used as they are.
enum Unfit {
    /// They cannot be used; a new start makes others.
    Remake(String),
    /// The log may be the wrong one.
    Refused(String),
}

/// The identity of a log, which its copies share.
pub(super) async fn identity(meta: &Meta) -> Result<String, StoreError> {
    match meta.get(EVENT_LOG).await? {
        Some(elsewhere) => Ok(elsewhere),
        None => meta.get_or_set(OWN_LOG, &IdSource.fresh().to_string()).await,
    }
}

/// Opens the read models that go with a log, moving aside those that cannot be used.
pub(super) async fn open(options: &AppOptions, log: &dyn EventStore, meta: &Meta) -> Result<ReadDb, AppError> {
    let identity = identity(meta).await?;
    let problem = match fit(options, log, &identity).await? {
        Ok(db) => return Ok(db),
        Err(Unfit::Refused(problem)) => return Err(AppError::ReadModels(problem)),
        Err(Unfit::Remake(problem)) => problem,
    };
    make_way(options, &problem).await?;
    match fit(options, log, &identity).await? {
        Ok(db) => Ok(db),
        Err(Unfit::Refused(problem) | Unfit::Remake(problem)) => Err(AppError::ReadModels(problem)),
    }
}

/// Moves read models aside, and says so.
pub(super) async fn make_way(options: &AppOptions, problem: &str) -> Result<(), AppError> {
    if !options.repairs {
        return Err(AppError::ReadModels(format!(
            "{problem}; the next start of the server makes them again from the log"
        )));
    }
    if let Some(leases) = shared::leases(options)? {
        // Others may well be able to use what this process cannot. One that was killed just now holds its lease a little longer.
        let until = tokio::time::Instant::now() + leases.lasts() + LEASE_ENDS_WITHIN;
        let held = async || leases.all().await.is_ok_and(|all| all.iter().any(|lease| lease.holds));
        let mut others = held().await;
        while others && tokio::time::Instant::now() < until {
            tokio::time::sleep(LEASE_POLL).await;
            others = held().await;
        }
        if others {
            let hint = "stop every process on the database, and start one: it makes them again from the log";
            return Err(AppError::ReadModels(format!("{problem}; {hint}")));
        }
    }
    let place = ReadDb::set_aside_read(&options.database, &options.limits).await?;
    tracing::warn!(%problem, moved_to = %place, "the read models cannot be used; they are made again from the log");
    Ok(())
}

async fn fit(options: &AppOptions, log: &dyn EventStore, identity: &str) -> Result<Result<ReadDb, Unfit>, AppError> {
    if options.serving
        && let Some(damage) = damage(options).await
    {
        return Ok(Err(Unfit::Remake(damage)));
    }
    let db = match ReadDb::open_read(&options.database, &options.limits).await {
        Ok(db) => db,
        Err(error) if error.is_damage() => return Ok(Err(Unfit::Remake(unusable(&error)))),
        Err(error) => return Err(error.into()),
    };
    let unfit = match compare(&db, log, identity).await {
        Ok(None) => return Ok(Ok(db)),
        Ok(Some(unfit)) => unfit,
        Err(AppError::Sql(error)) if error.is_damage() => Unfit::Remake(unusable(&error)),
        Err(error) => return Err(error),
    };
    db.close().await;
    Ok(Err(unfit))
}

/// What there is to say of read models that failed.
pub(super) fn unusable(error: &SqlError) -> String {
    format!("the read models are damaged or of another version ({})", chain(error))
}

/// What reading every page of a file finds.
async fn damage(options: &AppOptions) -> Option<String> {
    let Database::Sqlite(log) = &options.database else { return None };
    let file = DatabaseFiles::of(log).read;
    let bytes = std::fs::metadata(&file).map(|file| file.len()).unwrap_or_default();
    if bytes == 0 || bytes > CHECKED_BYTES_MAX {
        return None;
    }
    // What cannot be inspected at all fails to open too, and is judged then.
    let seen = inspect_read(&file, true, &options.limits).await.ok()?;
    (!seen.damage.is_empty()).then(|| format!("the read models are damaged ({})", seen.damage.join("; ")))
}

/// Compares read models with the log: whether it is the one they were made from, reaches as far, and says the same there.
async fn compare(db: &ReadDb, log: &dyn EventStore, identity: &str) -> Result<Option<Unfit>, AppError> {
    let made_from = made_from(db).await?;
    if let Some(other) = made_from.as_ref().filter(|made_from| *made_from != identity) {
        return Ok(Some(Unfit::Refused(format!(
            "the read models were made from another log ({other}) than this one ({identity}): put the right log in its place; or, if \
             this is the right one, have them made again from it with `sluice projections discard`"
        ))));
    }
    let stood = stood(db).await?;
    // Read after the checkpoints: a server beside this process moves both.
    let head = log.head().await?;
    let beyond = stood.iter().map(|(_, at, _)| *at).max().filter(|at| *at > head);
    let mut seen = std::collections::HashSet::new();
    for (name, at, commitment) in stood.iter().filter(|(_, at, _)| *at > Position::START && *at <= head) {
        let (Some(commitment), true) = (commitment, seen.insert((at, commitment))) else { continue };
        let there = match log.event_at(*at).await {
            Err(error) if is_outage(&error) => return Err(error.into()),
            there => there.ok().flatten(),
        };
        if there.as_ref().is_none_or(|event| event.commitment != *commitment) {
            return Ok(Some(Unfit::Refused(format!(
                "the log does not go with its read models: at position {} there is another event than the one that {name} took in. \
                 It was put back from an older state and then gone on with, or it is damaged. `sluice store verify` says whether it \
                 is whole; then `sluice projections discard` has the read models made again from it",
                at.plain()
            ))));
        }
    }
    if let Some(beyond) = beyond {
        return Ok(Some(older(log, head, beyond).await?));
    }
    if made_from.is_none() {
        set_made_from(db, identity).await?;
    }
    Ok(None)
}

/// The read models have seen events that the log does not hold.
async fn older(log: &dyn EventStore, head: Position, beyond: Position) -> Result<Unfit, AppError> {
    let ends = format!("the log ends at position {}, and the read models have seen {}", head.plain(), beyond.plain());
    let found = sound::sample(log, NEWEST, RUNS).await?;
    if found.is_sound() {
        return Ok(Unfit::Remake(format!(
            "{ends}: it is an older one, or has lost its end, and what was recorded after it is gone"
        )));
    }
    Ok(Unfit::Refused(format!(
        "{ends}; and it is not sound: {}. Put a whole log in its place; or, if there is none, set aside what cannot be relied on \
         (sluice store quarantine) and have the read models made again with `sluice projections discard`",
        found.problems().join("; ")
    )))
}

impl App {
    /// Moves the read models of a database aside, so that the next start makes them again from the log. No server may run on it.
    ///
    /// # Errors
    /// They cannot be moved.
    pub async fn discard_read_models(options: &AppOptions) -> Result<String, AppError> {
        Ok(ReadDb::set_aside_read(&options.database, &options.limits).await?)
    }
}
