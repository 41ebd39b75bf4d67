//! Streaming reader of `sacct`'s parsable output (`-P` or `-p`): one line in memory, columns found by their header.
//!
//! It skips blank lines and a banner before the header; a repeated header (files joined with `cat`) starts over,
//! possibly with other columns. Only the columns that are read must be UTF-8.

use std::io::{BufRead, Read};
use std::ops::Range;

use super::error::{BadLine, ImportError};
use super::header::{FIELD_COUNT, Field, Header, SACCT_COMMAND};
use super::looks;
use super::row::{Columns, JobRow, Place};

/// Lines before the header that are skipped.
const BANNER_LINES_MAX: u64 = 200;

/// Lines of a banner that are kept to tell what the input is.
const BANNER_LINES_KEPT: usize = 8;

/// One line of an input.
#[derive(Debug)]
pub enum Line<'a> {
    /// A row of a job or of a step.
    Row(JobRow<'a>),
    /// A malformed line.
    Bad(Box<BadLine>),
    /// There are no more lines.
    End,
}

/// What an input turned out to be.
#[expect(clippy::large_enum_variant, reason = "there is one per input, taken apart at once")]
pub(super) enum Begin<R> {
    /// A table with its header.
    Table(SacctReader<R>),
    /// A JSON document, from its first byte on.
    Json(R),
}

/// Reads rows from one input.
#[derive(Debug)]
pub struct SacctReader<R> {
    name: String,
    input: R,
    line_bytes: usize,
    header: Header,
    buffer: Vec<u8>,
    fields: Vec<Range<usize>>,
    bytes_read: u64,
    lines_read: u64,
    terminated: bool,
}

enum Taken {
    Line,
    TooLong,
    End,
}

impl<R: BufRead> SacctReader<R> {
    /// Finds the header; `name` is for error messages, lines longer than `line_bytes` are malformed.
    ///
    /// # Errors
    /// The input cannot be read, or has no header with the required columns.
    pub(super) fn begin(name: &str, input: R, line_bytes: usize) -> Result<Begin<R>, ImportError> {
        let mut reader = Self {
            name: name.to_owned(),
            input,
            line_bytes,
            header: Header::default(),
            buffer: Vec::new(),
            fields: Vec::new(),
            bytes_read: 0,
            lines_read: 0,
            terminated: true,
        };
        let (mut banner, mut first_at): (Vec<String>, u64) = (Vec::new(), 1);
        while reader.lines_read < BANNER_LINES_MAX {
            if reader.at_json(banner.is_empty())? {
                return Ok(Begin::Json(reader.input));
            }
            let too_long = match reader.take()? {
                Taken::End => break,
                Taken::TooLong => true,
                Taken::Line => false,
            };
            let line = String::from_utf8_lossy(&reader.buffer);
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() {
                continue;
            }
            if banner.is_empty() {
                first_at = reader.lines_read;
            }
            if too_long {
                banner.push(BadLine::shorten(line));
                break;
            }
            if Header::is_one(line) {
                reader.header = Header::parse(line).map_err(|problem| reader.unusable(&problem, Some(line)))?;
                return Ok(Begin::Table(reader));
            }
            let row = looks::is_row(line);
            if banner.len() < BANNER_LINES_KEPT {
                banner.push(line.chars().take(400).collect());
            }
            if row {
                break;
            }
        }
        let problem = looks::of_text(&banner);
        let first = banner.first().map(|line| BadLine::shorten(line));
        Err(ImportError::Header { name: reader.name, line: first_at, problem, first })
    }

    /// Whether a JSON document begins here. Blanks at the beginning of a line are nothing to a header either.
    fn at_json(&mut self, first: bool) -> Result<bool, ImportError> {
        loop {
            let io_error = |source| ImportError::Io { name: self.name.clone(), source };
            let ready = self.input.fill_buf().map_err(io_error)?;
            match ready.first() {
                Some(b' ' | b'\t') => {
                    self.input.consume(1);
                    self.bytes_read += 1;
                }
                // The mark at the beginning of a text, if all of it is there already.
                Some(0xef) if first && ready.starts_with(&[0xef, 0xbb, 0xbf]) => {
                    self.input.consume(3);
                    self.bytes_read += 3;
                }
                Some(b'{') => return Ok(true),
                Some(b'[') => return Ok(first && ready.get(1).is_none_or(|next| b"{] \r\n\t".contains(next))),
                _ => return Ok(false),
            }
        }
    }

    fn unusable(&self, problem: &str, first: Option<&str>) -> ImportError {
        ImportError::Header {
            name: self.name.clone(),
            line: self.lines_read,
            problem: format!("{problem}; use: {SACCT_COMMAND}"),
            first: first.map(BadLine::shorten),
        }
    }

    /// Bytes taken from the input so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Lines taken so far, the header included.
    pub fn lines_read(&self) -> u64 {
        self.lines_read
    }

    /// Whether the last line taken had no line end: the input may have been cut off there.
    pub fn ends_without_newline(&self) -> bool {
        !self.terminated
    }

    /// Whether the header has a column.
    pub(super) fn has(&self, field: Field) -> bool {
        self.header.place(field).is_some()
    }

    /// The next line that is not blank and not a header.
    ///
    /// # Errors
    /// The input cannot be read, or a further header lacks a required column.
    pub fn next_line(&mut self) -> Result<Line<'_>, ImportError> {
        loop {
            match self.take()? {
                Taken::End => return Ok(Line::End),
                Taken::TooLong => {
                    let problem = format!("the line has more than {} bytes", self.line_bytes);
                    return Ok(Line::Bad(Box::new(
                        self.place().bad_line(&String::from_utf8_lossy(&self.buffer), problem),
                    )));
                }
                Taken::Line if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Taken::Line if self.is_header() => {
                    let text = String::from_utf8_lossy(&self.buffer);
                    let line = text.trim_start_matches('\u{feff}').trim();
                    self.header = Header::parse(line).map_err(|problem| self.unusable(&problem, Some(line)))?;
                }
                Taken::Line => return Ok(self.row()),
            }
        }
    }

    /// A job id is never the text `JobID`, so a header in the middle cannot be mistaken for a row.
    fn is_header(&self) -> bool {
        let begins = |cell: &[u8]| cell.first().is_some_and(|byte| b"jJ ".contains(byte) || *byte == 0xef);
        let at = self.header.place(Field::JobId).unwrap_or_default();
        let mut cells = self.buffer.split(|byte| *byte == b'|');
        let likely = cells.nth(at).is_some_and(begins) || self.buffer.first().is_some_and(u8::is_ascii_alphabetic);
        likely && Header::is_one(String::from_utf8_lossy(&self.buffer).trim_start_matches('\u{feff}'))
    }

    fn place(&self) -> Place<'_> {
        Place { input: &self.name, number: self.lines_read, columns: Columns::Table(&self.header) }
    }

    /// Why the columns of the line are not those of the header.
    fn shifted(&self) -> Option<String> {
        let columns = self.header.columns;
        let behind = self.fields.last().is_some_and(|last| !self.buffer[last.clone()].trim_ascii().is_empty());
        let problem = match self.fields.len() {
            found if found != columns => format!("{found} columns where the header has {columns}"),
            _ if self.header.ends_in_bar && behind => "text behind the last bar, where the header has none".to_owned(),
            _ => return None,
        };
        Some(format!("{problem}; leave out columns with free text such as JobName"))
    }

    fn row(&mut self) -> Line<'_> {
        self.fields.clear();
        let mut from = 0;
        for (at, byte) in self.buffer.iter().enumerate() {
            if *byte == b'|' {
                self.fields.push(from..at);
                from = at + 1;
            }
        }
        self.fields.push(from..self.buffer.len());
        let place = self.place();
        if let Some(problem) = self.shifted() {
            return Line::Bad(Box::new(place.bad_line(&String::from_utf8_lossy(&self.buffer), problem)));
        }
        let mut texts = [""; FIELD_COUNT];
        let mut unreadable = None;
        for (column, range) in self.fields.iter().enumerate() {
            let Some(field) = self.header.field_at(column) else { continue };
            match std::str::from_utf8(&self.buffer[range.clone()]) {
                Ok(text) => texts[field.index()] = text.trim(),
                // What it holds beside its first word is not read.
                Err(_) if field == Field::State => {}
                Err(_) if unreadable.is_none() => unreadable = Some((field, range.clone())),
                Err(_) => {}
            }
        }
        let row = JobRow { texts, place };
        match unreadable {
            Some((field, range)) if row.read(chrono_tz::Tz::UTC).is_ok_and(super::row::Reading::is_usage) => {
                let value = String::from_utf8_lossy(&self.buffer[range]);
                let problem = "not UTF-8; convert it, for instance with iconv -f ISO-8859-1 -t UTF-8".to_owned();
                Line::Bad(Box::new(place.bad_field(field, &value, problem)))
            }
            _ => Line::Row(row),
        }
    }

    /// Takes one line into the buffer, without its line end; an overlong one is dropped but for its beginning.
    fn take(&mut self) -> Result<Taken, ImportError> {
        self.buffer.clear();
        // Two bytes more than allowed: room for the line end, and one that tells "too long".
        let most = u64::try_from(self.line_bytes).unwrap_or(u64::MAX).saturating_add(2);
        let io_error = |source| ImportError::Io { name: self.name.clone(), source };
        let taken = self.input.by_ref().take(most).read_until(b'\n', &mut self.buffer).map_err(io_error)?;
        if taken == 0 {
            return Ok(Taken::End);
        }
        self.lines_read += 1;
        self.bytes_read += u64::try_from(taken).unwrap_or(u64::MAX);
        self.terminated = self.buffer.last() == Some(&b'\n');
        if self.terminated {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        } else if self.buffer.len() > self.line_bytes {
            let skipped = self.input.skip_until(b'\n').map_err(io_error)?;
            self.bytes_read += u64::try_from(skipped).unwrap_or(u64::MAX);
            self.terminated = true;
        }
        if self.buffer.len() > self.line_bytes {
            self.buffer.truncate(4 * BadLine::SHOWN_CHARS + 4);
            return Ok(Taken::TooLong);
        }
        Ok(Taken::Line)
    }
}
