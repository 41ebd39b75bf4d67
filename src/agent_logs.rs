//! Log lines that site agents ship here: for operators who investigate something, never for a decision.
//!
//! Lines may name people, so they expire: lines older than two weeks, and all but the newest lines of each agent.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::IdSource;
use crate::domain::ids::{AgentId, OfferingId};
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Lines of an agent that are kept.
pub const LINES_MAX: i64 = 20_000;

/// How long a line is kept after it came in.
pub const LINES_LIVE: TimeDelta = TimeDelta::days(14);

/// Lines that one statement takes out at most.
const TIDY_MAX: i64 = 5_000;

/// How grave a line is, in the words of Python's `logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For those who look for a fault.
    Debug,
    /// What happens.
    Info,
    /// What should be looked at.
    Warning,
    /// What failed.
    Error,
    /// What stops the agent.
    Critical,
}

impl LogLevel {
    /// All of them, the least grave first.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// Reads the word, in capitals or not.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(word))
    }

    fn of(code: i64) -> Result<Self, SqlError> {
        let known = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code)).copied();
        known.ok_or(SqlError::Column { index: 3, expected: "a level of a log" })
    }
}

/// A line that an agent ships.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLine {
    /// Whose it is.
    pub agent: AgentId,
    /// The offering that the agent works for.
    pub offering: OfferingId,
    /// When it was logged, by the agent's clock.
    pub logged_at: DateTime<Utc>,
    /// How grave it is.
    pub level: LogLevel,
    /// The part of the agent that logged it.
    pub module: String,
    /// What it says.
    pub message: String,
}

/// A line that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its id.
    pub id: Uuid,
    /// What was shipped.
    pub line: NewLine,
    /// When it came in.
    pub received_at: DateTime<Utc>,
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LineFilter {
    /// Of these agents; none: of all.
    pub agents: Option<Vec<AgentId>>,
    /// Of this level.
    pub level: Option<LogLevel>,
    /// Logged at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// Logged at this instant or before.
    pub to: Option<DateTime<Utc>>,
}

/// The table.
#[derive(Debug, Clone)]
pub struct AgentLogs {
    db: ReadDb,
}

impl AgentLogs {
    /// The table of a database.
    pub fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// Keeps lines, and lets go of what is too old or too much.
    pub async fn put(&self, lines: Vec<NewLine>, now: DateTime<Utc>) -> Result<Vec<Line>, SqlError> {
        let insert = "INSERT INTO agent_logs (id, agent, offering, logged_at, level, module, message, received_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let kept = |line: NewLine| Line { id: IdSource.fresh(), line, received_at: now };
        let lines: Vec<Line> = lines.into_iter().map(kept).collect();
        let mut tx = self.db.begin().await?;
        for Line { id, line, .. } in &lines {
            let values = [
                (*id).into(),
                line.agent.as_uuid().into(),
                line.offering.as_uuid().into(),
                line.logged_at.into(),
                (line.level as i64).into(),
                line.module.as_str().into(),
                line.message.as_str().into(),
                now.into(),
            ];
            tx.execute(insert, &values).await?;
        }
        let old = "DELETE FROM agent_logs WHERE no IN (SELECT no FROM agent_logs WHERE received_at < $1 LIMIT $2)";
        tx.execute(old, &[(now - LINES_LIVE).into(), TIDY_MAX.into()]).await?;
        let surplus = "DELETE FROM agent_logs WHERE agent = $1 AND no <= coalesce((SELECT no FROM agent_logs \
                       WHERE agent = $1 ORDER BY no DESC LIMIT 1 OFFSET $2), 0)";
        let agents: std::collections::BTreeSet<AgentId> = lines.iter().map(|line| line.line.agent).collect();
        for agent in agents {
            tx.execute(surplus, &[agent.as_uuid().into(), LINES_MAX.into()]).await?;
        }
        tx.commit().await?;
        Ok(lines)
    }

    /// Lines, the newest first, and how many there are.
    pub async fn list(&self, filter: &LineFilter, offset: u64, limit: u64) -> Result<(Vec<Line>, u64), SqlError> {
        let Some(agents) = &filter.agents else {
            let (found, total) = self.of(None, filter, offset, limit).await?;
            return Ok((found.into_iter().map(|(_, line)| line).collect(), total));
        };
        // A caller who does not see everything sees the agents of a few offerings.
        let (mut found, mut total) = (Vec::new(), 0);
        for agent in agents {
            let (lines, count) = self.of(Some(*agent), filter, 0, offset.saturating_add(limit)).await?;
            found.extend(lines);
            total += count;
        }
        found.sort_by_key(|(no, _)| std::cmp::Reverse(*no));
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let page = found.into_iter().skip(number(offset)).take(number(limit));
        Ok((page.map(|(_, line)| line).collect(), total))
    }

    /// Lines of an agent, or of all, with their numbers.
    async fn of(
        &self,
        agent: Option<AgentId>,
        filter: &LineFilter,
        offset: u64,
        limit: u64,
    ) -> Result<(Vec<(i64, Line)>, u64), SqlError> {
        let (rows, count) = if agent.is_some() { OF_AGENT } else { OF_ALL };
        let micros = |at: Option<DateTime<Utc>>, otherwise: i64| at.map_or(otherwise, |at| at.timestamp_micros());
        let mut values: Vec<SqlValue> = vec![
            filter.level.map_or(-1, |level| level as i64).into(),
            micros(filter.from, i64::MIN).into(),
            micros(filter.to, i64::MAX).into(),
        ];
        values.extend(agent.map(|agent| SqlValue::from(agent.as_uuid())));
        let total = self.db.query_one(count, &values).await?.map_or(Ok(0), |row| row.i64(0))?;
        values.extend([limit, offset].map(|n| SqlValue::from(i64::try_from(n).unwrap_or(i64::MAX))));
        let rows = self.db.query(rows, &values).await?;
        Ok((rows.iter().map(read).collect::<Result<_, _>>()?, total.cast_unsigned()))
    }
}

/// A page of lines, and their number: of one agent, and of all.
const OF_AGENT: (&str, &str) = (
    "SELECT no, id, agent, level, logged_at, module, message, received_at, offering FROM agent_logs WHERE ($1 < 0 OR level = $1) \
     AND logged_at >= $2 AND logged_at <= $3 AND agent = $4 ORDER BY no DESC LIMIT $5 OFFSET $6",
    "SELECT count(*) FROM agent_logs WHERE ($1 < 0 OR level = $1) AND logged_at >= $2 AND logged_at <= $3 AND agent = $4",
);
const OF_ALL: (&str, &str) = (
    "SELECT no, id, agent, level, logged_at, module, message, received_at, offering FROM agent_logs WHERE ($1 < 0 OR level = $1) \
     AND logged_at >= $2 AND logged_at <= $3 ORDER BY no DESC LIMIT $4 OFFSET $5",
    "SELECT count(*) FROM agent_logs WHERE ($1 < 0 OR level = $1) AND logged_at >= $2 AND logged_at <= $3",
);

fn read(row: &SqlRow) -> Result<(i64, Line), SqlError> {
    let line = NewLine {
        agent: row.uuid(2)?.into(),
        offering: row.uuid(8)?.into(),
        level: LogLevel::of(row.i64(3)?)?,
        logged_at: row.time(4)?,
        module: row.text(5)?.to_owned(),
        message: row.text(6)?.to_owned(),
    };
    Ok((row.i64(0)?, Line { id: row.uuid(1)?, line, received_at: row.time(7)? }))
}
