//! The rows of pending notices: bundled into messages, taken when due, postponed after a failure, listed for an
//! operator.
//!
//! Only the consumer settles a row, once the outcome is in the log; the worker writes the rest.

use chrono::{DateTime, Duration, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::NotifyError;
use crate::domain::ids::{CustomerId, EventId, NoticeId, PolicyId, ResourceId, UserId};
use crate::events::envelope::{Position, Version};
use crate::events::notice::{NoticeChannel, NoticeTemplate};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// Messages handled in one pass.
const PASS_MAX: i64 = 200;

/// Recipients whose digests are closed in one pass.
const BUNDLES_MAX: i64 = 200;

/// Notices that one mail tells of; more go in the next.
const DIGEST_MAX: i64 = 100;

/// Rows that are owed again at a time.
const RESEND_MAX: i64 = 10_000;

/// Days after which a settled row is forgotten; the log keeps what happened.
const KEEP_DAYS: i64 = 90;

/// Rows forgotten at a time.
const FORGET_MAX: i64 = 500;

/// How a notice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeState {
    /// Not delivered yet.
    Owed,
    /// Handed over, and recorded.
    Sent,
    /// Given up, and recorded; an operator may have it sent again.
    Failed,
}

impl NoticeState {
    /// The word stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owed => "owed",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Owed, Self::Sent, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// What is owed and what was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Backlog {
    /// Rows not delivered yet.
    pub owed: u64,
    /// When the oldest of them came about, on the service's clock.
    pub oldest_owed: Option<DateTime<Utc>>,
    /// Rows given up in the last 90 days.
    pub failed: u64,
}

/// One notice to one recipient, pending or sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoticeRow {
    /// The event that calls for it.
    pub cause: EventId,
    /// How it travels.
    pub channel: NoticeChannel,
    /// To whom.
    pub recipient: UserId,
    /// Why to them: owner, external or endpoint.
    pub via: String,
    /// What it is about.
    pub resource: ResourceId,
    /// Whose that is.
    pub customer: CustomerId,
    /// The policy that called for it.
    pub policy: Option<PolicyId>,
    /// What happened.
    pub template: NoticeTemplate,
    /// Thresholds (percent) reached.
    pub thresholds: Vec<Decimal>,
    /// Stream of the causing event.
    pub stream: String,
    /// Its version.
    pub version: Version,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// How it stands.
    pub state: NoticeState,
    /// The message it goes in, once that is made up.
    pub notice: Option<NoticeId>,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried next; on the machine's clock.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What went wrong last.
    pub error: Option<String>,
    /// Delivered or given up (true, false), and not recorded yet.
    #[serde(skip)]
    pub(super) outcome: Option<bool>,
    #[serde(skip)]
    pub(super) forced: bool,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT cause, channel, recipient, via, resource, customer, policy, template, thresholds, stream, version, ",
            "occurred_at, state, notice, attempts, next_attempt_at, error, outcome, forced FROM notices ",
            $rest
        )
    };
}

/// Which rows to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoticeFilter {
    /// Only those that stand so.
    pub state: Option<NoticeState>,
    /// Only those about this resource.
    pub resource: Option<ResourceId>,
    /// At most so many; newest first.
    pub limit: u32,
    /// Without so many at the beginning.
    pub offset: u64,
}

/// How many rows stand how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoticeCount {
    /// How they travel.
    pub channel: NoticeChannel,
    /// How they stand.
    pub state: NoticeState,
    /// How many.
    pub count: u64,
    /// The oldest of them.
    pub oldest: DateTime<Utc>,
}

/// The tables, as the worker uses them.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    db: ReadDb,
}

fn unreadable(what: &str) -> NotifyError {
    NotifyError::Unreadable(format!("a row has an unknown {what}"))
}

fn row(row: &SqlRow) -> Result<NoticeRow, NotifyError> {
    Ok(NoticeRow {
        cause: row.uuid(0)?.into(),
        channel: NoticeChannel::parse(row.text(1)?).ok_or_else(|| unreadable("channel"))?,
        recipient: row.uuid(2)?.into(),
        via: row.text(3)?.to_owned(),
        resource: row.uuid(4)?.into(),
        customer: row.uuid(5)?.into(),
        policy: row.opt_uuid(6)?.map(PolicyId::from),
        template: NoticeTemplate::parse(row.text(7)?).ok_or_else(|| unreadable("template"))?,
        thresholds: serde_json::from_str(row.text(8)?).map_err(|_| unreadable("list of thresholds"))?,
        stream: row.text(9)?.to_owned(),
        version: row.i64(10)?.cast_unsigned(),
        occurred_at: row.time(11)?,
        state: NoticeState::parse(row.text(12)?).ok_or_else(|| unreadable("state"))?,
        notice: row.opt_uuid(13)?.map(NoticeId::from),
        attempts: u32::try_from(row.i64(14)?).unwrap_or(u32::MAX),
        next_attempt_at: row.opt_time(15)?,
        error: row.opt_text(16)?.map(str::to_owned),
        outcome: row.opt_text(17)?.map(|outcome| outcome == "sent"),
        forced: row.bool(18)?,
    })
}

/// The id of the message that begins with this row: the same whenever and wherever it is assembled.
fn notice_id(channel: NoticeChannel, recipient: Uuid, first: Uuid) -> Uuid {
    let name = format!("sluice/notice/{}/{recipient}/{first}", channel.as_str());
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
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

    /// Whether anything is owed at all.
    pub(super) async fn owes(&self) -> Result<bool, SqlError> {
        Ok(self.db.query_one("SELECT 1 FROM notices WHERE state = 'owed' LIMIT 1", &[]).await?.is_some())
    }

    /// Makes up messages: a webhook call for each row, a mail for each recipient whose first row is older than `window`,
    /// with all that came within it. `now` is the service's clock, `real_now` the machine's.
    pub(super) async fn bundle(
        &self,
        now: DateTime<Utc>,
        window: Duration,
        real_now: DateTime<Utc>,
    ) -> Result<usize, NotifyError> {
        let mut tx = self.db.begin().await?;
        let mut made = 0;
        let select = "SELECT cause, recipient FROM notices WHERE channel = 'webhook' AND state = 'owed' \
                      AND notice IS NULL ORDER BY occurred_at, version LIMIT $1";
        for row in tx.query(select, &[SqlValue::I64(BUNDLES_MAX)]).await? {
            let (cause, recipient) = (row.uuid(0)?, row.uuid(1)?);
            assign(&mut tx, NoticeChannel::Webhook, recipient, &[cause], real_now).await?;
            made += 1;
        }
        let select = "SELECT recipient, MIN(occurred_at) FROM notices WHERE channel = 'mail' AND state = 'owed' \
                      AND notice IS NULL GROUP BY recipient HAVING MIN(occurred_at) <= $1 ORDER BY 2, 1 LIMIT $2";
        for row in tx.query(select, &[SqlValue::Time(now - window), SqlValue::I64(BUNDLES_MAX)]).await? {
            let (recipient, first) = (row.uuid(0)?, row.time(1)?);
            let within = "SELECT cause FROM notices WHERE channel = 'mail' AND state = 'owed' AND notice IS NULL \
                          AND recipient = $1 AND occurred_at <= $2 ORDER BY occurred_at, resource, version, cause LIMIT $3";
            let values = [SqlValue::Uuid(recipient), SqlValue::Time(first + window), SqlValue::I64(DIGEST_MAX)];
            let rows = tx.query(within, &values).await?;
            let causes = rows.iter().map(|row| row.uuid(0)).collect::<Result<Vec<_>, _>>()?;
            assign(&mut tx, NoticeChannel::Mail, recipient, &causes, real_now).await?;
            made += 1;
        }
        tx.commit().await?;
        Ok(made)
    }

    /// Messages whose time has come, the longest waiting first.
    pub(super) async fn due(&self, real_now: DateTime<Utc>) -> Result<Vec<NoticeId>, SqlError> {
        let select = "SELECT notice FROM notices WHERE state = 'owed' AND notice IS NOT NULL \
                      AND (next_attempt_at IS NULL OR next_attempt_at <= $1) \
                      GROUP BY notice ORDER BY MIN(next_attempt_at), MIN(occurred_at), notice LIMIT $2";
        let rows = self.db.query(select, &[SqlValue::Time(real_now), SqlValue::I64(PASS_MAX)]).await?;
        rows.iter().map(|row| Ok(row.uuid(0)?.into())).collect()
    }

    /// The pending notices of a message, in the order in which the mail lists them.
    pub(super) async fn rows_of(&self, notice: NoticeId) -> Result<Vec<NoticeRow>, NotifyError> {
        let sql = select!("WHERE notice = $1 AND state = 'owed' ORDER BY occurred_at, resource, version, cause");
        self.db.query(sql, &[SqlValue::Uuid(notice.as_uuid())]).await?.iter().map(row).collect()
    }

    /// Counts an attempt before it is made, so that one which ends the process counts too.
    pub(super) async fn begin_attempt(&self, notice: NoticeId, again_at: DateTime<Utc>) -> Result<(), SqlError> {
        let update = "UPDATE notices SET attempts = attempts + 1, next_attempt_at = $2 \
                      WHERE notice = $1 AND state = 'owed'";
        self.update(update, &[SqlValue::Uuid(notice.as_uuid()), SqlValue::Time(again_at)]).await.map(drop)
    }

    /// Puts a message off.
    pub(super) async fn put_off(&self, notice: NoticeId, again_at: DateTime<Utc>, error: &str) -> Result<(), SqlError> {
        let update = "UPDATE notices SET next_attempt_at = $2, error = $3 WHERE notice = $1 AND state = 'owed'";
        let values = [SqlValue::Uuid(notice.as_uuid()), SqlValue::Time(again_at), error.into()];
        self.update(update, &values).await.map(drop)
    }

    /// Keeps how a delivery ended until the log has it: what is known to be sent is not sent again.
    pub(super) async fn ended(&self, notice: NoticeId, error: Option<&str>) -> Result<(), SqlError> {
        let update = "UPDATE notices SET outcome = $2, error = $3 WHERE notice = $1 AND state = 'owed'";
        let outcome = if error.is_none() { "sent" } else { "failed" };
        let values = [SqlValue::Uuid(notice.as_uuid()), SqlValue::Static(outcome), error.map(str::to_owned).into()];
        self.update(update, &values).await.map(drop)
    }

    /// What was given up: of one message, or all of it, message by message.
    pub(super) async fn given_up(&self, notice: Option<NoticeId>) -> Result<Vec<NoticeRow>, NotifyError> {
        let sql = select!(
            "WHERE state = 'failed' AND notice IS NOT NULL AND ($1 IS NULL OR notice = $1) \
             ORDER BY notice, occurred_at, resource, version, cause LIMIT $2"
        );
        let values = [notice.map(|id| id.as_uuid()).into(), SqlValue::I64(RESEND_MAX)];
        self.db.query(sql, &values).await?.iter().map(row).collect()
    }

    /// Rows, newest first.
    pub(super) async fn list(&self, filter: &NoticeFilter) -> Result<Vec<NoticeRow>, NotifyError> {
        let sql = select!(
            "WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR resource = $2) \
             ORDER BY occurred_at DESC, cause, channel, recipient LIMIT $3 OFFSET $4"
        );
        let values = [
            filter.state.map(|state| state.as_str().to_owned()).into(),
            filter.resource.map(|id| id.as_uuid()).into(),
            SqlValue::I64(filter.limit.into()),
            SqlValue::I64(i64::try_from(filter.offset).unwrap_or(i64::MAX)),
        ];
        self.db.query(sql, &values).await?.iter().map(row).collect()
    }

    /// How many rows there are of a filter, whatever its bounds.
    pub(super) async fn count(&self, filter: &NoticeFilter) -> Result<u64, SqlError> {
        let select = "SELECT COUNT(*) FROM notices WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR resource = $2)";
        let values =
            [filter.state.map(|state| state.as_str().to_owned()).into(), filter.resource.map(|id| id.as_uuid()).into()];
        let row = self.db.query_one(select, &values).await?;
        row.map_or(Ok(0), |row| Ok(row.i64(0)?.cast_unsigned()))
    }

    /// How many rows stand how.
    pub(super) async fn counts(&self) -> Result<Vec<NoticeCount>, NotifyError> {
        let select =
            "SELECT channel, state, COUNT(*), MIN(occurred_at) FROM notices GROUP BY channel, state ORDER BY 1, 2";
        let count = |row: &SqlRow| {
            Ok(NoticeCount {
                channel: NoticeChannel::parse(row.text(0)?).ok_or_else(|| unreadable("channel"))?,
                state: NoticeState::parse(row.text(1)?).ok_or_else(|| unreadable("state"))?,
                count: row.i64(2)?.cast_unsigned(),
                oldest: row.time(3)?,
            })
        };
        self.db.query(select, &[]).await?.iter().map(count).collect()
    }

    /// How many are owed, since when the oldest of them, and how many were given up. The cost grows with these alone.
    pub(super) async fn backlog(&self) -> Result<Backlog, SqlError> {
        let select =
            "SELECT state, COUNT(*), MIN(occurred_at) FROM notices WHERE state IN ('owed', 'failed') GROUP BY state";
        let mut backlog = Backlog::default();
        for row in self.db.query(select, &[]).await? {
            let count = row.i64(1)?.cast_unsigned();
            if row.text(0)? == "owed" {
                (backlog.owed, backlog.oldest_owed) = (count, Some(row.time(2)?));
            } else {
                backlog.failed = count;
            }
        }
        Ok(backlog)
    }

    /// When the next digest closes, on the service's clock.
    pub(super) async fn next_close(&self, window: Duration) -> Result<Option<DateTime<Utc>>, SqlError> {
        let select =
            "SELECT MIN(occurred_at) FROM notices WHERE channel = 'mail' AND state = 'owed' AND notice IS NULL";
        let row = self.db.query_one(select, &[]).await?;
        Ok(row.map(|row| row.opt_time(0)).transpose()?.flatten().map(|first| first + window))
    }

    /// Forgets rows that were settled long ago.
    pub(super) async fn forget(&self, now: DateTime<Utc>) -> Result<u64, SqlError> {
        let delete = "DELETE FROM notices WHERE rowid IN \
                      (SELECT rowid FROM notices WHERE state IN ('sent', 'failed') AND occurred_at < $1 LIMIT $2)";
        let values = [SqlValue::Time(now - Duration::days(KEEP_DAYS)), SqlValue::I64(FORGET_MAX)];
        self.update(delete, &values).await
    }

    async fn update(&self, sql: &'static str, values: &[SqlValue]) -> Result<u64, SqlError> {
        let mut tx = self.db.begin().await?;
        let touched = tx.execute(sql, values).await?;
        tx.commit().await?;
        Ok(touched)
    }
}

async fn assign(
    tx: &mut ReadTx,
    channel: NoticeChannel,
    recipient: Uuid,
    causes: &[Uuid],
    real_now: DateTime<Utc>,
) -> Result<(), SqlError> {
    let Some(first) = causes.first() else { return Ok(()) };
    let notice = notice_id(channel, recipient, *first);
    let update =
        "UPDATE notices SET notice = $1, next_attempt_at = $2 WHERE cause = $3 AND channel = $4 AND recipient = $5";
    for cause in causes {
        let values = [
            SqlValue::Uuid(notice),
            SqlValue::Time(real_now),
            SqlValue::Uuid(*cause),
            SqlValue::Static(channel.as_str()),
            SqlValue::Uuid(recipient),
        ];
        tx.execute(update, &values).await?;
    }
    Ok(())
}
