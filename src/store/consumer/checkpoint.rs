//! The positions of consumers, in the table `consumers`, beside their own tables.
//!
//! A checkpoint only moves from where its owner believes it to be. The epoch changes when a rebuild swaps tables in, so
//! that an owner notices that too, even at the same position.

use chrono::{DateTime, Utc};

use crate::events::envelope::{Position, RecordedEvent};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue, Target};

/// A consumer's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) epoch: i64,
    pub(super) position: Position,
}

fn building(tx: &ReadTx) -> SqlValue {
    SqlValue::Bool(tx.target() == Target::Building)
}

fn checkpoint(row: &SqlRow) -> Result<Checkpoint, SqlError> {
    Ok(Checkpoint { epoch: row.i64(0)?, position: row.position(1)? })
}

/// The checkpoint of a consumer; one that has none starts at the beginning.
pub(super) async fn load(tx: &mut ReadTx, name: &'static str, now: DateTime<Utc>) -> Result<Checkpoint, SqlError> {
    let key = [SqlValue::Static(name), building(tx)];
    let select = "SELECT epoch, position_hi, position_lo FROM consumers WHERE name = $1 AND building = $2";
    if let Some(row) = tx.query_one(select, &key).await? {
        return checkpoint(&row);
    }
    let [name, building] = key;
    let insert = "INSERT INTO consumers (name, building, epoch, position_hi, position_lo, updated_at) \
                  VALUES ($1, $2, 1, 0, 0, $3)";
    tx.execute(insert, &[name, building, SqlValue::Time(now)]).await?;
    Ok(Checkpoint { epoch: 1, position: Position::START })
}

/// Every stored checkpoint of the tables in use.
pub(super) async fn all(db: &ReadDb) -> Result<Vec<(String, Position)>, SqlError> {
    let select = "SELECT position_hi, position_lo, name FROM consumers WHERE building = 0 ORDER BY name";
    let stored = |row: &SqlRow| Ok((row.text(2)?.to_owned(), row.position(0)?));
    db.query(select, &[]).await?.iter().map(stored).collect()
}

/// The last event that a consumer took in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub(super) position: Position,
    commitment: Option<[u8; 32]>,
}

impl Last {
    pub(super) fn of(event: &RecordedEvent) -> Self {
        Self { position: event.position, commitment: Some(event.commitment) }
    }

    /// The one that it had taken in already.
    pub(super) const fn as_it_is(checkpoint: Checkpoint) -> Self {
        Self { position: checkpoint.position, commitment: None }
    }
}

/// The identity of the log that the tables were made from, if that is known.
pub async fn made_from(db: &ReadDb) -> Result<Option<String>, SqlError> {
    let row = db.query_one("SELECT log FROM made_from", &[]).await?;
    row.map(|row| row.text(0).map(str::to_owned)).transpose()
}

/// Remembers from which log the tables are made.
pub async fn set_made_from(db: &ReadDb, log: &str) -> Result<(), SqlError> {
    let mut tx = db.begin().await?;
    tx.execute("INSERT INTO made_from (log) VALUES ($1) ON CONFLICT DO NOTHING", &[log.into()]).await?;
    tx.commit().await
}

/// Where the consumers stand, and what the event there was committed to: to be compared with a log.
pub async fn stood(db: &ReadDb) -> Result<Vec<(String, Position, Option<[u8; 32]>)>, SqlError> {
    let select = "SELECT position_hi, position_lo, name, commitment FROM consumers WHERE building = 0 ORDER BY name";
    let stood = |row: &SqlRow| {
        let commitment = row.opt_bytes(3)?.and_then(|bytes| bytes.try_into().ok());
        Ok((row.text(2)?.to_owned(), row.position(0)?, commitment))
    };
    db.query(select, &[]).await?.iter().map(stood).collect()
}

/// Moves a checkpoint from where it is believed to be. False: it is somewhere else, and nothing was changed.
pub(super) async fn advance(
    tx: &mut ReadTx,
    name: &'static str,
    from: Checkpoint,
    to: Last,
    now: DateTime<Utc>,
) -> Result<bool, SqlError> {
    let update = "UPDATE consumers SET position_hi = $1, position_lo = $2, updated_at = $3, \
                  commitment = coalesce($9, commitment) \
                  WHERE name = $4 AND building = $5 AND epoch = $6 AND position_hi = $7 AND position_lo = $8";
    let [to_hi, to_lo] = SqlValue::position(to.position);
    let commitment = to.commitment.map(Vec::from).into();
    let [from_hi, from_lo] = SqlValue::position(from.position);
    let (name, building) = (SqlValue::Static(name), building(tx));
    let values =
        [to_hi, to_lo, SqlValue::Time(now), name, building, SqlValue::I64(from.epoch), from_hi, from_lo, commitment];
    Ok(tx.execute(update, &values).await? == 1)
}

/// Puts the checkpoint of the tables under construction at the beginning, in an epoch of its own.
pub(super) async fn restart(tx: &mut ReadTx, name: &'static str, now: DateTime<Utc>) -> Result<Checkpoint, SqlError> {
    let before = load(tx, name, now).await?;
    let update = "UPDATE consumers SET epoch = epoch + 1, position_hi = 0, position_lo = 0, updated_at = $1, commitment = NULL \
                  WHERE name = $2 AND building = $3";
    let building = building(tx);
    tx.execute(update, &[SqlValue::Time(now), SqlValue::Static(name), building]).await?;
    Ok(Checkpoint { epoch: before.epoch + 1, position: Position::START })
}

/// Moves the checkpoint of the tables in use to where the tables that replace them stand, in a new epoch. The row of the
/// tables under construction stays, at the beginning, so that its epochs never repeat.
pub(super) async fn replace(
    tx: &mut ReadTx,
    name: &'static str,
    position: Position,
    now: DateTime<Utc>,
) -> Result<(), SqlError> {
    let [hi, lo] = SqlValue::position(position);
    let update = "UPDATE consumers SET epoch = epoch + 1, position_hi = $1, position_lo = $2, updated_at = $3, \
                  commitment = (SELECT n.commitment FROM consumers n WHERE n.name = $4 AND n.building = 1) \
                  WHERE name = $4 AND building = 0";
    tx.execute(update, &[hi, lo, SqlValue::Time(now), SqlValue::Static(name)]).await?;
    let update = "UPDATE consumers SET epoch = epoch + 1, position_hi = 0, position_lo = 0, updated_at = $1 \
                  WHERE name = $2 AND building = 1";
    tx.execute(update, &[SqlValue::Time(now), SqlValue::Static(name)]).await?;
    Ok(())
}
