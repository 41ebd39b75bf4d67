//! Given events, when the read models have applied them, then rows.

mod command_history;
mod evaluation_log;
mod interleaving;
mod registry;
mod status_summary;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice::events::Event;
use sluice::limits::Limits;
use sluice::projections::{self, Page};
use sluice::store::address::Database;
use sluice::store::consumer::ConsumerLoop;
use sluice::store::sql::ReadDb;
use tempfile::TempDir;

use crate::support::database::{database, on_postgres, read_models};
use crate::support::events::Log;

/// Tables on a server that are no read models, or say only how far somebody is.
const NOT_FOLDED: [&str; 3] = ["consumers", "_sqlx_migrations", "log_head"];

pub const ALL: Page = Page { number: 1, size: 100_000 };

/// Read models in a directory of their own.
pub struct Models {
    pub db: ReadDb,
    limits: Limits,
    dir: TempDir,
}

impl Models {
    pub async fn new(batch: usize) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), batch).await
    }

    /// In a directory that may hold tables already.
    pub async fn in_folder(dir: TempDir, batch: usize) -> Self {
        let limits = Limits { consumer_batch_events: batch, ..Limits::default() };
        let db = read_models(&dir.path().join("read.db"), &limits).await;
        Self { db, limits, dir }
    }

    /// A loop as after a start of the process: nothing in memory.
    pub fn start(&self, log: &Log) -> ConsumerLoop<Event> {
        let now = log.now;
        let store = Arc::clone(&log.store);
        let feed = ConsumerLoop::new(store, self.db.clone(), Event::decode, Arc::new(move || now), self.limits.clone());
        projections::consumers(feed)
    }

    /// Applies the log as it is.
    pub async fn of(log: &Log) -> Self {
        let models = Self::new(1_000).await;
        models.start(log).settle().await.unwrap();
        models
    }

    /// Every row of every table of the read models, as text.
    pub async fn dump(&self) -> BTreeMap<String, Vec<String>> {
        if on_postgres() {
            let Database::Postgres(url) = database(&self.dir.path().join("read.db")) else { unreachable!() };
            let mut dump = crate::support::database::rows(&url).await;
            dump.retain(|name, _| !NOT_FOLDED.contains(&name.as_str()));
            assert!(dump.len() > 20, "the dump misses tables: {:?}", dump.keys());
            return dump;
        }
        let tables = "SELECT t.name, group_concat('quote(' || c.name || ')', ' || '','' || ') FROM sqlite_master t, \
                      pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
                      AND t.name NOT LIKE 'sqlite%' AND t.name <> 'consumers' GROUP BY t.name";
        let mut dump = BTreeMap::new();
        for table in self.db.query(tables, &[]).await.unwrap() {
            let (name, columns) = (table.text(0).unwrap(), table.text(1).unwrap());
            let select: &'static str = format!("SELECT {columns} FROM {name} ORDER BY 1").leak();
            let rows = self.db.query(select, &[]).await.unwrap();
            let rows = rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect();
            dump.insert(name.to_owned(), rows);
        }
        assert!(dump.len() > 20, "the dump misses tables: {:?}", dump.keys());
        dump
    }
}

/// The tables that differ, with the rows that one side has alone.
pub fn differences(
    one: &BTreeMap<String, Vec<String>>,
    other: &BTreeMap<String, Vec<String>>,
) -> Vec<(String, Vec<String>, Vec<String>)> {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let alone = |a: &[String], b: &[String]| a.iter().filter(|row| !b.contains(row)).cloned().collect::<Vec<_>>();
    one.iter()
        .filter(|(table, rows)| other[*table] != **rows)
        .map(|(table, rows)| (table.clone(), alone(rows, &other[table]), alone(&other[table], rows)))
        .collect()
}
