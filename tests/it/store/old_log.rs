//! A log over four months, to be archived: made on either engine, with ways to look at what is in its tables and segments.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use sluice::limits::Limits;
use sluice::store::address::Database;
use sluice::store::archive::{Archive, ArchiveError, ArchiveFaults, ArchiveStep, Archived};
use sluice::store::postgres::PostgresStore;
use sluice::store::sqlite::SqliteStore;
use sluice::store::{EventStore, ExpectedVersion, Now};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row, SqliteConnection};

use super::support::{Site, events, small_limits, stream, ticking};
use crate::support::database::{connect, database};

/// A log over four months: `steady-1` goes on all the time, `early-1` ends in the first month, `late-1` begins in the last.
pub struct Old {
    pub site: Site,
    pub database: Database,
    pub store: Arc<dyn EventStore>,
}

pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The months of a site whose clock is UTC.
pub fn month_of(at: DateTime<Utc>) -> (String, DateTime<Utc>) {
    let (year, month) = (at.year(), at.month());
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    (format!("{year}-{month:02}"), instant(&format!("{next_year}-{next:02}-01T00:00:00Z")))
}

/// On a server, partitions so small that the log has several, and segments end within them.
async fn open(database: &Database, now: Now, limits: &Limits) -> Arc<dyn EventStore> {
    match database {
        Database::Sqlite(log) => Arc::new(SqliteStore::open(log, now, limits.clone()).await.unwrap()),
        Database::Postgres(url) => {
            let small = "DROP TABLE sluice.events_0; UPDATE sluice.log_head SET partition_events = 64, partition_end = 0; \
                         SET search_path = sluice; SELECT add_events_partition()";
            sqlx::raw_sql(small).execute(&mut connect(url).await).await.unwrap();
            Arc::new(PostgresStore::open(url, now, limits.clone()).await.unwrap())
        }
    }
}

impl Old {
    pub async fn new() -> Self {
        let site = Site::new(Limits { read_events_max: 500, ..small_limits() });
        let clock = Arc::new(AtomicI64::new(instant("2024-11-01T00:00:00Z").timestamp()));
        let now: Now = {
            let clock = Arc::clone(&clock);
            Arc::new(move || DateTime::from_timestamp(clock.load(Ordering::Relaxed), 0).unwrap())
        };
        let database = database(&site.log_path());
        let store = open(&database, now, &site.limits).await;
        let mut number = 0;
        for month in 0..4_i64 {
            for day in 0..28 {
                let at = instant("2024-11-01T00:00:00Z") + TimeDelta::days(month * 30 + day);
                clock.store(at.timestamp(), Ordering::Relaxed);
                let mut streams = vec![("steady-1", 3)];
                streams.extend((month == 0).then_some(("early-1", 2)));
                streams.extend((month == 3).then_some(("late-1", 1)));
                streams.push((["a-1", "a-2", "a-3"][usize::try_from(day % 3).unwrap()], 1));
                for (name, count) in streams {
                    store.append(&stream(name), ExpectedVersion::Any, events(number..number + count)).await.unwrap();
                    number += count;
                }
            }
        }
        Self { site, database, store }
    }

    pub async fn archive(&self) -> Archive {
        Archive::open(&self.database, self.site.limits.clone()).await.unwrap().with_segment_events_max(60)
    }

    pub async fn run(&self, archive: &Archive, before: &str) -> Result<Archived, ArchiveError> {
        let planned = archive.plan(instant(before), &month_of).await?;
        archive.run(&planned, &ticking(), |_| ()).await
    }

    /// Rows that the log's table holds.
    pub async fn rows(&self) -> i64 {
        self.number("SELECT count(*) FROM events").await
    }

    pub async fn number(&self, sql: &'static str) -> i64 {
        match &self.database {
            Database::Sqlite(_) => sqlx::query(sql).fetch_one(&mut self.raw().await).await.unwrap().get(0),
            Database::Postgres(url) => {
                let mut raw = connect(url).await;
                sqlx::raw_sql("SET search_path = sluice").execute(&mut raw).await.unwrap();
                sqlx::query(sql).fetch_one(&mut raw).await.unwrap().get(0)
            }
        }
    }

    pub async fn raw(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.site.log_path()).connect().await.unwrap()
    }

    pub fn folder(&self) -> PathBuf {
        self.site.log_path().with_file_name("site-archive")
    }

    /// The names of the segments whose bytes are there, recorded or not.
    pub async fn files(&self) -> Vec<String> {
        if let Database::Postgres(url) = &self.database {
            let names = sqlx::query("SELECT DISTINCT file FROM sluice.segment_files ORDER BY file");
            let names = names.fetch_all(&mut connect(url).await).await.unwrap();
            return names.iter().map(|row| row.get(0)).collect();
        }
        let Ok(folder) = std::fs::read_dir(self.folder()) else { return Vec::new() };
        let mut files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "zst"));
        files.sort();
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    /// The bytes of a segment, which is so small that it is one frame.
    pub async fn bytes(&self, file: &str) -> Vec<u8> {
        let Database::Postgres(url) = &self.database else { return std::fs::read(self.folder().join(file)).unwrap() };
        let content = sqlx::query("SELECT content FROM sluice.segment_files WHERE file = $1").bind(file);
        content.fetch_one(&mut connect(url).await).await.unwrap().get(0)
    }

    /// Puts other bytes in their place, or none, as nobody may.
    pub async fn damage(&self, file: &str, bytes: Option<&[u8]>) {
        let Database::Postgres(url) = &self.database else {
            let path = self.folder().join(file);
            return match bytes {
                Some(bytes) => std::fs::write(path, bytes).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            };
        };
        let mut raw = connect(url).await;
        sqlx::raw_sql("SET session_replication_role = replica").execute(&mut raw).await.unwrap();
        let gone = sqlx::query("DELETE FROM sluice.segment_files WHERE file = $1").bind(file);
        gone.execute(&mut raw).await.unwrap();
        if let Some(bytes) = bytes {
            let put = sqlx::query("INSERT INTO sluice.segment_files VALUES ($1, 0, $2)").bind(file).bind(bytes);
            put.execute(&mut raw).await.unwrap();
        }
    }
}

/// Stops after this step, once it was passed so many times.
pub fn stop_at(step: ArchiveStep, survived: usize) -> ArchiveFaults {
    let passed = AtomicUsize::new(0);
    Arc::new(move |at| at == step && passed.fetch_add(1, Ordering::Relaxed) == survived)
}
