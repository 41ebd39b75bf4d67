//! Streaming reader of `sacct`'s parsable output (`-P` or `-p`): one line in memory, columns found by their header.
//!
//! Rows of steps, which repeat their job's time, are told apart from jobs; a header that comes again (files put together
//! with `cat`) starts anew, possibly with other columns.

use std::io::{BufRead, Read};
use std::ops::Range;

use super::error::{BadLine, Column, ImportError};
use super::job_id::{JobKey, RowKind};

/// The command that writes what this module reads, for help texts and errors.
pub const SACCT_COMMAND: &str = "TZ=UTC sacct -a -X -P --noconvert -T -S 2026-03-01T00:00:00 -E 2026-04-01T00:00:00 \
     -o JobID,Account,State,Start,End,ElapsedRaw,AllocTRES";

/// The columns that are looked at; others are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Job id.
    JobId,
    /// Account that is charged.
    Account,
    /// Seconds that the job ran, suspensions taken out.
    ElapsedRaw,
    /// What was allocated.
    AllocTres,
    /// Local time of the start.
    Start,
    /// Local time of the end.
    End,
    /// Cluster, optional.
    Cluster,
}

const FIELDS: [(Field, &str); 7] = [
    (Field::JobId, "JobID"),
    (Field::Account, "Account"),
    (Field::ElapsedRaw, "ElapsedRaw"),
    (Field::AllocTres, "AllocTRES"),
    (Field::Start, "Start"),
    (Field::End, "End"),
    (Field::Cluster, "Cluster"),
];
const REQUIRED: usize = 6;

/// Where the columns of an input are.
#[derive(Debug, Default)]
struct Header {
    /// Index of each of [`FIELDS`].
    places: [Option<usize>; FIELDS.len()],
    columns: usize,
}

impl Header {
    fn parse(line: &str) -> Result<Self, String> {
        let line = line.strip_suffix('|').unwrap_or(line);
        let mut header = Self { columns: line.split('|').count(), ..Self::default() };
        for (at, name) in line.split('|').enumerate() {
            let Some(known) = FIELDS.iter().position(|(_, field)| field.eq_ignore_ascii_case(name)) else { continue };
            if header.places[known].replace(at).is_some() {
                return Err(format!("the column {name} is there twice"));
            }
        }
        let missing: Vec<_> =
            (0..REQUIRED).filter(|known| header.places[*known].is_none()).map(|known| FIELDS[known].1).collect();
        match missing.len() {
            0 => Ok(header),
            REQUIRED => Err(format!(
                "no header with the names of the columns, separated by '|'; leave out sacct's -n and use: {SACCT_COMMAND}"
            )),
            _ => Err(format!("no column {}; use: {SACCT_COMMAND}", missing.join(", "))),
        }
    }

    fn place(&self, field: Field) -> Option<usize> {
        FIELDS.iter().position(|(known, _)| *known == field).and_then(|known| self.places[known])
    }
}

/// One line of an input.
#[derive(Debug)]
pub enum Line<'a> {
    /// A row of a job.
    Job(JobRow<'a>),
    /// A row of a step, which is not counted.
    Step,
    /// A malformed line.
    Bad(Box<BadLine>),
    /// There are no more lines.
    End,
}

/// A row of a job, with its columns still as text.
#[derive(Debug)]
pub struct JobRow<'a> {
    /// Its id.
    pub job: JobKey,
    place: Place<'a>,
    line: &'a str,
    fields: &'a [Range<usize>],
}

/// What an error needs to know about the current line.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    input: &'a str,
    line: u64,
    header: &'a Header,
}

impl Place<'_> {
    fn bad_line(&self, text: &str, problem: impl Into<String>) -> BadLine {
        BadLine {
            input: self.input.to_owned(),
            line: self.line,
            column: None,
            value: BadLine::shorten(text),
            problem: problem.into(),
        }
    }

    fn bad_field(&self, field: Field, value: &str, problem: String) -> BadLine {
        let name = FIELDS.iter().find(|(known, _)| *known == field).map_or("", |(_, name)| *name);
        let column = self.header.place(field).map(|at| Column { position: at + 1, name: name.to_owned() });
        BadLine { column, ..self.bad_line(value, problem) }
    }
}

impl<'a> JobRow<'a> {
    /// The text of a column; empty where the input has no such column.
    pub fn text(&self, field: Field) -> &'a str {
        self.place.header.place(field).and_then(|at| self.fields.get(at)).map_or("", |range| &self.line[range.clone()])
    }

    /// The error that points at a column of this row.
    pub fn bad(&self, field: Field, problem: String) -> BadLine {
        self.place.bad_field(field, self.text(field), problem)
    }
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
    /// Starts with the header; `name` is for error messages, lines longer than `line_bytes` are malformed.
    ///
    /// # Errors
    /// The input cannot be read, is empty, or its first line lacks a required column.
    pub fn new(name: &str, input: R, line_bytes: usize) -> Result<Self, ImportError> {
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
        let problem = match reader.take()? {
            Taken::End => "the input is empty, without even a header".to_owned(),
            _ if reader.buffer.starts_with(&[0x1f, 0x8b]) => "compressed; unpack it first: zcat FILE | … -".to_owned(),
            Taken::TooLong => format!("no header: the line has more than {line_bytes} bytes"),
            Taken::Line => match std::str::from_utf8(&reader.buffer) {
                Err(_) => "not text in UTF-8".to_owned(),
                Ok(line) => match Header::parse(line.strip_prefix('\u{feff}').unwrap_or(line)) {
                    Err(problem) => problem,
                    Ok(header) => {
                        reader.header = header;
                        return Ok(reader);
                    }
                },
            },
        };
        Err(ImportError::Header { name: reader.name, line: 1, problem })
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
                    self.header = Header::parse(&text).map_err(|problem| ImportError::Header {
                        name: self.name.clone(),
                        line: self.lines_read,
                        problem,
                    })?;
                }
                Taken::Line => return Ok(self.row()),
            }
        }
    }

    /// A job id is never the text `JobID`, so a header in the middle cannot be mistaken for a row.
    fn is_header(&self) -> bool {
        let at = self.header.place(Field::JobId).unwrap_or_default();
        self.buffer.split(|byte| *byte == b'|').nth(at).is_some_and(|name| name.eq_ignore_ascii_case(b"JobID"))
    }

    fn place(&self) -> Place<'_> {
        Place { input: &self.name, line: self.lines_read, header: &self.header }
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
        let place = Place { input: &self.name, line: self.lines_read, header: &self.header };
        let Ok(line) = std::str::from_utf8(&self.buffer) else {
            return Line::Bad(Box::new(place.bad_line(&String::from_utf8_lossy(&self.buffer), "not UTF-8")));
        };
        let columns = self.header.columns;
        let trailing = self.fields.len() == columns + 1 && from == self.buffer.len();
        if self.fields.len() != columns && !trailing {
            let problem = format!(
                "{} columns where the header has {columns}; leave out columns with free text such as JobName",
                self.fields.len()
            );
            return Line::Bad(Box::new(place.bad_line(line, problem)));
        }
        let id = place.header.place(Field::JobId).and_then(|at| self.fields.get(at)).cloned().unwrap_or_default();
        match RowKind::parse(&line[id.clone()]) {
            Ok(RowKind::Job(job)) => Line::Job(JobRow { job, place, line, fields: &self.fields }),
            Ok(RowKind::Step) => Line::Step,
            Err(allowed) => Line::Bad(Box::new(place.bad_field(Field::JobId, &line[id], allowed.to_owned()))),
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

#[cfg(test)]
mod tests {
    use super::{Field, Line, SacctReader};
    use crate::import::ImportError;

    const HEADER: &str = "JobID|Account|ElapsedRaw|AllocTRES|Start|End";

    /// What the lines of an input are, in short.
    fn kinds(text: &[u8]) -> Vec<String> {
        let mut reader = SacctReader::new("in", text, 200).expect("a header");
        let mut kinds = Vec::new();
        loop {
            kinds.push(match reader.next_line().expect("readable") {
                Line::End => return kinds,
                Line::Step => "step".to_owned(),
                Line::Bad(bad) => bad.to_string(),
                Line::Job(row) => format!("{} {}", row.text(Field::Account), row.text(Field::ElapsedRaw)),
            });
        }
    }

    fn header_error(text: &[u8]) -> String {
        match SacctReader::new("in", text, 200) {
            Err(error @ ImportError::Header { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn columns_are_found_by_name_in_any_order_and_a_trailing_bar_is_nothing() {
        let rows = b"End|state|ALLOCTRES|User|Account|ElapsedRaw|JobID|Start|\n|||u|a|5|1||\n|||u|b|6|1.0||\n";
        assert_eq!(kinds(rows), ["a 5", "step"]);
    }

    #[test]
    fn line_ends_blank_lines_and_a_byte_order_mark_do_not_matter() {
        let text = format!("\u{feff}{HEADER}\r\n\r\n1|a|5|||\r\n\n2|b|6|||");
        assert_eq!(kinds(text.as_bytes()), ["a 5", "b 6"]);
    }

    #[test]
    fn a_second_header_starts_anew() {
        let text =
            format!("{HEADER}\n1|a|5|||\n{HEADER}|State\n2|b|6||||\nJobID|End|Start|AllocTRES|ElapsedRaw|Account\n");
        assert_eq!(kinds(format!("{text}3||||7|c\n").as_bytes()), ["a 5", "b 6", "c 7"]);
    }

    #[test]
    fn malformed_lines_say_where_and_why() {
        let long = "x".repeat(300);
        let text = format!("{HEADER}\n1|a|5|\n{long}\nabc|a|5|||\n1|a|5|||\n");
        let kinds = kinds(text.as_bytes());
        assert!(kinds[0].starts_with("in, line 2: \"1|a|5|\": 4 columns where the header has 6"), "{}", kinds[0]);
        assert!(kinds[1].starts_with("in, line 3: \"xxx"), "{}", kinds[1]);
        assert!(kinds[1].ends_with("…\": the line has more than 200 bytes"), "{}", kinds[1]);
        assert!(kinds[2].starts_with("in, line 4, column 1 (JobID): \"abc\": not a job id"), "{}", kinds[2]);
        assert_eq!(kinds[3], "a 5");
    }

    #[test]
    fn what_is_not_utf_8_is_a_malformed_line() {
        let mut text = format!("{HEADER}\n1|a").into_bytes();
        text.extend_from_slice(b"\xff|5|||\n2|b|6|||\n");
        let kinds = kinds(&text);
        assert!(kinds[0].ends_with("not UTF-8"), "{}", kinds[0]);
        assert_eq!(kinds[1], "b 6");
    }

    #[test]
    fn an_unusable_header_is_explained() {
        assert!(header_error(b"").contains("empty"));
        assert!(header_error(b"1|a|5|cpu=1|None|None\n").contains("leave out sacct's -n"));
        assert!(header_error(b"JobID|Account|Elapsed|AllocTRES|Start|End\n").contains("no column ElapsedRaw;"));
        assert!(header_error(b"JobID|JobID|Account|ElapsedRaw|AllocTRES|Start|End\n").contains("JobID is there twice"));
        assert!(header_error(b"\x1f\x8b\x08\x00").contains("zcat"));
        assert!(header_error(b"\xff\xfe\n").contains("UTF-8"));
    }

    #[test]
    fn bytes_and_lines_are_counted_and_a_cut_end_is_noticed() {
        let text = format!("{HEADER}\n{}\n1|a|5|||", "y".repeat(500));
        let mut reader = SacctReader::new("in", text.as_bytes(), 200).expect("a header");
        while !matches!(reader.next_line().expect("readable"), Line::End) {}
        assert_eq!(reader.bytes_read(), u64::try_from(text.len()).expect("small"));
        assert_eq!(reader.lines_read(), 3);
        assert!(reader.ends_without_newline());
    }
}
