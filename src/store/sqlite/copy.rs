//! Writes events of another log at their original positions.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::connection::connect;
use super::open::Access;
use super::rows::signed;
use super::writer::{INSERT_EVENT, insert_event};
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;
use crate::store::StoreError;
use crate::store::numbers::NUMBERS;

/// Writes to the log of a file that has its tables already.
pub(in crate::store) struct SqliteCopy {
    path: PathBuf,
    limits: Limits,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    kinds: HashMap<Arc<str>, i64>,
    streams: HashMap<String, i64>,
}

impl SqliteCopy {
    pub(in crate::store) fn new(path: PathBuf, limits: Limits) -> Self {
        Self { path, limits, open: None }
    }

    /// Writes events that follow a position, all or none. False: the log does not end there.
    pub(in crate::store) async fn put(
        &mut self,
        after: Position,
        events: Vec<RecordedEvent>,
    ) -> Result<bool, StoreError> {
        let open = self.open.take();
        let (path, limits) = (self.path.clone(), self.limits.clone());
        let write = move || {
            let mut open = match open {
                Some(open) => open,
                None => Open::at(&path, &limits)?,
            };
            let written = open.put(after, &events)?;
            Ok::<_, rusqlite::Error>((open, written))
        };
        let unavailable = |error| StoreError::Unavailable(Arc::new(error));
        let done = tokio::task::spawn_blocking(write).await;
        let (open, written) = done.map_err(|gone| StoreError::Unavailable(Arc::new(gone)))?.map_err(unavailable)?;
        self.open = Some(open);
        Ok(written)
    }
}

impl Open {
    fn at(path: &std::path::Path, limits: &Limits) -> rusqlite::Result<Self> {
        let connection = connect(path, Access::WriteDurably, limits)?;
        Ok(Self { connection, kinds: HashMap::new(), streams: HashMap::new() })
    }

    fn put(&mut self, after: Position, events: &[RecordedEvent]) -> rusqlite::Result<bool> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let end = "SELECT coalesce(max(position), 0) FROM events";
        let end: i64 = transaction.query_row(end, (), |row| row.get(0))?;
        if end != signed(NUMBERS.of(after)) {
            return Ok(false);
        }
        for event in events {
            let kind = number(&transaction, &mut self.kinds, &event.event_type, KIND)?;
            let stream = number(&transaction, &mut self.streams, event.stream.as_str(), STREAM)?;
            insert_event(&mut *transaction.prepare_cached(INSERT_EVENT)?, event, stream, kind)?;
        }
        transaction.commit()?;
        Ok(true)
    }
}

/// How a name is looked up, and how a new one gets its number.
const KIND: [&str; 2] = [
    "SELECT kind_id FROM event_kinds WHERE name = ?1",
    "INSERT INTO event_kinds (kind_id, name) SELECT coalesce(max(kind_id), 0) + 1, ?1 FROM event_kinds",
];
const STREAM: [&str; 2] = [
    "SELECT stream_id FROM streams WHERE name = ?1",
    "INSERT INTO streams (stream_id, name) SELECT coalesce(max(stream_id), 0) + 1, ?1 FROM streams",
];

/// The number of a name, which is made if it is new.
fn number<K: std::hash::Hash + Eq + std::borrow::Borrow<str> + for<'a> From<&'a str>>(
    transaction: &Transaction<'_>,
    known: &mut HashMap<K, i64>,
    name: &str,
    [look, make]: [&'static str; 2],
) -> rusqlite::Result<i64> {
    if let Some(number) = known.get(name) {
        return Ok(*number);
    }
    let look = || transaction.prepare_cached(look)?.query_row([name], |row| row.get(0)).optional();
    let number = if let Some(number) = look()? {
        number
    } else {
        transaction.prepare_cached(make)?.execute([name])?;
        look()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?
    };
    known.insert(K::from(name), number);
    Ok(number)
}
