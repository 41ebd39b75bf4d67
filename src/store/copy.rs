//! Copying a database to another one, of the same engine or not: the log as it is, position by position, and what stands
//! beside it. Read models are not copied: they are made again.
//!
//! Events go in batches, each whole or not at all, so that a copy that was cut short goes on where it was. At the end both
//! sides are read from beginning to end and compared by count and hash.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::address::Database;
use super::archive::line;
use super::meta::Meta;
use super::postgres::{PostgresCopy, PostgresStore};
use super::sql::{ReadDb, SqlError, SqlRow, SqlValue};
use super::sqlite::{SqliteCopy, SqliteStore};
use super::{EventStore, Now, StoreError};
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;

/// Events that are written together.
const BATCH: usize = 2_000;

/// The fact that says that a database's events are elsewhere.
const EVENT_LOG: &str = "event_log";

/// Why a database was not copied, or not to the end. What was copied stays; the next attempt goes on after it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the databases.
    #[error("the {0} cannot be read or written")]
    Store(&'static str, #[source] StoreError),
    /// Its tables.
    #[error("the tables beside the log cannot be copied")]
    Sql(#[from] SqlError),
    /// There is nothing to copy.
    #[error("there is no database at {}", .0.display())]
    NoSource(PathBuf),
    /// The events are in an event store.
    #[error("the events of this database are in an event store, which is copied with its own tools")]
    Elsewhere,
    /// The other database holds something else.
    #[error("the database to copy to holds events that are not the first {0} of the source: use a new one")]
    Foreign(u64),
    /// Somebody wrote meanwhile.
    #[error("somebody wrote to the database to copy to; nothing may use it before the copy is done")]
    Disturbed,
    /// What arrived is not what was sent.
    #[error("the copy is not the same as the source: {0}")]
    Different(String),
    /// An event that cannot be written down.
    #[error("event {position} cannot be compared: {problem}")]
    Unreadable {
        /// Where it stands.
        position: Position,
        /// What is wrong.
        problem: String,
    },
}

/// What was copied, and found to be the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Events of the log.
    pub events: u64,
    /// How many of them this call copied; the others were there.
    pub copied: u64,
    /// SHA-256 over all events, each as a line of JSON.
    pub sha256: [u8; 32],
    /// Rows beside the log.
    pub rows: u64,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStep {
    /// Events copied, of so many.
    Copied(u64, u64),
    /// Events compared, of so many.
    Compared(u64, u64),
}

/// What writes events where they stood.
enum Target {
    Sqlite(Box<SqliteCopy>),
    Postgres(Box<PostgresCopy>),
}

impl Target {
    async fn open(database: &Database, limits: &Limits) -> Result<Self, StoreError> {
        Ok(match database {
            Database::Sqlite(log) => Self::Sqlite(Box::new(SqliteCopy::new(log.clone(), limits.clone()))),
            Database::Postgres(url) => Self::Postgres(Box::new(PostgresCopy::open(url, limits).await?)),
        })
    }

    /// Writes events that follow a position. False: the log does not end there.
    async fn put(&mut self, after: Position, events: Vec<RecordedEvent>) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(target) => target.put(after, events).await,
            Self::Postgres(target) => target.put(after, &events).await,
        }
    }
}

async fn open(database: &Database, limits: &Limits) -> Result<Arc<dyn EventStore>, StoreError> {
    let now: Now = Arc::new(crate::clock::real_now);
    Ok(match database {
        Database::Sqlite(log) => Arc::new(SqliteStore::open(log, now, limits.clone()).await?),
        Database::Postgres(url) => Arc::new(PostgresStore::open(url, now, limits.clone()).await?),
    })
}

/// Copies a database to a new one, or goes on with it. Nobody may write to either meanwhile.
///
/// # Errors
/// A database cannot be read or written, the target holds something else, or the two are not the same in the end.
pub async fn copy(
    from: &Database,
    to: &Database,
    limits: &Limits,
    mut progress: impl FnMut(CopyStep),
) -> Result<Copied, CopyError> {
    if let Some(path) = from.file().filter(|path| !path.exists()) {
        return Err(CopyError::NoSource(path.to_owned()));
    }
    let source = open(from, limits).await.map_err(|error| CopyError::Store("source", error))?;
    let beside = ReadDb::open_beside_log(from, limits).await?;
    let elsewhere = Meta::new(beside.clone()).get(EVENT_LOG).await;
    if elsewhere.map_err(|error| CopyError::Store("source", error))?.is_some() {
        return Err(CopyError::Elsewhere);
    }
    let copied = events(&*source, to, limits, &mut progress).await?;
    let there = ReadDb::open_beside_log(to, limits).await?;
    let rows = tables(&beside, &there).await?;
    let (events, sha256) = compare(&*source, to, limits, &mut progress).await?;
    if tables_of(&beside).await? != tables_of(&there).await? {
        return Err(CopyError::Different("the tables beside the log".to_owned()));
    }
    there.close().await;
    beside.close().await;
    Ok(Copied { events, copied, sha256, rows })
}

async fn events(
    source: &dyn EventStore,
    to: &Database,
    limits: &Limits,
    progress: &mut impl FnMut(CopyStep),
) -> Result<u64, CopyError> {
    let (of_source, of_target) =
        (|error| CopyError::Store("source", error), |error| CopyError::Store("database to copy to", error));
    let target = open(to, limits).await.map_err(of_target)?;
    let (end, mut after) = (source.head().await.map_err(of_source)?, target.head().await.map_err(of_target)?);
    if after > Position::START {
        let last = Position::seq(after.as_seq() - 1);
        let ours = target.read_all(last, 1).await.map_err(of_target)?;
        let theirs = source.read_all(last, 1).await.map_err(of_source)?;
        if ours.is_empty() || ours != theirs {
            return Err(CopyError::Foreign(after.as_seq()));
        }
    }
    drop(target);
    let mut writer = Target::open(to, limits).await.map_err(of_target)?;
    let mut copied = 0;
    loop {
        let some = source.read_all(after, BATCH.min(limits.read_events_max)).await.map_err(of_source)?;
        let Some(last) = some.last().map(|event| event.position) else { return Ok(copied) };
        let count = some.len() as u64;
        if !writer.put(after, some).await.map_err(of_target)? {
            return Err(CopyError::Disturbed);
        }
        (after, copied) = (last, copied + count);
        progress(CopyStep::Copied(after.as_seq(), end.as_seq()));
    }
}

/// Reads both logs from beginning to end; says how many events they have in common, and the hash of all.
async fn compare(
    source: &dyn EventStore,
    to: &Database,
    limits: &Limits,
    progress: &mut impl FnMut(CopyStep),
) -> Result<(u64, [u8; 32]), CopyError> {
    let (of_source, of_target) =
        (|error| CopyError::Store("source", error), |error| CopyError::Store("database to copy to", error));
    let target = open(to, limits).await.map_err(of_target)?;
    let end = source.head().await.map_err(of_source)?;
    let (mut after, mut events) = (Position::START, 0);
    let mut hashes = [Sha256::new(), Sha256::new()];
    loop {
        let batch = BATCH.min(limits.read_events_max);
        let ours = source.read_all(after, batch).await.map_err(of_source)?;
        let theirs = target.read_all(after, batch).await.map_err(of_target)?;
        if ours.len() != theirs.len() {
            let problem = format!("after position {after} there are {} events, not {}", theirs.len(), ours.len());
            return Err(CopyError::Different(problem));
        }
        let Some(last) = ours.last().map(|event| event.position) else { break };
        for (some, hash) in [&ours, &theirs].into_iter().zip(&mut hashes) {
            hash.update(lines(some)?);
        }
        (after, events) = (last, events + ours.len() as u64);
        progress(CopyStep::Compared(after.as_seq(), end.as_seq()));
    }
    let [ours, theirs] = hashes.map(|hash| <[u8; 32]>::from(hash.finalize()));
    if ours != theirs {
        let (ours, theirs) = (line::hex(&ours), line::hex(&theirs));
        return Err(CopyError::Different(format!("the hash of its events is {theirs}, not {ours}")));
    }
    Ok((events, ours))
}

fn lines(events: &[RecordedEvent]) -> Result<Vec<u8>, CopyError> {
    let mut lines = Vec::with_capacity(events.len() * 1_024);
    for event in events {
        let unreadable = |problem| CopyError::Unreadable { position: event.position, problem };
        line::write(event, &mut lines).map_err(unreadable)?;
    }
    Ok(lines)
}

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

const TABLES: [Table; 4] = [
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
];

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

async fn tables_of(db: &ReadDb) -> Result<Vec<Vec<SqlValue>>, SqlError> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        tables.push(rows_of(db, table).await?);
    }
    Ok(tables)
}

/// Puts the rows of the source in the place of what is there, all at once; says how many.
async fn tables(from: &ReadDb, to: &ReadDb) -> Result<u64, SqlError> {
    let mut tx = to.begin().await?;
    let mut count = 0;
    for table in &TABLES {
        tx.execute(table.empty, &[]).await?;
        let rows = rows_of(from, table).await?;
        count += tx.insert_many(table.insert, table.columns.len(), rows, "").await?;
    }
    tx.commit().await?;
    Ok(count)
}
