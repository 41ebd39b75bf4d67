//! The enforcement register: each restriction with its beginning and end, what called for it, by which version of which rule,
//! and what the cluster said of it.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::known::Known;
use super::pass::{Collector, Seen};
use super::{Asked, Cell, EventRef, Refs, Table};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{DispatchId, PolicyId, ResourceId};
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::RecordedEvent;

/// Decisions remembered, so that a restriction finds the one that it comes of: both are of one append.
const DECISIONS: usize = 512;

const COLUMNS: [&str; 12] = [
    "allocation",
    "organisation",
    "restriction",
    "started",
    "ended",
    "hours",
    "because",
    "policy",
    "rule_version",
    "ended_because",
    "agent_told",
    "confirmed",
];

/// Events that are read whenever they happened: what was confirmed later is confirmed.
const INTERESTING: [&str; 8] = [
    "restriction_changed",
    "hold_placed",
    "hold_released",
    "policy_withdrawn",
    "settings_commanded",
    "stomp_message_sent",
    "command_result_reported",
    "qos_confirmed",
];

/// What a restriction came of.
#[derive(Debug, Clone)]
struct Because {
    event: Uuid,
    here: EventRef,
    said: String,
    rule: Option<(PolicyId, u64)>,
}

/// A restriction in force.
#[derive(Debug, Clone)]
struct Episode {
    started: (DateTime<Utc>, EventRef),
    because: Option<Because>,
    told: Option<(DateTime<Utc>, EventRef)>,
    confirmed: Option<(DateTime<Utc>, EventRef)>,
}

/// An allocation as it stands.
#[derive(Debug, Default)]
struct Standing {
    paused: Option<Episode>,
    slowed: Option<Episode>,
    /// The message with the newest settings, and the restrictions that it carries.
    dispatch: Option<(DispatchId, Flags)>,
}

impl Standing {
    fn of(&mut self, paused: bool) -> &mut Option<Episode> {
        if paused { &mut self.paused } else { &mut self.slowed }
    }

    /// Notes what was heard of restrictions in force.
    fn hear(&mut self, flags: Flags, at: DateTime<Utc>, here: EventRef, what: fn(&mut Episode) -> &mut Option<Heard>) {
        for (paused, told) in [(true, flags.paused), (false, flags.downscaled)] {
            if let Some(episode) = self.of(paused).as_mut().filter(|_| told) {
                what(episode).get_or_insert((at, here));
            }
        }
    }
}

type Heard = (DateTime<Utc>, EventRef);

/// Makes the register.
pub(super) struct Enforcement {
    asked: Asked,
    decisions: VecDeque<Because>,
    standing: HashMap<ResourceId, Standing>,
    table: Table,
    paused: Sum,
    slowed: Sum,
    confirmed: Refs,
    unconfirmed: Refs,
}

#[derive(Default)]
struct Sum {
    time: TimeDelta,
    refs: Refs,
}

impl Enforcement {
    pub(super) fn new(asked: &Asked) -> Self {
        Self {
            asked: asked.clone(),
            decisions: VecDeque::with_capacity(DECISIONS),
            standing: HashMap::new(),
            table: Table::new("restrictions", &COLUMNS),
            paused: Sum::default(),
            slowed: Sum::default(),
            confirmed: Refs::default(),
            unconfirmed: Refs::default(),
        }
    }

    fn decided(&mut self, seen: &Seen<'_>, said: String, rule: Option<(PolicyId, u64)>) {
        if self.decisions.len() == DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(Because { event: seen.recorded.event_id, here: seen.here, said, rule });
    }

    fn because(&self, recorded: &RecordedEvent) -> Option<Because> {
        let cause = recorded.metadata.causation_id?;
        self.decisions.iter().rfind(|decision| decision.event == cause).cloned()
    }

    fn changed(&mut self, resource: ResourceId, seen: &Seen<'_>, (from, to): (Flags, Flags), known: &Known) {
        let (at, because) = (seen.recorded.occurred_at, self.because(seen.recorded));
        for (paused, before, after) in [(true, from.paused, to.paused), (false, from.downscaled, to.downscaled)] {
            let episode = self.standing.entry(resource).or_default().of(paused);
            match (before, after) {
                (false, true) => {
                    *episode = Some(Episode {
                        started: (at, seen.here),
                        because: because.clone(),
                        told: None,
                        confirmed: None,
                    });
                }
                (true, false) => {
                    if let Some(episode) = episode.take() {
                        self.row(resource, paused, &episode, Some((at, seen.here, because.as_ref())), known);
                    }
                }
                _ => {}
            }
        }
    }

    fn row(
        &mut self,
        resource: ResourceId,
        paused: bool,
        episode: &Episode,
        ended: Option<(DateTime<Utc>, EventRef, Option<&Because>)>,
        known: &Known,
    ) {
        let until = ended.map_or(self.asked.span.to, |(at, ..)| at);
        let rule = episode.because.as_ref().and_then(|because| because.rule);
        let overlaps = episode.started.0 < self.asked.span.to && until > self.asked.span.from;
        let of_policy = self.asked.policy.is_none_or(|wanted| rule.is_some_and(|(policy, _)| policy == wanted));
        if !overlaps || !of_policy {
            return;
        }
        let time = self.asked.span.within(episode.started.0, until);
        let mut refs = Refs::from(episode.started.1);
        if let Some((_, here, _)) = &ended {
            refs.add(*here);
        }
        let sum = if paused { &mut self.paused } else { &mut self.slowed };
        sum.time += time;
        sum.refs.add(episode.started.1);
        match episode.confirmed {
            Some((_, here)) => self.confirmed.add(here),
            None => self.unconfirmed.add(episode.started.1),
        }
        let said = |because: Option<&Because>| {
            because.map_or(Cell::NOTHING, |because| Cell::text(because.said.clone()).of(because.here))
        };
        let row = vec![
            Cell::text(known.name(resource)),
            Cell::text(known.organisation(resource)),
            Cell::text(if paused { "paused" } else { "slowed down" }),
            Cell::at(Some(episode.started)),
            Cell::at(ended.map(|(at, here, _)| (at, here))),
            Cell::hours(time).of(refs),
            said(episode.because.as_ref()),
            rule.map_or(Cell::NOTHING, |(policy, _)| Cell::text(known.policy(policy))),
            rule.map_or(Cell::NOTHING, |(policy, version)| version_of(known, policy, version)),
            said(ended.and_then(|(_, _, because)| because)),
            Cell::at(episode.told),
            Cell::at(episode.confirmed),
        ];
        self.table.push(row, self.asked.rows_max);
    }

    fn event(&mut self, seen: &Seen<'_>, resource: ResourceId, event: &AllocationEvent, known: &Known) {
        let at = seen.recorded.occurred_at;
        match event {
            AllocationEvent::PolicyEvaluated(evaluated) => {
                let rule = Some((evaluated.policy, evaluated.policy_version));
                self.decided(seen, evaluated.outcome.explanation.clone(), rule);
            }
            AllocationEvent::PolicyWithdrawn(withdrawn) => {
                let said = format!("{} applies no more", known.policy(withdrawn.policy));
                self.decided(seen, said, None);
            }
            AllocationEvent::HoldPlaced(hold) => {
                self.decided(seen, format!("hold by hand ({}): {}", hold.kind.as_str(), hold.reason), None);
            }
            AllocationEvent::HoldReleased(released) => {
                let how = if released.expired { "ran out" } else { "was released" };
                self.decided(seen, format!("a hold by hand {how}"), None);
            }
            AllocationEvent::RestrictionChanged(changed) if at < self.asked.span.to => {
                self.changed(resource, seen, (changed.from, changed.to), known);
            }
            AllocationEvent::SettingsCommanded(told) => {
                self.standing.entry(resource).or_default().dispatch = Some((told.dispatch, told.flags));
            }
            AllocationEvent::StompMessageSent(sent) => {
                let Some(standing) = self.standing.get_mut(&resource) else { return };
                let with = sent.flags.or(standing.dispatch.filter(|(d, _)| Some(*d) == sent.dispatch).map(|(_, f)| f));
                standing.hear(with.unwrap_or_default(), at, seen.here, |episode| &mut episode.told);
            }
            AllocationEvent::CommandResultReported(result) if result.report.success => {
                let Some(standing) = self.standing.get_mut(&resource) else { return };
                let flags = standing.dispatch.filter(|(d, _)| *d == result.dispatch).map(|(_, flags)| flags);
                standing.hear(flags.unwrap_or_default(), at, seen.here, |episode| &mut episode.confirmed);
            }
            AllocationEvent::QosConfirmed(confirmed) if confirmed.agrees() => {
                let Some(standing) = self.standing.get_mut(&resource) else { return };
                let all = Flags { paused: true, downscaled: true };
                standing.hear(all, at, seen.here, |episode| &mut episode.confirmed);
            }
            _ => {}
        }
    }
}

/// A version of a policy, with the event that brought it.
pub(super) fn version_of(known: &Known, policy: PolicyId, version: u64) -> Cell {
    let versions = known.policies.get(&policy).map(|policy| &policy.versions);
    let here = versions.and_then(|all| all.iter().find(|(number, ..)| *number == version)).map(|(.., here)| *here);
    let cell = Cell::count(version);
    here.map_or(cell.clone(), |here| cell.of(here))
}

impl Collector for Enforcement {
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool {
        match name {
            // What runs into the span began with a decision of any age.
            "policy_evaluated" => recorded.occurred_at < self.asked.span.to,
            other => INTERESTING.contains(&other),
        }
    }

    fn take(&mut self, seen: &Seen<'_>, known: &Known) {
        if let (Some(resource), Event::Allocation(event)) = (seen.resource, seen.event) {
            self.event(seen, resource, event, known);
        }
    }

    fn finish(mut self: Box<Self>, known: &Known) -> Vec<Table> {
        let mut open: Vec<(ResourceId, Standing)> = std::mem::take(&mut self.standing).into_iter().collect();
        open.sort_by_cached_key(|(resource, _)| known.name(*resource));
        for (resource, standing) in open {
            for (paused, episode) in [(true, standing.paused), (false, standing.slowed)] {
                if let Some(episode) = episode {
                    self.row(resource, paused, &episode, None, known);
                }
            }
        }
        self.table.rows.sort_by_key(|row| row[3].events.first.first().map(|started| started.position));
        self.table.totals = vec![
            ("restrictions", Cell::count(self.paused.refs.count + self.slowed.refs.count)),
            ("pauses", self.paused.refs.counted()),
            ("hours_paused", Cell::hours(self.paused.time).of(self.paused.refs.clone())),
            ("slowdowns", self.slowed.refs.counted()),
            ("hours_slowed_down", Cell::hours(self.slowed.time).of(self.slowed.refs.clone())),
            ("confirmed", self.confirmed.counted()),
            ("not_confirmed", self.unconfirmed.counted()),
        ];
        self.table.notes.push(
            "hours are those within the span, up to the last event; a restriction without an end was in force there"
                .to_owned(),
        );
        vec![self.table]
    }
}
