//! Reads a pack, and holds it against its checkpoints: all of the log, or a part of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tlog_tiles::Hash;

use super::checkpoint::SignedCheckpoint;
use super::examination::{Claim, Examination, Met, Verdict};
use super::finding::{Finding, Kind};
use super::leaf::{Leaves, unhex};
use super::pack::{
    CHECKPOINTS, EVENTS, FORMAT, Line, MANIFEST, Manifest, NoteLine, ROTATIONS, SUBTREES, Subtree, rooted,
};
use super::trust::Trust;
use super::verify::met;
use crate::events::envelope::RecordedEvent;

/// Events handed on at a time.
const PAGE: usize = 4_000;

/// Why a pack cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file.
    #[error("{} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is none.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Another format.
    #[error("the pack has the format {0:?}; {FORMAT:?} is known")]
    Format(String),
}

/// A pack in a folder.
#[derive(Debug, Clone)]
pub struct Pack {
    folder: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
}

impl Pack {
    /// Opens a pack.
    ///
    /// # Errors
    /// There is none, or one of another format.
    pub fn open(folder: &Path) -> Result<Self, PackError> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(|source| PackError::File { path: path.clone(), source })?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| PackError::Line {
            path,
            line: error.line(),
            problem: error.to_string(),
        })?;
        if manifest.format != FORMAT {
            return Err(PackError::Format(manifest.format));
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// Goes through the lines of a file; there may be no such file.
    fn lines<T: DeserializeOwned>(
        &self,
        name: &str,
        mut take: impl FnMut(T) -> Result<(), String>,
    ) -> Result<(), PackError> {
        let path = self.folder.join(name);
        let failed = |source| PackError::File { path: path.clone(), source };
        if !path.exists() {
            return Ok(());
        }
        for (at, line) in BufReader::new(File::open(&path).map_err(failed)?).lines().enumerate() {
            let read =
                serde_json::from_str(&line.map_err(failed)?).map_err(|error| error.to_string()).and_then(&mut take);
            read.map_err(|problem| PackError::Line { path: path.clone(), line: at + 1, problem })?;
        }
        Ok(())
    }

    fn notes(&self, name: &str) -> Result<Vec<String>, PackError> {
        let mut notes = Vec::new();
        self.lines(name, |line: NoteLine| {
            notes.push(line.note);
            Ok(())
        })?;
        Ok(notes)
    }

    /// The checkpoints.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<String>, PackError> {
        self.notes(CHECKPOINTS)
    }

    /// Goes through the events, some at a time, each with its number and the leaf that its line says.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn events(&self, mut take: impl FnMut(Vec<(u64, Hash, RecordedEvent)>)) -> Result<(), PackError> {
        let mut page = Vec::with_capacity(PAGE);
        self.lines(EVENTS, |line: Line<'static>| {
            let leaf = unhex(&line.leaf).ok_or("the leaf is not 32 bytes in hex")?;
            page.push((line.index, leaf, line.event()?));
            if page.len() == PAGE {
                take(std::mem::take(&mut page));
            }
            Ok(())
        })?;
        take(page);
        Ok(())
    }

    /// Files that are not those that the manifest names.
    fn changed_files(&self) -> Result<Vec<Finding>, PackError> {
        let mut found = Vec::new();
        for (name, expected) in &self.manifest.files {
            let path = self.folder.join(name);
            let hash = hash_of(&path).map_err(|source| PackError::File { path, source })?;
            if hash != *expected {
                let what = format!("{name} is not the file that was exported");
                found.push(Finding::of(Kind::FileChanged, None, what));
            }
        }
        Ok(found)
    }

    /// Verifies the pack.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn verify(&self, given: Trust, shown: Vec<Claim>) -> Result<Verdict, PackError> {
        let own = self.checkpoints()?.into_iter().map(|note| Claim { note, shown: None });
        let (claims, rotations) = (own.chain(shown).collect(), self.notes(ROTATIONS)?);
        let mut verdict = if self.manifest.whole {
            self.verify_whole(claims, &rotations, given)?
        } else {
            self.verify_part(claims, &rotations, given)?
        };
        verdict.add(self.changed_files()?);
        Ok(verdict)
    }

    /// The leaves that the lines say, in the order of their numbers; one that is missing is a hash that no leaf has.
    fn said(&self) -> Result<Vec<Hash>, PackError> {
        let mut said: BTreeMap<u64, Hash> = BTreeMap::new();
        self.events(|page| {
            for (index, leaf, _) in page {
                said.entry(index).or_insert(leaf);
            }
        })?;
        let end = said.last_key_value().map_or(0, |(last, _)| (last + 1).min(self.manifest.size));
        Ok((0..end).map(|index| said.get(&index).copied().unwrap_or_default()).collect())
    }

    fn verify_whole(&self, claims: Vec<Claim>, rotations: &[String], given: Trust) -> Result<Verdict, PackError> {
        let mut examination = Examination::begin(claims, rotations, given);
        let mut leaves = Leaves::default();
        let said = self.said()?;
        let covered = said.len() as u64;
        if !said.is_empty() {
            examination.kept(said);
        }
        examination.kept(Vec::new());
        self.events(|page| {
            examination.met(page.iter().map(|(_, _, event)| met(event, &mut leaves)).collect());
        })?;
        let mut verdict = examination.finish();
        if covered < self.manifest.size && verdict.is_sound() {
            let what = format!("the pack ends after {covered} events, and is of {}", self.manifest.size);
            verdict.add([Finding::of(Kind::Truncated, Some(covered), what)]);
        }
        Ok(verdict)
    }

    fn verify_part(&self, claims: Vec<Claim>, rotations: &[String], given: Trust) -> Result<Verdict, PackError> {
        let size = self.manifest.size;
        let (mut leaves, mut found) = (BTreeMap::new(), Vec::new());
        let (mut hasher, mut last, mut events) = (Leaves::default(), None, 0);
        self.events(|page| {
            for (index, said, event) in page {
                events += 1;
                let Met { place, leaf, fault } = met(&event, &mut hasher);
                found.extend(fault.map(|(kind, what)| Finding::at(kind, index, &place, what)));
                if leaf != said {
                    let what = "its header or its commitment is another than was exported";
                    found.push(Finding::at(Kind::EventChanged, index, &place, what));
                }
                if leaves.contains_key(&index) {
                    let what = "there are two events with this number";
                    found.push(Finding::at(Kind::Inserted, index, &place, what));
                } else if last.is_some_and(|last| index < last) {
                    found.push(Finding::at(Kind::Reordered, index, &place, "it stands behind later ones"));
                }
                leaves.insert(index, leaf);
                last = last.max(Some(index));
            }
        })?;
        let mut subtrees = BTreeMap::new();
        self.lines(SUBTREES, |part: Subtree| {
            let hash = unhex(&part.hash).ok_or("the hash is not 32 bytes in hex")?;
            subtrees.insert((part.from, part.to), hash);
            Ok(())
        })?;
        let root = rooted(size, &leaves, &subtrees);
        let (mut verdict, good) = Examination::begin(claims, rotations, given).signed_only();
        verdict.events = events;
        verdict.root = root.unwrap_or_default();
        verdict.add(found);
        if root.is_none() {
            verdict.add([Finding::of(Kind::Deleted, None, "an event that was exported is missing")]);
        }
        verdict.held = good.iter().filter(|one| one.size == size && Some(one.root) == root).count() as u64;
        if verdict.held > 0 {
            verdict.covered = size;
        } else if verdict.is_sound() {
            verdict.add([unheld(&good, size)]);
        }
        Ok(verdict)
    }
}

/// What it means that no checkpoint holds.
fn unheld(good: &[SignedCheckpoint], size: u64) -> Finding {
    if good.iter().any(|one| one.size == size) {
        let what = format!("the events and the rest of the log are not the {size} that were signed");
        Finding::of(Kind::Rewritten, Some(size), what)
    } else {
        let what = format!("the checkpoint of {size} events that the pack is proved against is missing");
        Finding::of(Kind::Truncated, Some(size), what)
    }
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crate::store::archive::hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}
