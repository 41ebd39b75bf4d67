//! Witnesses: a second machine vouches that a log only grew (C2SP tlog-cosignature, and the request of tlog-witness).
//!
//! A witness remembers, for each log, the newest checkpoint that it saw, and signs a further one only if a proof shows that
//! the one before is its beginning. Whoever finds its signature knows that it was shown the same log.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use serde::{Deserialize, Serialize};
use signed_note::{Signature, key_id};
use tlog_tiles::{Hash, check_tree};

use super::checkpoint::{NoteProblem, SignedCheckpoint, SignedNote};
use super::key::{Key, KeyError, PublicKey};

/// The kind of a key that cosigns.
const COSIGNATURE: u8 = 4;

/// Hashes in a proof of consistency at most.
const PROOF_MAX: usize = 63;

/// The public key of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

fn message(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

impl WitnessKey {
    fn of(name: &str, key: VerifyingKey) -> Self {
        let id = key_id(name, &[&[COSIGNATURE][..], key.as_bytes()].concat());
        Self { name: name.to_owned(), id, key }
    }

    /// Reads the line of a witness's key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let no_key = |problem: &str| KeyError::NoKey {
            what: format!("{text:?}"),
            kind: "key of a witness",
            problem: problem.to_owned(),
        };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(no_key("it has three parts, with + between them"));
        };
        let bytes = BASE64.decode(key).map_err(|_| no_key("its last part is no Base64"))?;
        let key = bytes.strip_prefix(&[COSIGNATURE]).and_then(|key| <[u8; 32]>::try_from(key).ok());
        let key = key.and_then(|key| VerifyingKey::from_bytes(&key).ok());
        let read = Self::of(name, key.ok_or_else(|| no_key("it is no Ed25519 key that cosigns"))?);
        if signed_note::is_key_name_valid(name) && u32::from_str_radix(id, 16) == Ok(read.id) {
            Ok(read)
        } else {
            Err(no_key("its id is not that of its name and key"))
        }
    }

    /// When this witness cosigned a note, in seconds since 1970; none if it did not.
    pub fn cosigned(&self, note: &SignedNote) -> Option<u64> {
        note.signatures().iter().find_map(|signature| self.vouched(note.text(), signature))
    }

    /// When this witness made a signature of a text; none if it did not.
    pub fn vouched(&self, text: &str, signature: &Signature) -> Option<u64> {
        if signature.name() != self.name || signature.id() != self.id {
            return None;
        }
        let (time, signature) = signature.signature().split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
        self.key.verify(&message(time, text), &signature).ok().map(|()| time)
    }
}

impl std::fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = BASE64.encode([&[COSIGNATURE][..], self.key.as_bytes()].concat());
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

/// A request to a witness: a checkpoint, and the proof that it goes on from the one that the witness knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The size of the checkpoint that the witness knows.
    pub old: u64,
    /// The proof of consistency.
    pub proof: Vec<Hash>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(text: &str) -> Result<Self, NoteProblem> {
        let malformed = |what: &str| NoteProblem(format!("the request {what}"));
        let (head, note) = text.split_once("\n\n").ok_or_else(|| malformed("has no empty line"))?;
        let mut lines = head.lines();
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(|size| size.parse().ok());
        let old = old.ok_or_else(|| malformed("does not begin with the old size"))?;
        let proof: Vec<Hash> = lines
            .map(|line| Hash::parse_hash(line).map_err(|_| malformed("holds a hash that is none")))
            .collect::<Result<_, _>>()?;
        if proof.len() > PROOF_MAX {
            return Err(malformed("holds more than 63 hashes"));
        }
        Ok(Self { old, proof, checkpoint: SignedCheckpoint::read(note)? })
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint.note)
    }
}

/// What a witness remembers of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The size of the newest checkpoint.
    pub size: u64,
    /// Its root, hex.
    pub root: String,
}

/// Why a witness does not sign.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The log's key did not sign.
    #[error("the checkpoint is not signed by the key of the log")]
    NotSigned,
    /// Another checkpoint is known than the one that the proof begins with.
    #[error("the newest checkpoint that was seen is of {0} events")]
    Old(u64),
    /// It is smaller than the one before.
    #[error("the checkpoint is smaller than the one before")]
    Smaller,
    /// The log is another, or the proof is wrong.
    #[error("the log does not go on from what was seen: it was rewritten, or two readers are shown two logs")]
    Inconsistent,
    /// The key does not sign.
    #[error("the witness cannot sign")]
    Key(#[from] KeyError),
}

/// Who vouches.
#[derive(Debug)]
pub struct Witness {
    name: String,
    key: SigningKey,
}

impl Witness {
    /// A witness with a private key as it is made for a log; the name of the key is that of the witness.
    ///
    /// # Errors
    /// An external signer signs texts of checkpoints, and not what a witness signs.
    pub fn of(key: &Key) -> Result<Self, KeyError> {
        Ok(Self { name: key.public().name().to_owned(), key: key.here()?.clone() })
    }

    /// Its public key.
    pub fn key(&self) -> WitnessKey {
        WitnessKey::of(&self.name, self.key.verifying_key())
    }

    /// Looks at a request, and vouches if the log only grew since what was seen; says what is to be remembered, before the
    /// signature leaves.
    ///
    /// # Errors
    /// Why it does not.
    pub fn look(
        &self,
        request: &Request,
        log: &PublicKey,
        seen: Option<&Seen>,
        now: u64,
    ) -> Result<(Signature, Seen), Refused> {
        let checkpoint = &request.checkpoint;
        if checkpoint.origin != log.name() || !checkpoint.note.is_signed_by(log) {
            return Err(Refused::NotSigned);
        }
        let known = seen.map_or(0, |seen| seen.size);
        if request.old != known {
            return Err(Refused::Old(known));
        }
        if checkpoint.size < known {
            return Err(Refused::Smaller);
        }
        if let Some(seen) = seen.filter(|seen| seen.size > 0) {
            let root = super::leaf::unhex(&seen.root).ok_or(Refused::Inconsistent)?;
            check_tree(&request.proof, checkpoint.size, checkpoint.root, known, root)
                .map_err(|_| Refused::Inconsistent)?;
        }
        let signature = self.key.sign(&message(now, checkpoint.note.text())).to_bytes();
        let bytes = [&now.to_be_bytes()[..], &signature].concat();
        let failed = |_| Refused::Key(KeyError::Name(self.name.clone()));
        let signature = Signature::new(self.name.clone(), self.key().id, bytes).map_err(failed)?;
        Ok((signature, Seen { size: checkpoint.size, root: super::leaf::hex(&checkpoint.root) }))
    }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::record_hash;

    use super::super::tree::Frontier;
    use super::*;

    /// A key and a signature from the tests of transparency-dev/formats, and the example of the specification.
    const REMORA: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
                           — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
                           — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

    #[test]
    fn published_keys_and_notes_are_read() {
        let key = WitnessKey::read(REMORA).unwrap();
        assert_eq!((key.id, key.to_string().as_str()), (0xda77_ade7, REMORA));
        assert!(WitnessKey::read(&REMORA.replace("da77ade7", "da77ade8")).is_err());
        let example = SignedCheckpoint::read(EXAMPLE).unwrap();
        assert_eq!(
            (example.size, example.note.signatures().len(), example.note.to_string().as_str()),
            (20_852_163, 2, EXAMPLE)
        );
        let cosignature = &example.note.signatures()[1];
        let (time, signature) = cosignature.signature().split_first_chunk::<8>().unwrap();
        assert_eq!((u64::from_be_bytes(*time), signature.len()), (1_679_315_147, 64));
        assert_eq!(key.cosigned(&example.note), None);
    }

    #[test]
    fn a_witness_vouches_for_a_log_that_only_grew() {
        let (log, witness) = (Key::generate("log").unwrap().0, Key::generate("witness").unwrap().0);
        let witness = Witness::of(&witness).unwrap();
        let key = WitnessKey::read(&witness.key().to_string()).unwrap();
        let root = |numbers: std::ops::Range<u64>| {
            let mut frontier = Frontier::default();
            numbers.for_each(|number| frontier.push(record_hash(&number.to_be_bytes())));
            frontier.root()
        };
        let request = |old, proof, size, root| {
            let checkpoint = SignedCheckpoint::sign(size, root, &log).unwrap();
            Request::read(&Request { old, proof, checkpoint }.to_string()).unwrap()
        };
        let first = request(0, vec![], 2, root(0..2));
        let (signature, seen) = witness.look(&first, log.public(), None, 1_700_000_000).unwrap();
        let mut note = first.checkpoint.note.clone();
        note.add(signature);
        assert_eq!(key.cosigned(&SignedNote::read(&note.to_string()).unwrap()), Some(1_700_000_000));
        assert!(note.is_signed_by(log.public()), "the log's own signature stays");

        // The tree of four leaves begins with that of two: the proof is the root over the other two.
        let proof = vec![root(2..4)];
        let grown = request(2, proof.clone(), 4, root(0..4));
        let look = |request: &Request| witness.look(request, log.public(), Some(&seen), 1).map(|(_, seen)| seen.size);
        assert_eq!(look(&grown).unwrap(), 4);
        assert!(matches!(look(&request(2, proof, 4, root(1..5))), Err(Refused::Inconsistent)));
        assert!(matches!(look(&request(3, vec![], 4, root(0..4))), Err(Refused::Old(2))));
        assert!(matches!(look(&request(2, vec![], 1, root(0..1))), Err(Refused::Smaller)));
        let (other, _) = Key::generate("log").unwrap();
        assert!(matches!(witness.look(&grown, other.public(), Some(&seen), 1), Err(Refused::NotSigned)));
        for broken in ["", "old x\n\n", "old 1\nxx\n\n", "old 0\n\nno note\n"] {
            assert!(Request::read(broken).is_err(), "{broken:?}");
        }
    }
}
