//! The result of an import: monthly totals per account and component, and remarks about the input.
//!
//! Rows add up as whole TRES-seconds; a total becomes a decimal once, at the end, divided by its component's unit and
//! rounded to [`DECIMAL_PLACES`], halves away from zero. Splitting a job or a file therefore never rounds twice.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, RoundingStrategy};

use super::ImportOptions;
use super::allocation::AllocationsSeen;
use super::error::{BadLine, ImportError};
use super::ledger::{AfterNow, Bounds, Ledger, OpenJob};
use super::mapping::ComponentRule;
use super::month::MonthKey;

/// Places after the point of a total: a node-second is 0.000278 node-hours.
pub const DECIMAL_PLACES: u32 = 6;

/// Totals of one account: month, component, amount in the component's unit.
pub type AccountTotals = BTreeMap<MonthKey, BTreeMap<String, Decimal>>;

/// What an import found.
///
/// *Covered months* are all months of a window with both ends, otherwise those in which some job ran for a second or
/// more. A job that only waited covers nothing, so that a file of February cannot touch March by a job that was
/// still waiting at midnight. Every account that appears in a row has a total for each covered month, an explicit 0
/// where it used nothing (a corrected file can take an account's usage back); the exception are
/// [`ImportTotals::edge_months`]. An account without any row has no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportTotals {
    /// Components that are counted.
    pub components: Vec<String>,
    /// Covered months, ascending.
    pub months: Vec<MonthKey>,
    /// Months that are covered only by jobs reaching in from the month before or out into the next, as at the ends
    /// of output written without `-T`: their totals are probably fragments. Accounts without usage get no 0 there. Empty
    /// with a window that has both ends.
    pub edge_months: Vec<MonthKey>,
    /// Totals by account; the empty name stands for jobs without an account.
    pub per_account: BTreeMap<String, AccountTotals>,
    /// Distinct jobs per account, those that never ran included.
    pub jobs_per_account: BTreeMap<String, u64>,
    /// Distinct job ids.
    pub jobs: u64,
    /// Rows of jobs that ran for no second: cancelled while waiting, still waiting, or failed at once.
    pub never_ran: u64,
    /// Rows of steps.
    pub steps_skipped: u64,
    /// Malformed lines that were skipped.
    pub bad_lines: u64,
    /// The first of them.
    pub first_bad_lines: Vec<BadLine>,
    /// Rows that added nothing, since other rows of the job cover their whole time.
    pub duplicates: u64,
    /// Rows that overlap another row of their job in part and counted for the rest.
    pub overlaps: u64,
    /// Rows outside the window.
    pub outside_window: u64,
    /// Inputs whose last line has no line end; they may have been cut off.
    pub unterminated_inputs: Vec<String>,
    /// Usage after now by account, which is not counted.
    pub after_now: BTreeMap<String, AfterNow>,
    /// Jobs that have no end yet.
    pub open_jobs: Vec<OpenJob>,
    /// Rows of clusters that are not the offering's, which are not counted.
    pub other_clusters: BTreeMap<String, u64>,
    /// What was in `AllocTRES`.
    pub allocations: AllocationsSeen,
    /// First instant counted.
    pub first_time: Option<DateTime<Utc>>,
    /// End of the last second counted.
    pub last_time: Option<DateTime<Utc>>,
}

/// An account of the input that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAccount {
    /// Its name; empty for jobs without an account.
    pub account: String,
    /// Its jobs.
    pub jobs: u64,
    /// Its usage by component, all covered months together.
    pub totals: BTreeMap<String, Decimal>,
    /// A known account whose name differs in upper and lower case only. Never used instead, only shown.
    pub hint: Option<String>,
}

impl ImportTotals {
    /// The accounts that are not among the known ones (exact comparison), with what they used.
    pub fn unknown_accounts(&self, known: &BTreeSet<String>) -> Vec<UnknownAccount> {
        let mut by_lower_case = BTreeMap::new();
        for name in known {
            by_lower_case.entry(name.to_lowercase()).or_insert(name);
        }
        self.per_account
            .iter()
            .filter(|(account, _)| !known.contains(*account))
            .map(|(account, months)| {
                let mut totals: BTreeMap<String, Decimal> = BTreeMap::new();
                for (component, amount) in months.values().flatten() {
                    *totals.entry(component.clone()).or_default() += amount;
                }
                UnknownAccount {
                    account: account.clone(),
                    jobs: self.jobs_per_account.get(account).copied().unwrap_or_default(),
                    totals,
                    hint: by_lower_case.get(&account.to_lowercase()).map(|name| (*name).clone()),
                }
            })
            .collect()
    }
}

/// TRES-seconds in a component's unit; `None` beyond 28 digits.
fn in_units(seconds: i128, rule: &ComponentRule) -> Option<Decimal> {
    let units = Decimal::try_from_i128_with_scale(seconds, 0).ok()?.checked_div(rule.tres_seconds_per_unit)?;
    Some(units.round_dp_with_strategy(DECIMAL_PLACES, RoundingStrategy::MidpointAwayFromZero).normalize())
}

/// Adds up a ledger.
pub(super) fn add_up(
    mut ledger: Ledger,
    allocations: AllocationsSeen,
    other_clusters: BTreeMap<String, u64>,
    options: &ImportOptions,
) -> Result<ImportTotals, ImportError> {
    let (begin, end) = options.window.instants(options.month_zone);
    let sums = ledger.sum(options.month_zone, Bounds { begin, end, now: options.now_s.unwrap_or(i64::MAX) })?;
    let touched: BTreeSet<MonthKey> = sums.seconds.keys().map(|(_, month)| *month).collect();
    let (months, edge_months) = match options.window.months() {
        Some(months) => (months, Vec::new()),
        None => (touched.iter().copied().collect(), touched.difference(&sums.whole_months).copied().collect()),
    };
    // An account of that name on another cluster is the same account to the offering.
    let mut seconds: BTreeMap<(&str, MonthKey), Vec<i128>> = BTreeMap::new();
    let mut jobs_per_account: BTreeMap<String, u64> = BTreeMap::new();
    let mut after_now: BTreeMap<String, AfterNow> = BTreeMap::new();
    for (number, account) in ledger.accounts() {
        *jobs_per_account.entry(account.to_owned()).or_default() += sums.jobs.get(&number).copied().unwrap_or_default();
        for (key, some) in sums.seconds.range((number, touched_from(&touched))..).take_while(|(key, _)| key.0 == number)
        {
            let sum = seconds.entry((account, key.1)).or_insert_with(|| vec![0; options.rules.len()]);
            sum.iter_mut().zip(some).for_each(|(sum, some)| *sum += some);
        }
        if let Some(after) = sums.after_now.get(&number) {
            let sum = after_now.entry(account.to_owned()).or_default();
            sum.rows += after.rows;
            sum.last_s = sum.last_s.max(after.last_s);
        }
    }
    let mut per_account = BTreeMap::new();
    for account in jobs_per_account.keys() {
        let mut totals = AccountTotals::new();
        for month in &months {
            let sums = seconds.get(&(account.as_str(), *month));
            if sums.is_some() || !edge_months.contains(month) {
                totals.insert(*month, components(account, *month, sums, &options.rules)?);
            }
        }
        per_account.insert(account.clone(), totals);
    }
    let instant = |epoch_s: Option<i64>| epoch_s.and_then(|epoch_s| DateTime::from_timestamp(epoch_s, 0));
    Ok(ImportTotals {
        components: options.rules.iter().map(|rule| rule.component.clone()).collect(),
        months,
        edge_months,
        per_account,
        jobs_per_account,
        jobs: sums.jobs.values().sum(),
        never_ran: sums.never_ran,
        steps_skipped: ledger.steps_skipped,
        bad_lines: ledger.bad_lines,
        first_bad_lines: std::mem::take(&mut ledger.first_bad_lines),
        duplicates: sums.duplicates,
        overlaps: sums.overlaps,
        outside_window: sums.outside,
        unterminated_inputs: std::mem::take(&mut ledger.unterminated),
        after_now,
        open_jobs: ledger.open_jobs(),
        other_clusters,
        allocations,
        first_time: instant(sums.first_s),
        last_time: instant(sums.last_s),
    })
}

/// The earliest month that has a sum; any will do if there is none.
fn touched_from(touched: &BTreeSet<MonthKey>) -> MonthKey {
    touched.first().copied().unwrap_or_else(|| MonthKey::of(chrono::NaiveDate::MIN))
}

fn components(
    account: &str,
    month: MonthKey,
    sums: Option<&Vec<i128>>,
    rules: &[ComponentRule],
) -> Result<BTreeMap<String, Decimal>, ImportError> {
    let of = |(at, rule): (usize, &ComponentRule)| {
        let amount = in_units(sums.map_or(0, |sums| sums[at]), rule).ok_or_else(|| ImportError::TooLarge {
            account: account.to_owned(),
            month: month.to_string(),
            component: rule.component.clone(),
        })?;
        Ok((rule.component.clone(), amount))
    };
    rules.iter().enumerate().map(of).collect()
}
