//! The result of an import: month totals per account and component, and what is worth telling about the input.
//!
//! Rows add up as whole TRES-seconds; a total becomes a decimal once, at the end, divided by its component's unit and
//! rounded to [`DECIMAL_PLACES`], halves away from zero. Splitting a job or a file therefore never rounds twice.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rust_decimal::{Decimal, RoundingStrategy};

use super::ImportOptions;
use super::error::{BadLine, ImportError};
use super::ledger::Ledger;
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
pub(super) fn add_up(mut ledger: Ledger, options: &ImportOptions) -> Result<ImportTotals, ImportError> {
    let sums = ledger.sum(options.month_zone);
    let touched: BTreeSet<MonthKey> = sums.seconds.keys().map(|(_, month)| *month).collect();
    let (months, edge_months) = match options.window.months() {
        Some(months) => (months, Vec::new()),
        None => (touched.iter().copied().collect(), touched.difference(&sums.whole_months).copied().collect()),
    };
    let mut per_account = BTreeMap::new();
    let mut jobs_per_account = BTreeMap::new();
    for (number, account) in (0_u32..).zip(ledger.accounts()) {
        let mut totals = AccountTotals::new();
        for month in &months {
            let seconds = sums.seconds.get(&(number, *month));
            if seconds.is_none() && edge_months.contains(month) {
                continue;
            }
            let mut components = BTreeMap::new();
            for (at, rule) in options.rules.iter().enumerate() {
                let sum = seconds.map_or(0, |sums| sums[at]);
                let amount = in_units(sum, rule).ok_or_else(|| ImportError::TooLarge {
                    account: account.clone(),
                    month: month.to_string(),
                    component: rule.component.clone(),
                })?;
                components.insert(rule.component.clone(), amount);
            }
            totals.insert(*month, components);
        }
        per_account.insert(account.clone(), totals);
        jobs_per_account.insert(account.clone(), sums.jobs.get(&number).copied().unwrap_or_default());
    }
    let instant = |epoch_s: Option<i64>| epoch_s.and_then(|epoch_s| DateTime::from_timestamp(epoch_s, 0));
    Ok(ImportTotals {
        months,
        edge_months,
        per_account,
        jobs_per_account,
        jobs: sums.jobs.values().sum(),
        never_ran: sums.never_ran,
        steps_skipped: ledger.steps_skipped,
        bad_lines: ledger.bad_lines,
        first_bad_lines: ledger.first_bad_lines,
        duplicates: sums.duplicates,
        overlaps: sums.overlaps,
        outside_window: sums.outside,
        unterminated_inputs: ledger.unterminated,
        first_time: instant(sums.first_s),
        last_time: instant(sums.last_s),
    })
}
