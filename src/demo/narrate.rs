//! Prints the event log for people: one short block per decision, with the sentence that explains it.

use std::collections::HashMap;
use std::io::Write;

use chrono::{DateTime, Utc};
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

use super::story::DemoError;
use crate::app::App;
use crate::domain::evaluate::{Flags, Trigger, Verb};
use crate::domain::explain::short;
use crate::domain::ids::{DispatchId, PolicyId, ResourceId};
use crate::domain::tres::Amounts;
use crate::events::Event;
use crate::events::allocation::{AllocationEvent, PolicyEvaluated, Recorded, SettingsCommanded};
use crate::events::envelope::{Position, RecordedEvent};
use crate::registry::book_of;

/// Cells of the usage bar; it ends at 125 %.
const BAR_CELLS: usize = 25;

/// Events read at a time.
const PAGE: usize = 1_000;

/// Prints the story of the log.
pub struct Narrator<'a> {
    out: &'a mut (dyn Write + Send),
    after: Position,
    names: HashMap<ResourceId, String>,
    unanswered: Vec<Told>,
    colour: bool,
}

/// Messages that the site agent has not answered.
#[derive(Debug, Clone)]
pub struct Told {
    /// The resource.
    pub resource: ResourceId,
    /// The policy it came from.
    pub policy: PolicyId,
    /// The dispatch.
    pub dispatch: DispatchId,
    /// It asks for a reset of raw usage.
    pub reset: bool,
    /// The commands.
    pub commands: Vec<String>,
}

impl<'a> Narrator<'a> {
    /// Prints to `out`, with colours for a terminal.
    pub fn new(out: &'a mut (dyn Write + Send), colour: bool) -> Self {
        Self { out, after: Position::START, names: HashMap::new(), unanswered: Vec::new(), colour }
    }

    /// Messages to the agent since the last call.
    pub fn take_unanswered(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.unanswered)
    }

    /// Tells what the log says since the last time.
    pub async fn catch_up(&mut self, app: &App) -> Result<(), DemoError> {
        loop {
            let events = app.store.read_all(self.after, PAGE).await?;
            for recorded in &events {
                self.after = recorded.position;
                if let Event::Allocation(event) = Event::decode(recorded)? {
                    self.tell(recorded, &event)?;
                }
            }
            if events.is_empty() {
                return Ok(());
            }
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn tell(&mut self, recorded: &RecordedEvent, event: &AllocationEvent) -> std::io::Result<()> {
        let Some((resource, _)) = book_of(recorded.stream.as_str()) else { return Ok(()) };
        match event {
            AllocationEvent::ResourceRegistered(registered) => {
                self.names.insert(resource, registered.facts.name.clone());
                if self.names.len() > 1 {
                    return Ok(());
                }
                let date = self.paint("1", &recorded.occurred_at.format("%Y-%m-%d %H:%M").to_string());
                writeln!(self.out, "{date}  the accounts are taken over: limits set, counting starts")
            }
            AllocationEvent::LimitsChanged(changed) => {
                let sum = |limits: &Amounts| short(limits.values().sum(), 2);
                let what = format!("topped up {} -> {}", sum(&changed.previous), sum(&changed.limits));
                self.headline(recorded.occurred_at, resource, None, &self.paint("36", &format!("+ {what}")))?;
                match &recorded.metadata.reason {
                    Some(reason) => self.detail(&format!("\"{reason}\"")),
                    None => Ok(()),
                }
            }
            AllocationEvent::PolicyEvaluated(evaluated) => self.evaluated(recorded.occurred_at, resource, evaluated),
            AllocationEvent::SettingsCommanded(commanded) => self.commanded(resource, commanded),
            _ => Ok(()),
        }
    }

    fn evaluated(
        &mut self,
        at: DateTime<Utc>,
        resource: ResourceId,
        evaluated: &PolicyEvaluated,
    ) -> std::io::Result<()> {
        let carried = evaluated.trigger == Trigger::PeriodBoundary && begins_a_period(evaluated);
        let notified = evaluated.outcome.verbs.contains(&Verb::Notify);
        if evaluated.before == evaluated.after && !notified && !carried {
            return Ok(());
        }
        let mut words = Vec::new();
        if carried {
            words.push(self.paint("36", &format!("= {} begins", evaluated.period)));
        }
        words.extend(self.change(evaluated.before, evaluated.after));
        if notified {
            words.push(self.paint("33", "! owners warned"));
        }
        self.headline(at, resource, Some(evaluated.outcome.percentage), &words.join("  "))?;
        self.detail(&evaluated.outcome.explanation)
    }

    fn change(&self, before: Flags, after: Flags) -> Option<String> {
        match (before.paused, after.paused, before.downscaled, after.downscaled) {
            (false, true, _, _) => Some(self.paint("31;1", "# paused")),
            (true, false, _, true) => Some(self.paint("35", "v paused -> slowed down")),
            (_, _, false, true) => Some(self.paint("35", "v slowed down")),
            (true, false, _, false) | (_, _, true, false) => Some(self.paint("32", "^ restored")),
            _ => None,
        }
    }

    fn headline(
        &mut self,
        at: DateTime<Utc>,
        resource: ResourceId,
        percentage: Option<Decimal>,
        what: &str,
    ) -> std::io::Result<()> {
        let name = self.names.get(&resource).cloned().unwrap_or_default();
        let date = self.paint("1", &at.format("%Y-%m-%d %H:%M").to_string());
        // Cut, as in the sentence below it, so that no threshold shows as reached that is not.
        let cut = |p: Decimal| p.round_dp_with_strategy(1, RoundingStrategy::ToZero).normalize().to_string();
        let usage = percentage.map_or_else(|| " ".repeat(BAR_CELLS + 9), |p| format!("{} {:>6} %", bar(p), cut(p)));
        writeln!(self.out, "{date}  {name:<9} {usage}  {what}")
    }

    fn detail(&mut self, text: &str) -> std::io::Result<()> {
        let text = self.paint("2", text);
        writeln!(self.out, "                   {text}")
    }

    fn commanded(&mut self, resource: ResourceId, commanded: &SettingsCommanded) -> std::io::Result<()> {
        let commands = commanded.commands.iter().map(|c| c.shell_command.clone()).collect();
        let (policy, dispatch) = (commanded.policy, commanded.dispatch);
        let reset = commanded.settings.reset_raw_usage;
        self.unanswered.push(Told { resource, policy, dispatch, reset, commands });
        // One line: what `sacctmgr modify account A` is to set, in order.
        let settings: Vec<&str> = commanded
            .commands
            .iter()
            .flat_map(|c| c.shell_command.split("; "))
            .filter_map(|c| c.split_once(" set ").map(|(_, setting)| setting))
            .collect();
        let account = commanded.commands.iter().find_map(|c| c.parameters.get("account")?.as_str()).unwrap_or_default();
        let line = self.paint("34", &format!("-> sacctmgr, account {account}: {}", settings.join(", ")));
        writeln!(self.out, "                   {line}")
    }
}

/// True for the first evaluation of a period that carries something over: its basis is new and complete.
fn begins_a_period(evaluated: &PolicyEvaluated) -> bool {
    let Recorded::Full(basis) = &evaluated.basis else { return false };
    evaluated.period.start() == Some(evaluated.month.first_day()) && basis.allocation.carryover.carryover_applied
}

/// A bar of usage; `:` marks 80, 100 and 120 percent where it is empty.
fn bar(percentage: Decimal) -> String {
    let cells = (percentage / Decimal::from(5)).to_usize().unwrap_or(0).min(BAR_CELLS);
    (0..BAR_CELLS)
        .map(|cell| match cell {
            _ if cell < cells => '█',
            16 | 20 | 24 => ':',
            _ => '·',
        })
        .collect()
}
