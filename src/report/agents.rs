//! Agents: how many messages were meant, taken, confirmed, failed and left without an answer at each offering; and those that
//! nobody has confirmed.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::known::Known;
use super::pass::{Collector, Seen};
use super::{Asked, Cell, EventRef, Refs, Table, Value};
use crate::domain::decimal::rounded;
use crate::domain::ids::{DispatchId, OfferingId, ResourceId};
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::RecordedEvent;

const COLUMNS: [&str; 13] = [
    "offering",
    "commanded",
    "handed_over",
    "confirmed",
    "failed",
    "no_answer",
    "given_up",
    "refused_by_broker",
    "superseded",
    "unmatched_results",
    "confirmed_percent",
    "answer_hours_mean",
    "answer_hours_max",
];

const OPEN: [&str; 8] =
    ["allocation", "offering", "dispatch", "commanded", "handed_over", "state", "commands", "waits_hours"];

/// What happened at an offering.
#[derive(Default)]
struct Counted {
    commanded: Refs,
    handed: Refs,
    confirmed: Refs,
    failed: Refs,
    silent: Refs,
    given_up: Refs,
    refused: Refs,
    superseded: Refs,
    unmatched: Refs,
    answers: u32,
    waited: TimeDelta,
    longest: TimeDelta,
}

/// The newest message to an allocation's agent, as long as nobody confirmed it.
struct Open {
    dispatch: DispatchId,
    offering: OfferingId,
    commanded: (DateTime<Utc>, EventRef),
    handed: Option<(DateTime<Utc>, EventRef)>,
    state: (&'static str, Option<EventRef>),
    commands: usize,
    counts: bool,
}

/// Makes the report.
pub(super) struct Agents {
    asked: Asked,
    offerings: BTreeMap<OfferingId, Counted>,
    open: HashMap<ResourceId, Open>,
}

impl Agents {
    pub(super) fn new(asked: &Asked) -> Self {
        Self { asked: asked.clone(), offerings: BTreeMap::new(), open: HashMap::new() }
    }

    /// Counts an event of the span.
    fn count(&mut self, offering: OfferingId, seen: &Seen<'_>, what: impl FnOnce(&mut Counted) -> &mut Refs) {
        if self.asked.span.holds(seen.recorded.occurred_at) {
            what(self.offerings.entry(offering).or_default()).add(seen.here);
        }
    }

    fn event(&mut self, seen: &Seen<'_>, resource: ResourceId, offering: OfferingId, event: &AllocationEvent) {
        let at = (seen.recorded.occurred_at, seen.here);
        match event {
            AllocationEvent::SettingsCommanded(told) => {
                if self.open.contains_key(&resource) {
                    self.count(offering, seen, |counted| &mut counted.superseded);
                }
                self.count(offering, seen, |counted| &mut counted.commanded);
                let open = Open {
                    dispatch: told.dispatch,
                    offering,
                    commanded: at,
                    handed: None,
                    state: ("waits for a queue", None),
                    commands: told.commands.len(),
                    counts: self.asked.span.holds(at.0),
                };
                self.open.insert(resource, open);
            }
            AllocationEvent::StompMessageSent(sent) if sent.dispatch.is_some() => {
                if sent.resend == 0 {
                    self.count(offering, seen, |counted| &mut counted.handed);
                }
                if let Some(open) = self.open.get_mut(&resource).filter(|open| Some(open.dispatch) == sent.dispatch) {
                    open.handed.get_or_insert(at);
                    open.state = ("no answer yet", Some(seen.here));
                }
            }
            AllocationEvent::StompMessageFailed(failed) => {
                self.count(offering, seen, |counted| &mut counted.refused);
                self.stands(resource, failed.dispatch, "refused by the broker", seen.here);
            }
            AllocationEvent::DispatchUnanswered(silent) => {
                self.count(offering, seen, |counted| &mut counted.silent);
                if silent.given_up {
                    self.count(offering, seen, |counted| &mut counted.given_up);
                }
                let state = if silent.given_up { "given up without an answer" } else { "no answer in time" };
                self.stands(resource, silent.dispatch, state, seen.here);
            }
            AllocationEvent::CommandResultReported(result) if result.report.success => {
                self.count(offering, seen, |counted| &mut counted.confirmed);
                if self.open.get(&resource).is_some_and(|open| open.dispatch == result.dispatch)
                    && let Some(open) = self.open.remove(&resource)
                {
                    self.answered(offering, &open, at.0);
                }
            }
            AllocationEvent::CommandResultReported(result) => {
                self.count(offering, seen, |counted| &mut counted.failed);
                self.stands(resource, result.dispatch, "failed", seen.here);
            }
            AllocationEvent::CommandResultUnmatched(_) => self.count(offering, seen, |counted| &mut counted.unmatched),
            _ => {}
        }
    }

    fn stands(&mut self, resource: ResourceId, dispatch: DispatchId, state: &'static str, here: EventRef) {
        if let Some(open) = self.open.get_mut(&resource).filter(|open| open.dispatch == dispatch) {
            open.state = (state, Some(here));
        }
    }

    fn answered(&mut self, offering: OfferingId, open: &Open, at: DateTime<Utc>) {
        let Some((handed, _)) = open.handed.filter(|_| self.asked.span.holds(at)) else { return };
        let counted = self.offerings.entry(offering).or_default();
        counted.answers += 1;
        counted.waited += at - handed;
        counted.longest = counted.longest.max(at - handed);
    }
}

fn percent(part: u64, whole: u64) -> Cell {
    if whole == 0 {
        return Cell::NOTHING;
    }
    Cell::number(rounded(Decimal::from(part) * Decimal::ONE_HUNDRED / Decimal::from(whole), 2))
}

impl Counted {
    fn row(&self, name: String) -> Vec<Cell> {
        let mean = i32::try_from(self.answers).ok().filter(|answers| *answers > 0).map(|answers| self.waited / answers);
        let counts = [
            &self.commanded,
            &self.handed,
            &self.confirmed,
            &self.failed,
            &self.silent,
            &self.given_up,
            &self.refused,
            &self.superseded,
            &self.unmatched,
        ];
        let mut row = vec![Cell::text(name)];
        row.extend(counts.map(Refs::counted));
        row.push(percent(self.confirmed.count, self.confirmed.count + self.failed.count + self.silent.count));
        row.push(mean.map_or(Cell::NOTHING, Cell::hours));
        row.push(if self.answers > 0 { Cell::hours(self.longest) } else { Cell::NOTHING });
        row
    }
}

impl Collector for Agents {
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool {
        match name {
            "settings_commanded" | "stomp_message_sent" | "stomp_message_failed" | "dispatch_unanswered" => {
                recorded.occurred_at < self.asked.span.to
            }
            // What was confirmed later is confirmed.
            "command_result_reported" | "command_result_unmatched" => true,
            _ => false,
        }
    }

    fn take(&mut self, seen: &Seen<'_>, known: &Known) {
        let (Some(resource), Event::Allocation(event)) = (seen.resource, seen.event) else { return };
        if let Some(offering) = known.offering_of(resource) {
            self.event(seen, resource, offering, event);
        }
    }

    fn finish(self: Box<Self>, known: &Known) -> Vec<Table> {
        let Self { asked, offerings, open } = *self;
        let mut table = Table::new("agents", &COLUMNS);
        let mut sums = [const { Refs { first: Vec::new(), count: 0 } }; 3];
        for (offering, counted) in &offerings {
            for (sum, refs) in sums.iter_mut().zip([&counted.commanded, &counted.confirmed, &counted.failed]) {
                sum.add_all(refs);
            }
            table.push(counted.row(known.offering(*offering)), asked.rows_max);
        }
        let [commanded, confirmed, failed] = sums;
        table.totals =
            vec![("commanded", commanded.counted()), ("confirmed", confirmed.counted()), ("failed", failed.counted())];
        table
            .notes
            .push("confirmed_percent is of all answers and silences; superseded: before anybody answered".to_owned());
        let mut unconfirmed = Table::new("unconfirmed", &OPEN);
        let mut left: Vec<(ResourceId, Open)> = open.into_iter().filter(|(_, open)| open.counts).collect();
        left.sort_by_key(|(_, open)| open.commanded.1.position);
        let mut refs = Refs::default();
        for (resource, open) in left {
            refs.add(open.commanded.1);
            let waits = asked.span.within(open.commanded.0, asked.span.to);
            let row = vec![
                Cell::text(known.name(resource)),
                Cell::text(known.offering(open.offering)),
                Cell::text(open.dispatch.to_string()),
                Cell::at(Some(open.commanded)),
                Cell::at(open.handed),
                open.state.1.map_or_else(|| Cell::text(open.state.0), |here| Cell::text(open.state.0).of(here)),
                Cell { value: Value::Count(open.commands as u64), events: open.commanded.1.into() },
                Cell::hours(waits),
            ];
            unconfirmed.push(row, asked.rows_max);
        }
        unconfirmed.totals = vec![("unconfirmed", refs.counted())];
        vec![table, unconfirmed]
    }
}
