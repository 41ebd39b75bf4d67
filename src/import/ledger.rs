//! Remembers the rows of an import in 32 bytes each and adds their time up by account and month, once.
//!
//! A job id runs once at a time, so the rows of one id are joined like intervals on a line: the same row in two files
//! counts once, pieces cut at month edges (`sacct -T`) are added, a piece beside its whole job adds nothing, runs of a
//! requeued job (`sacct -D`) are added. Where rows of a job overlap, the one that starts first counts, then the longest,
//! then the larger `ElapsedRaw`, then the larger allocation; the others count for the time that is left.
//! A suspended job (`ElapsedRaw` below End minus Start) has its seconds spread evenly over its span: until instant t they
//! are floor((t - start) x elapsed / span), so that any cuts add up exactly. In rows that `sacct -T` cut at
//! the edges of months each month has its own `ElapsedRaw`, so nothing moves between months.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::error::BadLine;
use super::job_id::JobKey;
use super::local_time::Run;
use super::month::MonthKey;

/// One row, as compact as it can be: an import keeps all of them until its end.
#[derive(Debug, Clone, Copy)]
struct Piece {
    job: JobKey,
    start: i64,
    span_s: u32,
    elapsed_s: u32,
    shape: u32,
    account: u32,
}

impl Piece {
    fn end(&self) -> i64 {
        self.start + i64::from(self.span_s)
    }

    /// Seconds that count before an instant of the piece.
    fn elapsed_until(&self, at: i64) -> i128 {
        if self.span_s == self.elapsed_s {
            return i128::from(at - self.start);
        }
        i128::from(at - self.start) * i128::from(self.elapsed_s) / i128::from(self.span_s.max(1))
    }
}

/// Numbers for things that come again and again.
#[derive(Debug, Default)]
struct Shapes {
    known: HashMap<Box<[u64]>, u32>,
    amounts: Vec<u64>,
    width: usize,
}

impl Shapes {
    fn number(&mut self, amounts: &[u64]) -> u32 {
        if let Some(number) = self.known.get(amounts) {
            return *number;
        }
        let number = u32::try_from(self.known.len()).expect("the limit on rows is far below 2^32");
        self.known.insert(amounts.into(), number);
        self.amounts.extend_from_slice(amounts);
        number
    }

    fn get(&self, number: u32) -> &[u64] {
        let from = usize::try_from(number).expect("addresses have 32 bits or more") * self.width;
        &self.amounts[from..from + self.width]
    }
}

/// Everything that was read so far.
#[derive(Debug)]
pub(super) struct Ledger {
    pieces: Vec<Piece>,
    shapes: Shapes,
    accounts: Vec<String>,
    account_numbers: HashMap<String, u32>,
    cluster: Option<String>,
    window: (i64, i64),
    pub(super) steps_skipped: u64,
    pub(super) bad_lines: u64,
    pub(super) first_bad_lines: Vec<BadLine>,
    pub(super) unterminated: Vec<String>,
}

/// What the rows add up to, in TRES-seconds.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Per account and month, one sum per rule; only where at least a second was counted.
    pub(super) seconds: BTreeMap<(u32, MonthKey), Vec<i128>>,
    /// Distinct jobs per account.
    pub(super) jobs: BTreeMap<u32, u64>,
    /// Months in which some row ran without reaching over an edge of the month.
    pub(super) whole_months: BTreeSet<MonthKey>,
    pub(super) duplicates: u64,
    pub(super) overlaps: u64,
    pub(super) outside: u64,
    pub(super) never_ran: u64,
    pub(super) first_s: Option<i64>,
    pub(super) last_s: Option<i64>,
}

impl Ledger {
    pub(super) fn new(rules: usize, window: (i64, i64)) -> Self {
        Self {
            pieces: Vec::new(),
            shapes: Shapes { width: rules, ..Shapes::default() },
            accounts: Vec::new(),
            account_numbers: HashMap::new(),
            cluster: None,
            window,
            steps_skipped: 0,
            bad_lines: 0,
            first_bad_lines: Vec::new(),
            unterminated: Vec::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn accounts(&self) -> &[String] {
        &self.accounts
    }

    /// Job ids of two clusters would be taken for one another.
    pub(super) fn check_cluster(&mut self, name: &str) -> Result<(), String> {
        match &self.cluster {
            _ if name.is_empty() => Ok(()),
            Some(known) if known != name => Err(known.clone()),
            Some(_) => Ok(()),
            None => {
                self.cluster = Some(name.to_owned());
                Ok(())
            }
        }
    }

    pub(super) fn add(&mut self, job: JobKey, account: &str, run: Option<Run>, amounts: &[u64]) {
        let account = self.account_number(account);
        let shape = self.shapes.number(amounts);
        let run = run.unwrap_or(Run { start: 0, span_s: 0, elapsed_s: 0 });
        self.pieces.push(Piece { job, start: run.start, span_s: run.span_s, elapsed_s: run.elapsed_s, shape, account });
    }

    fn account_number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.account_numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.accounts.len()).expect("the limit on rows is far below 2^32");
        self.accounts.push(name.to_owned());
        self.account_numbers.insert(name.to_owned(), number);
        number
    }

    /// Adds up; `month_zone` decides which instants are in which month.
    pub(super) fn sum(&mut self, month_zone: chrono_tz::Tz) -> Sums {
        let mut sums = Sums::default();
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_unstable_by(|a, b| self.order(a, b));
        let edges = Edges::over(&pieces, month_zone);
        let mut last_job = None;
        let mut covered_until = i64::MIN;
        for piece in &pieces {
            if last_job != Some(piece.job) {
                last_job = Some(piece.job);
                covered_until = i64::MIN;
                *sums.jobs.entry(piece.account).or_default() += 1;
            }
            if piece.span_s == 0 {
                sums.never_ran += 1;
                continue;
            }
            let from = piece.start.max(covered_until);
            if from >= piece.end() {
                sums.duplicates += 1;
                continue;
            }
            if from > piece.start {
                sums.overlaps += 1;
            }
            covered_until = piece.end();
            self.count(piece, from, &edges, &mut sums);
        }
        sums
    }

    /// By job and time; among rows of the same time by content, so that the order of reading never decides.
    fn order(&self, a: &Piece, b: &Piece) -> Ordering {
        let name = |piece: &Piece| usize::try_from(piece.account).ok().and_then(|at| self.accounts.get(at));
        (a.job, a.start)
            .cmp(&(b.job, b.start))
            .then_with(|| (b.span_s, b.elapsed_s).cmp(&(a.span_s, a.elapsed_s)))
            .then_with(|| {
                if a.shape == b.shape {
                    Ordering::Equal
                } else {
                    self.shapes.get(b.shape).cmp(self.shapes.get(a.shape))
                }
            })
            .then_with(|| if a.account == b.account { Ordering::Equal } else { name(a).cmp(&name(b)) })
    }

    /// Counts a piece from an instant on, month by month, as far as the window lets it.
    fn count(&self, piece: &Piece, from: i64, edges: &Edges, sums: &mut Sums) {
        let (from, until) = (from.max(self.window.0), piece.end().min(self.window.1));
        if from >= until {
            sums.outside += 1;
            return;
        }
        sums.first_s = Some(sums.first_s.map_or(from, |first| first.min(from)));
        sums.last_s = Some(sums.last_s.map_or(until, |last| last.max(until)));
        let mut at = from;
        while at < until {
            let (month, month_end) = edges.month_at(at);
            let next = until.min(month_end);
            let seconds = piece.elapsed_until(next) - piece.elapsed_until(at);
            let sum = sums.seconds.entry((piece.account, month)).or_insert_with(|| vec![0; self.shapes.width]);
            for (sum, amount) in sum.iter_mut().zip(self.shapes.get(piece.shape)) {
                *sum += seconds * i128::from(*amount);
            }
            if at == from && next == until && edges.is_within(piece) {
                sums.whole_months.insert(month);
            }
            at = next;
        }
    }
}

/// The beginnings of the months that the pieces lie in, ascending.
struct Edges {
    months: Vec<(i64, MonthKey)>,
    end: i64,
}

impl Edges {
    fn over(pieces: &[Piece], zone: chrono_tz::Tz) -> Self {
        let ran = || pieces.iter().filter(|piece| piece.span_s > 0);
        let (Some(first), Some(end)) = (ran().map(|piece| piece.start).min(), ran().map(Piece::end).max()) else {
            return Self { months: Vec::new(), end: i64::MAX };
        };
        let last = MonthKey::of_epoch(end, zone);
        let months: Vec<_> = std::iter::successors(Some(MonthKey::of_epoch(first, zone)), |month| Some(month.next()))
            .take_while(|month| *month <= last)
            .map(|month| (month.starts_at(zone), month))
            .collect();
        Self { months, end: last.next().starts_at(zone) }
    }

    /// The month of an instant, and the instant at which it ends.
    fn month_at(&self, at: i64) -> (MonthKey, i64) {
        let index = self.months.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        let end = self.months.get(index + 1).map_or(self.end, |(start, _)| *start);
        (self.months[index].1, end)
    }

    fn is_within(&self, piece: &Piece) -> bool {
        self.month_at(piece.start).1 >= piece.end()
    }
}
