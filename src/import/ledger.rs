//! Stores the rows of an import in 32 bytes each and sums their time by account and month, once.
//!
//! A job id runs once at a time, so the rows of one id are merged like intervals on a line: the same row in two files
//! counts once, pieces cut at month edges (`sacct -T`) are added, a piece beside its whole job adds nothing, runs of a
//! requeued job (`sacct -D`) are added. Where rows of a job overlap, the one that starts first counts, then the
//! longest, then the larger `ElapsedRaw`, then the larger allocation; the others count for the remaining time. Rows of
//! two accounts never overlap in one job: an overlap means that two clusters were mixed.
//!
//! The seconds of a suspended job (`ElapsedRaw` below End minus Start) are spread evenly over its span: until instant t
//! they are floor((t - start) x elapsed / span), so that any cuts add up exactly. In rows that `sacct -T` cut at the
//! edges of months, each month has its own `ElapsedRaw`, so nothing moves between months.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::error::{BadLine, ImportError};
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
    /// Cluster and name of each account.
    accounts: Vec<(u32, String)>,
    /// Clusters, each with the numbers of its accounts.
    clusters: Vec<String>,
    account_numbers: Vec<HashMap<String, u32>>,
    /// Rows of jobs without an end, each with its cluster and start.
    open: Vec<(u32, JobKey, u32, i64)>,
    pub(super) steps_skipped: u64,
    /// Rows of jobs that never ran and whose id cannot be read.
    pub(super) nameless: u64,
    pub(super) bad_lines: u64,
    pub(super) first_bad_lines: Vec<BadLine>,
    pub(super) unterminated: Vec<String>,
}

/// Between which instants rows are counted; later than `now` none is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) now: i64,
}

/// Usage after now, of one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AfterNow {
    /// Rows that end after now.
    pub rows: u64,
    /// When the last of them ends, seconds since 1970.
    pub last_s: i64,
}

/// A job that has no end yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// Its cluster; empty if the input does not name it.
    pub cluster: String,
    /// Its id.
    pub job: String,
    /// Its account.
    pub account: String,
    /// When it started, or when the listing begins if that cut it; seconds since 1970.
    pub start_s: i64,
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
    pub(super) after_now: BTreeMap<u32, AfterNow>,
    pub(super) duplicates: u64,
    pub(super) overlaps: u64,
    pub(super) outside: u64,
    pub(super) never_ran: u64,
    pub(super) first_s: Option<i64>,
    pub(super) last_s: Option<i64>,
}

impl Ledger {
    pub(super) fn new(rules: usize) -> Self {
        Self {
            pieces: Vec::new(),
            shapes: Shapes { width: rules, ..Shapes::default() },
            accounts: Vec::new(),
            clusters: Vec::new(),
            account_numbers: Vec::new(),
            open: Vec::new(),
            steps_skipped: 0,
            nameless: 0,
            bad_lines: 0,
            first_bad_lines: Vec::new(),
            unterminated: Vec::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.pieces.len()
    }

    /// Names of the accounts, by number; one name may be there once per cluster.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (u32, &str)> {
        (0_u32..).zip(self.accounts.iter().map(|(_, name)| name.as_str()))
    }

    /// The first cluster that was read with another name than this one.
    pub(super) fn other_cluster(&self, name: &str) -> Option<&str> {
        self.clusters.iter().map(String::as_str).find(|known| !known.is_empty() && !known.eq_ignore_ascii_case(name))
    }

    /// Jobs without an end, each once, with the earliest start.
    pub(super) fn open_jobs(&self) -> Vec<OpenJob> {
        let mut rows = self.open.clone();
        rows.sort_unstable();
        rows.dedup_by_key(|(cluster, job, _, _)| (*cluster, *job));
        let text = |names: &[String], at: u32| usize::try_from(at).ok().and_then(|at| names.get(at)).cloned();
        rows.into_iter()
            .map(|(cluster, job, account, start_s)| OpenJob {
                cluster: text(&self.clusters, cluster).unwrap_or_default(),
                job: job.to_string(),
                account: self.account(account).to_owned(),
                start_s,
            })
            .collect()
    }

    fn account(&self, number: u32) -> &str {
        usize::try_from(number).ok().and_then(|at| self.accounts.get(at)).map_or("", |(_, name)| name)
    }

    pub(super) fn add(
        &mut self,
        job: JobKey,
        (cluster, account): (&str, &str),
        run: Option<(Run, bool)>,
        amounts: &[u64],
    ) {
        let (cluster, account) = self.numbers(cluster, account);
        let shape = self.shapes.number(amounts);
        let run = run.map_or(Run { start: 0, span_s: 0, elapsed_s: 0 }, |(run, open)| {
            if open {
                self.open.push((cluster, job, account, run.start));
            }
            run
        });
        self.pieces.push(Piece { job, start: run.start, span_s: run.span_s, elapsed_s: run.elapsed_s, shape, account });
    }

    /// Numbers of a cluster and of an account on it.
    fn numbers(&mut self, cluster: &str, name: &str) -> (u32, u32) {
        let next = |count: usize| u32::try_from(count).expect("the limit on rows is far below 2^32");
        // There are few clusters.
        let at = self.clusters.iter().position(|known| known == cluster).unwrap_or_else(|| {
            self.clusters.push(cluster.to_owned());
            self.account_numbers.push(HashMap::new());
            self.clusters.len() - 1
        });
        let cluster = next(at);
        if let Some(number) = self.account_numbers[at].get(name) {
            return (cluster, *number);
        }
        let number = next(self.accounts.len());
        self.accounts.push((cluster, name.to_owned()));
        self.account_numbers[at].insert(name.to_owned(), number);
        (cluster, number)
    }

    /// Months in which jobs ran, without those that are only reached into from a neighbour, unless there are no others.
    pub(super) fn months(&self, zone: chrono_tz::Tz) -> Vec<MonthKey> {
        let edges = Edges::over(&self.pieces, zone);
        let (mut touched, mut whole) = (BTreeSet::new(), BTreeSet::new());
        for piece in self.pieces.iter().filter(|piece| piece.span_s > 0) {
            let mut at = piece.start;
            while at < piece.end() {
                let (month, end) = edges.month_at(at);
                touched.insert(month);
                if edges.is_within(piece) {
                    whole.insert(month);
                }
                at = end;
            }
        }
        Vec::from_iter(if whole.is_empty() { touched } else { whole })
    }

    fn cluster_of(&self, account: u32) -> u32 {
        usize::try_from(account).ok().and_then(|at| self.accounts.get(at)).map_or(0, |(cluster, _)| *cluster)
    }

    /// Adds up; `month_zone` decides which instants are in which month.
    ///
    /// # Errors
    /// A job in rows of two accounts at the same time.
    pub(super) fn sum(&mut self, month_zone: chrono_tz::Tz, bounds: Bounds) -> Result<Sums, ImportError> {
        let mut sums = Sums::default();
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_unstable_by(|a, b| self.order(a, b));
        let edges = Edges::over(&pieces, month_zone);
        let mut last = None;
        let mut covered: Option<&Piece> = None;
        let mut torn: Vec<(&Piece, &Piece)> = Vec::new();
        for piece in &pieces {
            let job = (self.cluster_of(piece.account), piece.job);
            if last != Some(job) {
                last = Some(job);
                covered = None;
                *sums.jobs.entry(piece.account).or_default() += 1;
            }
            if piece.span_s == 0 {
                sums.never_ran += 1;
                continue;
            }
            let covered_until = covered.map_or(i64::MIN, Piece::end);
            if let Some(other) = covered.filter(|other| other.account != piece.account && piece.start < other.end())
                && torn.last().is_none_or(|(of, _)| of.job != piece.job)
            {
                torn.push((other, piece));
            }
            let from = piece.start.max(covered_until);
            if from >= piece.end() {
                sums.duplicates += 1;
                continue;
            }
            if from > piece.start {
                sums.overlaps += 1;
            }
            covered = Some(piece);
            self.count(piece, (from, bounds), &edges, &mut sums);
        }
        sums.never_ran += self.nameless;
        let Some((one, other)) = torn.first() else { return Ok(sums) };
        let mut names = [self.account(one.account), self.account(other.account)];
        names.sort_unstable();
        Err(ImportError::TwoAccounts {
            job: one.job.to_string(),
            accounts: names.join(" and "),
            others: torn.len() as u64 - 1,
        })
    }

    /// By job and time; among rows of the same time by content, so that the order of reading never decides.
    fn order(&self, a: &Piece, b: &Piece) -> Ordering {
        let name = |piece: &Piece| usize::try_from(piece.account).ok().and_then(|at| self.accounts.get(at));
        (self.cluster_of(a.account), a.job, a.start)
            .cmp(&(self.cluster_of(b.account), b.job, b.start))
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

    /// Counts a piece from an instant on, month by month, as far as the bounds let it.
    fn count(&self, piece: &Piece, (from, bounds): (i64, Bounds), edges: &Edges, sums: &mut Sums) {
        let (from, until) = (from.max(bounds.begin), piece.end().min(bounds.end));
        if from >= until {
            sums.outside += 1;
            return;
        }
        if until > bounds.now {
            let after = sums.after_now.entry(piece.account).or_default();
            after.rows += 1;
            after.last_s = after.last_s.max(until);
        }
        let until = until.min(bounds.now);
        if from >= until {
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
