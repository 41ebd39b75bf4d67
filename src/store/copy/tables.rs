//! Copies the data beside a log: the directory, tokens and facts, row by row. If the copy's events have other
//! positions, stored positions are translated.

use std::collections::BTreeMap;

use crate::events::envelope::Position;
use crate::store::meta;
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

/// A log whose events stand at other positions than those of the source.
#[derive(Default)]
pub(super) struct Moved {
    /// The identity of the copy's log, if that is in an event store.
    pub(super) elsewhere: Option<String>,
    /// Where in the copy somebody stands who stood at a position of the source.
    pub(super) places: BTreeMap<Position, Position>,
}

/// Facts that are about the source's log and no other.
const OF_ONE_LOG: [&str; 4] = [meta::OWN_LOG, meta::EVENT_LOG, meta::LOOKED_THROUGH, meta::UNRELIABLE];

/// What a column of the tables beside the log holds.
#[derive(Clone, Copy)]
enum Column {
    Text,
    Id,
    Number,
    Bytes,
}

use Column::{Bytes, Id, Number, Text};

/// A table beside the log: how it is read, emptied and filled.
struct Table {
    select: &'static str,
    empty: &'static str,
    insert: &'static str,
    columns: &'static [Column],
}

const TABLES: [Table; 7] = [
    Table {
        select: "SELECT key, value FROM meta ORDER BY key",
        empty: "DELETE FROM meta",
        insert: "INSERT INTO meta (key, value)",
        columns: &[Text, Text],
    },
    Table {
        select: "SELECT user_id, kind, username, email, full_name, created_at, modified_at FROM directory_entries \
                 ORDER BY user_id",
        empty: "DELETE FROM directory_entries",
        insert: "INSERT INTO directory_entries (user_id, kind, username, email, full_name, created_at, modified_at)",
        columns: &[Id, Text, Text, Text, Text, Number, Number],
    },
    Table {
        select: "SELECT token_id, user_id, role, offering_id, label, key_hash, created_at, expires_at, revoked_at \
                 FROM tokens ORDER BY token_id",
        empty: "DELETE FROM tokens",
        insert: "INSERT INTO tokens (token_id, user_id, role, offering_id, label, key_hash, created_at, expires_at, \
                 revoked_at)",
        columns: &[Id, Id, Text, Id, Text, Bytes, Number, Number, Number],
    },
    Table {
        select: "SELECT login, hash, updated_at FROM broker_credentials ORDER BY login",
        empty: "DELETE FROM broker_credentials",
        insert: "INSERT INTO broker_credentials (login, hash, updated_at)",
        columns: &[Text, Text, Number],
    },
    Table {
        select: "SELECT offering, covered_until, measured_at, imported_at, open_jobs FROM sacct_imports ORDER BY offering",
        empty: "DELETE FROM sacct_imports",
        insert: "INSERT INTO sacct_imports (offering, covered_until, measured_at, imported_at, open_jobs)",
        columns: &[Id, Number, Number, Number, Text],
    },
    Table {
        select: "SELECT id, owner, url, object_types, scopes, payload_filters, heard, resync, delivered_at, error, \
                 error_at, attempts, blocked, created_at, modified_at FROM event_consumers ORDER BY id",
        empty: "DELETE FROM event_consumers",
        insert: "INSERT INTO event_consumers (id, owner, url, object_types, scopes, payload_filters, heard, resync, \
                 delivered_at, error, error_at, attempts, blocked, created_at, modified_at)",
        columns: &[Id, Id, Text, Text, Text, Text, Text, Text, Number, Text, Number, Number, Text, Number, Number],
    },
    Table {
        select: "SELECT checkpoint_id, size, made_at, reason, note FROM notary_checkpoints ORDER BY checkpoint_id",
        empty: "DELETE FROM notary_checkpoints",
        insert: "INSERT INTO notary_checkpoints (checkpoint_id, size, made_at, reason, note)",
        columns: &[Id, Number, Number, Text, Text],
    },
];

/// The tables of facts and of webhooks, and the column that says how far one of these has heard of the log.
const META: usize = 0;
const CONSUMERS: usize = 5;
const HEARD: usize = 6;

fn value(row: &SqlRow, index: usize, column: Column) -> Result<SqlValue, SqlError> {
    Ok(match column {
        Text => row.opt_text(index)?.into(),
        Id => row.opt_uuid(index)?.into(),
        Number => row.opt_i64(index)?.into(),
        Bytes => row.opt_bytes(index)?.map(<[u8]>::to_vec).into(),
    })
}

async fn rows_of(db: &ReadDb, table: &Table) -> Result<Vec<SqlValue>, SqlError> {
    let mut values = Vec::new();
    for row in db.query(table.select, &[]).await? {
        for (index, column) in table.columns.iter().enumerate() {
            values.push(value(&row, index, *column)?);
        }
    }
    Ok(values)
}

/// The rows of all tables, as they are in the copy of a log.
async fn tables_of(db: &ReadDb, moved: Option<&Moved>) -> Result<Vec<Vec<SqlValue>>, SqlError> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for (number, table) in TABLES.iter().enumerate() {
        let rows = rows_of(db, table).await?;
        tables.push(match (number, moved) {
            (META, Some(moved)) => facts(&rows, moved),
            (CONSUMERS, Some(moved)) => consumers(rows, moved)?,
            _ => rows,
        });
    }
    Ok(tables)
}

/// The facts that hold of the copy too, and which log it goes with.
fn facts(rows: &[SqlValue], moved: &Moved) -> Vec<SqlValue> {
    let stays = |pair: &&[SqlValue]| !matches!(&pair[0], SqlValue::Text(key) if OF_ONE_LOG.contains(&key.as_str()));
    let mut facts: Vec<[SqlValue; 2]> =
        rows.chunks_exact(2).filter(stays).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
    if let Some(identity) = &moved.elsewhere {
        facts.push([meta::EVENT_LOG.into(), identity.as_str().into()]);
    }
    facts.into_iter().flatten().collect()
}

/// How far webhooks have heard of the log, as positions of the copy.
fn consumers(mut rows: Vec<SqlValue>, moved: &Moved) -> Result<Vec<SqlValue>, SqlError> {
    for row in rows.chunks_exact_mut(TABLES[CONSUMERS].columns.len()) {
        let at = heard(&row[HEARD])?;
        row[HEARD] = moved.places.get(&at).copied().unwrap_or_default().to_string().into();
    }
    Ok(rows)
}

fn heard(value: &SqlValue) -> Result<Position, SqlError> {
    let text = if let SqlValue::Text(text) = value { text.as_str() } else { "" };
    text.parse().map_err(|_| SqlError::Column { index: HEARD, expected: "a position in the log" })
}

/// The positions that stand in the tables.
pub(super) async fn positions(db: &ReadDb) -> Result<Vec<Position>, SqlError> {
    let rows = rows_of(db, &TABLES[CONSUMERS]).await?;
    rows.chunks_exact(TABLES[CONSUMERS].columns.len()).map(|row| heard(&row[HEARD])).collect()
}

/// Puts the rows of the source in the place of what is there, all at once; says how many.
pub(super) async fn copy(from: &ReadDb, to: &ReadDb, moved: Option<&Moved>) -> Result<u64, SqlError> {
    let mut tx = to.begin().await?;
    let mut count = 0;
    for (table, rows) in TABLES.iter().zip(tables_of(from, moved).await?) {
        tx.execute(table.empty, &[]).await?;
        count += tx.insert_many(table.insert, table.columns.len(), rows, "").await?;
    }
    tx.commit().await?;
    Ok(count)
}

/// Whether the tables of the copy say what those of the source do.
pub(super) async fn are_same(from: &ReadDb, to: &ReadDb, moved: Option<&Moved>) -> Result<bool, SqlError> {
    let (mut ours, mut theirs) = (tables_of(from, moved).await?, tables_of(to, None).await?);
    for tables in [&mut ours, &mut theirs] {
        // What was added to the facts stands at their end, and each engine sorts words by its own rules.
        let mut facts: Vec<_> = tables[META].chunks_exact(2).map(<[SqlValue]>::to_vec).collect();
        facts.sort_by_key(|pair| format!("{pair:?}"));
        tables[META] = facts.concat();
    }
    Ok(ours == theirs)
}
