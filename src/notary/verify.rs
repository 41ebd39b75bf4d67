//! Examines the log of a store: reads it, hashes it on every core, and holds it against tree and checkpoints.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tlog_tiles::Hash;

use super::examination::{Claim, Examination, Met, Verdict};
use super::finding::{EventPlace, Kind};
use super::leaf::Leaves;
use super::service::{NotaryError, said};
use super::tables::Tables;
use super::tree::TILE;
use super::trust::Trust;
use crate::events::envelope::{Position, RecordedEvent};
use crate::events::site::SiteEvent;
use crate::store::{EventStore, StoreError, is_outage};

/// Events read at a time.
const PAGE: usize = 8_000;

/// Events that cannot be read after which the rest of a page is given up.
const FAILURES_MAX: usize = 100;

/// An event as it is met: its leaf, and whether its payload is the one that it committed to.
pub fn met(event: &RecordedEvent, leaves: &mut Leaves) -> Met {
    let place = EventPlace { position: event.position, stream: event.stream.clone(), version: event.version };
    let fault = if let Some(damage) = event.damage() {
        Some((Kind::Unreadable, format!("it cannot be read: {damage}")))
    } else if event.commitment_holds() {
        None
    } else {
        Some((Kind::PayloadChanged, "its payload is not the one that it committed to".to_owned()))
    };
    Met { place, leaf: leaves.of(event), fault }
}

/// Hashes a page on several cores.
async fn hashed(page: Vec<RecordedEvent>, workers: NonZeroUsize) -> Result<Vec<Met>, StoreError> {
    let part = page.len().div_ceil(workers.get()).max(1);
    let mut parts = Vec::new();
    let mut rest = page.into_iter().peekable();
    while rest.peek().is_some() {
        let events: Vec<RecordedEvent> = rest.by_ref().take(part).collect();
        parts.push(tokio::task::spawn_blocking(move || {
            let mut leaves = Leaves::default();
            events.iter().map(|event| met(event, &mut leaves)).collect::<Vec<_>>()
        }));
    }
    let mut all = Vec::new();
    for part in parts {
        all.extend(part.await.map_err(|gone| StoreError::Unavailable(Arc::new(gone)))?);
    }
    Ok(all)
}

/// What a store knows of checkpoints: those kept beside the log, and those that the log records.
///
/// # Errors
/// Something does not answer.
pub async fn known(log: &dyn EventStore, tables: &Tables) -> Result<(Vec<Claim>, Vec<String>), NotaryError> {
    let mut notes: Vec<String> = tables.checkpoints().await?.into_iter().map(|kept| kept.note).collect();
    let mut rotations = Vec::new();
    for event in said(log).await? {
        match event {
            // The one beside the log may have further signatures.
            SiteEvent::CheckpointSigned(signed) => {
                let text = |note: &str| note.split_once("\n\n").map(|(text, _)| text.to_owned());
                if !notes.iter().any(|known| text(known) == text(&signed.note)) {
                    notes.push(signed.note);
                }
            }
            SiteEvent::NotaryKeyRotated(rotated) => rotations.push(rotated.note),
            _ => {}
        }
    }
    Ok((notes.into_iter().map(|note| Claim { note, shown: None }).collect(), rotations))
}

/// Verifies the log of a store.
///
/// # Errors
/// Something does not answer.
pub async fn verify(
    log: &dyn EventStore,
    tables: &Tables,
    given: Trust,
    shown: Vec<Claim>,
    mut progress: impl FnMut(u64),
) -> Result<Verdict, NotaryError> {
    let (mut claims, rotations) = known(log, tables).await?;
    claims.extend(shown);
    let mut examination = Examination::begin(claims, &rotations, given);
    let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    // Whoever signs meanwhile adds to the tree: what it holds now, the log holds too.
    let mut kept = KeptLeaves { tables, tile: 0, left: tables.kept().await?.size };
    let end = log.head().await?;
    let (mut at, mut next) = (Position::START, read(log, Position::START, end).await?);
    loop {
        let page = std::mem::take(&mut next);
        let Some(last) = page.last().map(|event| event.position) else { break };
        holes(log, at, &page, &mut examination);
        at = last;
        let (met, ahead) = tokio::join!(hashed(page, workers), read(log, at, end));
        let met = met?;
        next = ahead?;
        let count = met.len() as u64;
        examination.met(met);
        while examination.wants_kept() > 0 {
            examination.kept(kept.next().await?);
        }
        progress(count);
    }
    loop {
        let leaves = kept.next().await?;
        let done = leaves.is_empty();
        examination.kept(leaves);
        if done {
            return Ok(examination.finish());
        }
    }
}

/// The leaves of the kept tree, one after the other.
struct KeptLeaves<'t> {
    tables: &'t Tables,
    tile: u64,
    left: u64,
}

impl KeptLeaves<'_> {
    /// Some of them; none at the end.
    async fn next(&mut self) -> Result<Vec<Hash>, NotaryError> {
        if self.left == 0 {
            return Ok(Vec::new());
        }
        let mut leaves = self.tables.leaves(self.tile).await?;
        leaves.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.tile += leaves.len().div_ceil(TILE) as u64;
        self.left = if leaves.is_empty() { 0 } else { self.left - leaves.len() as u64 };
        Ok(leaves)
    }
}

/// Tells of numbers at which no event stands.
fn holes(log: &dyn EventStore, mut before: Position, page: &[RecordedEvent], examination: &mut Examination) {
    let Some(numbers) = log.numbers() else { return };
    for event in page {
        for number in numbers.of(before) + 1..numbers.of(event.position) {
            examination.hole(number - 1, numbers.at(number));
        }
        before = event.position;
    }
}

/// A page; one that cannot be read is read event by event, where the log counts.
pub(super) async fn read(
    log: &dyn EventStore,
    after: Position,
    end: Position,
) -> Result<Vec<RecordedEvent>, StoreError> {
    if after >= end {
        return Ok(Vec::new());
    }
    match log.read_up_to(after, end, PAGE).await {
        Err(error) if !is_outage(&error) => one_by_one(log, after, end, error).await,
        read => read,
    }
}

async fn one_by_one(
    log: &dyn EventStore,
    after: Position,
    end: Position,
    error: StoreError,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let Some(numbers) = log.numbers() else { return Err(error) };
    let (mut page, mut failures) = (Vec::new(), 0);
    let first = numbers.of(after) + 1;
    for number in first..=numbers.of(end).min(first + PAGE as u64 - 1) {
        match log.event_at(numbers.at(number)).await {
            Ok(Some(event)) => page.push(event),
            Ok(None) => {}
            Err(error) if is_outage(&error) => return Err(error),
            Err(problem) => {
                failures += 1;
                if failures > FAILURES_MAX {
                    return Err(error);
                }
                page.push(unreadable(numbers.at(number), &problem));
            }
        }
    }
    if page.is_empty() { Err(error) } else { Ok(page) }
}

/// What stands for an event of which nothing can be read.
fn unreadable(position: Position, problem: &StoreError) -> RecordedEvent {
    use crate::events::envelope::{Actor, Metadata, StreamName, chain, damaged};
    RecordedEvent {
        position,
        stream: StreamName::new("unreadable").expect("a word is a stream name"),
        version: 0,
        event_id: uuid::Uuid::nil(),
        event_type: "unreadable".into(),
        occurred_at: chrono::DateTime::UNIX_EPOCH,
        recorded_at: chrono::DateTime::UNIX_EPOCH,
        metadata: Metadata {
            actor: Actor::SYSTEM,
            correlation_id: uuid::Uuid::nil(),
            causation_id: None,
            reason: None,
        },
        payload: damaged(&chain(problem)),
        salt: [0; 16],
        commitment: [0; 32],
    }
}
