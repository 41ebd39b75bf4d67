//! Where consumers stand, in the table `consumers`, beside the tables that it speaks of.
//!
//! A checkpoint only moves from where its owner believes it to be. The epoch changes when a rebuild puts other tables in
//! place, so that an owner notices that too, even at the same position.

use chrono::{DateTime, Utc};

use crate::events::envelope::Position;
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

fn halves(position: Position) -> [SqlValue; 2] {
    let (hi, lo) = position.parts();
    [SqlValue::I64(hi.cast_signed()), SqlValue::I64(lo.cast_signed())]
}

fn checkpoint(row: &SqlRow) -> Result<Checkpoint, SqlError> {
    let position = Position::from_parts(row.i64(1)?.cast_unsigned(), row.i64(2)?.cast_unsigned());
    Ok(Checkpoint { epoch: row.i64(0)?, position })
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

/// Every stored checkpoint of the tables in use, whoever keeps it.
pub(super) async fn all(db: &ReadDb) -> Result<Vec<(String, Position)>, SqlError> {
    let select = "SELECT position_hi, position_lo, name FROM consumers WHERE building = 0 ORDER BY name";
    let stored = |row: &SqlRow| {
        let position = Position::from_parts(row.i64(0)?.cast_unsigned(), row.i64(1)?.cast_unsigned());
        Ok((row.text(2)?.to_owned(), position))
    };
    db.query(select, &[]).await?.iter().map(stored).collect()
}

/// Moves a checkpoint from where it is believed to be. False: it is somewhere else, and nothing was changed.
pub(super) async fn advance(
    tx: &mut ReadTx,
    name: &'static str,
    from: Checkpoint,
    to: Position,
    now: DateTime<Utc>,
) -> Result<bool, SqlError> {
    let update = "UPDATE consumers SET position_hi = $1, position_lo = $2, updated_at = $3 \
                  WHERE name = $4 AND building = $5 AND epoch = $6 AND position_hi = $7 AND position_lo = $8";
    let [to_hi, to_lo] = halves(to);
    let [from_hi, from_lo] = halves(from.position);
    let (name, building) = (SqlValue::Static(name), building(tx));
    let values = [to_hi, to_lo, SqlValue::Time(now), name, building, SqlValue::I64(from.epoch), from_hi, from_lo];
    Ok(tx.execute(update, &values).await? == 1)
}

/// Puts the checkpoint of the tables under construction at the beginning, in an epoch of its own.
pub(super) async fn restart(tx: &mut ReadTx, name: &'static str, now: DateTime<Utc>) -> Result<Checkpoint, SqlError> {
    let before = load(tx, name, now).await?;
    let update = "UPDATE consumers SET epoch = epoch + 1, position_hi = 0, position_lo = 0, updated_at = $1 \
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
    let [hi, lo] = halves(position);
    let update = "UPDATE consumers SET epoch = epoch + 1, position_hi = $1, position_lo = $2, updated_at = $3 \
                  WHERE name = $4 AND building = 0";
    tx.execute(update, &[hi, lo, SqlValue::Time(now), SqlValue::Static(name)]).await?;
    let update = "UPDATE consumers SET epoch = epoch + 1, position_hi = 0, position_lo = 0, updated_at = $1 \
                  WHERE name = $2 AND building = 1";
    tx.execute(update, &[SqlValue::Time(now), SqlValue::Static(name)]).await?;
    Ok(())
}
