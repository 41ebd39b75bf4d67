//! The table of messages.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::BuiltinLimits;
use crate::dispatch::broker::Outgoing;
use crate::store::postgres::NotifyListener;
use crate::store::sql::{ReadDb, SqlError, SqlValue};

/// Rows tidied up at a time.
const TIDY_MAX: i64 = 1_000;

/// How long dead letters are kept.
const DEAD_KEPT: TimeDelta = TimeDelta::days(30);

/// A message that waits for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub no: i64,
    pub id: String,
    pub body: String,
}

/// A message that no agent took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadMessage {
    /// Its queue.
    pub queue: String,
    /// Its id.
    pub id: String,
    /// JSON.
    pub body: String,
    /// When the queue took it.
    pub queued_at: DateTime<Utc>,
    /// When it was given up.
    pub dead_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// The table.
#[derive(Debug, Clone)]
pub(super) struct MessageStore {
    db: ReadDb,
}

impl MessageStore {
    pub(super) fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// Puts messages into a queue, in order; says for each whether the queue has it. A message that the queue has, or had,
    /// is not taken twice, and replaces an unread one on the same subject.
    pub(super) async fn put(
        &self,
        queue: &str,
        messages: &[Outgoing],
        now: DateTime<Utc>,
        limits: &BuiltinLimits,
    ) -> Result<Vec<bool>, SqlError> {
        let mut tx = self.db.begin().await?;
        let count =
            "SELECT count(*) FROM broker_messages WHERE queue = $1 AND delivered_at IS NULL AND dead_at IS NULL";
        let row = tx.query_one(count, &[queue.into()]).await?;
        let mut waiting = row.map_or(Ok(0), |row| row.i64(0))?;
        let mut taken = Vec::with_capacity(messages.len());
        for message in messages {
            let known = "SELECT 1 FROM broker_messages WHERE queue = $1 AND id = $2";
            if tx.query_one(known, &[queue.into(), message.id.as_str().into()]).await?.is_some() {
                taken.push(true);
                continue;
            }
            let replaced = "DELETE FROM broker_messages WHERE queue = $1 AND subject = $2 AND delivered_at IS NULL \
                            AND dead_at IS NULL";
            let removed = tx.execute(replaced, &[queue.into(), message.subject.as_str().into()]).await?;
            waiting -= removed.cast_signed();
            if waiting >= limits.queue_messages_max {
                taken.push(false);
                continue;
            }
            let insert = "INSERT INTO broker_messages (queue, id, subject, body, queued_at, expires_at) \
                          VALUES ($1, $2, $3, $4, $5, $6)";
            let values = [
                queue.into(),
                message.id.as_str().into(),
                message.subject.as_str().into(),
                SqlValue::Shared(std::sync::Arc::clone(&message.body)),
                now.into(),
                (now + limits.message_lives).into(),
            ];
            tx.execute(insert, &values).await?;
            waiting += 1;
            taken.push(true);
        }
        tx.announce(super::others::CHANNEL).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Hears of what other processes put into queues.
    pub(super) fn listener(&self) -> Option<NotifyListener> {
        self.db.listener(super::others::CHANNEL)
    }

    /// The oldest messages that nobody has, as far as they are still alive.
    pub(super) async fn waiting(
        &self,
        queue: &str,
        now: DateTime<Utc>,
        in_flight: &[i64],
        limit: usize,
    ) -> Result<Vec<Waiting>, SqlError> {
        let select = "SELECT no, id, body FROM broker_messages WHERE queue = $1 AND delivered_at IS NULL \
                      AND dead_at IS NULL AND expires_at > $2 ORDER BY no LIMIT $3";
        let looked_at = i64::try_from(in_flight.len() + limit).unwrap_or(i64::MAX);
        let rows = self.db.query(select, &[queue.into(), now.into(), looked_at.into()]).await?;
        let mut found = Vec::with_capacity(limit);
        for row in rows {
            let no = row.i64(0)?;
            if !in_flight.contains(&no) && found.len() < limit {
                found.push(Waiting { no, id: row.text(1)?.to_owned(), body: row.text(2)?.to_owned() });
            }
        }
        Ok(found)
    }

    /// Unread messages that are alive.
    pub(super) async fn count(&self, queue: &str, now: DateTime<Utc>) -> Result<u64, SqlError> {
        let select = "SELECT count(*) FROM broker_messages WHERE queue = $1 AND delivered_at IS NULL \
                      AND dead_at IS NULL AND expires_at > $2";
        let row = self.db.query_one(select, &[queue.into(), now.into()]).await?;
        row.map_or(Ok(0), |row| Ok(row.i64(0)?.cast_unsigned()))
    }

    /// Notes that messages were read; what they said is forgotten.
    pub(super) async fn delivered(&self, numbers: &[i64], now: DateTime<Utc>) -> Result<(), SqlError> {
        let update = "UPDATE broker_messages SET delivered_at = $2, body = NULL WHERE no = $1";
        self.each(update, numbers, now).await
    }

    /// Notes that an agent refused messages.
    pub(super) async fn refuse(&self, numbers: &[i64], now: DateTime<Utc>) -> Result<(), SqlError> {
        let update = "UPDATE broker_messages SET dead_at = $2, dead_reason = 'the agent refused it' \
                      WHERE no = $1 AND delivered_at IS NULL AND dead_at IS NULL";
        self.each(update, numbers, now).await
    }

    async fn each(&self, update: &'static str, numbers: &[i64], now: DateTime<Utc>) -> Result<(), SqlError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        for no in numbers {
            tx.execute(update, &[(*no).into(), now.into()]).await?;
        }
        tx.commit().await
    }

    /// Gives up what nobody read in time, and forgets what is long over.
    pub(super) async fn tidy(&self, now: DateTime<Utc>, dead_max: i64) -> Result<(), SqlError> {
        let over = "SELECT 1 FROM broker_messages WHERE expires_at <= $1 \
                    AND (dead_at IS NULL OR dead_at <= $2) LIMIT 1";
        if self.db.query_one(over, &[now.into(), (now - DEAD_KEPT).into()]).await?.is_none() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let expire = "UPDATE broker_messages SET dead_at = $1, dead_reason = 'nobody read it in time' \
                      WHERE expires_at <= $1 AND delivered_at IS NULL AND dead_at IS NULL";
        tx.execute(expire, &[now.into()]).await?;
        let forget = "DELETE FROM broker_messages WHERE no IN (SELECT no FROM broker_messages WHERE expires_at <= $1 \
                      AND (delivered_at IS NOT NULL OR dead_at <= $2) LIMIT $3)";
        tx.execute(forget, &[now.into(), (now - DEAD_KEPT).into(), TIDY_MAX.into()]).await?;
        let bound = "DELETE FROM broker_messages WHERE dead_at IS NOT NULL AND no <= coalesce((SELECT no \
                     FROM broker_messages WHERE dead_at IS NOT NULL ORDER BY no DESC LIMIT 1 OFFSET $1), 0)";
        tx.execute(bound, &[dead_max.into()]).await?;
        tx.commit().await
    }

    /// Dead letters, newest first, and how many there are: those that were given up, and those whose time is over.
    pub(super) async fn dead(
        &self,
        now: DateTime<Utc>,
        limit: u32,
        offset: u64,
    ) -> Result<(Vec<DeadMessage>, u64), SqlError> {
        let count = "SELECT count(*) FROM broker_messages WHERE dead_at IS NOT NULL \
                     OR (delivered_at IS NULL AND expires_at <= $1)";
        let total = self.db.query_one(count, &[now.into()]).await?.map_or(Ok(0), |row| row.i64(0))?;
        let select = "SELECT queue, id, coalesce(body, ''), queued_at, coalesce(dead_at, expires_at), \
                      coalesce(dead_reason, 'nobody read it in time') FROM broker_messages WHERE dead_at IS NOT NULL \
                      OR (delivered_at IS NULL AND expires_at <= $1) ORDER BY no DESC LIMIT $2 OFFSET $3";
        let values = [now.into(), limit.into(), offset.cast_signed().into()];
        let rows = self.db.query(select, &values).await?;
        let read = |row: &crate::store::sql::SqlRow| {
            Ok(DeadMessage {
                queue: row.text(0)?.to_owned(),
                id: row.text(1)?.to_owned(),
                body: row.text(2)?.to_owned(),
                queued_at: row.time(3)?,
                dead_at: row.time(4)?,
                reason: row.text(5)?.to_owned(),
            })
        };
        Ok((rows.iter().map(read).collect::<Result<_, SqlError>>()?, total.cast_unsigned()))
    }
}
