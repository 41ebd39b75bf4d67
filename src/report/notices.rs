//! The notice register: what was sent to how many, about what, and what could not be delivered.

use super::known::Known;
use super::pass::{Collector, Seen};
use super::table::{Tally, Value};
use super::{Asked, Cell, Refs, Table};
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::RecordedEvent;
use crate::events::notice::Notice;

const COLUMNS: [&str; 12] = [
    "at",
    "allocation",
    "organisation",
    "policy",
    "template",
    "thresholds",
    "channel",
    "recipients",
    "attempts",
    "outcome",
    "error",
    "called_for_by",
];

/// Makes the register.
pub(super) struct Notices {
    asked: Asked,
    table: Table,
    sent: Refs,
    failed: Refs,
    resent: Refs,
    templates: Tally,
}

impl Notices {
    pub(super) fn new(asked: &Asked) -> Self {
        Self {
            asked: asked.clone(),
            table: Table::new("notices", &COLUMNS),
            sent: Refs::default(),
            failed: Refs::default(),
            resent: Refs::default(),
            templates: Tally::default(),
        }
    }
}

impl Collector for Notices {
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool {
        matches!(name, "notice_sent" | "notice_failed" | "notice_resent") && self.asked.span.holds(recorded.occurred_at)
    }

    fn take(&mut self, seen: &Seen<'_>, known: &Known) {
        let (Some(resource), Event::Allocation(event)) = (seen.resource, seen.event) else { return };
        let (notice, outcome, error, refs): (&Notice, _, _, _) = match event {
            AllocationEvent::NoticeSent(sent) => (&sent.notice, "sent", "", &mut self.sent),
            AllocationEvent::NoticeFailed(failed) => (&failed.notice, "given up", &*failed.error, &mut self.failed),
            AllocationEvent::NoticeResent(resent) => (&resent.notice, "sent again", "", &mut self.resent),
            _ => return,
        };
        if self.asked.policy.is_some() && self.asked.policy != notice.policy {
            return;
        }
        refs.add(seen.here);
        if outcome == "sent" {
            self.templates.add(notice.template.as_str());
        }
        let thresholds: Vec<String> = notice.thresholds.iter().map(|t| t.normalize().to_string()).collect();
        let covers: Vec<String> = notice.covers.iter().map(ToString::to_string).collect();
        let row = vec![
            Cell { value: Value::Instant(seen.recorded.occurred_at), events: seen.here.into() },
            Cell::text(known.name(resource)),
            Cell::text(known.organisation(resource)),
            notice.policy.map_or(Cell::NOTHING, |policy| Cell::text(known.policy(policy))),
            Cell::text(notice.template.as_str()),
            Cell::text(thresholds.join(", ")),
            Cell::text(notice.channel.as_str()),
            Cell::count(notice.recipients.len() as u64),
            Cell::count(notice.attempt.into()),
            Cell::text(outcome),
            Cell::text(error),
            Cell::text(covers.join(" ")),
        ];
        self.table.push(row, self.asked.rows_max);
    }

    fn finish(mut self: Box<Self>, _: &Known) -> Vec<Table> {
        self.table.totals = vec![
            ("sent", self.sent.counted()),
            ("given_up", self.failed.counted()),
            ("sent_again", self.resent.counted()),
            ("sent_by_template", Cell::text(self.templates.said())),
        ];
        self.table.notes.push("a notice that several allocations share stands once for each".to_owned());
        vec![self.table]
    }
}
