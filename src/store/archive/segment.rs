//! A segment: a sequence of Zstandard frames, each with some hundred lines, so that reading one event costs one frame.
//!
//! This module only handles bytes; the engine stores them. A segment in a file can be read with `zstd -dc`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::line;
use crate::events::envelope::RecordedEvent;
use crate::store::numbers::NUMBERS;
use crate::store::{Cause, StoreError};

/// Lines in a frame.
const FRAME_EVENTS: usize = 512;

/// The level of compression: higher ones cost much time for little space with JSON.
const LEVEL: i32 = 9;

/// The largest frame that is taken for one, in bytes of text; a frame of the largest payloads stays below.
const FRAME_BYTES_MAX: u64 = 1 << 30;

/// Where a frame lies in its file and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Position of its first event.
    pub first: u64,
    /// Position of its last event.
    pub last: u64,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How long it is in the file, in bytes.
    pub length: u64,
    /// How long its lines are, in bytes.
    pub raw_length: u64,
}

/// What a segment holds, as found by reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Position of its first event.
    pub first: u64,
    /// Position of its last event.
    pub last: u64,
    /// How many events it holds.
    pub events: u64,
    /// SHA-256 over all lines, each with its end.
    pub rows_sha256: [u8; 32],
    /// SHA-256 of all frames: of the file, where there is one.
    pub file_sha256: [u8; 32],
    /// Length of all frames, in bytes.
    pub bytes: u64,
    /// Length of the lines, in bytes.
    pub raw_bytes: u64,
}

/// A segment as it is recorded beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number, from 1.
    pub number: i64,
    /// The month whose events it holds, as `2025-01`.
    pub month: String,
    /// The name of its file in the folder of the archive, or what goes by that name in the database.
    pub file: String,
    /// What it holds.
    pub facts: SegmentFacts,
    /// When it was verified and recorded.
    pub recorded_at: DateTime<Utc>,
}

impl Frame {
    /// How much room its bytes need, unless that cannot be true.
    pub(in crate::store) fn size(&self, segment: &str) -> Result<usize, SegmentError> {
        let longest = self.length.max(self.raw_length);
        if longest > FRAME_BYTES_MAX {
            return Err(damaged(segment, format!("a frame of {longest} bytes")));
        }
        usize::try_from(self.length).map_err(|_| damaged(segment, "a frame that does not fit in memory"))
    }
}

/// What is wrong with a segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It cannot be read or written.
    #[error("the segment {segment} cannot be used")]
    Unusable {
        /// Its name.
        segment: String,
        /// Why.
        source: Cause,
    },
    /// It is not there.
    #[error("the segment {segment} is missing; put it back from a backup")]
    Missing {
        /// Its name.
        segment: String,
    },
    /// It is not what was written.
    #[error("the segment {segment} is damaged: {problem}")]
    Damaged {
        /// Its name.
        segment: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl SegmentError {
    pub(in crate::store) fn damaged(segment: &str, problem: impl Into<String>) -> Self {
        Self::Damaged { segment: segment.to_owned(), problem: problem.into() }
    }

    pub(in crate::store) fn unusable(segment: &str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unusable { segment: segment.to_owned(), source: Arc::new(source) }
    }
}

/// As a store tells it: a segment that is missing or damaged is no passing trouble.
impl From<SegmentError> for StoreError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Unusable { .. } => Self::Unavailable(Arc::new(error)),
            SegmentError::Missing { .. } | SegmentError::Damaged { .. } => Self::Corrupt(error.to_string()),
        }
    }
}

fn damaged(segment: &str, problem: impl Into<String>) -> SegmentError {
    SegmentError::damaged(segment, problem)
}

/// Makes the frames of a segment out of its events.
pub(in crate::store) struct SegmentMaker {
    segment: String,
    lines: Vec<u8>,
    in_frame: usize,
    first_in_frame: u64,
    frames: Vec<Frame>,
    facts: SegmentFacts,
    rows: Sha256,
    whole: Sha256,
}

impl SegmentMaker {
    /// Begins a segment of this name.
    pub(in crate::store) fn new(segment: &str) -> Self {
        let none = [0; 32];
        let facts =
            SegmentFacts { first: 0, last: 0, events: 0, rows_sha256: none, file_sha256: none, bytes: 0, raw_bytes: 0 };
        Self {
            segment: segment.to_owned(),
            lines: Vec::new(),
            in_frame: 0,
            first_in_frame: 0,
            frames: Vec::new(),
            facts,
            rows: Sha256::new(),
            whole: Sha256::new(),
        }
    }

    /// Adds the next event of the log; answers with the bytes of a frame that is full now.
    pub(in crate::store) fn push(&mut self, event: &RecordedEvent) -> Result<Option<Vec<u8>>, SegmentError> {
        let position = NUMBERS.of(event.position);
        if self.facts.events == 0 {
            self.facts.first = position;
        }
        if self.in_frame == 0 {
            self.first_in_frame = position;
        }
        line::write(event, &mut self.lines).map_err(|problem| damaged(&self.segment, problem))?;
        self.in_frame += 1;
        self.facts.events += 1;
        self.facts.last = position;
        if self.in_frame == FRAME_EVENTS { self.end_frame() } else { Ok(None) }
    }

    /// The bytes of the last frame, unless the one before was full.
    pub(in crate::store) fn end_frame(&mut self) -> Result<Option<Vec<u8>>, SegmentError> {
        if self.in_frame == 0 {
            return Ok(None);
        }
        let frame = compress(&self.lines).map_err(|error| SegmentError::unusable(&self.segment, error))?;
        self.rows.update(&self.lines);
        self.whole.update(&frame);
        let (length, raw_length) = (frame.len() as u64, self.lines.len() as u64);
        let (first, last, offset) = (self.first_in_frame, self.facts.last, self.facts.bytes);
        self.frames.push(Frame { first, last, offset, length, raw_length });
        self.facts.bytes += length;
        self.facts.raw_bytes += raw_length;
        self.lines.clear();
        self.in_frame = 0;
        Ok(Some(frame))
    }

    /// What the segment holds, and where.
    pub(in crate::store) fn finish(self) -> (SegmentFacts, Vec<Frame>) {
        let (rows_sha256, file_sha256) = (self.rows.finalize().into(), self.whole.finalize().into());
        (SegmentFacts { rows_sha256, file_sha256, ..self.facts }, self.frames)
    }
}

fn compress(lines: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(lines)
}

fn lines_of(segment: &str, frame: &Frame, bytes: &[u8]) -> Result<Vec<u8>, SegmentError> {
    frame.size(segment)?;
    let bad = |problem: String| damaged(segment, format!("the frame at byte {} {problem}", frame.offset));
    let room = usize::try_from(frame.raw_length).map_err(|_| bad("does not fit in memory".to_owned()))?;
    let lines = zstd::bulk::decompress(bytes, room).map_err(|error| bad(format!("cannot be unpacked: {error}")))?;
    if bytes.len() as u64 != frame.length || lines.len() as u64 != frame.raw_length {
        return Err(bad("has another length".to_owned()));
    }
    Ok(lines)
}

fn events_of(segment: &str, frame: &Frame, lines: &[u8]) -> Result<Vec<RecordedEvent>, SegmentError> {
    let parse = |text: &[u8]| {
        let bad = |problem| damaged(segment, format!("a line after position {}: {problem}", frame.first));
        line::read(text).map_err(bad)
    };
    let events = lines.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).map(parse);
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let ends = (events.first().map(|e| NUMBERS.of(e.position)), events.last().map(|e| NUMBERS.of(e.position)));
    if ends != (Some(frame.first), Some(frame.last)) || !events.is_sorted_by(|one, next| one.position < next.position) {
        return Err(damaged(segment, format!("the frame at byte {} holds other positions", frame.offset)));
    }
    Ok(events)
}

/// The events of one frame, by its bytes.
pub(in crate::store) fn read_frame(
    segment: &str,
    frame: &Frame,
    bytes: &[u8],
) -> Result<Vec<RecordedEvent>, SegmentError> {
    events_of(segment, frame, &lines_of(segment, frame, bytes)?)
}

/// Compares a segment that is read again, frame by frame, with what it is said to hold: bytes, lines, positions, commitments.
pub(in crate::store) struct SegmentCheck<'a> {
    segment: &'a str,
    said: &'a SegmentFacts,
    rows: Sha256,
    whole: Sha256,
    events: u64,
    first: u64,
    last: u64,
    offset: u64,
}

impl<'a> SegmentCheck<'a> {
    /// Begins with the number of bytes that are there.
    pub(in crate::store) fn new(segment: &'a str, said: &'a SegmentFacts, bytes: u64) -> Result<Self, SegmentError> {
        if bytes != said.bytes {
            return Err(damaged(segment, format!("it is {bytes} bytes long, not {}", said.bytes)));
        }
        let (rows, whole) = (Sha256::new(), Sha256::new());
        Ok(Self { segment, said, rows, whole, events: 0, first: 0, last: 0, offset: 0 })
    }

    /// The events of the next frame, by its bytes.
    pub(in crate::store) fn frame(&mut self, frame: &Frame, bytes: &[u8]) -> Result<Vec<RecordedEvent>, SegmentError> {
        if frame.offset != self.offset || frame.first <= self.last {
            return Err(damaged(self.segment, format!("no frame begins at byte {}", self.offset)));
        }
        let lines = lines_of(self.segment, frame, bytes)?;
        self.whole.update(bytes);
        self.rows.update(&lines);
        let events = events_of(self.segment, frame, &lines)?;
        if let Some(event) = events.iter().find(|event| !event.commitment_holds()) {
            let problem = format!("the payload at position {} is another one", NUMBERS.of(event.position));
            return Err(damaged(self.segment, problem));
        }
        if self.events == 0 {
            self.first = frame.first;
        }
        self.events += events.len() as u64;
        (self.offset, self.last) = (self.offset + frame.length, frame.last);
        Ok(events)
    }

    /// Ends after the last frame.
    pub(in crate::store) fn finish(self) -> Result<(), SegmentError> {
        let (said, found) = (self.said, <[u8; 32]>::from(self.whole.finalize()));
        if found != said.file_sha256 {
            let problem = format!("its hash is {}, not {}", line::hex(&found), line::hex(&said.file_sha256));
            return Err(damaged(self.segment, problem));
        }
        let same = <[u8; 32]>::from(self.rows.finalize()) == said.rows_sha256 && self.events == said.events;
        if !same || (self.first, self.last, self.offset) != (said.first, said.last, said.bytes) {
            return Err(damaged(self.segment, "it holds other events than were recorded"));
        }
        Ok(())
    }
}
