//! Reads accounting output of SLURM's `sacct` and turns it into monthly totals per account and component.
//!
//! The module depends on neither the store nor the domain: text or JSON in, exact decimals out. One [`Importer`] takes
//! any number of inputs, stores one compact record per row and sums everything in [`Importer::finish`], so that neither
//! the order of rows nor their division into files can change a result. Kinds of files: [`input`]; the query for
//! `sacct`: [`query`]; what counts once and how time is split: [`ledger`]; local times: [`local_time`]; coverage and
//! zeros: [`totals`].

pub mod allocation;
pub mod error;
pub mod header;
pub mod input;
pub mod job_id;
mod json;
pub mod ledger;
pub mod local_time;
mod looks;
pub mod mapping;
pub mod month;
pub mod query;
pub mod row;
pub mod sacct;
pub mod totals;
pub mod tres_string;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::atomic::Ordering;

use chrono_tz::Tz;

pub use allocation::AllocationsSeen;
pub use error::{BadLine, Column, ImportError};
pub use header::SACCT_COMMAND;
pub use input::Input;
pub use ledger::{AfterNow, OpenJob};
pub use mapping::{ComponentRule, DeclaredComponent, MappingError, Mappings};
pub use month::{MonthKey, Window};
pub use query::Query;
pub use totals::{ImportTotals, UnknownAccount};

use allocation::Allocations;
use header::Field;
use ledger::Ledger;
use row::{JobRow, Reading};
use sacct::{Begin, Line, SacctReader};

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

/// The options of an import.
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
    /// Nothing is counted after this instant, seconds since 1970.
    pub now_s: Option<i64>,
    /// The clusters whose rows count; without one a second cluster is refused.
    pub clusters: Vec<String>,
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
            now_s: None,
            clusters: Vec::new(),
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

/// What one input holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Its name.
    pub name: String,
    /// When the file was last changed, seconds since 1970.
    pub modified_s: Option<i64>,
    /// It was UTF-16.
    pub utf16: bool,
    /// It is a JSON document.
    pub json: bool,
    /// It says of which cluster its rows are.
    pub names_clusters: bool,
    /// The cluster that `sacct` was asked for.
    pub asked: Option<String>,
    /// Rows of jobs that ran.
    pub rows: u64,
    /// First start of such a job, seconds since 1970.
    pub first_s: Option<i64>,
    /// Last end of such a job.
    pub last_s: Option<i64>,
}

/// Collects the rows of any number of inputs; [`Importer::finish`] adds them up.
#[derive(Debug)]
pub struct Importer {
    options: ImportOptions,
    ledger: Ledger,
    allocations: Allocations,
    other_clusters: BTreeMap<String, u64>,
    coverage: Vec<Coverage>,
    progress: Progress,
    amounts: Vec<u64>,
}

impl Importer {
    /// An importer that has read nothing yet.
    pub fn new(options: ImportOptions) -> Self {
        Self {
            ledger: Ledger::new(options.rules.len()),
            allocations: Allocations::new(options.rules.len()),
            options,
            other_clusters: BTreeMap::new(),
            coverage: Vec::new(),
            progress: Progress::default(),
            amounts: Vec::new(),
        }
    }

    /// Reads one input to its end; `name` stands for it in error messages, `on_progress` is called now and then.
    ///
    /// # Errors
    /// The input cannot be read, is not what `sacct` writes, holds a malformed row (unless those are skipped), or there
    /// are more rows than [`ImportLimits::rows`]. The importer is then of no further use.
    pub fn read<R: BufRead>(
        &mut self,
        name: &str,
        input: R,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImportError> {
        self.coverage.push(Coverage {
            name: name.to_owned(),
            modified_s: None,
            utf16: false,
            json: false,
            names_clusters: true,
            asked: None,
            rows: 0,
            first_s: None,
            last_s: None,
        });
        match SacctReader::begin(name, input, self.options.limits.line_bytes)? {
            Begin::Table(reader) => self.read_table(name, reader, on_progress),
            Begin::Json(input) => {
                if let Some(coverage) = self.coverage.last_mut() {
                    coverage.json = true;
                }
                let lines = self.progress.lines;
                let jobs = json::jobs(name, input, &mut |row| self.take_row(row).or_else(|bad| self.skip(bad)))?;
                self.progress.lines = lines + jobs;
                on_progress(self.progress);
                Ok(())
            }
        }
    }

    /// Reads an opened input to its end.
    ///
    /// # Errors
    /// Those of [`Importer::read`].
    pub fn read_input(&mut self, input: Input, on_progress: &mut dyn FnMut(Progress)) -> Result<(), ImportError> {
        let Input { name, modified_s, utf16, reader, taken } = input;
        let before = self.progress.bytes;
        // What is shown is how much of the file was taken, packed as it is.
        let mut so_far =
            |progress: Progress| on_progress(Progress { bytes: before + taken.load(Ordering::Relaxed), ..progress });
        self.read(&name, reader, &mut so_far)?;
        self.progress.bytes = before + taken.load(Ordering::Relaxed);
        if let Some(coverage) = self.coverage.last_mut() {
            coverage.modified_s = modified_s;
            coverage.utf16 = utf16;
        }
        Ok(())
    }

    fn read_table<R: BufRead>(
        &mut self,
        name: &str,
        mut reader: SacctReader<R>,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ImportError> {
        let before = self.progress;
        let mut next_call = LINES_PER_PROGRESS;
        loop {
            let end = match reader.next_line()? {
                Line::End => true,
                Line::Bad(bad) => {
                    self.skip(Stop::Bad(bad))?;
                    false
                }
                Line::Row(row) => {
                    self.take_row(&row).or_else(|stop| self.skip(stop))?;
                    false
                }
            };
            self.progress =
                Progress { bytes: before.bytes + reader.bytes_read(), lines: before.lines + reader.lines_read() };
            if end {
                on_progress(self.progress);
                if reader.ends_without_newline() {
                    self.ledger.unterminated.push(name.to_owned());
                }
                if let Some(coverage) = self.coverage.last_mut() {
                    coverage.names_clusters = reader.has(Field::Cluster);
                }
                return Ok(());
            }
            if reader.lines_read() >= next_call {
                next_call += LINES_PER_PROGRESS;
                on_progress(self.progress);
            }
        }
    }

    /// A malformed row is counted where that is wanted, and ends the import elsewhere.
    fn skip(&mut self, stop: Stop) -> Result<(), ImportError> {
        let bad = match stop {
            Stop::Bad(bad) if self.options.skip_bad_lines => bad,
            Stop::Bad(bad) => return Err(ImportError::BadLine(bad)),
            Stop::Whole(error) => return Err(error),
        };
        self.ledger.bad_lines += 1;
        if self.ledger.first_bad_lines.len() < self.options.limits.kept_bad_lines {
            self.ledger.first_bad_lines.push(*bad);
        }
        Ok(())
    }

    fn take_row(&mut self, row: &JobRow<'_>) -> Result<(), Stop> {
        let cluster = row.text(Field::Cluster);
        if self.is_of_another_cluster(row, cluster)? {
            return Ok(());
        }
        let (job, run) = match row.read(self.options.file_zone)? {
            Reading::Step => {
                self.ledger.steps_skipped += 1;
                return Ok(());
            }
            Reading::NeverRan(None) => {
                self.ledger.nameless += 1;
                return Ok(());
            }
            Reading::NeverRan(Some(job)) => (job, None),
            Reading::Ran { job, run, open } => (job, Some((run, open))),
        };
        if let Some((run, _)) = run {
            let tres = row.text(Field::AllocTres);
            let read = self.allocations.read(tres, run.elapsed_s, &self.options.rules, &mut self.amounts);
            read.map_err(|problem| row.bad(Field::AllocTres, problem))?;
        } else {
            self.amounts.clear();
            self.amounts.resize(self.options.rules.len(), 0);
        }
        if self.ledger.rows() >= self.options.limits.rows {
            return Err(Stop::Whole(ImportError::TooManyRows { limit: self.options.limits.rows }));
        }
        self.ledger.add(job, (cluster, row.text(Field::Account)), run, &self.amounts);
        if let (Some((run, _)), Some(coverage)) = (run, self.coverage.last_mut()) {
            let end = run.start + i64::from(run.span_s);
            coverage.rows += 1;
            coverage.first_s = Some(coverage.first_s.map_or(run.start, |first| first.min(run.start)));
            coverage.last_s = Some(coverage.last_s.map_or(end, |last| last.max(end)));
        }
        Ok(())
    }

    /// Whether a row is of a cluster that does not belong to the offering; such rows are counted and skipped.
    fn is_of_another_cluster(&mut self, row: &JobRow<'_>, cluster: &str) -> Result<bool, Stop> {
        let ours = &self.options.clusters;
        if ours.is_empty() {
            let Some(known) = self.ledger.other_cluster(cluster).filter(|_| !cluster.is_empty()) else {
                return Ok(false);
            };
            let problem = format!(
                "earlier rows are of the cluster {known:?}: name the clusters that count with the offering's slurm_clusters, \
                 or take one at a time (sacct -M NAME)"
            );
            return Err(Stop::Whole(ImportError::BadLine(row.bad(Field::Cluster, problem))));
        }
        if cluster.is_empty() {
            if let [_, _, ..] = ours.as_slice() {
                let problem = format!(
                    "no Cluster in the row, where the offering counts those of {}: add Cluster to sacct's -o",
                    ours.join(", ")
                );
                return Err(Stop::Whole(ImportError::BadLine(row.bad(Field::Cluster, problem))));
            }
            return Ok(false);
        }
        if ours.iter().any(|name| name.eq_ignore_ascii_case(cluster)) {
            return Ok(false);
        }
        *self.other_clusters.entry(cluster.to_owned()).or_default() += 1;
        Ok(true)
    }

    /// Notes of which cluster the last input was asked for.
    pub(super) fn was_asked(&mut self, cluster: Option<&str>) {
        if let Some(coverage) = self.coverage.last_mut() {
            coverage.asked = cluster.map(str::to_owned);
        }
    }

    /// What each input holds.
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Months that the rows speak of, at the site.
    pub fn months(&self) -> Vec<MonthKey> {
        self.ledger.months(self.options.month_zone)
    }

    /// Says which days are counted, once it is known what the inputs hold.
    pub fn set_window(&mut self, window: Window) {
        self.options.window = window;
    }

    /// Adds up everything that was read.
    ///
    /// # Errors
    /// A total is beyond what a decimal holds (28 digits), a job is in rows of two accounts at the same time, or what
    /// is counted is in no row although it should be.
    pub fn finish(self) -> Result<ImportTotals, ImportError> {
        let seen = self.allocations.finish(&self.options.rules)?;
        totals::add_up(self.ledger, seen, self.other_clusters, &self.options)
    }
}

/// Why a row is not taken.
enum Stop {
    /// It is malformed.
    Bad(Box<BadLine>),
    /// The import is over.
    Whole(ImportError),
}

impl From<Box<BadLine>> for Stop {
    fn from(bad: Box<BadLine>) -> Self {
        Self::Bad(bad)
    }
}

/// Reads every named input; `-` is standard input, at most once.
///
/// # Errors
/// Those of [`Input::open`] and [`Importer::read`]; standard input named twice.
pub fn read_all(
    names: &[String],
    options: ImportOptions,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Importer, ImportError> {
    if names.iter().filter(|name| *name == "-").count() > 1 {
        return Err(ImportError::StandardInputTwice);
    }
    let mut importer = Importer::new(options);
    for name in names {
        importer.read_input(Input::open(name)?, on_progress)?;
    }
    Ok(importer)
}
