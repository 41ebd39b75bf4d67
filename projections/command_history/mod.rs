//! The command history: the commands of each dispatch to an agent, and their results.
//!
//! A dispatch is one row that holds its commands, so that a fleet costs one row per message; lists show one row per
//! command. A newer dispatch of a resource supersedes its unanswered ones; a report changes only its own dispatch.

mod class;
mod dispatches;
mod query;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::kit::{CountSql, Counts, Interner, Mark, MarkSql, book_of, count_sql, in_list, mark_sql, query_in};
use crate::domain::dispatch::{Stage, Step, next};
use crate::domain::ids::{DispatchId, PolicyId};
use crate::events::Event;
use crate::events::allocation::{
    AllocationEvent, CommandReport, CommandResultUnmatched, ExecutionMode, SettingsCommanded,
};
use crate::events::site::SiteEvent;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadTx, SqlError, SqlRow, SqlValue};

pub use class::DispatchStatus;
pub use dispatches::{DispatchRow, Travelled, dispatch, dispatches, travelled};
pub use query::{CommandFilter, CommandRow, UnmatchedFilter, UnmatchedRow, count, list, unmatched};

/// The consumer's name.
pub const NAME: &str = "command_history";

const TABLES: &[&str] = &[
    "command_history_mark",
    "command_history_resources",
    "command_history_policies",
    "command_history",
    "command_history_counts",
    "unmatched_results",
];

pub(super) static MARK: MarkSql = mark_sql!("command_history_mark");
pub(super) static COUNTS: CountSql = count_sql!("command_history");

static FIND_RESOURCE: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT no, id FROM command_history_resources{g} WHERE id IN", ""));
static FIND_POLICY: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT no, id FROM command_history_policies{g} WHERE id IN", ""));
static UNANSWERED: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT no, dispatch, resource, class, at, sent_at, answered_at, mode, success, error, reported \
         FROM command_history{g} WHERE (class & 240) < 48 AND resource IN",
        "",
    )
});
static BY_DISPATCH: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT no, dispatch, resource, class, at, sent_at, answered_at, mode, success, error, reported \
         FROM command_history{g} WHERE dispatch IN",
        "",
    )
});
/// Dispatches that something newer was decided after.
static OVERTAKEN: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT c.no FROM command_history{g} c WHERE EXISTS (SELECT 1 FROM command_history{g} n \
         WHERE n.resource = c.resource AND n.no > c.no) AND c.dispatch IN",
        "",
    )
});

const COLUMNS: usize = 12;
const INSERT: &str = "INSERT INTO command_history{g} (no, dispatch, resource, class, at, sent_at, answered_at, mode, \
                      success, error, reported, commands)";
/// The commands never change, so a row that is there keeps them.
const UPDATE: &str = "ON CONFLICT (no) DO UPDATE SET class = excluded.class, sent_at = excluded.sent_at, \
                      answered_at = excluded.answered_at, mode = excluded.mode, success = excluded.success, \
                      error = excluded.error, reported = excluded.reported";

/// The consumer.
#[derive(Debug)]
pub struct CommandHistory {
    resources: Interner,
    policies: Interner,
    mark: Mark,
    horizon: Option<DateTime<Utc>>,
}

impl Default for CommandHistory {
    fn default() -> Self {
        Self::with_horizon(None)
    }
}

/// A dispatch, as far as events change it.
#[derive(Debug, Clone)]
struct Dispatch {
    no: i64,
    id: Uuid,
    resource: i64,
    class: i64,
    at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    answered_at: Option<DateTime<Utc>>,
    mode: Option<i64>,
    success: Option<bool>,
    error: Option<String>,
    reported: Option<String>,
    /// Commands of a new row.
    commands: Option<String>,
    /// The class under which it is counted so far.
    counted: Option<i64>,
    changed: bool,
}

impl Dispatch {
    fn read(row: &SqlRow) -> Result<Self, SqlError> {
        Ok(Self {
            no: row.i64(0)?,
            id: row.uuid(1)?,
            resource: row.i64(2)?,
            class: row.i64(3)?,
            at: row.time(4)?,
            sent_at: row.opt_time(5)?,
            answered_at: row.opt_time(6)?,
            mode: row.opt_i64(7)?,
            success: row.opt_bool(8)?,
            error: row.opt_text(9)?.map(str::to_owned),
            reported: row.opt_text(10)?.map(str::to_owned),
            commands: None,
            counted: Some(row.i64(3)?),
            changed: false,
        })
    }

    fn stage(&self, is_newest: bool) -> Stage {
        DispatchStatus::of_class(self.class).stage(is_newest)
    }

    fn stand(&mut self, stage: Stage) {
        self.class = class::with_status(self.class, stage.into());
        self.changed = true;
    }

    /// How its message travelled.
    fn travel(&mut self, event: &AllocationEvent, step: Step, is_newest: bool) {
        if let AllocationEvent::StompMessageSent(sent) = event {
            self.sent_at = self.sent_at.or(Some(sent.at));
            self.changed = true;
        }
        let (before, after) = (self.stage(is_newest), next(self.stage(is_newest), step));
        if before == after {
            return;
        }
        if let AllocationEvent::StompMessageFailed(failed) = event {
            self.error = Some(format!("The message was not taken by any queue: {}", failed.error));
        }
        self.stand(after);
    }

    /// What the agent says of it. What is said of something that worked is no answer to it any more.
    fn answer(&mut self, report: &CommandReport, at: DateTime<Utc>, is_newest: bool) {
        let before = self.stage(is_newest);
        if before == Stage::Confirmed {
            return;
        }
        self.stand(next(before, report.step()));
        self.success = Some(report.success);
        self.error = (!report.success).then(|| report.error_message.clone());
        self.mode = Some(mode_code(report.mode));
        self.reported = Some(commands_text(&report.commands_executed));
        self.answered_at = Some(at);
    }

    fn values(self) -> [SqlValue; COLUMNS] {
        [
            self.no.into(),
            SqlValue::Uuid(self.id),
            self.resource.into(),
            self.class.into(),
            self.at.into(),
            self.sent_at.into(),
            self.answered_at.into(),
            self.mode.into(),
            self.success.into(),
            self.error.into(),
            self.reported.into(),
            self.commands.unwrap_or_default().into(),
        ]
    }
}

fn mode_code(mode: ExecutionMode) -> i64 {
    match mode {
        ExecutionMode::Production => 1,
        ExecutionMode::Emulator => 2,
    }
}

/// A list of commands as JSON.
fn commands_text(commands: &[String]) -> String {
    serde_json::Value::from(commands.to_vec()).to_string()
}

/// The dispatches that a batch touches, by number, and how to find them.
#[derive(Default)]
struct Touched {
    rows: BTreeMap<i64, Dispatch>,
    by_dispatch: BTreeMap<Uuid, i64>,
    unanswered: BTreeMap<i64, Vec<i64>>,
    /// The newest dispatch of each resource that a new one came to.
    newest: BTreeMap<i64, i64>,
    /// Those that are to be sent again and have a newer one beside them.
    overtaken: BTreeSet<i64>,
}

impl Touched {
    fn put(&mut self, dispatch: Dispatch) {
        self.by_dispatch.insert(dispatch.id, dispatch.no);
        let unanswered = self.unanswered.entry(dispatch.resource).or_default();
        if dispatch.stage(true).is_unanswered() && !unanswered.contains(&dispatch.no) {
            unanswered.push(dispatch.no);
        }
        self.rows.entry(dispatch.no).or_insert(dispatch);
    }

    async fn load(
        tx: &mut ReadTx,
        resources: Vec<SqlValue>,
        dispatches: Vec<SqlValue>,
        again: Vec<SqlValue>,
    ) -> Result<Self, SqlError> {
        let mut touched = Self::default();
        for row in query_in(tx, &OVERTAKEN, &again).await? {
            touched.overtaken.insert(row.i64(0)?);
        }
        for row in query_in(tx, &UNANSWERED, &resources).await? {
            touched.put(Dispatch::read(&row)?);
        }
        for row in query_in(tx, &BY_DISPATCH, &dispatches).await? {
            touched.put(Dispatch::read(&row)?);
        }
        Ok(touched)
    }

    /// A new dispatch of a resource supersedes those before it.
    fn supersede(&mut self, resource: i64, newest: i64) {
        self.newest.insert(resource, newest);
        for no in self.unanswered.remove(&resource).unwrap_or_default() {
            if let Some(row) = self.rows.get_mut(&no).filter(|row| row.stage(true).is_unanswered()) {
                row.stand(next(row.stage(true), Step::Supersede));
            }
        }
    }

    /// What an event says of a dispatch. One that is to be sent again is unanswered again.
    fn travel(&mut self, event: &AllocationEvent) {
        let Some((dispatch, step)) = event.dispatch_step() else { return };
        let Some((row, is_newest)) = self.find(dispatch) else { return };
        row.travel(event, step, is_newest);
        let (no, resource, unanswered) = (row.no, row.resource, row.stage(is_newest).is_unanswered());
        let known = self.unanswered.entry(resource).or_default();
        if unanswered && !known.contains(&no) {
            known.push(no);
        }
    }

    /// The row of a dispatch, and whether it is the newest of its resource.
    fn find(&mut self, dispatch: DispatchId) -> Option<(&mut Dispatch, bool)> {
        let row = self.rows.get_mut(self.by_dispatch.get(&dispatch.as_uuid())?)?;
        let newest = self.newest.get(&row.resource).is_none_or(|newest| *newest <= row.no);
        let is_newest = newest && !self.overtaken.contains(&row.no);
        Some((row, is_newest))
    }

    async fn save(self, tx: &mut ReadTx) -> Result<(), SqlError> {
        let mut counts = Counts::default();
        let mut rows = Vec::new();
        for dispatch in self.rows.into_values().filter(|dispatch| dispatch.changed) {
            let at = dispatch.at.timestamp_micros();
            if let Some(counted) = dispatch.counted {
                counts.add(counted, at, -1);
            }
            counts.add(dispatch.class, at, 1);
            rows.extend(dispatch.values());
        }
        if !rows.is_empty() {
            tx.insert_many(INSERT, COLUMNS, rows, UPDATE).await?;
        }
        counts.save(tx, &COUNTS).await
    }
}

impl CommandHistory {
    /// A consumer that does not write rows strictly older than a horizon that the log is known to hold.
    pub fn with_horizon(horizon: Option<DateTime<Utc>>) -> Self {
        let resources = Interner::new(
            &FIND_RESOURCE,
            "INSERT INTO command_history_resources{g} (no, id)",
            "SELECT coalesce(max(no), 0) FROM command_history_resources{g}",
        );
        let policies = Interner::new(
            &FIND_POLICY,
            "INSERT INTO command_history_policies{g} (no, id)",
            "SELECT coalesce(max(no), 0) FROM command_history_policies{g}",
        );
        Self { resources, policies, mark: Mark::default(), horizon }
    }

    fn is_pruned(&self, at: DateTime<Utc>) -> bool {
        self.mark.is_pruned(at) || self.horizon.is_some_and(|horizon| at < horizon)
    }

    async fn intern(&mut self, tx: &mut ReadTx, events: &[&Decoded<Event>]) -> Result<(), SqlError> {
        let about: Vec<(Uuid, Uuid)> = events
            .iter()
            .filter_map(|e| Some((book_of(&e.recorded.stream)?.0.as_uuid(), policy_of(&e.event)?.as_uuid())))
            .collect();
        let (resources, policies): (Vec<_>, Vec<_>) = about.into_iter().unzip();
        self.resources.ensure(tx, &resources).await?;
        self.policies.ensure(tx, &policies).await
    }

    /// The rows that these events may change.
    async fn load(&self, tx: &mut ReadTx, events: &[&Decoded<Event>]) -> Result<Touched, SqlError> {
        let (mut resources, mut dispatches, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for event in events {
            match &event.event {
                Event::Allocation(AllocationEvent::SettingsCommanded(_)) => {
                    let book = book_of(&event.recorded.stream);
                    resources.extend(book.and_then(|(r, _)| self.resources.get(r.as_uuid())).map(SqlValue::I64));
                }
                Event::Allocation(other) => {
                    let Some((dispatch, step)) = other.dispatch_step() else { continue };
                    dispatches.push(SqlValue::Uuid(dispatch.as_uuid()));
                    if step == Step::Resend {
                        again.push(SqlValue::Uuid(dispatch.as_uuid()));
                    }
                }
                _ => {}
            }
        }
        Touched::load(tx, resources, dispatches, again).await
    }

    fn commanded(&mut self, touched: &mut Touched, event: &Decoded<Event>, commanded: &SettingsCommanded) {
        let Some((resource, _)) = book_of(&event.recorded.stream) else { return };
        let resource = self.resources.get(resource.as_uuid());
        let (Some(resource), Some(policy)) = (resource, self.policies.get(commanded.policy.as_uuid())) else { return };
        let no = self.mark.number();
        touched.supersede(resource, no);
        let at = event.recorded.occurred_at;
        if self.is_pruned(at) {
            return;
        }
        let commands = serde_json::to_string(&commanded.commands).unwrap_or_else(|_| "[]".to_owned());
        touched.put(Dispatch {
            no,
            id: commanded.dispatch.as_uuid(),
            resource,
            class: class::pack(policy, commanded.period, DispatchStatus::Queued, &commanded.commands),
            at,
            sent_at: None,
            answered_at: None,
            mode: None,
            success: None,
            error: None,
            reported: None,
            commands: Some(commands),
            counted: None,
            changed: true,
        });
    }

    fn unmatched(&self, event: &Decoded<Event>, result: &CommandResultUnmatched, no: i64) -> Option<[SqlValue; 9]> {
        let (resource, _) = book_of(&event.recorded.stream)?;
        Some([
            no.into(),
            SqlValue::Uuid(event.recorded.event_id),
            self.resources.get(resource.as_uuid())?.into(),
            self.policies.get(result.policy.as_uuid())?.into(),
            event.recorded.occurred_at.into(),
            mode_code(result.report.mode).into(),
            result.report.success.into(),
            result.report.error_message.as_str().into(),
            commands_text(&result.report.commands_executed).into(),
        ])
    }
}

/// The policy that an event is about.
fn policy_of(event: &Event) -> Option<PolicyId> {
    match event {
        Event::Allocation(AllocationEvent::SettingsCommanded(commanded)) => Some(commanded.policy),
        Event::Allocation(AllocationEvent::CommandResultUnmatched(result)) => Some(result.policy),
        _ => None,
    }
}

fn matters(event_type: &str) -> bool {
    matches!(
        event_type,
        "settings_commanded.v1"
            | "settings_commanded.v2"
            | "stomp_message_sent.v1"
            | "stomp_message_failed.v1"
            | "dispatch_unanswered.v1"
            | "dispatch_resend_requested.v1"
            | "command_result_reported.v1"
            | "command_result_unmatched.v1"
            | "retention_applied.v1"
    )
}

#[async_trait]
impl Consumer<Event> for CommandHistory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    fn interested(&self, event_type: &str) -> bool {
        matters(event_type)
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let events = self.mark.unseen(batch, matters);
        if events.is_empty() {
            return Ok(());
        }
        self.intern(tx, &events).await?;
        let mut touched = self.load(tx, &events).await?;
        let mut unmatched = Vec::new();
        for event in events {
            match &event.event {
                Event::Allocation(AllocationEvent::SettingsCommanded(commanded)) => {
                    self.commanded(&mut touched, event, commanded);
                }
                Event::Allocation(AllocationEvent::CommandResultReported(result)) => {
                    if let Some((row, is_newest)) = touched.find(result.dispatch) {
                        row.answer(&result.report, event.recorded.occurred_at, is_newest);
                    }
                }
                Event::Allocation(AllocationEvent::CommandResultUnmatched(result)) => {
                    let no = self.mark.number();
                    unmatched.extend(self.unmatched(event, result, no).into_iter().flatten());
                }
                Event::Allocation(other) => touched.travel(other),
                Event::Site(SiteEvent::RetentionApplied(applied)) => self.mark.prune_before(applied.horizon),
                _ => {}
            }
        }
        touched.save(tx).await?;
        if !unmatched.is_empty() {
            let insert = "INSERT INTO unmatched_results{g} \
                          (no, event, resource, policy, at, mode, success, error, reported)";
            tx.insert_many(insert, 9, unmatched, "").await?;
        }
        self.mark.save(tx, &MARK).await?;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        self.mark = Mark::load(tx, &MARK).await?;
        self.resources.reload(tx).await?;
        self.policies.reload(tx).await?;
        Ok(())
    }
}
