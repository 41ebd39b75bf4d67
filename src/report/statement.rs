//! The statement of allocations: for each allocation, policy and accounting period what it had, what it used, how that was
//! judged, how long it was restricted, and whether the decisions come out again from their inputs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::enforcement::version_of;
use super::known::Known;
use super::pass::{Collector, ReportError, Seen};
use super::table::Tally;
use super::{Asked, Cell, EventRef, Refs, Table};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{PolicyId, ResourceId};
use crate::domain::period::{Month, Period};
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, Recorded};
use crate::events::envelope::{Position, RecordedEvent};
use crate::registry::book_of;
use crate::replay::{Effort, Pass, Report as Replayed, Wanted};
use crate::store::EventStore;

const COLUMNS: [&str; 18] = [
    "allocation",
    "allocation_uuid",
    "organisation",
    "policy",
    "rule_version",
    "period",
    "base",
    "carryover",
    "allocated",
    "used",
    "percent",
    "usage_by_month",
    "evaluations",
    "verbs",
    "hours_slowed_down",
    "hours_paused",
    "at_the_end",
    "verified",
];

/// Books kept in memory while decisions are made again.
const BOOKS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// What a policy decided on an allocation in a period.
struct Judged {
    version: u64,
    evaluations: Refs,
    verbs: Tally,
    base: String,
    carryover: String,
    basis: Option<EventRef>,
    allocated: Decimal,
    used: Decimal,
    percentage: Decimal,
    last: EventRef,
}

/// The basis that an allocation's evaluations under a policy refer to.
#[derive(Clone, Default)]
struct BasisSaid {
    base: String,
    carryover: String,
    here: Option<EventRef>,
}

/// What happened to an allocation.
#[derive(Default)]
struct Lived {
    before: Flags,
    /// Restrictions from an instant of the span on.
    changes: Vec<(DateTime<Utc>, Flags, EventRef)>,
    usage: BTreeMap<Month, BTreeMap<String, (Decimal, EventRef)>>,
    basis: BTreeMap<PolicyId, BasisSaid>,
    judged: BTreeMap<(PolicyId, Period), Judged>,
}

/// Makes the statement.
pub(super) struct Statement {
    asked: Asked,
    months: (Month, Month),
    lived: HashMap<ResourceId, Lived>,
}

impl Statement {
    pub(super) fn new(asked: &Asked) -> Self {
        let last = asked.span.to - TimeDelta::microseconds(1);
        let month = |at| Month::of_instant(at, asked.zone);
        Self { asked: asked.clone(), months: (month(asked.span.from), month(last)), lived: HashMap::new() }
    }

    fn usage<'a>(
        &mut self,
        resource: ResourceId,
        month: Month,
        amounts: impl Iterator<Item = (&'a String, Decimal)>,
        here: EventRef,
    ) {
        if (self.months.0..=self.months.1).contains(&month) {
            let of = self.lived.entry(resource).or_default().usage.entry(month).or_default();
            of.extend(amounts.map(|(component, amount)| (component.clone(), (amount, here))));
        }
    }

    fn evaluated(&mut self, resource: ResourceId, evaluated: &PolicyEvaluated, seen: &Seen<'_>) {
        let lived = self.lived.entry(resource).or_default();
        let basis = lived.basis.entry(evaluated.policy).or_default();
        if let Recorded::Full(full) = &evaluated.basis {
            let base = full.basis.base.iter().map(|(component, term)| (component, term.amount));
            let carried = full.allocation.carryover.per_component.iter().map(|(name, c)| (name, c.carryover));
            *basis = BasisSaid { base: said(base), carryover: said(carried), here: Some(seen.here) };
        }
        if !self.asked.span.holds(seen.recorded.occurred_at)
            || self.asked.policy.is_some_and(|wanted| wanted != evaluated.policy)
        {
            return;
        }
        let outcome = &evaluated.outcome;
        let judged = lived.judged.entry((evaluated.policy, evaluated.period)).or_insert_with(|| Judged {
            version: 0,
            evaluations: Refs::default(),
            verbs: Tally::default(),
            base: String::new(),
            carryover: String::new(),
            basis: None,
            allocated: Decimal::ZERO,
            used: Decimal::ZERO,
            percentage: Decimal::ZERO,
            last: seen.here,
        });
        judged.version = evaluated.policy_version;
        judged.evaluations.add(seen.here);
        outcome.verbs.iter().for_each(|verb| judged.verbs.add(verb.as_str()));
        (judged.base, judged.carryover, judged.basis) = (basis.base.clone(), basis.carryover.clone(), basis.here);
        judged.allocated = outcome.weighted_allocation;
        judged.used = outcome.weighted_usage;
        (judged.percentage, judged.last) = (outcome.percentage, seen.here);
    }
}

fn said<'a>(amounts: impl Iterator<Item = (&'a String, Decimal)>) -> String {
    amounts.map(|(name, amount)| format!("{name} {}", amount.normalize())).collect::<Vec<_>>().join(", ")
}

impl Lived {
    /// How long it was slowed down and paused between two instants, with the events that began it.
    fn restricted(&self, asked: &Asked, from: DateTime<Utc>, to: DateTime<Utc>) -> [(TimeDelta, Refs); 2] {
        let mut sums = [const { (TimeDelta::zero(), Refs { first: Vec::new(), count: 0 }) }; 2];
        let ends = self.changes.iter().map(|(at, ..)| *at).chain([asked.span.to]);
        let begins = [(asked.span.from, self.before, None)];
        let begins = begins.into_iter().chain(self.changes.iter().map(|(at, flags, here)| (*at, *flags, Some(*here))));
        for ((begin, flags, here), end) in begins.zip(ends) {
            let time = (end.min(to) - begin.max(from)).max(TimeDelta::zero());
            for (on, (sum, refs)) in [flags.downscaled, flags.paused].into_iter().zip(&mut sums) {
                if on && time > TimeDelta::zero() {
                    *sum += time;
                    if let Some(here) = here {
                        refs.add(here);
                    }
                }
            }
        }
        sums
    }

    /// Restrictions right before an instant.
    fn flags_before(&self, at: DateTime<Utc>) -> &'static str {
        let last = self.changes.iter().take_while(|(changed, ..)| *changed < at).last();
        let flags = last.map_or(self.before, |(_, flags, _)| *flags);
        match (flags.paused, flags.downscaled) {
            (true, _) => "paused",
            (false, true) => "slowed down",
            (false, false) => "not restricted",
        }
    }

    fn used(&self, wanted: impl Fn(Month) -> bool) -> Cell {
        let (mut each, mut refs) = (Vec::new(), Refs::default());
        for (month, components) in self.usage.iter().filter(|(month, _)| wanted(**month)) {
            each.push(format!("{month}: {}", said(components.iter().map(|(name, (amount, _))| (name, *amount)))));
            let events: BTreeSet<_> = components.values().map(|(_, here)| (here.position, here.event)).collect();
            for (position, event) in events {
                refs.add(EventRef { position, event });
            }
        }
        Cell::text(each.join("; ")).of(refs)
    }

    fn row(
        &self,
        asked: &Asked,
        known: &Known,
        resource: ResourceId,
        of: Option<(PolicyId, Period, &Judged)>,
    ) -> Vec<Cell> {
        let period = of.map(|(_, period, _)| period);
        let edge = |edge: Option<DateTime<Utc>>, otherwise| edge.unwrap_or(otherwise);
        let from = edge(period.and_then(|period| period.starts_at(asked.zone)), asked.span.from).max(asked.span.from);
        let to = edge(period.and_then(|period| period.ends_before(asked.zone)), asked.span.to).min(asked.span.to);
        let [(slowed, slowed_by), (paused, paused_by)] = self.restricted(asked, from, to);
        let judged = |cell: &dyn Fn(&Judged) -> Cell| of.map_or(Cell::NOTHING, |(_, _, judged)| cell(judged));
        let based = |text: &str, judged: &Judged| {
            judged.basis.map_or_else(|| Cell::text(text), |here| Cell::text(text).of(here))
        };
        vec![
            Cell::text(known.name(resource)),
            Cell::text(resource.to_string()),
            Cell::text(known.organisation(resource)),
            of.map_or(Cell::NOTHING, |(policy, ..)| Cell::text(known.policy(policy))),
            of.map_or(Cell::NOTHING, |(policy, _, judged)| version_of(known, policy, judged.version)),
            period.map_or(Cell::NOTHING, |period| Cell::text(period.to_string())),
            judged(&|judged| based(&judged.base, judged)),
            judged(&|judged| based(&judged.carryover, judged)),
            judged(&|judged| Cell::number(judged.allocated).of(judged.last)),
            judged(&|judged| Cell::number(judged.used).of(judged.last)),
            judged(&|judged| Cell::number(judged.percentage).of(judged.last)),
            self.used(|month| period.is_none_or(|period| period.contains(month))),
            judged(&|judged| judged.evaluations.counted()),
            judged(&|judged| Cell::text(judged.verbs.said())),
            Cell::hours(slowed).of(slowed_by),
            Cell::hours(paused).of(paused_by),
            Cell::text(self.flags_before(to)),
            Cell::NOTHING,
        ]
    }
}

impl Collector for Statement {
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool {
        match name {
            "restriction_changed" => recorded.occurred_at < self.asked.span.to,
            // A basis that is referred to stands in the same month's book.
            "policy_evaluated" => {
                let month = self.months.0.starts_at(self.asked.zone);
                (month..self.asked.span.to).contains(&recorded.occurred_at)
            }
            "usage_reported" | "missing_usage_filled" => {
                recorded.occurred_at >= self.months.0.starts_at(self.asked.zone)
            }
            _ => false,
        }
    }

    fn take(&mut self, seen: &Seen<'_>, _: &Known) {
        let (Some(resource), Event::Allocation(event)) = (seen.resource, seen.event) else { return };
        match event {
            AllocationEvent::RestrictionChanged(changed) => {
                let lived = self.lived.entry(resource).or_default();
                if seen.recorded.occurred_at <= self.asked.span.from {
                    lived.before = changed.to;
                } else {
                    lived.changes.push((seen.recorded.occurred_at, changed.to, seen.here));
                }
            }
            AllocationEvent::UsageReported(reported) => {
                let amounts = reported.amounts.iter().map(|(component, amount)| (component, amount.amount));
                self.usage(resource, reported.month, amounts, seen.here);
            }
            AllocationEvent::MissingUsageFilled(filled) => {
                let amounts = filled.amounts.iter().map(|(component, amount)| (component, amount.amount));
                self.usage(resource, filled.month, amounts, seen.here);
            }
            AllocationEvent::PolicyEvaluated(evaluated) => self.evaluated(resource, evaluated, seen),
            _ => {}
        }
    }

    fn finish(self: Box<Self>, known: &Known) -> Vec<Table> {
        let Self { asked, lived, .. } = *self;
        let mut all: Vec<(ResourceId, Lived)> = lived.into_iter().collect();
        all.sort_by_cached_key(|(resource, _)| known.name(*resource));
        let mut table = Table::new("statement", &COLUMNS);
        let (mut evaluations, mut slowed, mut paused, mut counted) = (Refs::default(), sum(), sum(), 0);
        for (resource, lived) in &all {
            if lived.judged.is_empty() && (lived.usage.is_empty() || asked.policy.is_some()) {
                continue;
            }
            counted += 1;
            let [of_slowed, of_paused] = lived.restricted(&asked, asked.span.from, asked.span.to);
            for (sum, of) in [(&mut slowed, of_slowed), (&mut paused, of_paused)] {
                sum.0 += of.0;
                sum.1.add_all(&of.1);
            }
            if lived.judged.is_empty() {
                table.push(lived.row(&asked, known, *resource, None), asked.rows_max);
            }
            for ((policy, period), judged) in &lived.judged {
                evaluations.add_all(&judged.evaluations);
                let of = Some((*policy, *period, judged));
                table.push(lived.row(&asked, known, *resource, of), asked.rows_max);
            }
        }
        table.totals = vec![
            ("allocations", Cell::count(counted)),
            ("evaluations", evaluations.counted()),
            ("hours_slowed_down", Cell::hours(slowed.0).of(slowed.1)),
            ("hours_paused", Cell::hours(paused.0).of(paused.1)),
        ];
        table.notes = vec![
            "a row for each accounting period; an allocation under several policies has several, and its hours stand in each"
                .to_owned(),
            "percent is what was decided last in the period; usage is what is known now, with what was reported later"
                .to_owned(),
        ];
        vec![table]
    }
}

fn sum() -> (TimeDelta, Refs) {
    (TimeDelta::zero(), Refs::default())
}

/// Makes the decisions of the span again, and says in each row what came of that.
pub(super) async fn verify(
    store: &Arc<dyn EventStore>,
    asked: &Asked,
    through: Position,
    tables: &mut [Table],
) -> Result<(), ReportError> {
    let wanted =
        Wanted { policy: asked.policy, resource: asked.resource, from: Some(asked.span.from), to: Some(asked.span.to) };
    let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let effort = Effort { workers, books_max: BOOKS };
    let mut pass = Pass::begin(Arc::clone(store), wanted, (Replayed::default(), through), effort).await?;
    while pass.step().await? {}
    let found = pass.into_report();
    let total = found.total();
    let named = (found.differences.len() + found.not_recomputed.len()) as u64;
    let untold = total.different + total.not_recomputed > named;
    let mut wrong: HashMap<String, Refs> = HashMap::new();
    let places = found.differences.iter().map(|one| (&one.stream, one.position));
    let places = places.chain(found.not_recomputed.iter().map(|one| (&one.stream, one.position)));
    for (stream, position) in places {
        if let Some((resource, _)) = book_of(stream.as_str()) {
            wrong.entry(resource.to_string()).or_default().add_all(&Refs::at(position));
        }
    }
    for table in tables {
        for row in &mut table.rows {
            let super::Value::Text(resource) = &row[1].value else { continue };
            let verdict = match wrong.get(resource) {
                Some(refs) => Cell::text("NO").of(refs.clone()),
                None if untold => Cell::text("not told"),
                None if matches!(row[12].value, super::Value::Nothing) => Cell::NOTHING,
                None => Cell::text("yes"),
            };
            if let Some(last) = row.last_mut() {
                *last = verdict;
            }
        }
        table.totals.push(("decisions_verified", Cell::count(total.same)));
        table.totals.push(("decisions_different", Cell::count(total.different)));
        table.totals.push(("decisions_not_recomputed", Cell::count(total.not_recomputed)));
    }
    Ok(())
}
