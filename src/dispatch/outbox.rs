//! The publisher's view of the outbox: due, handed-over, unanswered and given-up messages.

use std::collections::HashSet;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::DispatchError;
use super::rows::{FlagsRow, FlagsState, Row, RowState, columns, flag_bits, flags_columns, unreadable};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{DispatchId, OfferingId, PolicyId, ResourceId};
use crate::events::dispatch::{AgentMessage, StompMessageSent};
use crate::events::envelope::Position;
use crate::projections::id_list;
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue, execute_in, in_list};

/// Rows looked at in one pass.
const PASS_MAX: i64 = 500;

static FORGET: LazyLock<String> = LazyLock::new(|| in_list("DELETE FROM outbox WHERE state = 4 AND no IN", ""));

/// How much waits, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Depth {
    /// Dispatches that no queue has accepted yet, or that must be resent.
    pub queued: u64,
    /// When the oldest of them was decided.
    pub oldest_queued_at: Option<DateTime<Utc>>,
    /// Dispatches that a queue has and nobody has answered.
    pub unanswered: u64,
    /// Dispatches that are not sent again by themselves.
    pub given_up: u64,
    /// Resources whose agent is owed a message about restrictions.
    pub restrictions: u64,
    /// Resources whose restrictions were sent, and whose class of service the site has not confirmed yet.
    pub restrictions_unconfirmed: u64,
    /// Resources whose class of service the site never confirmed after all resends.
    pub restrictions_given_up: u64,
}

/// Why a dispatch is not sent again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterReason {
    /// The broker refused it each time.
    Refused,
    /// Nobody answered, however often it was sent.
    NoAnswer,
    /// The agent reported that it failed.
    Failed,
}

impl DeadLetterReason {
    /// The word that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
        }
    }
}

/// A message that is not sent again by itself, and that nothing has superseded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// What it is about.
    pub message: AgentMessage,
    /// The dispatch; none for a message about restrictions.
    pub dispatch: Option<DispatchId>,
    /// Its resource.
    pub resource: ResourceId,
    /// The resource's offering.
    pub offering: OfferingId,
    /// The policy that caused it; none for a message about restrictions.
    pub policy: Option<PolicyId>,
    /// Restrictions that it tells of.
    pub flags: Option<Flags>,
    /// Why.
    pub reason: DeadLetterReason,
    /// What was said last.
    pub error: Option<String>,
    /// When it was decided.
    pub queued_at: DateTime<Utc>,
    /// When a queue took it last.
    pub sent_at: Option<DateTime<Utc>>,
    /// How often it was sent again.
    pub resends: u64,
}

/// The tables.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    db: ReadDb,
}

/// A hand-over that the log does not have yet.
pub(super) struct Handed {
    pub resource: ResourceId,
    pub sent: StompMessageSent,
}

impl Outbox {
    pub(super) fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// How far the consumer is.
    pub(super) async fn folded_to(&self) -> Result<Position, SqlError> {
        let select = "SELECT position_hi, position_lo FROM consumers WHERE name = $1 AND building = 0";
        let row = self.db.query_one(select, &[SqlValue::Static(super::CONSUMER)]).await?;
        row.map_or(Ok(Position::START), |row| row.position(0))
    }

    /// Whether there is anything to send or to wait for. Who waits for a class of service to be confirmed, the sweep knows.
    pub(super) async fn owes(&self) -> Result<bool, SqlError> {
        let select = "SELECT 1 WHERE EXISTS (SELECT 1 FROM outbox WHERE state = 0) \
                      OR EXISTS (SELECT 1 FROM outbox WHERE state IN (1, 2, 4)) \
                      OR EXISTS (SELECT 1 FROM outbox_flags WHERE state = 0)";
        Ok(self.db.query_one(select, &[]).await?.is_some())
    }

    /// Messages of an offering that its agent has not answered.
    pub(super) async fn outstanding(&self, offering: OfferingId) -> Result<i64, SqlError> {
        let select = "SELECT count(*) FROM outbox WHERE offering = $1 AND state IN (1, 2, 4) AND given_up = 0";
        let row = self.db.query_one(select, &[SqlValue::Uuid(offering.as_uuid())]).await?;
        row.map_or(Ok(0), |row| row.i64(0))
    }

    /// Dispatches whose time has come, oldest first.
    pub(super) async fn due(
        &self,
        offering: OfferingId,
        real_now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Row>, SqlError> {
        let select = concat!(
            "SELECT ",
            columns!(),
            " FROM outbox WHERE offering = $1 AND state = 0 AND handed IS NULL AND next_attempt_at <= $2 \
             ORDER BY no LIMIT $3"
        );
        let values = [SqlValue::Uuid(offering.as_uuid()), real_now.into(), limit.min(PASS_MAX).into()];
        self.db.query(select, &values).await?.iter().map(Row::read).collect()
    }

    /// Restrictions to be told of, oldest first.
    pub(super) async fn due_flags(
        &self,
        offering: OfferingId,
        real_now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<FlagsRow>, SqlError> {
        let select = concat!(
            "SELECT ",
            flags_columns!(),
            " FROM outbox_flags WHERE offering = $1 AND state = 0 AND handed IS NULL AND next_attempt_at <= $2 \
             ORDER BY no LIMIT $3"
        );
        let values = [SqlValue::Uuid(offering.as_uuid()), real_now.into(), limit.min(PASS_MAX).into()];
        self.db.query(select, &values).await?.iter().map(FlagsRow::read).collect()
    }

    /// Whether settings of a resource wait to be handed over.
    pub(super) async fn settings_wait(&self, resource: ResourceId) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM outbox WHERE resource = $1 AND state = 0 LIMIT 1";
        Ok(self.db.query_one(select, &[SqlValue::Uuid(resource.as_uuid())]).await?.is_some())
    }

    /// The restrictions of a resource that must be sent to its agent.
    pub(super) async fn flags_of(&self, resource: ResourceId) -> Result<Option<FlagsRow>, SqlError> {
        let select = concat!(
            "SELECT ",
            flags_columns!(),
            " FROM outbox_flags WHERE resource = $1 AND state = 0 AND handed IS NULL"
        );
        let row = self.db.query_one(select, &[SqlValue::Uuid(resource.as_uuid())]).await?;
        row.as_ref().map(FlagsRow::read).transpose()
    }

    /// Messages about these resources' restrictions; none where the site confirmed them, or there never was one.
    pub(super) async fn restrictions(
        &self,
        resources: impl Iterator<Item = ResourceId>,
    ) -> Result<Vec<FlagsRow>, SqlError> {
        let select = concat!(
            "SELECT ",
            flags_columns!(),
            " FROM outbox_flags WHERE resource IN (SELECT unhex(value) FROM json_each($1))"
        );
        let rows = self.db.query(select, &[id_list(resources.map(|resource| resource.as_uuid())).into()]).await?;
        rows.iter().map(FlagsRow::read).collect()
    }

    /// Messages about restrictions that an agent's queue took since `since` and that the site has not confirmed.
    pub(super) async fn restrictions_out(&self, offering: OfferingId, since: DateTime<Utc>) -> Result<i64, SqlError> {
        let select = "SELECT count(*) FROM outbox_flags WHERE offering = $1 AND state = 1 AND sent_at > $2";
        let row = self.db.query_one(select, &[SqlValue::Uuid(offering.as_uuid()), since.into()]).await?;
        row.map_or(Ok(0), |row| row.i64(0))
    }

    /// Puts dispatches off, each to its own time; `counts` = an attempt was made.
    pub(super) async fn put_off(&self, rows: &[(i64, DateTime<Utc>, Option<String>)]) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        for (no, until, error) in rows {
            let attempts = i64::from(error.is_some());
            let update = "UPDATE outbox SET next_attempt_at = $2, attempts = attempts + $3, error = coalesce($4, error) \
                          WHERE no = $1 AND state = 0";
            tx.execute(update, &[(*no).into(), (*until).into(), attempts.into(), error.clone().into()]).await?;
        }
        tx.commit().await
    }

    /// Puts a message about restrictions off.
    pub(super) async fn put_off_flags(&self, row: &FlagsRow, until: DateTime<Utc>) -> Result<(), SqlError> {
        let update =
            "UPDATE outbox_flags SET next_attempt_at = $2, attempts = attempts + 1 WHERE resource = $1 AND no = $3";
        self.update(update, &[SqlValue::Uuid(row.resource), until.into(), row.no.into()]).await.map(drop)
    }

    /// Keeps hand-overs until the log has them: what a queue is known to have is not handed over again.
    pub(super) async fn handed_over(&self, handed: &[Handed]) -> Result<(), DispatchError> {
        let mut tx = self.db.begin().await?;
        for one in handed {
            let text = serde_json::to_string(&one.sent).map_err(|error| unreadable("a hand-over", error))?;
            mark_handed(&mut tx, one, text).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Hand-overs that the log does not have yet.
    pub(super) async fn unrecorded(&self) -> Result<Vec<Handed>, DispatchError> {
        let mut found = Vec::new();
        let settings = "SELECT resource, handed FROM outbox WHERE handed IS NOT NULL ORDER BY no LIMIT $1";
        let flags = "SELECT resource, handed FROM outbox_flags WHERE handed IS NOT NULL LIMIT $1";
        for select in [settings, flags] {
            for row in self.db.query(select, &[PASS_MAX.into()]).await? {
                let sent = serde_json::from_str(row.text(1)?).map_err(|error| unreadable("a hand-over", error))?;
                found.push(Handed { resource: row.uuid(0)?.into(), sent });
            }
        }
        Ok(found)
    }

    /// Dispatches, including superseded ones, without a relevant sign of their agent since `before`: those behind the
    /// newest answered one wait for the next sign, those before it were skipped.
    pub(super) async fn unanswered(&self, before: DateTime<Utc>) -> Result<Vec<Row>, SqlError> {
        // In order of a sum, since SQLite would rather walk the whole table in order than take the index.
        let select = concat!(
            "SELECT ",
            columns!(),
            " FROM outbox WHERE state IN (1, 4) AND sent_at <= $1 AND NOT EXISTS (SELECT 1 FROM outbox_agents a \
             WHERE a.offering = outbox.offering AND a.progress_at > $1 AND a.progress_no < outbox.sent_no) \
             ORDER BY no + 0 LIMIT $2"
        );
        self.db.query(select, &[before.into(), PASS_MAX.into()]).await?.iter().map(Row::read).collect()
    }

    /// Forgets superseded dispatches: nobody waits for their answers any more.
    pub(super) async fn forget(&self, numbers: &[i64]) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        let numbers: Vec<SqlValue> = numbers.iter().copied().map(SqlValue::I64).collect();
        execute_in(&mut tx, &FORGET, &numbers).await?;
        tx.commit().await
    }

    /// Offerings with dispatches that nobody answered and that may be sent again.
    pub(super) async fn unanswered_offerings(&self) -> Result<Vec<OfferingId>, SqlError> {
        let select = "SELECT DISTINCT offering FROM outbox WHERE state = 2 AND given_up = 0";
        self.db.query(select, &[]).await?.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
    }

    /// For each offering when the oldest message was taken that is neither answered nor given up.
    pub(super) async fn oldest_unanswered(&self) -> Result<Vec<(OfferingId, DateTime<Utc>)>, SqlError> {
        // Spelled as the index has it, which SQLite does not see through otherwise.
        let select = "SELECT offering, min(sent_at) FROM (SELECT offering, sent_at FROM outbox \
                      WHERE state IN (1, 2, 4) AND state <> 4 AND given_up = 0 UNION ALL SELECT offering, sent_at \
                      FROM outbox_flags WHERE state = 1) AS waiting WHERE sent_at IS NOT NULL GROUP BY offering";
        self.db.query(select, &[]).await?.iter().map(|row| Ok((row.uuid(0)?.into(), row.time(1)?))).collect()
    }

    /// Queues those of an offering again; says how many.
    pub(super) async fn send_again(&self, offering: OfferingId) -> Result<u64, SqlError> {
        let update = "UPDATE outbox SET state = 0, resends = resends + 1, attempts = 0, next_attempt_at = 0, handed = NULL \
                      WHERE offering = $1 AND state = 2 AND given_up = 0";
        self.update(update, &[SqlValue::Uuid(offering.as_uuid())]).await
    }

    /// Offerings with messages about restrictions that a queue took before `before`, and of whose agent nothing was heard
    /// since that could mean them.
    pub(super) async fn unconfirmed_offerings(&self, before: DateTime<Utc>) -> Result<Vec<OfferingId>, SqlError> {
        let select = "SELECT DISTINCT offering FROM outbox_flags WHERE state = 1 AND sent_at <= $1 AND NOT EXISTS \
                      (SELECT 1 FROM outbox_agents a WHERE a.offering = outbox_flags.offering AND a.progress_at > $1 \
                      AND a.progress_no < outbox_flags.sent_no)";
        self.db.query(select, &[before.into()]).await?.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
    }

    /// Queues those of an offering again that were sent again less than `resends_max` times, and gives up the others; says
    /// how many are sent again.
    pub(super) async fn tell_again(
        &self,
        offering: OfferingId,
        before: DateTime<Utc>,
        resends_max: u32,
    ) -> Result<u64, SqlError> {
        let again = "UPDATE outbox_flags SET state = 0, attempts = 0, next_attempt_at = 0, handed = NULL \
                     WHERE offering = $1 AND state = 1 AND sent_at <= $2 AND resends < $3 AND NOT EXISTS \
                     (SELECT 1 FROM outbox_agents a WHERE a.offering = outbox_flags.offering AND a.progress_at > $2 \
                     AND a.progress_no < outbox_flags.sent_no)";
        let give_up = "UPDATE outbox_flags SET state = 2 WHERE offering = $1 AND state = 1 AND sent_at <= $2 \
                       AND resends >= $3 AND NOT EXISTS (SELECT 1 FROM outbox_agents a \
                       WHERE a.offering = outbox_flags.offering AND a.progress_at > $2 \
                       AND a.progress_no < outbox_flags.sent_no)";
        let values = [SqlValue::Uuid(offering.as_uuid()), before.into(), resends_max.into()];
        let mut tx = self.db.begin().await?;
        let told = tx.execute(again, &values).await?;
        tx.execute(give_up, &values).await?;
        tx.commit().await?;
        Ok(told)
    }

    /// How much waits.
    pub(super) async fn depth(&self) -> Result<Depth, SqlError> {
        let select = "SELECT (SELECT count(*) FROM outbox WHERE state = 0), \
                      (SELECT min(queued_at) FROM outbox WHERE state = 0), \
                      (SELECT count(*) FROM outbox WHERE state IN (1, 2, 4) AND given_up = 0), \
                      (SELECT count(*) FROM outbox WHERE given_up = 1), \
                      (SELECT count(*) FROM outbox_flags WHERE state = 0), \
                      (SELECT count(*) FROM outbox_flags WHERE state = 1), \
                      (SELECT count(*) FROM outbox_flags f WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM outbox_accounts a \
                      WHERE a.resource = f.resource AND a.live = 0))";
        let Some(row) = self.db.query_one(select, &[]).await? else { return Ok(Depth::default()) };
        Ok(Depth {
            queued: row.i64(0)?.cast_unsigned(),
            oldest_queued_at: row.opt_time(1)?,
            unanswered: row.i64(2)?.cast_unsigned(),
            given_up: row.i64(3)?.cast_unsigned(),
            restrictions: row.i64(4)?.cast_unsigned(),
            restrictions_unconfirmed: row.i64(5)?.cast_unsigned(),
            restrictions_given_up: row.i64(6)?.cast_unsigned(),
        })
    }

    /// Messages that are not sent again by themselves, and how many there are: dispatches, oldest first, then messages about
    /// restrictions.
    pub(super) async fn dead_letters(&self, limit: u32, offset: u64) -> Result<(Vec<DeadLetter>, u64), SqlError> {
        let count = "SELECT count(*) FROM outbox WHERE given_up = 1 OR state = 3";
        let total = self.db.query_one(count, &[]).await?.map_or(Ok(0), |row| row.i64(0))?;
        let select = concat!(
            "SELECT ",
            columns!(),
            " FROM outbox WHERE given_up = 1 OR state = 3 ORDER BY no LIMIT $1 OFFSET $2"
        );
        let values = [SqlValue::from(limit), offset.cast_signed().into()];
        let rows = self.db.query(select, &values).await?;
        let mut letters: Vec<DeadLetter> = rows.iter().map(dead_letter).collect::<Result<_, _>>()?;
        // What has ended is no dead letter: no agent heeds it. What SLURM still has of it is listed on its own.
        let select = concat!(
            "SELECT ",
            flags_columns!(),
            " FROM outbox_flags f WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM outbox_accounts a \
             WHERE a.resource = f.resource AND a.live = 0) ORDER BY no LIMIT $1 OFFSET $2"
        );
        let room = i64::from(limit) - i64::try_from(letters.len()).unwrap_or(i64::MAX);
        let values = [room.into(), (offset.cast_signed() - total).max(0).into()];
        for row in self.db.query(select, &values).await? {
            letters.push(dead_restriction(&FlagsRow::read(&row)?));
        }
        let count = "SELECT count(*) FROM outbox_flags f WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM outbox_accounts a \
                     WHERE a.resource = f.resource AND a.live = 0)";
        let restrictions = self.db.query_one(count, &[]).await?.map_or(Ok(0), |row| row.i64(0))?;
        Ok((letters, (total + restrictions).cast_unsigned()))
    }

    /// The dead letter on a resource's restrictions.
    pub(super) async fn dead_restriction(&self, resource: ResourceId) -> Result<Option<DeadLetter>, SqlError> {
        let row = self.restrictions(std::iter::once(resource)).await?.pop();
        Ok(row.as_ref().filter(|row| row.state != FlagsState::Queued).map(dead_restriction))
    }

    /// One of the dispatches.
    pub(super) async fn dead_letter(&self, dispatch: DispatchId) -> Result<Option<DeadLetter>, SqlError> {
        let select =
            concat!("SELECT ", columns!(), " FROM outbox WHERE dispatch = $1 AND (given_up = 1 OR state IN (2, 3))");
        let row = self.db.query_one(select, &[SqlValue::Uuid(dispatch.as_uuid())]).await?;
        row.as_ref().map(dead_letter).transpose()
    }

    /// Those of these resources of which nobody knows how the last reset of their raw usage went.
    pub(super) async fn resets_unconfirmed(
        &self,
        resources: impl Iterator<Item = ResourceId>,
    ) -> Result<HashSet<ResourceId>, SqlError> {
        let select = "SELECT resource FROM outbox_resets WHERE resource IN (SELECT unhex(value) FROM json_each($1))";
        let rows = self.db.query(select, &[id_list(resources.map(|resource| resource.as_uuid())).into()]).await?;
        rows.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
    }

    async fn update(&self, sql: &'static str, values: &[SqlValue]) -> Result<u64, SqlError> {
        let mut tx = self.db.begin().await?;
        let touched = tx.execute(sql, values).await?;
        tx.commit().await?;
        Ok(touched)
    }
}

async fn mark_handed(tx: &mut ReadTx, one: &Handed, text: String) -> Result<(), SqlError> {
    if let Some(dispatch) = one.sent.dispatch {
        let update = "UPDATE outbox SET handed = $2 WHERE dispatch = $1 AND state = 0";
        tx.execute(update, &[SqlValue::Uuid(dispatch.as_uuid()), text.into()]).await?;
    } else {
        // Restrictions that have changed meanwhile are still to be told of.
        let flags = one.sent.flags.map(flag_bits);
        let update = "UPDATE outbox_flags SET handed = $2 WHERE resource = $1 AND state = 0 AND flags = $3";
        tx.execute(update, &[SqlValue::Uuid(one.resource.as_uuid()), text.into(), flags.into()]).await?;
    }
    Ok(())
}

fn dead_letter(row: &SqlRow) -> Result<DeadLetter, SqlError> {
    let row = Row::read(row)?;
    let reason = match (row.state, row.given_up) {
        (RowState::Failed, true) => DeadLetterReason::Refused,
        (RowState::Failed, false) => DeadLetterReason::Failed,
        _ => DeadLetterReason::NoAnswer,
    };
    Ok(DeadLetter {
        message: AgentMessage::Settings,
        dispatch: Some(row.dispatch.into()),
        resource: row.resource.into(),
        offering: row.offering.into(),
        policy: Some(row.policy.into()),
        flags: None,
        reason,
        error: row.error,
        queued_at: row.queued_at,
        sent_at: row.sent_at,
        resends: row.resends.cast_unsigned(),
    })
}

fn dead_restriction(row: &FlagsRow) -> DeadLetter {
    DeadLetter {
        message: AgentMessage::Resource,
        dispatch: None,
        resource: row.resource.into(),
        offering: row.offering.into(),
        policy: None,
        flags: Some(row.flags),
        reason: DeadLetterReason::NoAnswer,
        error: None,
        queued_at: row.queued_at,
        sent_at: row.sent_at,
        resends: row.resends.cast_unsigned(),
    }
}
