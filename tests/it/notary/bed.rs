//! A signed log on each engine, and ways to change it behind the back of the store.

use std::path::PathBuf;
use std::sync::Arc;

use sluice::clock::SystemClock;
use sluice::commands::execute::CommandMeta;
use sluice::events::checkpoint::CheckpointReason;
use sluice::limits::Limits;
use sluice::notary::examination::{Claim, Verdict};
use sluice::notary::key::{Key, PublicKey, write};
use sluice::notary::options::{KeySource, NotaryOptions};
use sluice::notary::tables::Tables;
use sluice::notary::trust::Trust;
use sluice::notary::verify::verify;
use sluice::notary::{Kind, Made, Notary};
use sluice::store::address::Database;
use sluice::store::memory::MemoryStore;
use sluice::store::postgres::PostgresStore;
use sluice::store::sql::ReadDb;
use sluice::store::sqlite::SqliteStore;
use sluice::store::{EventStore, ExpectedVersion};
use tempfile::TempDir;
use uuid::Uuid;

use super::edits::Edited;
use crate::store::esdb::{self, Fixture};
use crate::store::support::{event, stream, ticking};
use crate::support::database::{postgres, server};

/// Where the events are.
pub enum Engine {
    Memory(Arc<MemoryStore>, std::sync::Mutex<Option<super::edits::Change>>),
    Sqlite(PathBuf),
    Postgres(String),
    EventStore(Fixture),
}

/// A log with three checkpoints, at 10, 21 and 32 events, and five events behind them.
pub struct Bed {
    pub engine: Engine,
    pub tables: Tables,
    pub key: Key,
    pub options: NotaryOptions,
    pub folder: TempDir,
}

/// The name of the log in tests.
pub const ORIGIN: &str = "sluice.test/log";

impl Bed {
    /// One on each engine there is.
    pub async fn all() -> Vec<Self> {
        let mut beds = vec![Self::memory().await, Self::sqlite().await, Self::event_store().await];
        if server().is_some() {
            beds.push(Self::postgres().await);
        }
        beds
    }

    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sluice.db");
        Self::filled(Engine::Sqlite(file.clone()), Database::Sqlite(file), folder).await
    }

    async fn postgres() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = postgres(&folder.path().join("sluice.db"));
        let Database::Postgres(url) = database.clone() else { unreachable!() };
        Self::filled(Engine::Postgres(url), database, folder).await
    }

    async fn memory() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let beside = Self::beside(&folder).await;
        let engine = Engine::Memory(Arc::new(MemoryStore::new(ticking())), std::sync::Mutex::default());
        Self::filled(engine, beside, folder).await
    }

    async fn event_store() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let beside = Self::beside(&folder).await;
        Self::filled(Engine::EventStore(Fixture::start()), beside, folder).await
    }

    /// A database that has the tables beside a log, whose events are elsewhere.
    async fn beside(folder: &TempDir) -> Database {
        let file = folder.path().join("beside.db");
        SqliteStore::open(&file, ticking(), Limits::default()).await.unwrap();
        Database::Sqlite(file)
    }

    async fn filled(engine: Engine, beside: Database, folder: TempDir) -> Self {
        let (key, secret) = Key::generate(ORIGIN).unwrap();
        let file = folder.path().join("notary.key");
        write(&file, &secret, key.public()).unwrap();
        let options = NotaryOptions {
            key: KeySource::File(file),
            file: Some(folder.path().join("checkpoints.ndjson")),
            log: false,
        };
        // Opening the log makes the tables beside it.
        drop(opened(&engine).await);
        let tables = Tables::new(ReadDb::open_beside_log(&beside, &Limits::default()).await.unwrap());
        let bed = Self { engine, tables, key, options, folder };
        let log = bed.open().await;
        for part in [0..10, 10..20, 20..30] {
            append(&*log, part).await;
            bed.sign(CheckpointReason::Schedule).await.unwrap();
        }
        append(&*log, 30..35).await;
        bed
    }

    pub fn name(&self) -> &'static str {
        match self.engine {
            Engine::Memory(..) => "memory",
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgres",
            Engine::EventStore(_) => "eventstoredb",
        }
    }

    /// Opens the log anew: nobody remembers what it was.
    pub async fn open(&self) -> Arc<dyn EventStore> {
        opened(&self.engine).await
    }

    pub async fn notary(&self) -> Notary {
        self.notary_with(&self.options).await
    }

    pub async fn notary_with(&self, options: &NotaryOptions) -> Notary {
        let log = self.open().await;
        Notary::new((Arc::clone(&log), log), self.tables.clone(), Arc::new(SystemClock), options)
    }

    pub async fn sign(&self, why: CheckpointReason) -> Option<Made> {
        self.notary().await.checkpoint(why, &meta()).await.unwrap()
    }

    /// Verifies with the key that signed.
    pub async fn verdict(&self, shown: &[String]) -> Verdict {
        self.verdict_by(&[self.key.public()], shown).await
    }

    pub async fn verdict_by(&self, keys: &[&PublicKey], shown: &[String]) -> Verdict {
        let claim = |note: &String| Claim { note: note.clone(), shown: Some("elsewhere".to_owned()) };
        let trust = Trust::of(keys.iter().map(|key| (*key).clone()).collect());
        let log = self.open().await;
        verify(&*log, &self.tables, trust, shown.iter().map(claim).collect(), |_| ()).await.unwrap()
    }
}

async fn opened(engine: &Engine) -> Arc<dyn EventStore> {
    match engine {
        Engine::Memory(store, change) => {
            let store: Arc<dyn EventStore> = Arc::clone(store) as Arc<dyn EventStore>;
            let change = *change.lock().unwrap();
            match change {
                None => store,
                Some(change) => Arc::new(Edited::of(store, change).await),
            }
        }
        Engine::Sqlite(file) => Arc::new(SqliteStore::open(file, ticking(), Limits::default()).await.unwrap()),
        Engine::Postgres(url) => Arc::new(PostgresStore::open(url, ticking(), Limits::default()).await.unwrap()),
        Engine::EventStore(fixture) => esdb::store(fixture, Limits::default()),
    }
}

pub async fn append(log: &dyn EventStore, numbers: std::ops::Range<u128>) {
    for number in numbers {
        let name = stream(&format!("a-{}", number % 3));
        log.append(&name, ExpectedVersion::Any, vec![event(number)]).await.unwrap();
    }
}

pub fn meta() -> CommandMeta {
    CommandMeta::system(Uuid::from_u128(0xaaaa))
}

/// What was found: kind and number.
pub fn said(verdict: &Verdict) -> Vec<(Kind, u64)> {
    verdict.findings.iter().map(|finding| (finding.kind, finding.index.unwrap_or(u64::MAX))).collect()
}
