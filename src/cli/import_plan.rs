//! Plans an import before anything is stored: whole months, and totals that need a second look.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::Serialize;

use super::session::{CliError, Session};
use crate::commands::allocation::check_usage_month;
use crate::domain::decimal::{MAX_AMOUNT, complaint};
use crate::domain::ids::{OfferingId, ResourceId};
use crate::domain::period::Month;
use crate::domain::tres::Amounts;
use crate::import::{Coverage, ImportTotals, MonthKey, UnknownAccount, Window};
use crate::operations::imports::{LastImport, OpenJobRef};

/// Resources whose books are read together.
const BATCH: usize = 500;

/// How far the clocks of two machines may be apart: usage so little after now is cut, and no more is said.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(5);

/// What became, or would become, of one total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Lot {
    /// It is the first of its month, or a later state of the running month.
    Reported,
    /// It replaces a larger one, or one of a month that is over.
    Restated,
    /// It is known already.
    Unchanged,
    /// Something was recorded that was measured later: it is kept, and changes nothing.
    Late,
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

/// Changes that need `--restate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Finding {
    /// A total falls.
    Falls { account: String, month: Month, component: String, amount: Decimal, previous: Decimal },
    /// An account had usage in a month and has no job in it now.
    Missing { account: String, month: Month, component: String, previous: Decimal },
    /// Rows end after now.
    AfterNow { account: String, rows: u64, last_end: DateTime<Utc> },
    /// A job has no end any more.
    Reopened {
        account: String,
        job: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        cluster: String,
        start: DateTime<Utc>,
    },
}

/// Totals of one resource in one month.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) month: Month,
    pub(super) account: String,
    pub(super) resource: ResourceId,
    pub(super) amounts: Amounts,
    /// None: as of now, whatever is known.
    pub(super) measured_at: Option<DateTime<Utc>>,
}

/// What an import would report.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) wanted: Vec<Wanted>,
    pub(super) lines: Vec<Line>,
    pub(super) findings: Vec<Finding>,
    /// Months that are reported.
    pub(super) months: Vec<Month>,
    /// Months of which the window holds a part.
    pub(super) cut: Vec<Month>,
    /// Months that have not begun, or had not when the files were written.
    pub(super) not_begun: Vec<Month>,
    /// Months that were measured before they were over, by files of that time.
    pub(super) early: Vec<(Month, DateTime<Utc>)>,
    pub(super) unknown: Vec<UnknownAccount>,
    /// Seconds after now that were cut off as a difference of clocks.
    pub(super) clocks_apart_s: i64,
}

/// The inputs of a plan.
pub(super) struct Basis<'a> {
    pub(super) session: &'a Session,
    pub(super) offering: OfferingId,
    pub(super) window: Window,
    pub(super) totals: &'a ImportTotals,
    pub(super) inputs: &'a [Coverage],
    pub(super) last: Option<&'a LastImport>,
    pub(super) restate: bool,
}

/// The resource behind an account, with what is recorded for it.
struct Account {
    resource: ResourceId,
    slug: String,
    live: bool,
    previous: BTreeMap<(Month, String), Known>,
    /// Months whose usage is not taken, with the reason.
    closed: BTreeMap<Month, String>,
}

/// A total that is recorded.
struct Known {
    amount: Decimal,
    measured_at: Option<DateTime<Utc>>,
}

impl Plan {
    pub(super) async fn of(basis: &Basis<'_>) -> Result<Self, CliError> {
        let (session, totals) = (basis.session, basis.totals);
        let zone = session.config.time_zone;
        let mut plan = Self::default();
        let now = Month::of_instant(session.now(), zone);
        let mut whole: Vec<(MonthKey, Month, DateTime<Utc>)> = Vec::new();
        for key in months_of(basis) {
            let month = month_of(key)?;
            let measured_at = basis.measured_at(key);
            if month > now || measured_at < month.starts_at(zone) {
                plan.not_begun.push(month);
            } else if basis.window.covers(key, measured_at.timestamp(), zone) {
                if month < now && measured_at < month.next().starts_at(zone) {
                    plan.early.push((month, measured_at));
                }
                whole.push((key, month, measured_at));
                plan.months.push(month);
            } else {
                plan.cut.push(month);
            }
        }
        let accounts = accounts(session, basis.offering, &plan.months).await?;
        let known: BTreeSet<String> = accounts.keys().cloned().collect();
        plan.unknown = totals.unknown_accounts(&known);
        for (key, month, measured_at) in whole {
            for (name, account) in &accounts {
                plan.add(basis, (key, month, measured_at), (name, account), now)?;
            }
        }
        plan.look_at_time(basis, &known);
        Ok(plan)
    }

    /// The totals of an account in a month, with remarks.
    fn add(
        &mut self,
        basis: &Basis<'_>,
        (key, month, measured_at): (MonthKey, Month, DateTime<Utc>),
        (name, account): (&str, &Account),
        now: Month,
    ) -> Result<(), CliError> {
        let seen = basis.totals.per_account.get(name).and_then(|months| months.get(&key));
        let used = seen.is_some_and(|amounts| amounts.values().any(|amount| !amount.is_zero()));
        if let Some(reason) = account.closed.get(&month) {
            // A month of which nothing is taken may still be covered, as long as nothing is in it.
            if used {
                return Err(CliError::Failed(format!("nothing was imported: {name}: {reason}")));
            }
            return Ok(());
        }
        let mut amounts = Amounts::new();
        for component in &basis.totals.components {
            let amount = seen.and_then(|seen| seen.get(component)).copied().unwrap_or_default();
            if let Some(problem) = complaint(amount, Decimal::ZERO, MAX_AMOUNT) {
                return Err(CliError::Failed(format!("{name}, {month}, {component}: {problem} Nothing was imported")));
            }
            let known = account.previous.get(&(month, component.clone()));
            let previous = known.map(|known| known.amount);
            // An account without any row is reported only to take back what it had.
            if seen.is_none() && previous.is_none_or(|previous| previous.is_zero()) {
                continue;
            }
            let (name, component) = (name.to_owned(), component.clone());
            let newer = known.and_then(|known| known.measured_at).is_some_and(|at| measured_at < at);
            let late = newer && !basis.restate && previous != Some(amount);
            if let Some(previous) = previous.filter(|previous| amount < *previous && !late) {
                self.findings.push(if used {
                    Finding::Falls { account: name.clone(), month, component: component.clone(), amount, previous }
                } else {
                    Finding::Missing { account: name.clone(), month, component: component.clone(), previous }
                });
            }
            let outcome = if late { Lot::Late } else { lot(amount, previous, month, now) };
            amounts.insert(component.clone(), amount);
            let resource_uuid = account.resource;
            self.lines.push(Line { account: name, resource_uuid, month, component, amount, previous, outcome });
        }
        if !amounts.is_empty() {
            let measured_at = (!basis.restate).then_some(measured_at);
            let (account, resource) = (name.to_owned(), account.resource);
            self.wanted.push(Wanted { month, account, resource, amounts, measured_at });
        }
        Ok(())
    }

    /// Usage after now, and jobs that have no end any more.
    fn look_at_time(&mut self, basis: &Basis<'_>, known: &BTreeSet<String>) {
        let now = basis.session.now();
        for (account, after) in basis.totals.after_now.iter().filter(|(account, _)| known.contains(*account)) {
            let last_end = DateTime::from_timestamp(after.last_s, 0).unwrap_or(now);
            if last_end - now <= CLOCKS_APART {
                self.clocks_apart_s = self.clocks_apart_s.max((last_end - now).num_seconds() + 1);
            } else {
                self.findings.push(Finding::AfterNow { account: account.clone(), rows: after.rows, last_end });
            }
        }
        let Some(last) = basis.last else { return };
        let measured_at = basis.newest();
        for job in &basis.totals.open_jobs {
            let Some(reference) = basis.open_job(job).filter(|_| known.contains(&job.account)) else { continue };
            if last.knew_end_of(&reference, measured_at) {
                self.findings.push(Finding::Reopened {
                    account: job.account.clone(),
                    job: job.job.clone(),
                    cluster: job.cluster.clone(),
                    start: reference.start,
                });
            }
        }
    }
}

impl Basis<'_> {
    /// When a month's totals were measured: at the change of the newest file that has rows in it, and not before its rows.
    fn measured_at(&self, month: MonthKey) -> DateTime<Utc> {
        if self.restate {
            return self.session.now();
        }
        let zone = self.session.config.time_zone;
        let (begin, end) = (month.starts_at(zone), month.next().starts_at(zone));
        let touches = |input: &&Coverage| {
            input.first_s.is_some_and(|first| first < end) && input.last_s.is_some_and(|last| last > begin)
        };
        let some = self.inputs.iter().filter(touches).map(|input| self.measured(input)).max();
        some.unwrap_or_else(|| self.newest())
    }

    /// When the newest of the files was measured.
    pub(super) fn newest(&self) -> DateTime<Utc> {
        let now = self.session.now();
        if self.restate { now } else { self.inputs.iter().map(|input| self.measured(input)).max().unwrap_or(now) }
    }

    /// A file is as old as its last change; later usage in it shows that it is newer.
    fn measured(&self, input: &Coverage) -> DateTime<Utc> {
        let now = self.session.now();
        let Some(modified_s) = input.modified_s else { return now };
        let at_least = input.last_s.map_or(modified_s, |last| last.max(modified_s));
        DateTime::from_timestamp(at_least, 0).map_or(now, |at| at.min(now))
    }

    /// A job without an end, as it is remembered and compared.
    pub(super) fn open_job<'a>(&self, job: &'a crate::import::OpenJob) -> Option<OpenJobRef<'a>> {
        let (begin, _) = self.window.instants(self.session.config.time_zone);
        let start = DateTime::from_timestamp(job.start_s, 0)?;
        Some(OpenJobRef { cluster: &job.cluster, job: &job.job, start, cut: job.start_s == begin })
    }
}

/// The months of the window, as far as they have begun or hold something.
fn months_of(basis: &Basis<'_>) -> Vec<MonthKey> {
    let zone = basis.session.config.time_zone;
    let now = MonthKey::of_epoch(basis.session.now().timestamp(), zone);
    match (basis.window.months(), basis.window.from) {
        // Of those that have not begun the next one is enough to tell of.
        (Some(months), _) => months.into_iter().take_while(|month| *month <= now.next()).collect(),
        (None, Some(from)) => {
            let to = Window::of_months(now, now).to;
            Window { from: Some(from), to }.months().unwrap_or_default()
        }
        (None, None) => basis.totals.months.clone(),
    }
}

fn lot(amount: Decimal, previous: Option<Decimal>, month: Month, now: Month) -> Lot {
    match previous {
        Some(previous) if previous == amount => Lot::Unchanged,
        Some(previous) if amount < previous || month < now => Lot::Restated,
        _ => Lot::Reported,
    }
}

/// The resource behind each SLURM account of the offering, with what is recorded in these months. A live resource goes
/// before one that is gone.
async fn accounts(
    session: &Session,
    offering: OfferingId,
    months: &[Month],
) -> Result<BTreeMap<String, Account>, CliError> {
    let ids: Vec<ResourceId> = {
        let state = session.app.registry.read();
        state.resources().filter(|(_, entry)| entry.offering == offering).map(|(id, _)| id).collect()
    };
    let rules = session.app.allocations.rules();
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for some in ids.chunks(BATCH) {
        let books = session.app.allocations.books_of(some).await;
        let books = books.map_err(|error| CliError::because("the allocations cannot be read", error))?;
        for book in books.into_iter().flatten() {
            let facts = &book.facts;
            let live = facts.state.is_live();
            let recorded = |month: &Month| {
                let components = book.usage.get(month).into_iter().flatten();
                let known = |name: &str, amount| Known { amount, measured_at: book.measured(*month, name) };
                components.map(|(name, total)| ((*month, name.clone()), known(name, total.amount))).collect::<Vec<_>>()
            };
            let previous = months.iter().flat_map(recorded).collect();
            let refused =
                |month: &Month| Some((*month, check_usage_month(&book, *month, session.now(), &rules).err()?));
            let closed = months.iter().filter_map(refused).map(|(month, why)| (month, why.to_string())).collect();
            let account = Account { resource: facts.resource, slug: facts.slug.clone(), live, previous, closed };
            match accounts.get(facts.account()) {
                Some(other) if other.live && live => {
                    return Err(CliError::Failed(format!(
                        "the account {:?} belongs to two resources, {} and {}; correct one backend_id",
                        facts.account(),
                        other.slug,
                        account.slug
                    )));
                }
                Some(other) if other.live || !live => {}
                _ => drop(accounts.insert(facts.account().to_owned(), account)),
            }
        }
    }
    Ok(accounts)
}

/// A month of the importer as the domain's.
fn month_of(key: MonthKey) -> Result<Month, CliError> {
    Month::new(key.year(), key.number())
        .ok_or_else(|| CliError::Failed(format!("{key} is no month that Sluice counts: 1970-01 to 9998-12")))
}
