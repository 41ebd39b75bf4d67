//! What the fixture keeps: one log of records in all streams, with the rules for expected revisions and repeated writes that
//! the server's documentation states.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use uuid::Uuid;

/// An event in the fixture's log.
#[derive(Clone, Debug)]
pub struct Record {
    pub stream: String,
    pub revision: u64,
    pub id: Uuid,
    pub metadata: HashMap<String, String>,
    pub custom_metadata: Bytes,
    pub data: Bytes,
    /// Where the write ended that the event belongs to: the same for all its events.
    pub commit: u64,
    /// Where the event itself stands.
    pub prepare: u64,
}

/// An event that somebody wants to write.
#[derive(Clone, Debug)]
pub struct Proposed {
    pub id: Uuid,
    pub metadata: HashMap<String, String>,
    pub custom_metadata: Bytes,
    pub data: Bytes,
}

/// Which revision a writer expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Any,
    NoStream,
    Exists,
    Revision(u64),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In the log, now or since before.
    There {
        revision: u64,
        commit: u64,
        prepare: u64,
    },
    /// The stream's last revision; none if there is no stream.
    WrongVersion(Option<u64>),
    Tombstoned,
}

/// The log in memory.
#[derive(Clone, Default)]
pub struct Log {
    pub records: Vec<Record>,
    streams: HashMap<String, Vec<usize>>,
    tombstones: HashSet<String>,
    end: u64,
    writes: u64,
}

impl Log {
    /// The places of a stream's records.
    pub fn stream(&self, name: &str) -> Option<&[usize]> {
        self.streams.get(name).map(Vec::as_slice)
    }

    pub fn is_tombstoned(&self, name: &str) -> bool {
        self.tombstones.contains(name)
    }

    pub fn tombstone(&mut self, name: &str) {
        self.tombstones.insert(name.to_owned());
    }

    /// Appends to a stream, all or none. The same ids right after the expected revision are one write, however often sent.
    pub fn append(&mut self, stream: &str, expected: Expected, events: Vec<Proposed>) -> Outcome {
        if self.is_tombstoned(stream) {
            return Outcome::Tombstoned;
        }
        let length = self.stream(stream).map_or(0, <[usize]>::len) as u64;
        let current = length.checked_sub(1);
        let fits = match expected {
            Expected::Any => true,
            Expected::NoStream => current.is_none(),
            Expected::Exists => current.is_some(),
            Expected::Revision(revision) => current == Some(revision),
        };
        if fits {
            // A server writes to its own streams all the time, and other programs to theirs.
            self.writes += 1;
            self.put("$stats-127.0.0.1", vec![noise("$statsCollected")]);
            if self.writes.is_multiple_of(3) {
                self.put("another-program", vec![noise("something")]);
            }
            return self.put(stream, events);
        }
        let after = match expected {
            Expected::NoStream => 0,
            Expected::Revision(revision) => revision + 1,
            Expected::Any | Expected::Exists => return Outcome::WrongVersion(current),
        };
        let there = self.stream(stream).unwrap_or_default().iter().skip(usize::try_from(after).unwrap());
        let there: Vec<&Record> = there.take(events.len()).map(|place| &self.records[*place]).collect();
        if there.iter().map(|record| record.id).eq(events.iter().map(|event| event.id)) {
            let last = there.last().unwrap();
            return Outcome::There { revision: last.revision, commit: last.commit, prepare: last.prepare };
        }
        Outcome::WrongVersion(current)
    }

    /// Other programs write so many events.
    pub fn others_write(&mut self, events: usize) {
        for _ in 0..events {
            self.put("another-program", vec![noise("something")]);
        }
    }

    /// Takes away the records from a place on, as somebody may who has the server's files.
    pub fn cut(&mut self, place: usize) {
        self.records.truncate(place);
        self.streams.values_mut().for_each(|places| places.retain(|known| *known < place));
        self.streams.retain(|_, places| !places.is_empty());
    }

    fn put(&mut self, stream: &str, events: Vec<Proposed>) -> Outcome {
        let lengths: Vec<u64> = events.iter().map(|event| 80 + event.data.len() as u64).collect();
        let commit = self.end + lengths.iter().sum::<u64>();
        let mut last = Outcome::WrongVersion(None);
        for (event, length) in events.into_iter().zip(lengths) {
            let prepare = self.end;
            self.end += length;
            let places = self.streams.entry(stream.to_owned()).or_default();
            let revision = places.len() as u64;
            places.push(self.records.len());
            let Proposed { id, metadata, custom_metadata, data } = event;
            let stream = stream.to_owned();
            self.records.push(Record { stream, revision, id, metadata, custom_metadata, data, commit, prepare });
            last = Outcome::There { revision, commit, prepare };
        }
        last
    }
}

/// An event that is nobody's here.
fn noise(kind: &str) -> Proposed {
    let metadata = [("type", kind), ("content-type", "application/json")];
    Proposed {
        id: Uuid::from_u128(0xff),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        custom_metadata: Bytes::new(),
        data: Bytes::from_static(b"{}"),
    }
}
