//! Exceptions: holds that people placed, by whom and why, and how long they were in force.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::known::Known;
use super::pass::{Collector, Seen};
use super::{Asked, Cell, EventRef, Refs, Table};
use crate::domain::ids::{HoldId, ResourceId};
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, HoldKind, HoldPlaced};
use crate::events::envelope::{Actor, RecordedEvent};

const COLUMNS: [&str; 12] = [
    "allocation",
    "organisation",
    "hold",
    "kind",
    "placed",
    "placed_by",
    "reason",
    "ticket",
    "expires",
    "ended",
    "ended_by",
    "hours",
];

struct Held {
    resource: ResourceId,
    hold: HoldPlaced,
    placed: (DateTime<Utc>, EventRef),
    by: Actor,
}

type Ended = (DateTime<Utc>, EventRef, String);

/// Makes the list.
pub(super) struct Exceptions {
    asked: Asked,
    held: HashMap<HoldId, Held>,
    ended: Vec<(Held, Ended)>,
}

impl Exceptions {
    pub(super) fn new(asked: &Asked) -> Self {
        Self { asked: asked.clone(), held: HashMap::new(), ended: Vec::new() }
    }
}

/// Who did something: a role, and the id that the directory resolves.
pub(super) fn who(actor: Actor) -> String {
    match actor.id {
        Some(id) => format!("{} {}", actor.kind.as_str(), id.as_simple()),
        None => actor.kind.as_str().to_owned(),
    }
}

impl Collector for Exceptions {
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool {
        matches!(name, "hold_placed" | "hold_released") && recorded.occurred_at < self.asked.span.to
    }

    fn take(&mut self, seen: &Seen<'_>, _: &Known) {
        let (Some(resource), Event::Allocation(event), recorded) = (seen.resource, seen.event, seen.recorded) else {
            return;
        };
        match event {
            AllocationEvent::HoldPlaced(hold) => {
                let placed = (recorded.occurred_at, seen.here);
                let by = recorded.metadata.actor;
                self.held.insert(hold.hold, Held { resource, hold: hold.clone(), placed, by });
            }
            AllocationEvent::HoldReleased(released) => {
                let Some(held) = self.held.remove(&released.hold) else { return };
                let by = if released.expired { "ran out".to_owned() } else { who(recorded.metadata.actor) };
                if recorded.occurred_at > self.asked.span.from {
                    self.ended.push((held, (recorded.occurred_at, seen.here, by)));
                }
            }
            _ => {}
        }
    }

    fn finish(self: Box<Self>, known: &Known) -> Vec<Table> {
        let Self { asked, held, ended } = *self;
        let open = held.into_values().map(|held| (held, None));
        let mut all: Vec<(Held, Option<Ended>)> =
            open.chain(ended.into_iter().map(|(held, ended)| (held, Some(ended)))).collect();
        all.sort_by_key(|(held, _)| held.placed.1.position);
        let mut table = Table::new("holds", &COLUMNS);
        let kinds = [HoldKind::Pause, HoldKind::Downscale, HoldKind::Exemption];
        let mut sums = kinds.map(|_| (Refs::default(), TimeDelta::zero()));
        for (held, ended) in all {
            let time = asked.span.within(held.placed.0, ended.as_ref().map_or(asked.span.to, |(at, ..)| *at));
            let mut refs = Refs::from(held.placed.1);
            if let Some((_, here, _)) = &ended {
                refs.add(*here);
            }
            if let Some(place) = kinds.iter().position(|kind| *kind == held.hold.kind) {
                sums[place].0.add(held.placed.1);
                sums[place].1 += time;
            }
            let row = vec![
                Cell::text(known.name(held.resource)),
                Cell::text(known.organisation(held.resource)),
                Cell::text(held.hold.hold.to_string()),
                Cell::text(held.hold.kind.as_str()),
                Cell::at(Some(held.placed)),
                Cell::text(who(held.by)),
                Cell::text(held.hold.reason),
                Cell::text(held.hold.ticket.unwrap_or_default()),
                Cell::instant(held.hold.expires_at),
                Cell::at(ended.as_ref().map(|(at, here, _)| (*at, *here))),
                Cell::text(ended.map(|(_, _, by)| by).unwrap_or_default()),
                Cell::hours(time).of(refs),
            ];
            table.push(row, asked.rows_max);
        }
        let [(pauses, in_pause), (slowdowns, slowed), (exemptions, exempt)] = sums;
        table.totals = vec![
            ("pauses", pauses.counted()),
            ("hours_paused", Cell::hours(in_pause).of(pauses)),
            ("slowdowns", slowdowns.counted()),
            ("hours_slowed_down", Cell::hours(slowed).of(slowdowns)),
            ("exemptions", exemptions.counted()),
            ("hours_exempt", Cell::hours(exempt).of(exemptions)),
        ];
        vec![table]
    }
}
