//! Drift: where the cluster was found otherwise than it should be, and when it was right again.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::known::Known;
use super::pass::{Collector, Seen};
use super::{Asked, Cell, EventRef, Refs, Table};
use crate::domain::ids::ResourceId;
use crate::domain::tres::Amounts;
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::RecordedEvent;

const COLUMNS: [&str; 8] = ["allocation", "organisation", "what", "found_at", "meant", "found", "settled", "hours"];

/// In what the cluster differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Qos,
    Limits,
    Commands,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Qos => "class of service",
            Self::Limits => "limits",
            Self::Commands => "commands",
        }
    }
}

struct Found {
    at: (DateTime<Utc>, EventRef),
    meant: String,
    reported: String,
}

/// Makes the list.
pub(super) struct Drift {
    asked: Asked,
    open: BTreeMap<(ResourceId, What), Found>,
    table: Table,
    found: Refs,
    settled: Refs,
}

impl Drift {
    pub(super) fn new(asked: &Asked) -> Self {
        Self {
            asked: asked.clone(),
            open: BTreeMap::new(),
            table: Table::new("drift", &COLUMNS),
            found: Refs::default(),
            settled: Refs::default(),
        }
    }

    fn differs(&mut self, resource: ResourceId, what: What, seen: &Seen<'_>, (meant, found): (String, String)) {
        let at = (seen.recorded.occurred_at, seen.here);
        self.open.entry((resource, what)).or_insert(Found { at, meant, reported: found });
    }

    fn agrees(&mut self, resource: ResourceId, what: What, seen: &Seen<'_>, known: &Known) {
        if let Some(found) = self.open.remove(&(resource, what)) {
            self.row(resource, what, found, Some((seen.recorded.occurred_at, seen.here)), known);
        }
    }

    fn row(
        &mut self,
        resource: ResourceId,
        what: What,
        found: Found,
        settled: Option<(DateTime<Utc>, EventRef)>,
        known: &Known,
    ) {
        let until = settled.map_or(self.asked.span.to, |(at, _)| at);
        if found.at.0 >= self.asked.span.to || until <= self.asked.span.from {
            return;
        }
        self.found.add(found.at.1);
        if let Some((_, here)) = &settled {
            self.settled.add(*here);
        }
        let mut refs = Refs::from(found.at.1);
        if let Some((_, here)) = &settled {
            refs.add(*here);
        }
        let time: TimeDelta = self.asked.span.within(found.at.0, until);
        let row = vec![
            Cell::text(known.name(resource)),
            Cell::text(known.organisation(resource)),
            Cell::text(what.as_str()),
            Cell::at(Some(found.at)),
            Cell::text(found.meant),
            Cell::text(found.reported),
            Cell::at(settled),
            Cell::hours(time).of(refs),
        ];
        self.table.push(row, self.asked.rows_max);
    }
}

fn amounts(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name} {}", amount.normalize())).collect::<Vec<_>>().join(", ")
}

impl Collector for Drift {
    fn wants(&self, name: &str, _: &RecordedEvent) -> bool {
        matches!(name, "qos_confirmed" | "limits_echoed" | "command_result_reported")
    }

    fn take(&mut self, seen: &Seen<'_>, known: &Known) {
        let (Some(resource), Event::Allocation(event)) = (seen.resource, seen.event) else { return };
        let (what, difference) = match event {
            AllocationEvent::QosConfirmed(said) => {
                (What::Qos, (!said.agrees()).then(|| (said.expected.clone(), said.qos.clone())))
            }
            AllocationEvent::LimitsEchoed(said) => {
                (What::Limits, (!said.agrees).then(|| (amounts(&said.ordered), amounts(&said.limits))))
            }
            AllocationEvent::CommandResultReported(result) => {
                let ran = || (result.differences.join("; "), result.report.commands_executed.join("; "));
                (What::Commands, (!result.differences.is_empty()).then(ran))
            }
            _ => return,
        };
        match difference {
            Some(difference) => self.differs(resource, what, seen, difference),
            None => self.agrees(resource, what, seen, known),
        }
    }

    fn finish(mut self: Box<Self>, known: &Known) -> Vec<Table> {
        for ((resource, what), found) in std::mem::take(&mut self.open) {
            self.row(resource, what, found, None, known);
        }
        self.table.rows.sort_by_key(|row| row[3].events.first.first().map(|found| found.position));
        self.table.totals = vec![
            ("found", self.found.counted()),
            ("settled", self.settled.counted()),
            ("open", Cell::count(self.found.count - self.settled.count)),
        ];
        self.table.notes.push("of commands `meant` says in which points those that ran differ".to_owned());
        vec![self.table]
    }
}
