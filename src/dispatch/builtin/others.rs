//! The built-in broker's queues when several processes serve them from one database: an agent may connect to any
//! process, and each message goes to one reader at a time.
//!
//! A process claims the queues that it reads and the messages that it holds for some seconds at a time; when it dies or
//! freezes, its claims expire, and other processes take them over.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::store::{MessageStore, Waiting};
use crate::clock::real_now;
use crate::store::sql::{ReadDb, SqlError, SqlValue};

/// How long what a process says holds.
const HOLDS: TimeDelta = TimeDelta::seconds(15);

/// How often it says so again.
pub(super) const SAY_AGAIN: Duration = Duration::from_secs(4);

/// The channel on which messages that came into a queue, or are free again, are announced.
pub(super) const CHANNEL: &str = "sluice_broker";

/// What this process tells the others.
#[derive(Debug)]
pub(super) struct Others {
    db: ReadDb,
    holder: Uuid,
}

impl Others {
    /// In the tables of a database that several processes share; none if it is not shared.
    pub(super) fn on(db: &ReadDb, holder: Uuid) -> Option<Self> {
        db.is_shared().then(|| Self { db: db.clone(), holder })
    }

    /// The next messages of a queue that nobody has; they are this process' from here on.
    pub(super) async fn take(
        &self,
        store: &MessageStore,
        queue: &str,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Waiting>, SqlError> {
        // Most looks find nothing, and need no lock.
        if store.count(queue, now).await? == 0 {
            return Ok(Vec::new());
        }
        let real_now = real_now();
        let mut tx = self.db.begin().await?;
        let select = "SELECT no, id, body FROM broker_messages m WHERE queue = $1 AND delivered_at IS NULL \
                      AND dead_at IS NULL AND expires_at > $2 \
                      AND NOT EXISTS (SELECT 1 FROM broker_taken t WHERE t.no = m.no AND t.until_at > $3) \
                      ORDER BY no LIMIT $4";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.query(select, &[queue.into(), now.into(), real_now.into(), limit.into()]).await?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            taken.push(Waiting { no: row.i64(0)?, id: row.text(1)?.to_owned(), body: row.text(2)?.to_owned() });
        }
        let until = SqlValue::Time(real_now + HOLDS);
        let values = taken.iter().flat_map(|m| [SqlValue::I64(m.no), SqlValue::Uuid(self.holder), until.clone()]);
        tx.insert_many(
            "INSERT INTO broker_taken (no, holder, until_at)",
            3,
            values.collect(),
            "ON CONFLICT (no) DO UPDATE SET holder = excluded.holder, until_at = excluded.until_at",
        )
        .await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Has others take these messages: this process' readers are gone, or are done with them.
    pub(super) async fn let_go(&self, numbers: &[i64]) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        for no in numbers {
            let delete = "DELETE FROM broker_taken WHERE no = $1 AND holder = $2";
            tx.execute(delete, &[(*no).into(), SqlValue::Uuid(self.holder)]).await?;
        }
        tx.announce(CHANNEL).await?;
        tx.commit().await
    }

    /// Says which queues have how many readers here, and that the messages in flight are theirs still. Only those: what was
    /// taken or let go while the database did not answer is with nobody, and has to become free.
    pub(super) async fn say(&self, readers: &[(String, usize)], in_flight: &[i64]) -> Result<(), SqlError> {
        let real_now = real_now();
        let until = SqlValue::Time(real_now + HOLDS);
        let mut tx = self.db.begin().await?;
        let gone = "DELETE FROM broker_readers WHERE holder = $1 OR until_at <= $2";
        tx.execute(gone, &[SqlValue::Uuid(self.holder), real_now.into()]).await?;
        let row = |(queue, readers): &(String, usize)| {
            let readers = i64::try_from(*readers).unwrap_or(i64::MAX);
            [queue.as_str().into(), SqlValue::Uuid(self.holder), readers.into(), until.clone()]
        };
        let rows = readers.iter().flat_map(row).collect();
        tx.insert_many("INSERT INTO broker_readers (queue, holder, readers, until_at)", 4, rows, "").await?;
        for no in in_flight {
            let keep = "UPDATE broker_taken SET until_at = $3 WHERE no = $1 AND holder = $2";
            tx.execute(keep, &[(*no).into(), SqlValue::Uuid(self.holder), until.clone()]).await?;
        }
        let over = "DELETE FROM broker_taken WHERE until_at <= $1";
        tx.execute(over, &[real_now.into()]).await?;
        tx.commit().await
    }

    /// Readers of a queue that other processes have.
    pub(super) async fn readers(&self, queue: &str) -> Result<u64, SqlError> {
        let select = "SELECT coalesce(sum(readers), 0) FROM broker_readers WHERE queue = $1 AND holder <> $2 \
                      AND until_at > $3";
        let values = [queue.into(), SqlValue::Uuid(self.holder), real_now().into()];
        self.db.query_one(select, &values).await?.map_or(Ok(0), |row| Ok(row.i64(0)?.cast_unsigned()))
    }
}
