//! Signs how the log stands: brings the tree up to its end, holds it against the newest checkpoint, signs, records.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tlog_tiles::{Hash, prove_record, prove_tree, tree_hash};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::checkpoint::{NoteProblem, SignedCheckpoint};
use super::key::{Key, KeyError, PublicKey};
use super::leaf::{Leaves, hex};
use super::options::{KeySource, NotaryOptions};
use super::pack::Manifest;
use super::sink::Sink;
use super::tables::{Kept, KeptCheckpoint, Tables};
use super::tree::{Asked, Edge, TILE, Tile};
use super::trust::{Rotation, Trust};
use crate::clock::{Clock, IdSource};
use crate::commands::execute::CommandMeta;
use crate::events::checkpoint::{CheckpointReason, CheckpointSigned, LogExported, NOTARY_STREAM, NotaryKeyRotated};
use crate::events::envelope::{NewEvent, Position, RecordedEvent, StreamName};
use crate::events::site::SiteEvent;
use crate::store::sql::SqlError;
use crate::store::{EventStore, ExpectedVersion, StoreError};

/// Events read at a time.
const PAGE: usize = 8_000;

/// Events looked at to see whether anything happened but the notary's own.
const LOOK: usize = 64;

/// How often an addition to the tree is tried anew that somebody else was faster with.
const ATTEMPTS: u32 = 10;

/// Why nothing was signed, or nothing can be proved.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// No key.
    #[error("there is no key to sign with: `sluice audit keygen` makes one, and notary.key_file names it")]
    NoKey,
    /// The key.
    #[error("the key cannot be used")]
    Key(#[from] KeyError),
    /// The log does not answer.
    #[error("the log cannot be read")]
    Store(#[from] StoreError),
    /// The tables beside it do not.
    #[error("the tables of the notary cannot be used")]
    Tables(#[from] SqlError),
    /// The newest checkpoint is not what was signed.
    #[error("the newest checkpoint cannot be read")]
    Note(#[from] NoteProblem),
    /// The log is another than was signed.
    #[error(
        "nothing is signed: the first {0} events are not those of the newest checkpoint; `sluice audit verify` says more"
    )]
    Differs(u64),
    /// The log is shorter than was signed.
    #[error(
        "nothing is signed: the log holds {events} events, and the newest checkpoint is of {size}; `sluice audit verify` says more"
    )]
    Shorter {
        /// Events there are.
        events: u64,
        /// Events there were.
        size: u64,
    },
    /// Another key signed the newest checkpoint.
    #[error(
        "nothing is signed: another key signed the newest checkpoint; `sluice audit rotate` hands over from it to this one"
    )]
    OtherKey,
    /// Others add to the tree all the time.
    #[error("others added to the tree meanwhile, each time; try again")]
    Busy,
    /// The tree has no such leaf, or no checkpoint of such a size.
    #[error("{0}")]
    NotThere(String),
}

/// What was signed.
#[derive(Debug, Clone)]
pub struct Made {
    /// The event that recorded it.
    pub id: Uuid,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// What went wrong with handing it on, by sink.
    pub failed: Vec<String>,
}

/// Signs how a log stands.
pub struct Notary {
    /// Where events are recorded.
    store: Arc<dyn EventStore>,
    /// The log as it is stored.
    log: Arc<dyn EventStore>,
    tables: Tables,
    clock: Arc<dyn Clock>,
    key: KeySource,
    sinks: Vec<Arc<dyn Sink>>,
    one_at_a_time: Mutex<()>,
}

impl Notary {
    /// A notary of `log`, which is given as it is stored; what it signs is recorded in `store`.
    pub fn new(
        (store, log): (Arc<dyn EventStore>, Arc<dyn EventStore>),
        tables: Tables,
        clock: Arc<dyn Clock>,
        options: &NotaryOptions,
    ) -> Self {
        let (key, sinks) = (options.key.clone(), options.sinks());
        Self { store, log, tables, clock, key, sinks, one_at_a_time: Mutex::default() }
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The public half of the key, if there is one.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn public_key(&self) -> Result<Option<PublicKey>, KeyError> {
        Ok(self.key.key()?.map(|key| key.public().clone()))
    }

    /// The log as it is stored.
    pub fn log(&self) -> &Arc<dyn EventStore> {
        &self.log
    }

    /// The present instant.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Records that a pack leaves.
    pub(super) async fn record_export(
        &self,
        manifest: &Manifest,
        hash: String,
        meta: &CommandMeta,
    ) -> Result<(), NotaryError> {
        let (what, events, size) = (manifest.what.clone(), manifest.events, manifest.size);
        let said = SiteEvent::LogExported(LogExported { what, events, size, manifest: hash });
        Ok(self.record(&said, IdSource.fresh(), meta).await?)
    }

    /// Whether there is a key to sign with.
    pub fn signs(&self) -> bool {
        self.key.is_some()
    }

    /// Signs how the log stands. None: nothing has happened since the newest checkpoint, and it was only time.
    ///
    /// # Errors
    /// There is no key, the log is another than was signed before, or something does not answer.
    pub async fn checkpoint(&self, why: CheckpointReason, meta: &CommandMeta) -> Result<Option<Made>, NotaryError> {
        let key = &self.key.key()?.ok_or(NotaryError::NoKey)?;
        let _one = self.one_at_a_time.lock().await;
        let newest = self.newest().await?;
        if let Some(newest) = &newest {
            self.may_follow(newest, key).await?;
            if why == CheckpointReason::Schedule && self.is_quiet(newest).await? {
                return Ok(None);
            }
        }
        self.sign(key, newest.as_ref(), why, meta).await.map(Some)
    }

    /// Hands over to another key: a statement that both sign, and the first checkpoint of the new one.
    ///
    /// # Errors
    /// As for a checkpoint.
    pub async fn rotate(&self, to: &Key, meta: &CommandMeta) -> Result<(Rotation, Made), NotaryError> {
        let from = &self.key.key()?.ok_or(NotaryError::NoKey)?;
        let _one = self.one_at_a_time.lock().await;
        let newest = self.newest().await?;
        if let Some(newest) = &newest {
            self.may_follow(newest, from).await?;
        }
        let edge = self.up_to_date(newest.as_ref()).await?;
        let rotation = Rotation::sign(from, to, edge.size(), edge.root())?;
        let said = SiteEvent::NotaryKeyRotated(NotaryKeyRotated {
            from: rotation.from.as_str().to_owned(),
            to: rotation.to.as_str().to_owned(),
            note: rotation.note.to_string(),
        });
        self.record(&said, IdSource.fresh(), meta).await?;
        let made = self.sign(to, newest.as_ref(), CheckpointReason::KeyRotation, meta).await?;
        Ok((rotation, made))
    }

    async fn sign(
        &self,
        key: &Key,
        newest: Option<&SignedCheckpoint>,
        why: CheckpointReason,
        meta: &CommandMeta,
    ) -> Result<Made, NotaryError> {
        let edge = self.up_to_date(newest).await?;
        let checkpoint = SignedCheckpoint::sign(edge.size(), edge.root(), key)?;
        let note = checkpoint.note.to_string();
        let said = SiteEvent::CheckpointSigned(CheckpointSigned {
            size: checkpoint.size,
            root: hex(&checkpoint.root),
            reason: why,
            note: note.clone(),
        });
        let id = IdSource.fresh();
        self.record(&said, id, meta).await?;
        let reason = why.as_str().to_owned();
        let kept = KeptCheckpoint { id, size: checkpoint.size, made_at: self.clock.now(), reason, note };
        self.tables.keep(&kept).await?;
        let mut failed = Vec::new();
        for sink in &self.sinks {
            if let Err(problem) = sink.take(&checkpoint, &kept).await {
                let sink = sink.name();
                tracing::error!(sink, problem, size = checkpoint.size, "a checkpoint was signed and not handed on");
                failed.push(format!("{sink}: {problem}"));
            }
        }
        Ok(Made { id, checkpoint, failed })
    }

    async fn record(&self, said: &SiteEvent, id: Uuid, meta: &CommandMeta) -> Result<(), StoreError> {
        let event = NewEvent {
            event_id: id,
            event_type: said.event_type(),
            occurred_at: self.clock.now(),
            metadata: meta.metadata(),
            payload: said.to_append()?,
        };
        self.store.append(&notary_stream(), ExpectedVersion::Any, vec![event]).await?;
        Ok(())
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// The tables do not answer, or hold no note.
    pub async fn newest(&self) -> Result<Option<SignedCheckpoint>, NotaryError> {
        let kept = self.tables.newest().await?;
        Ok(kept.map(|kept| SignedCheckpoint::read(&kept.note)).transpose()?)
    }

    /// Whether a key may go on after a checkpoint: its own, or one that was handed over to it.
    async fn may_follow(&self, newest: &SignedCheckpoint, key: &Key) -> Result<(), NotaryError> {
        if newest.note.is_signed_by(key.public()) {
            return Ok(());
        }
        let mut trust = Trust::of(vec![key.public().clone()]);
        let rotations: Vec<Rotation> =
            rotations(&*self.log).await?.iter().filter_map(|note| Rotation::read(note).ok()).collect();
        trust.follow(&rotations);
        let handed_over = rotations.iter().any(|rotation| rotation.from == *key.public());
        if !handed_over && trust.judge(newest, None).is_none() { Ok(()) } else { Err(NotaryError::OtherKey) }
    }

    /// Whether nothing but the notary's own events came after a checkpoint.
    async fn is_quiet(&self, newest: &SignedCheckpoint) -> Result<bool, NotaryError> {
        let kept = self.tables.kept().await?;
        if kept.size != newest.size {
            return Ok(false);
        }
        let after = self.log.read_all(kept.position, LOOK).await?;
        Ok(after.len() < LOOK && after.iter().all(|event| event.stream.as_str() == NOTARY_STREAM))
    }

    /// The edge of the tree over the whole log, which is held against the newest checkpoint.
    async fn up_to_date(&self, newest: Option<&SignedCheckpoint>) -> Result<Edge, NotaryError> {
        let edge = self.extend().await?;
        let Some(newest) = newest else { return Ok(edge) };
        if edge.size() < newest.size {
            return Err(NotaryError::Shorter { events: edge.size(), size: newest.size });
        }
        let root = self.root(newest.size).await?;
        if root == newest.root { Ok(edge) } else { Err(NotaryError::Differs(newest.size)) }
    }

    /// Adds to the tree what came to the log.
    ///
    /// # Errors
    /// Something does not answer.
    pub async fn extend(&self) -> Result<Edge, NotaryError> {
        let mut attempts = 0;
        let end = self.log.head().await?;
        loop {
            let mut kept = self.tables.kept().await?;
            let Some(mut edge) = self.tables.edge(kept.size).await? else {
                // Somebody took tiles away: they are made again.
                self.tables.forget_tree().await?;
                attempts += 1;
                if attempts > ATTEMPTS {
                    return Err(NotaryError::Busy);
                }
                continue;
            };
            loop {
                if kept.position >= end {
                    return Ok(edge);
                }
                let page = self.log.read_up_to(kept.position, end, PAGE).await?;
                let Some(last) = page.last().map(|event| event.position) else { return Ok(edge) };
                let grown = tokio::task::spawn_blocking(move || grow(edge, &page));
                let (grown, tiles) = grown.await.map_err(|gone| StoreError::Unavailable(Arc::new(gone)))?;
                let to = Kept { size: grown.size(), position: last };
                if !self.tables.extend(kept, to, tiles).await? {
                    break;
                }
                (kept, edge) = (to, grown);
            }
            attempts += 1;
            if attempts > ATTEMPTS {
                return Err(NotaryError::Busy);
            }
        }
    }

    /// The root of the tree over the first events.
    async fn root(&self, size: u64) -> Result<Hash, NotaryError> {
        self.with_tiles(|nodes| tree_hash(size, nodes)).await
    }

    /// The proof that the tree over the first `size` events holds the leaf of this number.
    ///
    /// # Errors
    /// The tree holds no such leaf.
    pub async fn inclusion(&self, number: u64, size: u64) -> Result<Vec<Hash>, NotaryError> {
        self.within(number + 1, size).await?;
        self.with_tiles(|nodes| prove_record(size, number, nodes)).await
    }

    /// The proof that the tree over the first `size` events begins with that over the first `first`.
    ///
    /// # Errors
    /// The tree is not as large.
    pub async fn consistency(&self, first: u64, size: u64) -> Result<Vec<Hash>, NotaryError> {
        self.within(first, size).await?;
        self.with_tiles(|nodes| prove_tree(size, first, nodes)).await
    }

    /// The note of a checkpoint of this size, if one was signed.
    ///
    /// # Errors
    /// The tables do not answer.
    pub async fn checkpoint_of(&self, size: u64) -> Result<Option<String>, NotaryError> {
        Ok(self.tables.of_size(size).await?.map(|kept| kept.note))
    }

    async fn within(&self, first: u64, size: u64) -> Result<(), NotaryError> {
        let kept = self.tables.kept().await?.size;
        if first >= 1 && first <= size && size <= kept {
            return Ok(());
        }
        Err(NotaryError::NotThere(format!(
            "the tree holds {kept} events: 1 to {kept} is allowed, the smaller one first"
        )))
    }

    /// Computes something from nodes, which are looked up once it is known which.
    async fn with_tiles<T>(
        &self,
        compute: impl Fn(&Asked<'_>) -> Result<T, tlog_tiles::Error>,
    ) -> Result<T, NotaryError> {
        let nothing = BTreeMap::new();
        let missing = {
            let asked = Asked::with(&nothing);
            if let Ok(computed) = compute(&asked) {
                return Ok(computed);
            }
            asked.missing()
        };
        let nodes = self.tables.nodes(&missing).await?;
        let gone = || {
            NotaryError::NotThere("the tree is not whole; `sluice audit checkpoint --rebuild` makes it anew".to_owned())
        };
        compute(&Asked::with(&nodes)).map_err(|_| gone())
    }

    /// The number of the leaf of an event, and the event.
    ///
    /// # Errors
    /// No event stands there, or the tree does not hold it yet.
    pub async fn number_of(&self, position: Position) -> Result<(u64, RecordedEvent), NotaryError> {
        let none = || NotaryError::NotThere(format!("the tree holds no event at position {} yet", position.plain()));
        let tile = self.tables.tile_at(position).await?.ok_or_else(none)?;
        let (mut after, mut number) = (self.tables.before(tile).await?, tile * TILE as u64);
        // A read may end with fewer events than were asked for.
        loop {
            let events = self.log.read_up_to(after, position, TILE).await?;
            let Some(last) = events.last().filter(|last| last.position <= position) else {
                return Err(NotaryError::NotThere(format!("no event stands at position {}", position.plain())));
            };
            number += events.len() as u64;
            if last.position == position {
                return Ok((number - 1, last.clone()));
            }
            after = last.position;
        }
    }
}

/// Adds the leaves of events to the edge of the tree, and gives the tiles that changed with the position of their last event.
fn grow(mut edge: Edge, page: &[RecordedEvent]) -> (Edge, Vec<(Tile, Position)>) {
    let (mut leaves, mut tiles) = (Leaves::default(), Vec::new());
    for event in page {
        edge.push(leaves.of(event), |tile| {
            let position = if tile.level == 0 { event.position } else { Position::START };
            tiles.push((tile, position));
        });
    }
    let last = page.last().map(|event| event.position).unwrap_or_default();
    for tile in edge.unfinished() {
        let position = if tile.level == 0 { last } else { Position::START };
        tiles.push((tile, position));
    }
    (edge, tiles)
}

/// The statements of rotations in a log, as it is stored.
///
/// # Errors
/// The log does not answer.
pub async fn rotations(log: &dyn EventStore) -> Result<Vec<String>, StoreError> {
    Ok(said(log)
        .await?
        .into_iter()
        .filter_map(|event| match event {
            SiteEvent::NotaryKeyRotated(rotated) => Some(rotated.note),
            _ => None,
        })
        .collect())
}

/// What the notary said in a log. What cannot be read is passed over: it is found by whoever reads the whole log.
///
/// # Errors
/// The log does not answer.
pub async fn said(log: &dyn EventStore) -> Result<Vec<SiteEvent>, StoreError> {
    match said_in_stream(log).await {
        // A stream that lost events does not answer as a whole: what the log still has of it counts.
        Err(StoreError::Corrupt(_)) => said_in_log(log).await,
        said => said,
    }
}

async fn said_in_stream(log: &dyn EventStore) -> Result<Vec<SiteEvent>, StoreError> {
    let (mut said, mut after) = (Vec::new(), 0);
    loop {
        let page = log.read_stream(&notary_stream(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(said) };
        after = last.version;
        said.extend(page.iter().filter_map(site_event));
    }
}

async fn said_in_log(log: &dyn EventStore) -> Result<Vec<SiteEvent>, StoreError> {
    let (stream, end) = (notary_stream(), log.head().await?);
    let (mut said, mut at) = (Vec::new(), Position::START);
    loop {
        let page = super::verify::read(log, at, end).await?;
        let Some(last) = page.last() else { return Ok(said) };
        at = last.position;
        said.extend(page.iter().filter(|event| event.stream == stream).filter_map(site_event));
    }
}

fn site_event(event: &RecordedEvent) -> Option<SiteEvent> {
    SiteEvent::decode(&event.event_type, &event.payload)?.ok()
}

/// The notary's stream.
///
/// # Panics
/// Never: the name is a word.
pub fn notary_stream() -> StreamName {
    StreamName::new(NOTARY_STREAM).expect("a word is a stream name")
}
