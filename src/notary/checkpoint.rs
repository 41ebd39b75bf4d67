//! Checkpoints: how large the log was, and the root of its tree then, signed (C2SP tlog-checkpoint in a signed note).

use signed_note::{Note, Signature};
use tlog_tiles::{Checkpoint, Hash};

use super::key::{Key, KeyError, PublicKey};

/// A note with its signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<Signature>,
}

/// A text that is no note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no signed note of a checkpoint: {0}")]
pub struct NoteProblem(pub String);

impl SignedNote {
    /// A note without signatures.
    ///
    /// # Errors
    /// The text is none of a note.
    pub fn of(text: String) -> Result<Self, NoteProblem> {
        Note::new(text.as_bytes(), &[]).map_err(|error| NoteProblem(error.to_string()))?;
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Reads a note.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(note: &str) -> Result<Self, NoteProblem> {
        let problem = |error: signed_note::NoteError| NoteProblem(error.to_string());
        let text = String::from_utf8(Note::from_bytes(note.as_bytes()).map_err(problem)?.text().to_vec());
        let text = text.map_err(|error| NoteProblem(error.to_string()))?;
        // The crate keeps the signatures to itself. What it has taken as a note ends with their lines.
        let lines = note.get(text.len() + 1..).unwrap_or_default().lines();
        let signatures = lines.map(|line| Signature::from_bytes(line.as_bytes())).collect::<Result<_, _>>();
        Ok(Self { text, signatures: signatures.map_err(problem)? })
    }

    /// What is signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature; one of the same key gives way.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|known| (known.name(), known.id()) != (signature.name(), signature.id()));
        self.signatures.push(signature);
    }

    /// Whether a key signed it.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.signatures.iter().any(|signature| key.signed(self.text.as_bytes(), signature))
    }

    /// Whether a signature says that it is this key's, whatever it signs.
    pub fn names(&self, key: &PublicKey) -> bool {
        self.signatures.iter().any(|signature| key.is_named_by(signature))
    }
}

impl std::fmt::Display for SignedNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            f.write_str(&String::from_utf8_lossy(&signature.to_bytes()))?;
        }
        Ok(())
    }
}

/// A signed checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedCheckpoint {
    /// The name of the log.
    pub origin: String,
    /// How many events it is about.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The note.
    pub note: SignedNote,
}

impl SignedCheckpoint {
    /// Signs how a log stands.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn sign(size: u64, root: Hash, key: &Key) -> Result<Self, KeyError> {
        let origin = key.public().name().to_owned();
        let text = format!("{origin}\n{size}\n{root}\n");
        let failed = |problem: NoteProblem| KeyError::NoKey {
            what: origin.clone(),
            kind: "name of a log",
            problem: problem.to_string(),
        };
        let mut note = SignedNote::of(text).map_err(failed)?;
        note.add(key.sign(note.text().as_bytes())?);
        Ok(Self { origin, size, root, note })
    }

    /// Reads a checkpoint; who signed it is another question.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(note: &str) -> Result<Self, NoteProblem> {
        let note = SignedNote::read(note)?;
        let checkpoint =
            Checkpoint::from_bytes(note.text().as_bytes()).map_err(|error| NoteProblem(error.to_string()))?;
        Ok(Self { origin: checkpoint.origin().to_owned(), size: checkpoint.size(), root: *checkpoint.hash(), note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed() {
        let (key, _) = Key::generate("sluice.example/log").unwrap();
        let (other, _) = Key::generate("sluice.example/log").unwrap();
        let signed = SignedCheckpoint::sign(7, Hash([3; 32]), &key).unwrap();
        let text = signed.note.to_string();
        assert!(text.starts_with(
            "sluice.example/log\n7\nAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n\n— sluice.example/log "
        ));
        let read = SignedCheckpoint::read(&text).unwrap();
        assert_eq!(read, signed);
        assert!(read.note.is_signed_by(key.public()) && !read.note.is_signed_by(other.public()));
        let forged = SignedCheckpoint::read(&text.replacen("\n7\n", "\n8\n", 1)).unwrap();
        assert!(forged.note.names(key.public()) && !forged.note.is_signed_by(key.public()));
        let mut both = read.note.clone();
        both.add(other.sign(both.text().as_bytes()).unwrap());
        both.add(key.sign(both.text().as_bytes()).unwrap());
        assert_eq!((both.signatures().len(), SignedNote::read(&both.to_string()).unwrap()), (2, both));
        for broken in ["", "x\n", "a\nb\nc\n\n— a AAAAAAAA\n", &text.replace("— ", "- ")] {
            assert!(SignedCheckpoint::read(broken).is_err(), "{broken}");
        }
    }
}
