//! The standing of allocations for lists: names, amounts, forecasts and times, filtered and sorted.
//!
//! The rows are read in bulk and joined with the in-memory registry; the forecast depends on the current day, so no
//! table holds it. The cost grows with the number of visible allocations, and never with the length of their history.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::Operations;
use crate::commands::allocation::PolicyInForce;
use crate::domain::forecast::{Ahead, Paces, Usage};
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::{Period, site_date};
use crate::domain::standing::Standing;
use crate::domain::tres::percentage;
use crate::projections::status_summary::{AgentStatus, StandingFilter, StandingLine, StandingRow, standings};
use crate::registry::RegistryState;
use crate::store::sql::{ReadDb, SqlError};

/// By what a list of allocations is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortBy {
    /// The rung that is reached next, soonest first; what reaches none comes last, the fullest first.
    #[default]
    Next,
    /// When it came into being.
    Created,
    /// The name.
    Name,
    /// The organisation's name.
    Organisation,
    /// The project's name.
    Project,
    /// The percentage.
    Usage,
    /// The amount used.
    Used,
    /// The word, the most pressing first.
    Standing,
    /// Since when it stands so.
    Since,
    /// The last report.
    Reported,
    /// The pace of the last seven days over the ideal one.
    Pace,
}

impl SortBy {
    /// Its name on the wire.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("next", Self::Next),
        ("created", Self::Created),
        ("name", Self::Name),
        ("organisation", Self::Organisation),
        ("project", Self::Project),
        ("usage", Self::Usage),
        ("used", Self::Used),
        ("state", Self::Standing),
        ("state_since", Self::Since),
        ("reported", Self::Reported),
        ("pace", Self::Pace),
    ];
    /// The names in words.
    pub const ALLOWED: &'static str = "next, created, name, organisation, project, usage, used, state, state_since, reported, pace; with - in front the other way round";
}

/// In which order allocations are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sorting {
    /// By what.
    pub by: SortBy,
    /// The other way round; what has no value comes last either way.
    pub descending: bool,
}

impl Sorting {
    /// Reads `usage`, or `-usage`.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, descending) = text.strip_prefix('-').map_or((text, false), |word| (word, true));
        let by = SortBy::NAMES.iter().find(|(name, _)| *name == word)?.1;
        Some(Self { by, descending })
    }
}

/// Which allocations are asked for.
#[derive(Debug, Clone, Default)]
pub struct StandingQuery {
    /// By what they are; and what the asker may see.
    pub of: StandingFilter,
    /// That stand so; empty: however.
    pub standings: Vec<Standing>,
    /// Whose newest commands stand so; empty: however.
    pub agents: Vec<AgentStatus>,
    /// With this in a name, slug or account of the allocation, its project, its organisation or its policy.
    pub text: Option<String>,
    /// That stand as they do since this instant or later.
    pub changed_since: Option<DateTime<Utc>>,
    /// That are not restricted and reach a rung in the period at one of both paces, or are not.
    pub at_risk: Option<bool>,
    /// Each allocation once, under the policy that matters most: the one that restricts it, else the next to do something.
    pub once: bool,
    /// In which order.
    pub sorting: Sorting,
}

/// What a policy has in store for an allocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook<'a> {
    /// How usage stands.
    pub usage: Usage<'a>,
    /// Percent, as evaluated.
    pub percentage: Decimal,
    /// What is used in a day.
    pub paces: Paces,
    /// Rungs that are not reached, lowest first.
    pub ahead: Vec<Ahead<'a>>,
}

impl Outlook<'_> {
    /// The pace of the last seven days over the ideal one.
    pub fn multiple_of_ideal(&self) -> Option<Decimal> {
        self.paces.ideal.filter(|ideal| *ideal > Decimal::ZERO).map(|ideal| self.paces.recent / ideal)
    }

    /// How many points of percent usage is ahead of a pace that uses up all of it on the last day.
    pub fn points_from_ideal(&self) -> Option<Decimal> {
        let limited = self.usage.may_use > Decimal::ZERO;
        self.usage.elapsed_percent().filter(|_| limited).map(|elapsed| self.percentage - elapsed)
    }

    /// The day on which the next rung is reached, if that is in the period.
    pub fn soonest(&self) -> Option<NaiveDate> {
        self.ahead.first().and_then(Ahead::soonest)
    }
}

/// An allocation under a policy.
#[derive(Debug, Clone)]
pub struct AllocationStanding {
    /// What the read models say.
    pub row: StandingRow,
    /// The policy, where one applies.
    pub policy: Option<Arc<PolicyInForce>>,
    /// The day it is at the site.
    pub today: NaiveDate,
    since: Option<NaiveDate>,
}

impl AllocationStanding {
    fn of(row: StandingRow, state: &RegistryState, today: NaiveDate, zone: chrono_tz::Tz) -> Self {
        let policy = row.line.as_ref().and_then(|line| state.policy(line.policy)).cloned();
        let period = row.line.as_ref().and_then(|line| line.period);
        let since = period.map(|period| period.start().unwrap_or_else(|| site_date(row.created, zone)));
        Self { row, policy, today, since }
    }

    /// What the policy has in store; none before the first evaluation that worked.
    pub fn outlook(&self) -> Option<Outlook<'_>> {
        let (line, policy) = self.row.line.as_ref().zip(self.policy.as_deref())?;
        outlook(line, policy, self.since?, self.today)
    }

    fn soonest(&self) -> Option<NaiveDate> {
        self.outlook().and_then(|outlook| outlook.soonest())
    }

    fn percentage(&self) -> Option<Decimal> {
        self.row.line.as_ref().and_then(|line| line.percentage)
    }

    /// Whether nothing restricts it and a rung comes in the period.
    pub fn is_at_risk(&self) -> bool {
        matches!(self.row.standing, Standing::Normal | Standing::Warned) && self.soonest().is_some()
    }

    fn changed_since(&self, instant: DateTime<Utc>) -> bool {
        self.row.stood.is_some() && self.row.since.is_some_and(|since| since >= instant)
    }
}

/// What a policy has in store for an allocation, by its line.
fn outlook<'a>(
    line: &'a StandingLine,
    policy: &'a PolicyInForce,
    since: NaiveDate,
    today: NaiveDate,
) -> Option<Outlook<'a>> {
    let usage =
        Usage { used: line.used?, may_use: line.may_use?, period: line.period?, since, today, trail: &line.trail };
    let (paces, percentage) = (usage.paces(), line.percentage?);
    Some(Outlook { ahead: usage.ahead(&policy.evaluation.ladder, percentage, &paces), usage, percentage, paces })
}

/// Names as they are sorted and searched, by the registry.
struct Names<'a> {
    state: &'a RegistryState,
}

impl Names<'_> {
    fn organisation(&self, row: &StandingRow) -> &str {
        self.state.customer(row.customer).map(|c| c.facts.name.as_str()).unwrap_or_default()
    }

    fn project(&self, row: &StandingRow) -> &str {
        self.state.project(row.project).map(|p| p.facts.name.as_str()).unwrap_or_default()
    }

    /// Whether a text in small letters occurs in what an allocation is known by.
    fn hold(&self, of: &AllocationStanding, text: &str) -> bool {
        let row = &of.row;
        let customer = self.state.customer(row.customer).map(|c| [c.facts.name.as_str(), c.facts.slug.as_str()]);
        let project = self.state.project(row.project).map(|p| [p.facts.name.as_str(), p.facts.slug.as_str()]);
        let policy = of.policy.as_ref().map(|p| p.facts.slug.as_str());
        let own = [row.name.as_str(), row.slug.as_str(), row.backend_id.as_str()];
        let mut all = own.into_iter().chain(customer.into_iter().flatten()).chain(project.into_iter().flatten());
        all.any(|name| name.to_lowercase().contains(text)) || policy.is_some_and(|p| p.to_lowercase().contains(text))
    }
}

/// What rows are compared by.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Text(String),
    Amount(Decimal),
    Day(NaiveDate),
    Instant(DateTime<Utc>),
    Word(Standing),
}

fn key(by: SortBy, of: &AllocationStanding, names: &Names<'_>) -> Option<Key> {
    let row = &of.row;
    let text = |text: &str| Some(Key::Text(text.to_lowercase()));
    match by {
        SortBy::Next => of.soonest().map(Key::Day),
        SortBy::Created => Some(Key::Instant(row.created)),
        SortBy::Name => text(&row.name),
        SortBy::Organisation => text(names.organisation(row)),
        SortBy::Project => text(names.project(row)),
        SortBy::Usage => of.percentage().map(Key::Amount),
        SortBy::Used => row.line.as_ref().and_then(|line| line.used).map(Key::Amount),
        SortBy::Standing => Some(Key::Word(row.standing)),
        SortBy::Since => row.since.map(Key::Instant),
        SortBy::Reported => row.reported_at.map(Key::Instant),
        SortBy::Pace => of.outlook().and_then(|outlook| outlook.multiple_of_ideal()).map(Key::Amount),
    }
}

/// What has a value before what has none, and the values in the order that is asked for.
fn compare(one: Option<&Key>, other: Option<&Key>, descending: bool) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) if descending => other.cmp(one),
        (Some(one), Some(other)) => one.cmp(other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

fn sort(rows: &mut Vec<AllocationStanding>, sorting: Sorting, names: &Names<'_>) {
    let mut keyed: Vec<_> = rows.drain(..).map(|row| (key(sorting.by, &row, names), row)).collect();
    keyed.sort_by(|(one, of_one), (other, of_other)| {
        // The fullest first, then by name: the same order every time.
        compare(one.as_ref(), other.as_ref(), sorting.descending)
            .then_with(|| of_other.percentage().cmp(&of_one.percentage()))
            .then_with(|| of_one.row.name.cmp(&of_other.row.name))
            .then_with(|| of_one.row.resource.cmp(&of_other.row.resource))
    });
    rows.extend(keyed.into_iter().map(|(_, row)| row));
}

/// Of the policies of an allocation the one that matters most: that restricts it, that comes next, that is fullest.
fn once(rows: Vec<AllocationStanding>) -> Vec<AllocationStanding> {
    let rank = |of: &AllocationStanding| {
        let held = of.row.line.as_ref().is_some_and(|line| line.held.any());
        (!held, of.row.standing, of.soonest().map_or((true, NaiveDate::MAX), |day| (false, day)))
    };
    let mut kept: Vec<AllocationStanding> = Vec::with_capacity(rows.len());
    // Lines of one allocation lie together.
    for row in rows {
        match kept.last_mut().filter(|last| last.row.resource == row.row.resource) {
            Some(last) => {
                let better = rank(&row).cmp(&rank(last)).then_with(|| last.percentage().cmp(&row.percentage()));
                if better == Ordering::Less {
                    *last = row;
                }
            }
            None => kept.push(row),
        }
    }
    kept
}

/// All allocations under a policy, taken together.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyTotals {
    /// The policy.
    pub policy: PolicyId,
    /// The period that is counted.
    pub period: Period,
    /// Allocations that are counted in.
    pub allocations: u64,
    /// Used by all.
    pub used: Decimal,
    /// What all may use.
    pub may_use: Decimal,
    /// One of the other, in percent.
    pub percentage: Decimal,
    /// Points of percent ahead of a pace that uses up all of it on the last day.
    pub points_from_ideal: Option<Decimal>,
}

/// How many allocations stand how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StandingSummary {
    /// Allocations, each once.
    pub allocations: u64,
    /// By the most pressing of the words that they stand under.
    pub standings: BTreeMap<Standing, u64>,
    /// That are not restricted and reach a rung in the period.
    pub at_risk: u64,
    /// That changed since the instant that is asked for.
    pub changed: u64,
    /// Taken together by policy and period: amounts of different policies may have different units.
    pub together: Vec<PolicyTotals>,
}

impl Operations {
    /// The allocations that are asked for, in the order that is asked for.
    ///
    /// # Errors
    /// The read models fail.
    pub async fn standings(&self, db: &ReadDb, query: &StandingQuery) -> Result<Vec<AllocationStanding>, SqlError> {
        let rows = standings(db, &query.of).await?;
        let (today, zone) = self.site_day();
        let state = self.registry.read();
        let names = Names { state: &state };
        let mut found: Vec<AllocationStanding> =
            rows.into_iter().map(|row| AllocationStanding::of(row, &state, today, zone)).collect();
        let text = query.text.as_deref().map(str::to_lowercase);
        found.retain(|of| {
            query.changed_since.is_none_or(|instant| of.changed_since(instant))
                && text.as_deref().is_none_or(|text| names.hold(of, text))
                && query.at_risk.is_none_or(|wanted| of.is_at_risk() == wanted)
        });
        if query.once {
            found = once(found);
        }
        // An allocation stands as it does under the policy that matters most, whichever others it has.
        found.retain(|of| {
            (query.standings.is_empty() || query.standings.contains(&of.row.standing))
                && (query.agents.is_empty() || query.agents.contains(&of.row.agent))
        });
        sort(&mut found, query.sorting, &names);
        Ok(found)
    }

    /// How many allocations stand how; who stands so since `since` or later counts as changed.
    ///
    /// # Errors
    /// The read models fail.
    pub async fn standing_summary(
        &self,
        db: &ReadDb,
        of: &StandingFilter,
        since: DateTime<Utc>,
    ) -> Result<StandingSummary, SqlError> {
        let rows = standings(db, of).await?;
        let (today, zone) = self.site_day();
        let state = self.registry.read();
        let all: Vec<AllocationStanding> =
            rows.into_iter().map(|row| AllocationStanding::of(row, &state, today, zone)).collect();
        Ok(summed(&all, since))
    }

    fn site_day(&self) -> (NaiveDate, chrono_tz::Tz) {
        let zone = self.allocations.rules().zone;
        (site_date(self.clock.now(), zone), zone)
    }
}

fn summed(rows: &[AllocationStanding], since: DateTime<Utc>) -> StandingSummary {
    let mut each: HashMap<ResourceId, (Standing, bool, bool)> = HashMap::with_capacity(rows.len());
    let mut together: BTreeMap<(PolicyId, Period), PolicyTotals> = BTreeMap::new();
    for of in rows {
        let (standing, at_risk, changed) = (of.row.standing, of.is_at_risk(), of.changed_since(since));
        let one = each.entry(of.row.resource).or_insert((standing, false, false));
        *one = (one.0.min(standing), one.1 || at_risk, one.2 || changed);
        let Some(outlook) = of.outlook() else { continue };
        let Some(line) = &of.row.line else { continue };
        let sum = together.entry((line.policy, outlook.usage.period)).or_insert_with(|| PolicyTotals {
            policy: line.policy,
            period: outlook.usage.period,
            allocations: 0,
            used: Decimal::ZERO,
            may_use: Decimal::ZERO,
            percentage: Decimal::ZERO,
            points_from_ideal: outlook.usage.elapsed_percent(),
        });
        sum.allocations += 1;
        sum.used = sum.used.saturating_add(outlook.usage.used);
        sum.may_use = sum.may_use.saturating_add(outlook.usage.may_use);
    }
    let finished = |mut sum: PolicyTotals| {
        let limited = sum.may_use > Decimal::ZERO;
        sum.percentage = percentage(sum.used, limited.then_some(sum.may_use));
        sum.points_from_ideal = sum.points_from_ideal.filter(|_| limited).map(|elapsed| sum.percentage - elapsed);
        sum
    };
    let mut summary = StandingSummary {
        allocations: each.len() as u64,
        standings: Standing::ALL.into_iter().map(|standing| (standing, 0)).collect(),
        together: together.into_values().map(finished).collect(),
        ..StandingSummary::default()
    };
    for (standing, at_risk, changed) in each.into_values() {
        *summary.standings.entry(standing).or_default() += 1;
        summary.at_risk += u64::from(at_risk);
        summary.changed += u64::from(changed);
    }
    summary
}
