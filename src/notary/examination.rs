//! Whether a log is the one that was signed: its events, in their order, against the tree that was kept and the checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use tlog_tiles::Hash;

use super::alignment::{Alignment, Present};
use super::checkpoint::SignedCheckpoint;
use super::finding::{EventPlace, Finding, Kind, NAMED_MAX};
use super::tree::Frontier;
use super::trust::{Rotation, Trust};
use crate::events::envelope::Position;

/// A checkpoint that is to hold, and where it comes from.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The note.
    pub note: String,
    /// The file that it was shown in; none if it is kept with the log.
    pub shown: Option<String>,
}

/// An event as it is met.
#[derive(Debug, Clone)]
pub struct Met {
    /// Where it stands.
    pub place: EventPlace,
    /// Its leaf.
    pub leaf: Hash,
    /// What is wrong with it by itself.
    pub fault: Option<(Kind, String)>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Events that were met.
    pub events: u64,
    /// What is wrong, the first of them.
    pub findings: Vec<Finding>,
    /// How many things are wrong.
    pub count: u64,
    /// Checkpoints that hold.
    pub held: u64,
    /// The largest of them.
    pub covered: u64,
    /// The root over all events that were met.
    pub root: Hash,
    /// The keys whose signatures counted.
    pub keys: Vec<String>,
    /// Whether a key was given.
    pub key_given: bool,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.count == 0
    }

    /// Adds what is wrong besides.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.take(findings);
    }

    fn take(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.count += 1;
            if self.findings.len() < NAMED_MAX {
                self.findings.push(finding);
            }
        }
    }
}

struct Wanted {
    checkpoint: SignedCheckpoint,
    shown: Option<String>,
}

/// A checkpoint that does not hold.
struct Broken {
    size: u64,
    shown: Option<String>,
    /// The largest one before it that does.
    agrees: u64,
}

/// An examination under way.
pub struct Examination {
    wanted: Vec<Wanted>,
    next: usize,
    frontier: Frontier,
    alignment: Alignment,
    /// Differences from the kept tree that no checkpoint has decided on yet.
    pending: Vec<Finding>,
    /// Positions at which no event stands, by the number of the leaf that is missing.
    holes: BTreeMap<u64, Position>,
    /// Leaves of events that cannot be read.
    unreadable: BTreeSet<u64>,
    broken: Vec<Broken>,
    verdict: Verdict,
}

impl Examination {
    /// Begins with the checkpoints that are known.
    pub fn begin(claims: Vec<Claim>, rotations: &[String], given: Trust) -> Self {
        let mut verdict = Verdict { key_given: given.is_given(), ..Verdict::default() };
        let mut trust = given;
        let mut read = Vec::new();
        for claim in claims {
            match SignedCheckpoint::read(&claim.note) {
                Ok(checkpoint) => read.push(Wanted { checkpoint, shown: claim.shown }),
                Err(problem) => {
                    let from = claim.shown.map_or_else(String::new, |file| format!(" in {file}"));
                    verdict.take([Finding::of(Kind::ForgedCheckpoint, None, format!("a checkpoint{from}: {problem}"))]);
                }
            }
        }
        read.sort_by_key(|wanted| (wanted.checkpoint.size, wanted.shown.is_some()));
        let statements: Vec<Rotation> = rotations.iter().filter_map(|note| Rotation::read(note).ok()).collect();
        if statements.len() < rotations.len() {
            let what = "a rotation of the key is not signed by both keys";
            verdict.take([Finding::of(Kind::SwappedKey, None, what)]);
        }
        trust.follow(&statements);
        let mut wanted = Vec::new();
        for one in read {
            match trust.judge(&one.checkpoint, one.shown.as_deref()) {
                Some(finding) => verdict.take([finding]),
                None => wanted.push(one),
            }
        }
        verdict.take(split(&wanted));
        verdict.keys = trust.keys().map(|key| key.as_str().to_owned()).collect();
        Self {
            wanted,
            next: 0,
            frontier: Frontier::default(),
            alignment: Alignment::default(),
            pending: Vec::new(),
            holes: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            broken: Vec::new(),
            verdict,
        }
    }

    /// What is known before any event is met: the verdict on signatures, and the checkpoints that are signed as they should be.
    pub fn signed_only(self) -> (Verdict, Vec<SignedCheckpoint>) {
        (self.verdict, self.wanted.into_iter().map(|wanted| wanted.checkpoint).collect())
    }

    /// How many leaves of the kept tree are wanted.
    pub fn wants_kept(&self) -> usize {
        self.alignment.wants()
    }

    /// Takes leaves of the kept tree; none: there are no more.
    pub fn kept(&mut self, leaves: Vec<Hash>) {
        if leaves.is_empty() {
            self.alignment.kept_ends();
        } else {
            self.alignment.kept(leaves);
        }
    }

    /// Takes events of the log.
    pub fn met(&mut self, events: Vec<Met>) {
        self.reached();
        for event in events {
            if let Some((kind, what)) = event.fault {
                if kind == Kind::Unreadable {
                    self.unreadable.insert(self.frontier.size());
                }
                self.verdict.take([Finding::at(kind, self.frontier.size(), &event.place, what)]);
            }
            self.frontier.push(event.leaf);
            self.alignment.present([Present { place: event.place, leaf: event.leaf }]);
            self.reached();
        }
        self.alignment.compare(&mut self.pending);
    }

    /// No event stands at a position, where the leaf of this number stood, though there are later ones.
    pub fn hole(&mut self, number: u64, position: Position) {
        if self.holes.len() < NAMED_MAX && self.holes.insert(number, position).is_none() {
            let finding = Finding {
                position: Some(position),
                ..Finding::of(Kind::Deleted, Some(number), "no event stands here, though there are later ones")
            };
            self.verdict.take([finding]);
        }
    }

    /// Checks the checkpoints of exactly the events met so far.
    fn reached(&mut self) {
        let size = self.frontier.size();
        while let Some(wanted) = self.wanted.get(self.next).filter(|wanted| wanted.checkpoint.size <= size) {
            let holds = wanted.checkpoint.root == self.frontier.root();
            if holds {
                self.verdict.held += 1;
                self.verdict.covered = size;
            } else {
                self.broken.push(Broken { size, shown: wanted.shown.clone(), agrees: self.verdict.covered });
            }
            self.next += 1;
        }
    }

    /// What came of it, at the end of the log.
    pub fn finish(mut self) -> Verdict {
        self.alignment.kept_ends();
        self.alignment.present_ends();
        self.alignment.compare(&mut self.pending);
        self.verdict.events = self.frontier.size();
        self.verdict.root = self.frontier.root();
        let covered = self.verdict.covered;
        let pending = std::mem::take(&mut self.pending);
        let (kept_is_wrong, located): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|finding| finding.index.is_some_and(|index| index < covered));
        let mut located: Vec<Finding> = located.into_iter().filter(|finding| !self.is_known(finding)).collect();
        let too_long = self.beyond();
        if let Some(size) = too_long
            && located.iter().all(|finding| finding.kind != Kind::Truncated)
            && !self.explained_by_gaps(size, &located)
        {
            let what = format!("the log holds {} events, and a checkpoint says {size}", self.verdict.events);
            located.push(Finding::of(Kind::Truncated, Some(self.verdict.events), what));
        }
        self.judge_broken(&located);
        self.verdict.take(located);
        if let Some(first) = kept_is_wrong.first() {
            let what = format!(
                "the tree beside the log differs from the log in {} places, and checkpoints say that the log is right: `sluice \
                 audit checkpoint --rebuild` makes it anew",
                kept_is_wrong.len()
            );
            self.verdict.take([Finding::of(Kind::TreeDamaged, first.index, what)]);
        }
        self.verdict
    }

    /// The largest checkpoint that is about more events than there are.
    fn beyond(&self) -> Option<u64> {
        self.wanted.last().map(|wanted| wanted.checkpoint.size).filter(|size| *size > self.verdict.events)
    }

    /// Whether as many events are gone from the middle as are missing.
    fn explained_by_gaps(&self, size: u64, located: &[Finding]) -> bool {
        let of = |kind| located.iter().filter(|finding| finding.kind == kind).count() as u64;
        let gone = of(Kind::Deleted) + self.holes.len() as u64;
        self.verdict.events + gone >= size + of(Kind::Inserted)
    }

    /// What was said already in another way.
    fn is_known(&self, finding: &Finding) -> bool {
        finding.index.is_some_and(|index| match finding.kind {
            Kind::Deleted => self.holes.contains_key(&index),
            Kind::EventChanged => self.unreadable.contains(&index),
            _ => false,
        })
    }

    /// Checkpoints that do not hold are a matter of their own where nothing else says why.
    fn judge_broken(&mut self, located: &[Finding]) {
        let broken = std::mem::take(&mut self.broken);
        if !located.is_empty() || !self.holes.is_empty() {
            return;
        }
        let held = self.verdict.covered;
        if let Some(Broken { size, agrees, .. }) = broken.iter().find(|broken| broken.shown.is_none()) {
            let what = format!(
                "the first {size} events are not those that were signed; the first {agrees} are: the change lies between"
            );
            self.verdict.take([Finding::of(Kind::Rewritten, Some(*size), what)]);
            return;
        }
        let split: Vec<_> =
            self.verdict.findings.iter().filter(|it| it.kind == Kind::SplitView).map(|it| it.index).collect();
        for Broken { size, shown, .. } in broken.into_iter().filter(|broken| !split.contains(&Some(broken.size))) {
            let file = shown.unwrap_or_default();
            let (kind, what) = if held >= size {
                let what = format!(
                    "{file} shows a checkpoint of {size} events with another root, signed by the same key that signed this log: \
                     two readers were shown two logs"
                );
                (Kind::SplitView, what)
            } else {
                (Kind::Rewritten, format!("the first {size} events are not those of the checkpoint in {file}"))
            };
            self.verdict.take([Finding::of(kind, Some(size), what)]);
        }
    }
}

/// Checkpoints of one size with two roots.
fn split(wanted: &[Wanted]) -> Vec<Finding> {
    let mut found = Vec::new();
    for two in wanted.windows(2) {
        let [one, other] = two else { continue };
        let (one, file) = (&one.checkpoint, other.shown.as_deref().unwrap_or("the log"));
        if one.size == other.checkpoint.size && one.root != other.checkpoint.root {
            let size = one.size;
            let what = format!(
                "two checkpoints of {size} events have different roots, and both are signed (one of them in {file}): two readers \
                 were shown two logs"
            );
            found.push(Finding::of(Kind::SplitView, Some(size), what));
        }
    }
    found
}
