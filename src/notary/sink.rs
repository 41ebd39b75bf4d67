//! Where checkpoints go besides the log: whoever edits the log must not be able to edit these.

use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::json;

use super::checkpoint::SignedCheckpoint;
use super::leaf::hex;
use super::tables::KeptCheckpoint;

/// Something that takes checkpoints.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What it is, in a word.
    fn name(&self) -> &'static str;

    /// Takes a checkpoint.
    ///
    /// # Errors
    /// What kept it from that, in words.
    async fn take(&self, checkpoint: &SignedCheckpoint, kept: &KeptCheckpoint) -> Result<(), String>;
}

/// A checkpoint as a document: a line of the file of checkpoints, and the body of a webhook.
pub fn document(checkpoint: &SignedCheckpoint, kept: &KeptCheckpoint) -> serde_json::Value {
    json!({
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": hex(&checkpoint.root),
        "made_at": kept.made_at,
        "reason": kept.reason,
        "note": kept.note,
    })
}

/// The log of the service.
pub struct ServiceLog;

#[async_trait]
impl Sink for ServiceLog {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn take(&self, checkpoint: &SignedCheckpoint, kept: &KeptCheckpoint) -> Result<(), String> {
        let (size, root) = (checkpoint.size, hex(&checkpoint.root));
        tracing::info!(size, root, note = kept.note, "the log was signed");
        Ok(())
    }
}

/// A file with a document on each line, to which is only added.
pub struct File {
    /// Where.
    pub path: PathBuf,
}

#[async_trait]
impl Sink for File {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn take(&self, checkpoint: &SignedCheckpoint, kept: &KeptCheckpoint) -> Result<(), String> {
        let mut line = document(checkpoint, kept).to_string();
        line.push('\n');
        let path = self.path.clone();
        let write = move || {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&path)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()
        };
        let done = tokio::task::spawn_blocking(write).await.map_err(|gone| gone.to_string())?;
        done.map_err(|error: std::io::Error| format!("{}: {error}", self.path.display()))
    }
}

/// The notes in a text: a note by itself, or documents with notes, one on each line.
///
/// # Errors
/// What is wrong with the first line that holds none.
pub fn notes_in(text: &str) -> Result<Vec<String>, String> {
    if !text.trim_start().starts_with('{') {
        return Ok(vec![text.to_owned()]);
    }
    let mut notes = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read: Result<serde_json::Value, _> = serde_json::from_str(line);
        let document = read.map_err(|error| format!("line {}: {error}", at + 1))?;
        let note = document.get("note").and_then(|note| note.as_str());
        notes.push(note.ok_or_else(|| format!("line {} has no \"note\"", at + 1))?.to_owned());
    }
    Ok(notes)
}
