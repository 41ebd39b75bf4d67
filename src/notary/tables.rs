//! What the notary keeps beside the log: checkpoints, and the tree in tiles, which can be made again from the log.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use tlog_tiles::{HASH_SIZE, Hash};
use uuid::Uuid;

use super::tree::{Edge, Place, TILE, Tile, widths};
use crate::events::envelope::Position;
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// Tiles of leaves read at a time.
const TILES_READ: i64 = 64;

/// How far the tiles go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Events that they hold.
    pub size: u64,
    /// Where the last of them stands.
    pub position: Position,
}

/// A checkpoint as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// The event that recorded it.
    pub id: Uuid,
    /// The first so many events of the log.
    pub size: u64,
    /// When it was signed.
    pub made_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// The signed note.
    pub note: String,
}

/// The tables. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables {
    db: ReadDb,
}

fn number(value: u64) -> SqlValue {
    SqlValue::I64(i64::try_from(value).unwrap_or(i64::MAX))
}

fn unsigned(row: &SqlRow, index: usize) -> Result<u64, SqlError> {
    row.i64(index)?.try_into().map_err(|_| SqlError::Column { index, expected: "a number that is not negative" })
}

fn hashes(row: &SqlRow, index: usize) -> Result<Vec<Hash>, SqlError> {
    let bytes = row.bytes(index)?;
    if !bytes.len().is_multiple_of(HASH_SIZE) || bytes.len() > TILE * HASH_SIZE {
        return Err(SqlError::Column { index, expected: "at most 256 hashes" });
    }
    let hash = |bytes: &[u8]| <[u8; HASH_SIZE]>::try_from(bytes).map(Hash).unwrap_or_default();
    Ok(bytes.chunks_exact(HASH_SIZE).map(hash).collect())
}

fn checkpoint(row: &SqlRow) -> Result<KeptCheckpoint, SqlError> {
    Ok(KeptCheckpoint {
        id: row.uuid(0)?,
        size: unsigned(row, 1)?,
        made_at: row.time(2)?,
        reason: row.text(3)?.to_owned(),
        note: row.text(4)?.to_owned(),
    })
}

impl Tables {
    /// The tables beside a log.
    pub fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// How far the tiles go.
    pub async fn kept(&self) -> Result<Kept, SqlError> {
        let row = self.db.query_one("SELECT size, position, position_lo FROM notary_tree WHERE one = 1", &[]).await?;
        row.map_or(Ok(Kept::default()), |row| Ok(Kept { size: unsigned(&row, 0)?, position: row.position(1)? }))
    }

    /// The edge of the tree of this size; none if the tiles do not hold it.
    pub async fn edge(&self, size: u64) -> Result<Option<Edge>, SqlError> {
        let mut levels = Vec::new();
        for (level, width) in widths(size).into_iter().enumerate() {
            if width == 0 {
                levels.push(Vec::new());
                continue;
            }
            let number = size >> (8 * (level + 1)).min(63);
            let mut hashes = self.tile(u8::try_from(level).unwrap_or(u8::MAX), number).await?.unwrap_or_default();
            hashes.truncate(width);
            levels.push(hashes);
        }
        Ok(Edge::of(size, levels))
    }

    /// The hashes of a tile.
    pub async fn tile(&self, level: u8, tile: u64) -> Result<Option<Vec<Hash>>, SqlError> {
        let select = "SELECT hashes FROM notary_tiles WHERE level = $1 AND number = $2";
        let row = self.db.query_one(select, &[i64::from(level).into(), number(tile)]).await?;
        row.map(|row| hashes(&row, 0)).transpose()
    }

    /// Leaves from the start of this tile on: as many tiles as are read at a time.
    pub async fn leaves(&self, tile: u64) -> Result<Vec<Hash>, SqlError> {
        let select = "SELECT hashes FROM notary_tiles WHERE level = 0 AND number >= $1 ORDER BY number LIMIT $2";
        let mut leaves = Vec::new();
        for row in self.db.query(select, &[number(tile), TILES_READ.into()]).await? {
            leaves.extend(hashes(&row, 0)?);
        }
        Ok(leaves)
    }

    /// The position of the last event of the tile before this one.
    pub async fn before(&self, tile: u64) -> Result<Position, SqlError> {
        let Some(before) = tile.checked_sub(1) else { return Ok(Position::START) };
        let select = "SELECT position, position_lo FROM notary_tiles WHERE level = 0 AND number = $1";
        let row = self.db.query_one(select, &[number(before)]).await?;
        row.map_or(Ok(Position::START), |row| row.position(0))
    }

    /// The first tile of leaves whose last event stands at this position or later.
    pub async fn tile_at(&self, position: Position) -> Result<Option<u64>, SqlError> {
        let select = "SELECT number FROM notary_tiles WHERE level = 0 AND (position > $1 OR (position = $1 AND position_lo >= $2)) \
                      ORDER BY number LIMIT 1";
        let row = self.db.query_one(select, &SqlValue::position(position)).await?;
        row.map(|row| unsigned(&row, 0)).transpose()
    }

    /// Nodes of the tree, by their index; those that no tile holds are left out.
    pub async fn nodes(&self, indexes: &[u64]) -> Result<BTreeMap<u64, Hash>, SqlError> {
        let places: Vec<(u64, Place)> = indexes.iter().map(|index| (*index, Place::of(*index))).collect();
        let wanted: BTreeSet<(u8, u64)> = places.iter().map(|(_, place)| (place.level, place.number)).collect();
        let mut tiles = BTreeMap::new();
        for (level, number) in wanted {
            if let Some(hashes) = self.tile(level, number).await? {
                tiles.insert((level, number), hashes);
            }
        }
        let node = |(index, place): (u64, Place)| {
            let tile = tiles.get(&(place.level, place.number))?;
            Some((index, place.node(tile)?))
        };
        Ok(places.into_iter().filter_map(node).collect())
    }

    /// Adds tiles, and moves on how far they go. False: somebody else did so meanwhile, and nothing was changed.
    pub async fn extend(&self, from: Kept, to: Kept, tiles: Vec<(Tile, Position)>) -> Result<bool, SqlError> {
        let mut tx = self.db.begin().await?;
        let [hi, lo] = SqlValue::position(to.position);
        let moved = tx
            .execute(
                "UPDATE notary_tree SET size = $1, position = $2, position_lo = $3 WHERE one = 1 AND size = $4",
                &[number(to.size), hi, lo, number(from.size)],
            )
            .await?;
        if moved == 0 {
            return Ok(false);
        }
        let mut rows = Vec::with_capacity(tiles.len() * 5);
        for (tile, position) in tiles {
            let bytes: Vec<u8> = tile.hashes.iter().flat_map(|hash| hash.0).collect();
            rows.extend([i64::from(tile.level).into(), number(tile.number), SqlValue::Bytes(bytes)]);
            rows.extend(SqlValue::position(position));
        }
        tx.insert_many(
            "INSERT INTO notary_tiles (level, number, hashes, position, position_lo)",
            5,
            rows,
            "ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes, position = excluded.position, \
             position_lo = excluded.position_lo",
        )
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes all tiles away: they are made again from the log.
    pub async fn forget_tree(&self) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        tx.execute("DELETE FROM notary_tiles", &[]).await?;
        tx.execute("UPDATE notary_tree SET size = 0, position = 0, position_lo = 0 WHERE one = 1", &[]).await?;
        tx.commit().await
    }

    /// Keeps a checkpoint; one that is kept already gets the newer note, which may have more signatures.
    pub async fn keep(&self, checkpoint: &KeptCheckpoint) -> Result<(), SqlError> {
        let mut tx = self.db.begin().await?;
        tx.execute(
            "INSERT INTO notary_checkpoints (checkpoint_id, size, made_at, reason, note) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (checkpoint_id) DO UPDATE SET note = excluded.note",
            &[
                checkpoint.id.into(),
                number(checkpoint.size),
                SqlValue::I64(checkpoint.made_at.timestamp_micros()),
                checkpoint.reason.as_str().into(),
                checkpoint.note.as_str().into(),
            ],
        )
        .await?;
        tx.commit().await
    }

    /// All checkpoints, the smallest first.
    pub async fn checkpoints(&self) -> Result<Vec<KeptCheckpoint>, SqlError> {
        let select = "SELECT checkpoint_id, size, made_at, reason, note FROM notary_checkpoints ORDER BY size, made_at";
        self.db.query(select, &[]).await?.iter().map(checkpoint).collect()
    }

    /// The newest checkpoint.
    pub async fn newest(&self) -> Result<Option<KeptCheckpoint>, SqlError> {
        let select = "SELECT checkpoint_id, size, made_at, reason, note FROM notary_checkpoints \
                      ORDER BY size DESC, made_at DESC LIMIT 1";
        self.db.query_one(select, &[]).await?.as_ref().map(checkpoint).transpose()
    }

    /// The newest checkpoint of this size.
    pub async fn of_size(&self, size: u64) -> Result<Option<KeptCheckpoint>, SqlError> {
        let select = "SELECT checkpoint_id, size, made_at, reason, note FROM notary_checkpoints WHERE size = $1 \
                      ORDER BY made_at DESC LIMIT 1";
        self.db.query_one(select, &[number(size)]).await?.as_ref().map(checkpoint).transpose()
    }

    /// Checkpoints, the newest first, and how many there are.
    pub async fn page(&self, skip: i64, limit: i64) -> Result<(Vec<KeptCheckpoint>, i64), SqlError> {
        let select = "SELECT checkpoint_id, size, made_at, reason, note FROM notary_checkpoints \
                      ORDER BY size DESC, made_at DESC LIMIT $1 OFFSET $2";
        let rows = self.db.query(select, &[limit.into(), skip.into()]).await?;
        let count = self.db.query_one("SELECT count(*) FROM notary_checkpoints", &[]).await?;
        Ok((rows.iter().map(checkpoint).collect::<Result<_, _>>()?, count.map_or(Ok(0), |row| row.i64(0))?))
    }
}
