//! Reads accounting output of SLURM's `sacct` and turns it into month totals per account and component.
//!
//! The module knows neither the store nor the domain: text in, exact decimals out. One [`Importer`] takes any number
//! of inputs, remembers one compact record per row and adds everything up in [`Importer::finish`], so that the order
//! of rows and their division into files cannot change a result. What counts once and how time is split: [`ledger`];
//! how local times are read: [`local_time`]; what is covered and where zeros stand: [`totals`].

pub mod error;
pub mod job_id;
pub mod ledger;
pub mod local_time;
pub mod mapping;
pub mod month;
pub mod sacct;
pub mod totals;
pub mod tres_string;

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use chrono_tz::Tz;

pub use error::{BadLine, Column, ImportError};
pub use mapping::{ComponentRule, DeclaredComponent, MappingError, Mappings};
pub use month::{MonthKey, Window};
pub use sacct::SacctReader;
pub use totals::{ImportTotals, UnknownAccount};

use ledger::Ledger;
use local_time::ran_between;
use sacct::{Field, Line};

/// Bounds on what one import takes in; beyond them it stops with an error instead of using up the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// Longest line in bytes, without its line end; a longer one is a malformed line and is never held in memory.
    pub line_bytes: usize,
    /// Most job rows of one import, all inputs together. A row costs 32 bytes until the import is finished.
    pub rows: usize,
    /// Malformed lines kept word for word when they are skipped; the others are only counted.
    pub kept_bad_lines: usize,
}

impl Default for ImportLimits {
    /// 64 KiB a line, 50 million rows (1.6 GB), the first ten malformed lines.
    fn default() -> Self {
        Self { line_bytes: 64 * 1024, rows: 50_000_000, kept_bad_lines: 10 }
    }
}

/// What an import is told beside its inputs.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// How a job's allocation becomes components; only these components appear in the totals.
    pub rules: Vec<ComponentRule>,
    /// Zone of the times written in the files (`--timezone`).
    pub file_zone: Tz,
    /// Zone whose calendar months are billed and whose days [`Window`] means: the site's.
    pub month_zone: Tz,
    /// Days to count; without limits everything is counted.
    pub window: Window,
    /// Count malformed lines and go on, instead of stopping at the first.
    pub skip_bad_lines: bool,
    /// Bounds on the input.
    pub limits: ImportLimits,
}

impl ImportOptions {
    /// Options for files and months in one zone, without a window, stopping at the first malformed line.
    pub fn new(rules: Vec<ComponentRule>, zone: Tz) -> Self {
        Self {
            rules,
            file_zone: zone,
            month_zone: zone,
            window: Window::default(),
            skip_bad_lines: false,
            limits: ImportLimits::default(),
        }
    }
}

/// How far reading has come, over all inputs of the import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes taken from the inputs so far.
    pub bytes: u64,
    /// Lines taken so far, headers and malformed ones included.
    pub lines: u64,
}

/// The progress hook is called once per this many lines and at the end of each input.
const LINES_PER_PROGRESS: u64 = 4096;

/// Collects the rows of any number of inputs; [`Importer::finish`] adds them up.
#[derive(Debug)]
pub struct Importer {
    options: ImportOptions,
    ledger: Ledger,
    progress: Progress,
    amounts: Vec<u64>,
}

impl Importer {
    /// An importer that has read nothing yet.
    pub fn new(options: ImportOptions) -> Self {
        let ledger = Ledger::new(options.rules.len(), options.window.instants(options.month_zone));
        Self { options, ledger, progress: Progress::default(), amounts: Vec::new() }
    }

    /// Reads one input to its end; `name` stands for it in error messages, `on_progress` is called now and then.
    ///
    /// # Errors
    /// The input cannot be read, has no usable header, holds a malformed line (unless those are skipped), or there
    /// are more rows than [`ImportLimits::rows`]. The importer is then of no further use.
    pub fn read<R: BufRead>(
        &mut self,
        name: &str,
        input: R,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImportError> {
        let mut reader = SacctReader::new(name, input, self.options.limits.line_bytes)?;
        let before = self.progress;
        let mut next_call = LINES_PER_PROGRESS;
        loop {
            let end = self.take_line(&mut reader)?;
            self.progress =
                Progress { bytes: before.bytes + reader.bytes_read(), lines: before.lines + reader.lines_read() };
            if end {
                on_progress(self.progress);
                if reader.ends_without_newline() {
                    self.ledger.unterminated.push(name.to_owned());
                }
                return Ok(());
            }
            if reader.lines_read() >= next_call {
                next_call += LINES_PER_PROGRESS;
                on_progress(self.progress);
            }
        }
    }

    /// Takes one line; true at the end of the input.
    fn take_line<R: BufRead>(&mut self, reader: &mut SacctReader<R>) -> Result<bool, ImportError> {
        let bad = match reader.next_line()? {
            Line::End => return Ok(true),
            Line::Step => {
                self.ledger.steps_skipped += 1;
                return Ok(false);
            }
            Line::Bad(bad) => bad,
            Line::Job(row) => match self.options.read_row(&row, &mut self.amounts) {
                Ok(run) => {
                    if self.ledger.rows() >= self.options.limits.rows {
                        return Err(ImportError::TooManyRows { limit: self.options.limits.rows });
                    }
                    if let Err(cluster) = self.ledger.check_cluster(row.text(Field::Cluster)) {
                        Box::new(row.bad(
                            Field::Cluster,
                            format!("an import is of one cluster; earlier rows are of {cluster:?} (sacct -M NAME)"),
                        ))
                    } else {
                        self.ledger.add(row.job, row.text(Field::Account), run, &self.amounts);
                        return Ok(false);
                    }
                }
                Err(bad) => bad,
            },
        };
        if !self.options.skip_bad_lines {
            return Err(ImportError::BadLine(bad));
        }
        self.ledger.bad_lines += 1;
        if self.ledger.first_bad_lines.len() < self.options.limits.kept_bad_lines {
            self.ledger.first_bad_lines.push(*bad);
        }
        Ok(false)
    }

    /// Adds up everything that was read.
    ///
    /// # Errors
    /// A total is beyond what a decimal holds (28 digits).
    pub fn finish(self) -> Result<ImportTotals, ImportError> {
        totals::add_up(self.ledger, &self.options)
    }
}

impl ImportOptions {
    /// Interprets one job row: when it ran (`None`: not at all) and, in `amounts`, what it held, one number per rule.
    fn read_row(
        &self,
        row: &sacct::JobRow<'_>,
        amounts: &mut Vec<u64>,
    ) -> Result<Option<local_time::Run>, Box<BadLine>> {
        tres_string::amounts(row.text(Field::AllocTres), &self.rules, amounts)
            .map_err(|problem| row.bad(Field::AllocTres, problem))?;
        let elapsed = row.text(Field::ElapsedRaw);
        let elapsed_s: u32 = Some(elapsed)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| {
                row.bad(Field::ElapsedRaw, "not a whole number of seconds of at most 10 digits".to_owned())
            })?;
        let start = local_time::Stamp::parse(row.text(Field::Start))
            .map_err(|problem| row.bad(Field::Start, problem.to_owned()))?;
        let end = local_time::Stamp::parse(row.text(Field::End))
            .map_err(|problem| row.bad(Field::End, problem.to_owned()))?;
        ran_between(start, end, elapsed_s, self.file_zone)
            .map_err(|wrong| Box::new(row.bad(wrong.field, wrong.problem)))
    }
}

/// Opens an input by name: a file, or standard input for `-`.
///
/// # Errors
/// The file cannot be opened.
pub fn open(name: &str) -> Result<Box<dyn BufRead>, ImportError> {
    if name == "-" {
        return Ok(Box::new(BufReader::with_capacity(256 * 1024, io::stdin())));
    }
    let file = File::open(name).map_err(|source| ImportError::Io { name: name.to_owned(), source })?;
    Ok(Box::new(BufReader::with_capacity(256 * 1024, file)))
}

/// The whole of an import: reads every named input (`-` is standard input, at most once) and adds up.
///
/// # Errors
/// Those of [`open`], [`Importer::read`] and [`Importer::finish`]; standard input named twice.
pub fn import_all(
    names: &[String],
    options: ImportOptions,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<ImportTotals, ImportError> {
    if names.iter().filter(|name| *name == "-").count() > 1 {
        return Err(ImportError::StandardInputTwice);
    }
    let mut importer = Importer::new(options);
    for name in names {
        let label = if name == "-" { "standard input" } else { name };
        importer.read(label, open(name)?, on_progress)?;
    }
    importer.finish()
}
