//! From month totals to usage reports: which months count, what each report changed.
//!
//! Everything that can be refused is looked at before the first report, so that a file is taken whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::Serialize;

use super::output::Out;
use super::session::{CliError, Session};
use crate::commands::allocation::AllocationCommand;
use crate::domain::decimal::{MAX_AMOUNT, complaint};
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::domain::tres::Amounts;
use crate::import::{ImportTotals, MonthKey, UnknownAccount, Window};

/// Reports that are carried out together.
const BATCH: usize = 500;

/// The resource behind an account.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) resource: ResourceId,
    pub(super) slug: String,
    pub(super) live: bool,
}

/// What became of one total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Lot {
    /// It is the first of its month, or a later state of the running month.
    Reported,
    /// It replaces a larger one, or one of a month that is over.
    Restated,
    /// It is known already.
    Unchanged,
}

/// One total of an account.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    pub(super) account: String,
    pub(super) resource_uuid: ResourceId,
    pub(super) month: Month,
    pub(super) component: String,
    pub(super) amount: Decimal,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Decimal>,
    pub(super) outcome: Lot,
}

/// What an import reported.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) lines: Vec<Line>,
    /// Months that were reported.
    pub(super) months: Vec<Month>,
    /// Months left out because the file probably holds a part of them only.
    pub(super) edges: Vec<Month>,
    /// Months without usage that have not begun.
    pub(super) not_begun: Vec<Month>,
    pub(super) unknown: Vec<UnknownAccount>,
}

type Wanted = (Month, String, ResourceId, Amounts);

impl Report {
    pub(super) async fn of(
        totals: &ImportTotals,
        window: Window,
        accounts: &BTreeMap<String, Account>,
        session: &Session,
        dry_run: bool,
        out: &Out,
    ) -> Result<Self, CliError> {
        let known: BTreeSet<String> = accounts.keys().cloned().collect();
        let mut report = Self { unknown: totals.unknown_accounts(&known), ..Self::default() };
        let now = Month::of_instant(session.now(), session.config.time_zone);
        let left_out = left_out(totals, window);
        let mut wanted: Vec<Wanted> = Vec::new();
        for key in &totals.months {
            let month = month_of(*key)?;
            if left_out.contains(key) {
                report.edges.push(month);
                continue;
            }
            let some = of_month(totals, *key, month, accounts)?;
            if month > now {
                if some.iter().any(|(_, _, _, amounts)| amounts.values().any(|amount| !amount.is_zero())) {
                    return Err(CliError::Failed(format!(
                        "the file holds usage of {month}, which has not begun: it is {now} at the site; nothing was imported"
                    )));
                }
                report.not_begun.push(month);
                continue;
            }
            report.months.push(month);
            wanted.extend(some);
        }
        report.carry_out(wanted, now, session, dry_run, out).await?;
        Ok(report)
    }

    /// Reports the totals, oldest month first; in a dry run only compares them with what is.
    async fn carry_out(
        &mut self,
        wanted: Vec<Wanted>,
        now: Month,
        session: &Session,
        dry_run: bool,
        out: &Out,
    ) -> Result<(), CliError> {
        let allocations = &session.app.allocations;
        let meta = session.meta();
        let bar = out.progress(wanted.len() as u64, "reporting");
        // A batch takes each resource once, so it never spans two months.
        for some in wanted.chunk_by(|one, other| one.0 == other.0).flat_map(|month| month.chunks(BATCH)) {
            let ids: Vec<ResourceId> = some.iter().map(|(_, _, id, _)| *id).collect();
            let books = allocations.books_of(&ids).await;
            let books = books.map_err(|error| CliError::because("the allocations cannot be read", error))?;
            for ((month, account, resource, amounts), book) in some.iter().zip(books) {
                for (component, amount) in amounts {
                    let previous = book.as_ref().and_then(|book| book.amount(*month, component));
                    self.lines.push(Line {
                        account: account.clone(),
                        resource_uuid: *resource,
                        month: *month,
                        component: component.clone(),
                        amount: *amount,
                        previous,
                        outcome: lot(*amount, previous, *month, now),
                    });
                }
            }
            if !dry_run {
                let commands: Vec<_> = some
                    .iter()
                    .map(|(month, _, id, amounts)| {
                        (*id, AllocationCommand::ReportUsage { month: *month, amounts: amounts.clone() })
                    })
                    .collect();
                for ((month, account, _, _), outcome) in
                    some.iter().zip(allocations.execute_many(&commands, &meta).await)
                {
                    outcome.map_err(|error| {
                        let what = format!("{account} in {month} could not be reported; run the import again to go on");
                        CliError::because(what, error)
                    })?;
                }
            }
            bar.inc(some.len() as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

fn lot(amount: Decimal, previous: Option<Decimal>, month: Month, now: Month) -> Lot {
    match previous {
        Some(previous) if previous == amount => Lot::Unchanged,
        Some(previous) if amount < previous || month < now => Lot::Restated,
        _ => Lot::Reported,
    }
}

/// The totals of a month for the accounts that are known.
fn of_month(
    totals: &ImportTotals,
    key: MonthKey,
    month: Month,
    accounts: &BTreeMap<String, Account>,
) -> Result<Vec<Wanted>, CliError> {
    let mut wanted = Vec::new();
    for (name, months) in &totals.per_account {
        let (Some(account), Some(amounts)) = (accounts.get(name), months.get(&key)) else { continue };
        for (component, amount) in amounts {
            if let Some(problem) = complaint(*amount, Decimal::ZERO, MAX_AMOUNT) {
                return Err(CliError::Failed(format!("{name}, {month}, {component}: {problem} Nothing was imported")));
            }
        }
        wanted.push((month, name.clone(), account.resource, amounts.clone().into_iter().collect()));
    }
    Ok(wanted)
}

/// Months whose totals are probably fragments, unless the window says that its days are meant.
fn left_out(totals: &ImportTotals, window: Window) -> Vec<MonthKey> {
    let meant = |month: MonthKey| [window.from, window.to].into_iter().flatten().any(|day| MonthKey::of(day) == month);
    totals.edge_months.iter().copied().filter(|month| !meant(*month)).collect()
}

/// A month of the importer as the domain's.
pub(super) fn month_of(key: MonthKey) -> Result<Month, CliError> {
    Month::new(key.year(), key.number())
        .ok_or_else(|| CliError::Failed(format!("{key} is no month that Sluice counts")))
}
