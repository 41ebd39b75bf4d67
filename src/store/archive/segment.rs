//! A segment file: frames of Zstandard one after the other, each with some hundred lines, so that one event costs one frame.
//!
//! The file by itself can be read with `zstd -dc`. Blocking; callers put it on a thread for that.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::line;
use crate::events::envelope::RecordedEvent;

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

/// What a segment file holds, as found by reading it.
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
    /// SHA-256 of the file.
    pub file_sha256: [u8; 32],
    /// Length of the file, in bytes.
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
    /// The name of its file in the folder of the archive.
    pub file: String,
    /// What it holds.
    pub facts: SegmentFacts,
    /// When it was verified and recorded.
    pub recorded_at: DateTime<Utc>,
}

/// What is wrong with a segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file cannot be read or written.
    #[error("the segment {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what was written.
    #[error("the segment {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// What an error of the file system becomes.
fn file_error(path: &Path) -> impl Fn(std::io::Error) -> SegmentError + '_ {
    |source| SegmentError::File { path: path.to_owned(), source }
}

fn damaged(path: &Path, problem: impl Into<String>) -> SegmentError {
    SegmentError::Damaged { path: path.to_owned(), problem: problem.into() }
}

/// Writes a segment file.
pub(in crate::store) struct SegmentWriter {
    path: PathBuf,
    file: BufWriter<File>,
    lines: Vec<u8>,
    in_frame: usize,
    first_in_frame: u64,
    frames: Vec<Frame>,
    facts: SegmentFacts,
    rows: Sha256,
    whole: Sha256,
}

impl SegmentWriter {
    /// Begins a file; one that is there, left by somebody who did not finish, is overwritten.
    pub(in crate::store) fn create(path: &Path) -> Result<Self, SegmentError> {
        let file = File::create(path).map_err(file_error(path))?;
        let none = [0; 32];
        let facts =
            SegmentFacts { first: 0, last: 0, events: 0, rows_sha256: none, file_sha256: none, bytes: 0, raw_bytes: 0 };
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            lines: Vec::new(),
            in_frame: 0,
            first_in_frame: 0,
            frames: Vec::new(),
            facts,
            rows: Sha256::new(),
            whole: Sha256::new(),
        })
    }

    /// Adds the next event of the log.
    pub(in crate::store) fn push(&mut self, event: &RecordedEvent) -> Result<(), SegmentError> {
        let position = event.position.as_seq();
        if self.facts.events == 0 {
            self.facts.first = position;
        }
        if self.in_frame == 0 {
            self.first_in_frame = position;
        }
        line::write(event, &mut self.lines).map_err(|problem| damaged(&self.path, problem))?;
        self.in_frame += 1;
        self.facts.events += 1;
        self.facts.last = position;
        if self.in_frame == FRAME_EVENTS { self.end_frame() } else { Ok(()) }
    }

    fn end_frame(&mut self) -> Result<(), SegmentError> {
        if self.in_frame == 0 {
            return Ok(());
        }
        let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(file_error(&self.path))?;
        compressor.include_checksum(true).map_err(file_error(&self.path))?;
        let frame = compressor.compress(&self.lines).map_err(file_error(&self.path))?;
        self.file.write_all(&frame).map_err(file_error(&self.path))?;
        self.rows.update(&self.lines);
        self.whole.update(&frame);
        let (length, raw_length) = (frame.len() as u64, self.lines.len() as u64);
        let (first, last, offset) = (self.first_in_frame, self.facts.last, self.facts.bytes);
        self.frames.push(Frame { first, last, offset, length, raw_length });
        self.facts.bytes += length;
        self.facts.raw_bytes += raw_length;
        self.lines.clear();
        self.in_frame = 0;
        Ok(())
    }

    /// Ends the file and waits until it is on the disk.
    pub(in crate::store) fn finish(mut self) -> Result<(SegmentFacts, Vec<Frame>), SegmentError> {
        self.end_frame()?;
        let file = self.file.into_inner().map_err(|error| file_error(&self.path)(error.into_error()))?;
        file.sync_all().map_err(file_error(&self.path))?;
        let (rows_sha256, file_sha256) = (self.rows.finalize().into(), self.whole.finalize().into());
        Ok((SegmentFacts { rows_sha256, file_sha256, ..self.facts }, self.frames))
    }
}

fn lines_of(path: &Path, file: &mut File, frame: &Frame) -> Result<(Vec<u8>, Vec<u8>), SegmentError> {
    if frame.length > FRAME_BYTES_MAX || frame.raw_length > FRAME_BYTES_MAX {
        return Err(damaged(path, format!("a frame of {} bytes", frame.length.max(frame.raw_length))));
    }
    let size = |bytes: u64| usize::try_from(bytes).map_err(|_| damaged(path, "a frame that does not fit in memory"));
    let mut compressed = vec![0; size(frame.length)?];
    file.seek(SeekFrom::Start(frame.offset)).and_then(|_| file.read_exact(&mut compressed)).map_err(
        |error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(path, "it ends too early"),
            _ => file_error(path)(error),
        },
    )?;
    let lines = zstd::bulk::decompress(&compressed, size(frame.raw_length)?)
        .map_err(|error| damaged(path, format!("the frame at byte {}: {error}", frame.offset)))?;
    if lines.len() as u64 != frame.raw_length {
        return Err(damaged(path, format!("the frame at byte {} has another length", frame.offset)));
    }
    Ok((compressed, lines))
}

fn events_of(path: &Path, frame: &Frame, lines: &[u8]) -> Result<Vec<RecordedEvent>, SegmentError> {
    let parse = |text: &[u8]| {
        line::read(text).map_err(|problem| damaged(path, format!("a line after position {}: {problem}", frame.first)))
    };
    let events = lines.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).map(parse);
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let ends = (events.first().map(|e| e.position.as_seq()), events.last().map(|e| e.position.as_seq()));
    if ends != (Some(frame.first), Some(frame.last)) || !events.is_sorted_by(|one, next| one.position < next.position) {
        return Err(damaged(path, format!("the frame at byte {} holds other positions", frame.offset)));
    }
    Ok(events)
}

/// The events of one frame.
pub(in crate::store) fn read_frame(path: &Path, frame: &Frame) -> Result<Vec<RecordedEvent>, SegmentError> {
    let mut file = File::open(path).map_err(file_error(path))?;
    let (_, lines) = lines_of(path, &mut file, frame)?;
    events_of(path, frame, &lines)
}

/// Reads a whole file again and compares it with what it is said to hold: bytes, lines, positions, commitments. Each event
/// is handed to `each`.
pub(in crate::store) fn verify(
    path: &Path,
    said: &SegmentFacts,
    frames: &[Frame],
    mut each: impl FnMut(&RecordedEvent),
) -> Result<(), SegmentError> {
    let mut file = File::open(path).map_err(file_error(path))?;
    let bytes = file.metadata().map_err(file_error(path))?.len();
    if bytes != said.bytes {
        return Err(damaged(path, format!("it is {bytes} bytes long, not {}", said.bytes)));
    }
    let (mut rows, mut whole, mut events) = (Sha256::new(), Sha256::new(), 0_u64);
    let (mut offset, mut after) = (0, 0);
    for frame in frames {
        if frame.offset != offset || frame.first <= after {
            return Err(damaged(path, format!("no frame begins at byte {offset}")));
        }
        let (compressed, lines) = lines_of(path, &mut file, frame)?;
        whole.update(&compressed);
        rows.update(&lines);
        for event in events_of(path, frame, &lines)? {
            if !event.commitment_holds() {
                return Err(damaged(
                    path,
                    format!("the payload at position {} is another one", event.position.as_seq()),
                ));
            }
            events += 1;
            each(&event);
        }
        (offset, after) = (offset + frame.length, frame.last);
    }
    let ends = (frames.first().map_or(0, |frame| frame.first), after);
    let found: ([u8; 32], [u8; 32]) = (whole.finalize().into(), rows.finalize().into());
    if found.0 != said.file_sha256 {
        return Err(damaged(
            path,
            format!("its hash is {}, not {}", line::hex(&found.0), line::hex(&said.file_sha256)),
        ));
    }
    if found.1 != said.rows_sha256 || events != said.events || ends != (said.first, said.last) || offset != bytes {
        return Err(damaged(path, "it holds other events than were recorded"));
    }
    Ok(())
}
