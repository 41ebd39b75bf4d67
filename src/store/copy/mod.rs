//! Copies a database to another one: the log event by event, and everything beside it. Either side may have its events
//! in an event store. Read models are not copied but rebuilt.
//!
//! Events are copied in batches, so that an interrupted copy can continue. At the end both sides are read completely
//! and compared by count and hash. SQL engines keep the positions of events; to and from an event store positions
//! change, and the copy is a new log with its own identity.

mod intake;
mod numbered;
mod place;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

pub use self::intake::Intake;
use self::numbered::{Next, Numbered};
pub use self::place::Place;
use self::place::{Log, Opened, Writer};
use self::tables::Moved;
use super::archive::line;
use super::numbers::NUMBERS;
use super::room::Measure;
use super::sound::SetAside;
use super::sql::{ReadDb, SqlError};
use super::{Distance, EventStore, StoreError};
use crate::clock::IdSource;
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;

/// Events that are written together.
const BATCH: usize = 2_000;

/// Why a database was not copied completely. Copied events stay; the next attempt continues after them.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the databases.
    #[error("the {0} cannot be read or written")]
    Store(&'static str, #[source] StoreError),
    /// Its tables.
    #[error("the tables beside the log cannot be copied")]
    Sql(#[from] SqlError),
    /// There is nothing to copy.
    #[error("there is no database at {}", .0.display())]
    NoSource(PathBuf),
    /// The events are in an event store, and none was named.
    #[error(
        "the events of the {0} are in an event store (log {1}): name it with {option}",
        option = if *.0 == "source" { "--from-event-store" } else { "--to-event-store" }
    )]
    Elsewhere(&'static str, String),
    /// An event store was named, and the events are not there.
    #[error("the source holds its events itself, and not in {0}: leave out --from-event-store")]
    NotElsewhere(String),
    /// The database and the event store do not go together.
    #[error(
        "the database goes with the log {kept}, and {address} holds {found}: name the event store that belongs to it",
        found = .found.as_ref().map_or_else(|| "no log".to_owned(), |found| format!("the log {found}"))
    )]
    Another {
        /// The log that the database goes with.
        kept: String,
        /// The log that was found.
        found: Option<String>,
        /// Where.
        address: String,
    },
    /// The database that is to stand beside an event store has events of its own.
    #[error("the database to copy to holds a log of its own: with --to-event-store, use a new database")]
    OwnEvents,
    /// The other database holds something else.
    #[error("the database to copy to holds events that are not the first {0} of the source: use a new one")]
    Foreign(u64),
    /// A log that is to take events has some.
    #[error("the log holds events already: use a new database")]
    NotEmpty,
    /// Somebody wrote meanwhile.
    #[error("somebody wrote to the database to copy to; nothing may use it before the copy is done")]
    Disturbed,
    /// What arrived is not what was sent.
    #[error("the copy is not the same as the source: {0}")]
    Different(String),
    /// An event that cannot be written down.
    #[error("the event at position {} cannot be copied: {problem}", .position.plain())]
    Unreadable {
        /// Where it stands in the source.
        position: Position,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// What was copied, and found to be the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Events of the log.
    pub events: u64,
    /// How many of them this call copied; the others were there.
    pub copied: u64,
    /// SHA-256 over all events, each as a line of JSON with its number in the place of its position.
    pub sha256: [u8; 32],
    /// Rows beside the log.
    pub rows: u64,
    /// Whether events stand at other positions than in the source.
    pub moved: bool,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStep {
    /// Events copied, of so many.
    Copied(u64, Distance),
    /// Events compared, of so many.
    Compared(u64, Distance),
}

fn of_source(error: StoreError) -> CopyError {
    CopyError::Store("source", error)
}

fn of_target(error: StoreError) -> CopyError {
    CopyError::Store("database to copy to", error)
}

/// Copies a database to a new one, or resumes. Nobody may write to either in the meantime.
///
/// # Errors
/// A database cannot be read or written, the target holds something else, or the two are not the same in the end.
pub async fn copy(
    from: &Place,
    to: &Place,
    limits: &Limits,
    mut progress: impl FnMut(CopyStep),
) -> Result<Copied, CopyError> {
    let source = Box::pin(place::source(from, limits)).await?;
    let target = Box::pin(place::target(to, IdSource.fresh(), limits)).await?;
    let copied = Box::pin(events(&source.log, to, &target.log, limits, &mut progress)).await?;
    // What this process knows of the copy from having written it is not taken for what is there.
    let Opened { log, beside: there, elsewhere } = target;
    drop(log);
    let target = Box::pin(place::target(to, IdSource.fresh(), limits)).await?;
    let moved = source.log.store().numbers().is_none() || target.log.store().numbers().is_none();
    let wanted = if moved { tables::positions(&source.beside).await? } else { Vec::new() };
    let same = Box::pin(compare(source.log.store(), target.log.store(), wanted, limits, &mut progress)).await?;
    let moved_to = moved.then_some(Moved { elsewhere, places: same.places });
    let rows = tables::copy(&source.beside, &there, moved_to.as_ref()).await?;
    if !tables::are_same(&source.beside, &there, moved_to.as_ref()).await? {
        return Err(CopyError::Different("the tables beside the log".to_owned()));
    }
    if moved {
        // Whatever stands there was made from another log.
        ReadDb::set_aside_read(&to.database, limits).await?;
    }
    for db in [there, target.beside, source.beside] {
        db.close().await;
    }
    Ok(Copied { events: same.events, copied, sha256: same.sha256, rows, moved })
}

/// Puts the source after the events that the target has, which must be its first ones.
async fn go_on<'l>(source: &'l Log, target: &Log, batch: usize) -> Result<Numbered<'l>, CopyError> {
    let (ours, theirs) = (source.store(), target.store());
    if ours.numbers().is_some() && theirs.numbers().is_some() {
        let number = NUMBERS.of(theirs.head().await.map_err(of_target)?);
        if let Some(before) = number.checked_sub(1) {
            let mut first = Numbered::new(ours, 1).after(before);
            let mut second = Numbered::new(theirs, 1).after(before);
            let first = first.next().await.map_err(of_source)?.map(|next| next.event);
            let second = second.next().await.map_err(of_target)?.map(|next| next.event);
            if first.is_none() || first != second {
                return Err(CopyError::Foreign(number));
            }
        }
        return Ok(Numbered::new(ours, batch).after(number));
    }
    let (mut first, mut second) = (Numbered::new(ours, batch), Numbered::new(theirs, batch));
    while let Some(there) = second.next().await.map_err(of_target)? {
        let here = first.next().await.map_err(of_source)?;
        if here.is_none_or(|here| here.event != there.event) {
            return Err(CopyError::Foreign(second.number()));
        }
    }
    Ok(first)
}

async fn events(
    source: &Log,
    to: &Place,
    target: &Log,
    limits: &Limits,
    progress: &mut impl FnMut(CopyStep),
) -> Result<u64, CopyError> {
    let batch = BATCH.min(limits.read_events_max);
    let log = source.store();
    let total = log.distance(Position::START, log.head().await.map_err(of_source)?).await;
    let set_aside = SetAside::of(log).await.map_err(of_source)?;
    let mut source = go_on(source, target, batch).await?;
    let mut writer = Writer::open(&to.database, target, limits).await.map_err(of_target)?;
    let begun = source.number();
    loop {
        let (number, mut some) = (source.number(), Vec::with_capacity(batch));
        let mut measure = Measure::new(limits.read_bytes_max);
        while some.len() < batch
            && let Some(next) = source.next().await.map_err(of_source)?
        {
            some.push(fit(next, &set_aside)?);
            if some.last().is_some_and(|event| measure.is_full_with(event.payload.len())) {
                break;
            }
        }
        if some.is_empty() {
            return Ok(number - begun);
        }
        if !writer.put(number, some).await.map_err(of_target)? {
            return Err(CopyError::Disturbed);
        }
        progress(CopyStep::Copied(source.number(), total));
    }
}

/// The event, if it can be written down and is the one that was committed to, or was set aside.
fn fit(next: Next, set_aside: &SetAside) -> Result<RecordedEvent, CopyError> {
    let Next { place, event } = next;
    let problem = match event.damage() {
        Some(damage) => format!("{damage}; restore a sound backup first"),
        None if event.commitment_holds() || set_aside.is_set_aside(&event) => return Ok(event),
        None => "its payload is not the one that was committed to; restore a sound backup first, or set it aside with \
                 `sluice store quarantine`"
            .to_owned(),
    };
    Err(CopyError::Unreadable { position: place, problem })
}

/// What two logs have in common.
struct Same {
    events: u64,
    sha256: [u8; 32],
    /// Where in the second log somebody stands who stands here in the first.
    places: BTreeMap<Position, Position>,
}

/// Reads both logs from beginning to end, side by side.
async fn compare(
    source: &dyn EventStore,
    target: &dyn EventStore,
    mut wanted: Vec<Position>,
    limits: &Limits,
    progress: &mut impl FnMut(CopyStep),
) -> Result<Same, CopyError> {
    let batch = BATCH.min(limits.read_events_max);
    let total = source.distance(Position::START, source.head().await.map_err(of_source)?).await;
    let (mut first, mut second) = (Numbered::new(source, batch), Numbered::new(target, batch));
    let mut hashes = [Sha256::new(), Sha256::new()];
    wanted.sort_unstable();
    let (mut wanted, mut places) = (wanted.into_iter().peekable(), BTreeMap::new());
    let mut stands = Position::START;
    let mut line = Vec::new();
    loop {
        let here = first.next().await.map_err(of_source)?;
        let there = second.next().await.map_err(of_target)?;
        let (Some(here), Some(there)) = (&here, &there) else {
            if here.is_some() || there.is_some() {
                let (longer, shorter) = if here.is_some() { ("source", "copy") } else { ("copy", "source") };
                let number = first.number().max(second.number());
                return Err(CopyError::Different(format!(
                    "the {longer} has an event {number}, and the {shorter} has not"
                )));
            }
            break;
        };
        while let Some(at) = wanted.next_if(|at| *at < here.place) {
            places.insert(at, stands);
        }
        stands = there.place;
        for (next, hash) in [here, there].into_iter().zip(&mut hashes) {
            line.clear();
            let unreadable = |problem| CopyError::Unreadable { position: next.place, problem };
            line::write(&next.event, &mut line).map_err(unreadable)?;
            hash.update(&line);
        }
        if first.number().is_multiple_of(batch as u64) {
            progress(CopyStep::Compared(first.number(), total));
        }
    }
    progress(CopyStep::Compared(first.number(), total));
    places.extend(wanted.map(|at| (at, stands)));
    let [ours, theirs] = hashes.map(|hash| <[u8; 32]>::from(hash.finalize()));
    if ours != theirs {
        let (ours, theirs) = (line::hex(&ours), line::hex(&theirs));
        return Err(CopyError::Different(format!("the hash of its events is {theirs}, not {ours}")));
    }
    Ok(Same { events: first.number(), sha256: ours, places })
}
