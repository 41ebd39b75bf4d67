//! Writes a pack: reads the log once, and keeps no more of it in memory than the numbers of the events that go along.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::checkpoint::SignedCheckpoint;
use super::leaf::{Leaves, hex};
use super::pack::{
    CHECKPOINTS, EVENTS, FORMAT, KEY, Line, MANIFEST, Manifest, NoteLine, README, ROTATIONS, SUBTREES, Subtree,
    VERIFIER, left_out, nodes_of, root_of,
};
use super::service::{Notary, NotaryError, rotations};
use crate::commands::execute::CommandMeta;
use crate::domain::ids::{PolicyId, ResourceId};
use crate::events::envelope::{Position, RecordedEvent};
use crate::store::private;

/// Events read at a time.
const PAGE: usize = 4_000;

/// Which events.
#[derive(Debug, Clone)]
pub enum Selection {
    /// All of them.
    Whole,
    /// Those that happened in a span of time, and all that is said of policies.
    Span {
        /// Its name.
        name: String,
        /// From then on.
        from: DateTime<Utc>,
        /// Before then.
        to: DateTime<Utc>,
    },
    /// Those of a policy, and the evaluations under it.
    Policy(PolicyId),
    /// Those of an allocation, and all that is said of policies.
    Resource(ResourceId),
}

impl Selection {
    /// In words.
    pub fn said(&self) -> String {
        match self {
            Self::Whole => "the whole log".to_owned(),
            Self::Span { name, .. } => format!("what happened in {name}, and the policies"),
            Self::Policy(policy) => format!("the policy {policy} and the evaluations under it"),
            Self::Resource(resource) => format!("the allocation {resource}, and the policies"),
        }
    }

    fn takes(&self, event: &RecordedEvent) -> bool {
        let stream = event.stream.as_str();
        let of_policies = event.stream.category() == "policy";
        match self {
            Self::Whole => true,
            Self::Span { from, to, .. } => of_policies || (*from <= event.occurred_at && event.occurred_at < *to),
            Self::Policy(policy) => {
                let id = policy.to_string();
                stream.contains(&id) || event.payload.contains(&id)
            }
            Self::Resource(resource) => of_policies || stream.contains(&resource.to_string()),
        }
    }
}

/// Why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The notary.
    #[error("the log cannot be exported")]
    Notary(#[from] NotaryError),
    /// A file.
    #[error("{} cannot be written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A file of a pack, hashed while it is written.
struct Hashed {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
}

impl Hashed {
    fn new(folder: &Path, name: &str) -> Result<Self, ExportError> {
        let path = folder.join(name);
        let made = private::new_file(&path).map_err(|source| ExportError::File { path: path.clone(), source })?;
        Ok(Self { path, file: BufWriter::new(made), hash: Sha256::new() })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|source| ExportError::File { path: self.path.clone(), source })
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), ExportError> {
        let mut bytes = serde_json::to_vec(line)
            .map_err(|error| ExportError::File { path: self.path.clone(), source: error.into() })?;
        bytes.push(b'\n');
        self.put(&bytes)
    }

    /// The hash, once all of it is on the disk.
    fn close(self) -> Result<String, ExportError> {
        let failed = |source| ExportError::File { path: self.path.clone(), source };
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(crate::store::archive::hex(&self.hash.finalize()))
    }
}

impl Notary {
    /// Writes a pack of the events of the newest checkpoint into an empty folder. That it was written is an event, which is
    /// in the log before the manifest is on the disk: without its manifest a pack is none.
    ///
    /// # Errors
    /// There is no checkpoint, the log is another than was signed, or something cannot be read or written.
    pub async fn export(
        &self,
        selection: &Selection,
        folder: &Path,
        meta: &CommandMeta,
        mut progress: impl FnMut(u64),
    ) -> Result<Manifest, ExportError> {
        let none =
            || NotaryError::NotThere("there is no checkpoint to prove events against: sign one first".to_owned());
        let checkpoint = self.newest().await?.ok_or_else(none)?;
        self.extend().await?;
        private::folder(folder).map_err(|source| ExportError::File { path: folder.to_owned(), source })?;
        let mut files = BTreeMap::new();
        let (taken, hash) = self.events(selection, folder, &checkpoint, &mut progress).await?;
        files.insert(EVENTS.to_owned(), hash);
        files.insert(SUBTREES.to_owned(), self.subtrees(folder, checkpoint.size, &taken).await?);
        for (name, text) in self.rest(&checkpoint).await? {
            let mut file = Hashed::new(folder, name)?;
            file.put(text.as_bytes())?;
            files.insert(name.to_owned(), file.close()?);
        }
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            what: selection.said(),
            whole: matches!(selection, Selection::Whole),
            events: taken.len() as u64,
            size: checkpoint.size,
            root: hex(&checkpoint.root),
            origin: checkpoint.origin.clone(),
            made_at: self.now(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            files,
        };
        let text = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
        let hash = crate::store::archive::hex(&Sha256::digest(text.as_bytes()));
        self.record_export(&manifest, hash, meta).await?;
        let mut file = Hashed::new(folder, MANIFEST)?;
        file.put(text.as_bytes())?;
        file.close()?;
        Ok(manifest)
    }

    /// Writes the events; gives their numbers and the hash of the file.
    async fn events(
        &self,
        selection: &Selection,
        folder: &Path,
        checkpoint: &SignedCheckpoint,
        progress: &mut impl FnMut(u64),
    ) -> Result<(Vec<u64>, String), ExportError> {
        let mut file = Hashed::new(folder, EVENTS)?;
        let (mut taken, mut leaves) = (Vec::new(), Leaves::default());
        let (mut after, mut number) = (Position::START, 0);
        while number < checkpoint.size {
            let page = self.log().read_all(after, PAGE).await.map_err(NotaryError::from)?;
            let Some(last) = page.last().map(|event| event.position) else {
                return Err(NotaryError::Shorter { events: number, size: checkpoint.size }.into());
            };
            progress(page.len() as u64);
            for event in page {
                if number < checkpoint.size && selection.takes(&event) {
                    file.line(&Line::of(&event, number, &leaves.of(&event)))?;
                    taken.push(number);
                }
                number += 1;
            }
            after = last;
        }
        Ok((taken, file.close()?))
    }

    /// Writes the roots over what is left out.
    async fn subtrees(&self, folder: &Path, size: u64, taken: &[u64]) -> Result<String, ExportError> {
        let mut file = Hashed::new(folder, SUBTREES)?;
        for parts in left_out(size, taken).chunks(PAGE) {
            let indexes: Vec<u64> = parts.iter().flat_map(|part| nodes_of(*part)).collect();
            let nodes = self.tables().nodes(&indexes).await.map_err(NotaryError::from)?;
            for part in parts {
                let of: Option<Vec<_>> = nodes_of(*part).iter().map(|index| nodes.get(index).copied()).collect();
                let root = of.and_then(|nodes| root_of(&nodes));
                let gone =
                    || NotaryError::NotThere("the tree is not whole: sluice audit checkpoint --rebuild".to_owned());
                let hash = hex(&root.ok_or_else(gone)?);
                file.line(&Subtree { from: part.0, to: part.1, hash })?;
            }
        }
        file.close()
    }

    /// The small files.
    async fn rest(&self, newest: &SignedCheckpoint) -> Result<Vec<(&'static str, String)>, ExportError> {
        let lines = |notes: Vec<String>| {
            let line = |note| serde_json::to_string(&NoteLine { note }).unwrap_or_default() + "\n";
            notes.into_iter().map(line).collect::<String>()
        };
        let kept = self.tables().checkpoints().await.map_err(NotaryError::from)?;
        let kept = kept.into_iter().filter(|kept| kept.size <= newest.size).map(|kept| kept.note);
        let handed_over = rotations(&**self.log()).await.map_err(NotaryError::from)?;
        let key = self.public_key().map_err(NotaryError::from)?;
        let mut files = vec![
            (CHECKPOINTS, lines(kept.collect())),
            (ROTATIONS, lines(handed_over)),
            (README, include_str!("pack.md").to_owned()),
            (VERIFIER, include_str!("../../docs/verify_pack.py").to_owned()),
        ];
        files.extend(key.map(|key| (KEY, format!("{}\n", key.as_str()))));
        Ok(files)
    }
}
