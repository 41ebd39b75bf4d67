//! The positions of the events of each correlation id, so that nobody has to search the log for the consequences of an
//! event.
//!
//! A row is an unbroken run of events with the same correlation id, regardless of batch boundaries: a report with all
//! its consequences is one run, and so are the evaluations of a whole fleet.

use async_trait::async_trait;
use uuid::Uuid;

use crate::events::Event;
use crate::events::envelope::Position;
use crate::store::consumer::{Consumer, ConsumerError, Decoded};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// The consumer's name.
pub const NAME: &str = "event_chains";

/// Events of one correlation id that follow each other in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRun {
    /// The position that they begin right after.
    pub after: Position,
    /// The position of the last of them.
    pub last: Position,
}

/// The consumer.
#[derive(Debug, Default)]
pub struct EventChains {
    newest: Option<(Uuid, EventRun)>,
}

fn values((correlation, run): (Uuid, EventRun)) -> [SqlValue; 5] {
    let ([after_hi, after_lo], [last_hi, last_lo]) = (SqlValue::position(run.after), SqlValue::position(run.last));
    [SqlValue::Uuid(correlation), after_hi, after_lo, last_hi, last_lo]
}

#[async_trait]
impl Consumer<Event> for EventChains {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> &'static [&'static str] {
        &["event_chains", "event_chains_mark"]
    }

    async fn apply(&mut self, tx: &mut ReadTx, batch: &[Decoded<Event>]) -> Result<(), ConsumerError> {
        let mut rows = Vec::new();
        let mut newest = self.newest;
        let mut changed = false;
        for recorded in batch.iter().map(|decoded| &decoded.recorded) {
            let (correlation, at) = (recorded.metadata.correlation_id, recorded.position);
            match &mut newest {
                // It came before.
                Some((_, run)) if at <= run.last => continue,
                Some((same, run)) if *same == correlation => run.last = at,
                other => {
                    rows.extend((*other).filter(|_| changed));
                    let after = other.map_or(Position::START, |(_, run)| run.last);
                    *other = Some((correlation, EventRun { after, last: at }));
                }
            }
            changed = true;
        }
        let Some(last) = newest.filter(|_| changed) else { return Ok(()) };
        rows.push(last);
        let insert = "INSERT INTO event_chains{g} (correlation_id, after_hi, after_lo, last_hi, last_lo)";
        let go_on = "ON CONFLICT (correlation_id, after_hi, after_lo) DO UPDATE SET last_hi = excluded.last_hi, \
                     last_lo = excluded.last_lo";
        tx.insert_many(insert, 5, rows.into_iter().flat_map(values).collect(), go_on).await?;
        let save = "INSERT INTO event_chains_mark{g} (one, correlation_id, after_hi, after_lo, last_hi, last_lo) \
                    VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT (one) DO UPDATE SET \
                    correlation_id = excluded.correlation_id, after_hi = excluded.after_hi, after_lo = excluded.after_lo, \
                    last_hi = excluded.last_hi, last_lo = excluded.last_lo";
        tx.execute(save, &values(last)).await?;
        self.newest = newest;
        Ok(())
    }

    async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), ConsumerError> {
        let select = "SELECT correlation_id, after_hi, after_lo, last_hi, last_lo FROM event_chains_mark{g}";
        let row = tx.query_one(select, &[]).await?;
        let read = |row: SqlRow| {
            Ok::<_, SqlError>((row.uuid(0)?, EventRun { after: row.position(1)?, last: row.position(3)? }))
        };
        self.newest = row.map(read).transpose()?;
        Ok(())
    }
}

/// Runs of a correlation id that end after a position, in the order of the log, so many at most.
pub async fn runs(db: &ReadDb, correlation: Uuid, after: Position, most: usize) -> Result<Vec<EventRun>, SqlError> {
    let select = "SELECT after_hi, after_lo, last_hi, last_lo FROM event_chains WHERE correlation_id = $1 \
                  AND (last_hi > $2 OR (last_hi = $2 AND last_lo > $3)) ORDER BY after_hi, after_lo LIMIT $4";
    let [hi, lo] = SqlValue::position(after);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = db.query(select, &[SqlValue::Uuid(correlation), hi, lo, most.into()]).await?;
    rows.iter().map(|row| Ok(EventRun { after: row.position(0)?, last: row.position(2)? })).collect()
}

/// The position up to which the runs are known.
pub async fn known_to(db: &ReadDb) -> Result<Position, SqlError> {
    let row = db.query_one("SELECT last_hi, last_lo FROM event_chains_mark", &[]).await?;
    row.map_or(Ok(Position::START), |row| row.position(0))
}
