//! Whose signatures count: the keys that whoever verifies was given, and those that these have handed over to.

use tlog_tiles::Hash;

use super::checkpoint::{NoteProblem, SignedCheckpoint, SignedNote};
use super::finding::{Finding, Kind};
use super::key::{Key, KeyError, PublicKey};

/// What the statement of a rotation begins with: the version of its form.
const ROTATION: &str = "sluice key rotation v1";

/// A statement that another key signs from now on.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Who signed until then.
    pub from: PublicKey,
    /// Who signs from then on.
    pub to: PublicKey,
    /// How large the log was.
    pub size: u64,
    /// The root of its tree then.
    pub root: Hash,
    /// The note.
    pub note: SignedNote,
}

impl Rotation {
    /// States that a key takes over, signed by both.
    ///
    /// # Errors
    /// One of them does not sign, or they have different names.
    pub fn sign(from: &Key, to: &Key, size: u64, root: Hash) -> Result<Self, KeyError> {
        let (old, new) = (from.public(), to.public());
        let refused = |problem: String| KeyError::NoKey { what: new.as_str().to_owned(), kind: "successor", problem };
        if old.name() != new.name() {
            return Err(refused(format!("its name must be that of the log, {}", old.name())));
        }
        if old == new {
            return Err(refused("it is the same key".to_owned()));
        }
        let text = format!("{ROTATION}\n{}\n{}\n{size}\n{root}\n", old.as_str(), new.as_str());
        let mut note = SignedNote::of(text).map_err(|problem| refused(problem.to_string()))?;
        for key in [from, to] {
            note.add(key.sign(note.text().as_bytes())?);
        }
        Ok(Self { from: old.clone(), to: new.clone(), size, root, note })
    }

    /// Reads a statement that both keys signed.
    ///
    /// # Errors
    /// It is malformed, or one of them did not.
    pub fn read(note: &str) -> Result<Self, NoteProblem> {
        let note = SignedNote::read(note)?;
        let malformed = || NoteProblem("it is no statement of a rotation".to_owned());
        let lines: Vec<&str> = note.text().lines().collect();
        let [ROTATION, from, to, size, root] = lines[..] else { return Err(malformed()) };
        let key = |text: &str| PublicKey::read(text).map_err(|error| NoteProblem(error.to_string()));
        let (from, to) = (key(from)?, key(to)?);
        if from.name() != to.name() || !note.is_signed_by(&from) || !note.is_signed_by(&to) {
            return Err(NoteProblem("it is not signed by both keys".to_owned()));
        }
        let size = size.parse().map_err(|_| malformed())?;
        let root = Hash::parse_hash(root).map_err(|_| malformed())?;
        Ok(Self { from, to, size, root, note })
    }
}

/// The keys that count.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<Trusted>,
    given: bool,
}

#[derive(Debug, Clone)]
struct Trusted {
    key: PublicKey,
    /// It signs logs up to this size; later ones are its successor's.
    until: Option<u64>,
}

impl Trust {
    /// Trusts the keys that were given.
    pub fn of(given: Vec<PublicKey>) -> Self {
        let keys: Vec<Trusted> = given.into_iter().map(|key| Trusted { key, until: None }).collect();
        Self { given: !keys.is_empty(), keys }
    }

    /// Whether a key was given.
    pub fn is_given(&self) -> bool {
        self.given
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().map(|trusted| &trusted.key)
    }

    /// Follows rotations from the keys that are trusted, forwards and backwards: whoever trusts the newest key has its
    /// predecessors vouched for too.
    pub fn follow(&mut self, rotations: &[Rotation]) {
        loop {
            let before = self.keys.len();
            for rotation in rotations {
                let knows = |key: &PublicKey| self.keys.iter().any(|known| known.key == *key);
                let (old, new) = (knows(&rotation.from), knows(&rotation.to));
                if old && !new {
                    self.keys.push(Trusted { key: rotation.to.clone(), until: None });
                } else if new && !old {
                    self.keys.push(Trusted { key: rotation.from.clone(), until: None });
                }
            }
            if self.keys.len() == before {
                break;
            }
        }
        for rotation in rotations {
            for known in self.keys.iter_mut().filter(|known| known.key == rotation.from) {
                known.until = Some(known.until.map_or(rotation.size, |until| until.min(rotation.size)));
            }
        }
    }

    /// What is wrong with who signed a checkpoint, if anything.
    pub fn judge(&self, checkpoint: &SignedCheckpoint, shown: Option<&str>) -> Option<Finding> {
        let of = shown.map_or_else(String::new, |file| format!(" ({file})"));
        let size = checkpoint.size;
        let signed = self.keys.iter().filter(|known| checkpoint.note.is_signed_by(&known.key));
        let mut retired = None;
        for known in signed {
            match known.until.filter(|until| size > *until) {
                None => return None,
                Some(until) => retired = Some(until),
            }
        }
        let (kind, what) = if let Some(until) = retired {
            let what =
                format!("the checkpoint of {size} events{of} is signed by a key that was handed over at {until}");
            (Kind::SwappedKey, what)
        } else if self.keys.iter().any(|known| checkpoint.note.names(&known.key)) {
            (
                Kind::ForgedCheckpoint,
                format!("the checkpoint of {size} events{of} is not signed by the key that it names"),
            )
        } else {
            let who = checkpoint.note.signatures().first();
            let who = who.map_or_else(String::new, |it| format!(", but by {}+{:08x}", it.name(), it.id()));
            (Kind::SwappedKey, format!("the checkpoint of {size} events{of} is signed by no key that is trusted{who}"))
        };
        Some(Finding::of(kind, Some(size), what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_hands_over_only_with_both_signatures() {
        let key = || Key::generate("log").unwrap().0;
        let (first, second, third) = (key(), key(), key());
        let rotation = Rotation::sign(&first, &second, 10, Hash([1; 32])).unwrap();
        let read = Rotation::read(&rotation.note.to_string()).unwrap();
        assert_eq!((&read.from, &read.to, read.size), (first.public(), second.public(), 10));
        let mut one = SignedNote::of(rotation.note.text().to_owned()).unwrap();
        one.add(second.sign(one.text().as_bytes()).unwrap());
        assert!(Rotation::read(&one.to_string()).unwrap_err().0.contains("both keys"));
        assert!(Rotation::sign(&first, &Key::generate("other").unwrap().0, 1, Hash([1; 32])).is_err());

        let of = |size, key: &Key| SignedCheckpoint::sign(size, Hash([2; 32]), key).unwrap();
        let mut trust = Trust::of(vec![first.public().clone()]);
        let kind = |trust: &Trust, size, key: &Key| trust.judge(&of(size, key), None).map(|finding| finding.kind);
        assert_eq!(kind(&trust, 20, &second), Some(Kind::SwappedKey));
        trust.follow(std::slice::from_ref(&read));
        assert_eq!((kind(&trust, 20, &second), kind(&trust, 10, &first)), (None, None));
        assert_eq!(kind(&trust, 11, &first), Some(Kind::SwappedKey), "it was handed over");
        assert_eq!(kind(&trust, 20, &third), Some(Kind::SwappedKey));
        let mut newest = Trust::of(vec![second.public().clone()]);
        newest.follow(&[read]);
        assert_eq!(kind(&newest, 10, &first), None);
        let text = of(5, &first).note.to_string().replacen("\n5\n", "\n6\n", 1);
        let forged = SignedCheckpoint::read(&text).unwrap();
        assert_eq!(trust.judge(&forged, None).unwrap().kind, Kind::ForgedCheckpoint);
    }
}
