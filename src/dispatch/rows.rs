//! Rows of the outbox as the fold reads and writes them.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::DispatchError;
use crate::domain::dispatch::Stage;
use crate::domain::evaluate::Flags;
use crate::store::sql::{ReadTx, SqlError, SqlRow, SqlValue, in_list, query_in};

/// How a dispatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowState {
    /// Not handed to a queue yet, or to be handed over again.
    Queued,
    /// A queue has it.
    Sent,
    /// Nobody answered in time.
    NoAnswer,
    /// The agent, or the broker, said that it failed.
    Failed,
    /// A queue has it, and something newer is on its way.
    Superseded,
}

impl RowState {
    const ALL: [Self; 5] = [Self::Queued, Self::Sent, Self::NoAnswer, Self::Failed, Self::Superseded];

    pub(super) fn code(self) -> i64 {
        match self {
            Self::Queued => 0,
            Self::Sent => 1,
            Self::NoAnswer => 2,
            Self::Failed => 3,
            Self::Superseded => 4,
        }
    }

    fn read(code: i64) -> Result<Self, SqlError> {
        let known = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied();
        known.ok_or(SqlError::Column { index: 5, expected: "a state of the outbox" })
    }

    /// How the outbox has a stage; none: what has come to its end needs no row.
    fn of(stage: Stage) -> Option<Self> {
        match stage {
            Stage::Queued => Some(Self::Queued),
            Stage::Sent => Some(Self::Sent),
            Stage::NoAnswer => Some(Self::NoAnswer),
            Stage::Refused | Stage::Failed => Some(Self::Failed),
            Stage::Superseded => Some(Self::Superseded),
            Stage::Confirmed | Stage::RefusedAndSuperseded | Stage::FailedAndSuperseded => None,
        }
    }
}

/// A dispatch in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub no: i64,
    pub dispatch: Uuid,
    pub resource: Uuid,
    pub offering: Uuid,
    pub policy: Uuid,
    pub state: RowState,
    pub book: i64,
    pub version: i64,
    pub reset: bool,
    pub reset_since: Option<DateTime<Utc>>,
    pub queued_at: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    pub sent_no: i64,
    pub resends: i64,
    pub given_up: bool,
    pub error: Option<String>,
    pub attempts: i64,
    pub handed: Option<String>,
}

/// How a message about restrictions stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagsState {
    /// Not handed to a queue yet, or to be handed over again.
    Queued,
    /// A queue has it, and the site has not said that the account has its class of service.
    Sent,
    /// The site never confirmed after all resends.
    GivenUp,
}

impl FlagsState {
    const ALL: [Self; 3] = [Self::Queued, Self::Sent, Self::GivenUp];

    fn code(self) -> i64 {
        match self {
            Self::Queued => 0,
            Self::Sent => 1,
            Self::GivenUp => 2,
        }
    }

    fn of(code: i64) -> Result<Self, SqlError> {
        let known = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied();
        known.ok_or(SqlError::Column { index: 7, expected: "a state of a message about restrictions" })
    }

    /// The word that is shown.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::GivenUp => "no_answer",
        }
    }
}

/// A message about restrictions in the outbox. It stays until the site says that the account has its class of service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlagsRow {
    pub resource: Uuid,
    pub offering: Uuid,
    pub flags: Flags,
    pub no: i64,
    pub queued_at: DateTime<Utc>,
    pub attempts: i64,
    pub handed: Option<String>,
    pub state: FlagsState,
    pub sent_at: Option<DateTime<Utc>>,
    pub sent_no: i64,
    pub resends: i64,
}

/// The columns of [`Row`], in order.
macro_rules! columns {
    () => {
        "no, dispatch, resource, offering, policy, state, book, version, reset, reset_since, queued_at, sent_at, sent_no, \
         resends, given_up, error, attempts, handed"
    };
}
pub(super) use columns;

/// The columns of [`FlagsRow`], in order.
macro_rules! flags_columns {
    () => {
        "resource, offering, flags, no, queued_at, attempts, handed, state, sent_at, sent_no, resends"
    };
}
pub(super) use flags_columns;

const INSERT: &str = "INSERT INTO outbox{g} AS t (no, dispatch, resource, offering, policy, state, book, version, reset, reset_since, queued_at, \
                      sent_at, sent_no, resends, given_up, error)";
/// The publisher examines a row again when its state changes.
const UPDATE: &str = "ON CONFLICT (no) DO UPDATE SET reset_since = excluded.reset_since, sent_at = excluded.sent_at, \
                      sent_no = excluded.sent_no, resends = excluded.resends, given_up = excluded.given_up, error = excluded.error, \
                      attempts = CASE WHEN t.state = excluded.state THEN t.attempts ELSE 0 END, \
                      next_attempt_at = 0, state = excluded.state, \
                      handed = CASE WHEN t.state = excluded.state AND t.sent_no = excluded.sent_no THEN t.handed ELSE NULL END";
const INSERT_FLAGS: &str =
    "INSERT INTO outbox_flags{g} AS t (resource, offering, flags, no, queued_at, state, sent_at, sent_no, resends)";
/// A hand-over that is kept until the log has it stays kept until then.
const UPDATE_FLAGS: &str = "ON CONFLICT (resource) DO UPDATE SET flags = excluded.flags, no = excluded.no, \
                            queued_at = excluded.queued_at, attempts = 0, next_attempt_at = 0, state = excluded.state, \
                            sent_at = excluded.sent_at, sent_no = excluded.sent_no, resends = excluded.resends, \
                            handed = CASE WHEN t.no = excluded.no AND t.sent_no = excluded.sent_no THEN t.handed ELSE NULL END";

static BY_RESOURCE: LazyLock<String> =
    LazyLock::new(|| in_list(concat!("SELECT ", columns!(), " FROM outbox{g} WHERE resource IN"), ""));
static FLAGS_BY_RESOURCE: LazyLock<String> =
    LazyLock::new(|| in_list(concat!("SELECT ", flags_columns!(), " FROM outbox_flags{g} WHERE resource IN"), ""));

/// Flags as bits: 1 paused, 2 downscaled.
pub(super) fn flag_bits(flags: Flags) -> i64 {
    i64::from(flags.paused) | i64::from(flags.downscaled) << 1
}

pub(super) fn flags_of(bits: i64) -> Flags {
    Flags { paused: bits & 1 != 0, downscaled: bits & 2 != 0 }
}

impl Row {
    /// Where the dispatch stands. One that the sweep has queued again goes on like one that was never sent.
    pub(super) fn stage(&self) -> Stage {
        match self.state {
            RowState::Queued => Stage::Queued,
            RowState::Sent => Stage::Sent,
            RowState::NoAnswer => Stage::NoAnswer,
            RowState::Failed if self.given_up => Stage::Refused,
            RowState::Failed => Stage::Failed,
            RowState::Superseded => Stage::Superseded,
        }
    }

    /// Has it stand there; false: it is to be removed.
    pub(super) fn stand(&mut self, at: Stage) -> bool {
        let Some(state) = RowState::of(at) else { return false };
        (self.state, self.given_up) = (state, at == Stage::Refused);
        true
    }

    pub(super) fn read(row: &SqlRow) -> Result<Self, SqlError> {
        Ok(Self {
            no: row.i64(0)?,
            dispatch: row.uuid(1)?,
            resource: row.uuid(2)?,
            offering: row.uuid(3)?,
            policy: row.uuid(4)?,
            state: RowState::read(row.i64(5)?)?,
            book: row.i64(6)?,
            version: row.i64(7)?,
            reset: row.bool(8)?,
            reset_since: row.opt_time(9)?,
            queued_at: row.time(10)?,
            sent_at: row.opt_time(11)?,
            sent_no: row.i64(12)?,
            resends: row.i64(13)?,
            given_up: row.bool(14)?,
            error: row.opt_text(15)?.map(str::to_owned),
            attempts: row.i64(16)?,
            handed: row.opt_text(17)?.map(str::to_owned),
        })
    }

    fn values(self) -> [SqlValue; 16] {
        [
            self.no.into(),
            SqlValue::Uuid(self.dispatch),
            SqlValue::Uuid(self.resource),
            SqlValue::Uuid(self.offering),
            SqlValue::Uuid(self.policy),
            self.state.code().into(),
            self.book.into(),
            self.version.into(),
            self.reset.into(),
            self.reset_since.into(),
            self.queued_at.into(),
            self.sent_at.into(),
            self.sent_no.into(),
            self.resends.into(),
            self.given_up.into(),
            self.error.into(),
        ]
    }
}

impl FlagsRow {
    pub(super) fn read(row: &SqlRow) -> Result<Self, SqlError> {
        Ok(Self {
            resource: row.uuid(0)?,
            offering: row.uuid(1)?,
            flags: flags_of(row.i64(2)?),
            no: row.i64(3)?,
            queued_at: row.time(4)?,
            attempts: row.i64(5)?,
            handed: row.opt_text(6)?.map(str::to_owned),
            state: FlagsState::of(row.i64(7)?)?,
            sent_at: row.opt_time(8)?,
            sent_no: row.i64(9)?,
            resends: row.i64(10)?,
        })
    }

    fn values(self) -> [SqlValue; 9] {
        [
            SqlValue::Uuid(self.resource),
            SqlValue::Uuid(self.offering),
            flag_bits(self.flags).into(),
            self.no.into(),
            self.queued_at.into(),
            self.state.code().into(),
            self.sent_at.into(),
            self.sent_no.into(),
            self.resends.into(),
        ]
    }
}

/// What the outbox has on these resources.
pub(super) async fn of_resources(tx: &mut ReadTx, resources: &[Uuid]) -> Result<(Vec<Row>, Vec<FlagsRow>), SqlError> {
    let keys: Vec<SqlValue> = resources.iter().map(|id| SqlValue::Uuid(*id)).collect();
    let rows = query_in(tx, &BY_RESOURCE, &keys).await?;
    let flags = query_in(tx, &FLAGS_BY_RESOURCE, &keys).await?;
    Ok((
        rows.iter().map(Row::read).collect::<Result<_, _>>()?,
        flags.iter().map(FlagsRow::read).collect::<Result<_, _>>()?,
    ))
}

/// What the outbox has on the restrictions of these resources.
pub(super) async fn flags_of_resources(tx: &mut ReadTx, resources: &[Uuid]) -> Result<Vec<FlagsRow>, SqlError> {
    let keys: Vec<SqlValue> = resources.iter().map(|id| SqlValue::Uuid(*id)).collect();
    query_in(tx, &FLAGS_BY_RESOURCE, &keys).await?.iter().map(FlagsRow::read).collect()
}

/// Writes changed rows.
pub(super) async fn save(tx: &mut ReadTx, rows: Vec<Row>, flags: Vec<FlagsRow>) -> Result<(), SqlError> {
    let values: Vec<SqlValue> = rows.into_iter().flat_map(Row::values).collect();
    if !values.is_empty() {
        tx.insert_many(INSERT, 16, values, UPDATE).await?;
    }
    let flag_values: Vec<SqlValue> = flags.into_iter().flat_map(FlagsRow::values).collect();
    if !flag_values.is_empty() {
        tx.insert_many(INSERT_FLAGS, 9, flag_values, UPDATE_FLAGS).await?;
    }
    Ok(())
}

/// A row that makes no sense.
pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> DispatchError {
    DispatchError::Unreadable(format!("{what}: {error}"))
}
