//! The place of a log and everything beside it: a database, and an event store if it holds the events.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::CopyError;
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;
use crate::store::address::Database;
use crate::store::eventstoredb::{EventStoreAddress, EventStoreDb};
use crate::store::meta::{self, Meta};
use crate::store::numbers::NUMBERS;
use crate::store::postgres::{PostgresCopy, PostgresStore};
use crate::store::sql::ReadDb;
use crate::store::sqlite::{SqliteCopy, SqliteStore};
use crate::store::{EventStore, Now, StoreError};

/// A database, and where its events are if not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The database.
    pub database: Database,
    /// The event store that holds its events.
    pub event_store: Option<EventStoreAddress>,
}

impl From<Database> for Place {
    fn from(database: Database) -> Self {
        Self { database, event_store: None }
    }
}

impl fmt::Display for Place {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.event_store {
            None => self.database.fmt(f),
            Some(event_store) => write!(f, "{} with its events in {event_store}", self.database),
        }
    }
}

/// A place with its log open.
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) beside: ReadDb,
    /// The identity of a log in an event store.
    pub(super) elsewhere: Option<String>,
}

/// A log by where it is, since each is written in its own way.
pub(super) enum Log {
    Own(Arc<dyn EventStore>),
    Elsewhere(Arc<EventStoreDb>),
}

impl Log {
    pub(super) fn store(&self) -> &dyn EventStore {
        match self {
            Self::Own(log) => &**log,
            Self::Elsewhere(log) => &**log,
        }
    }
}

async fn own(database: &Database, limits: &Limits) -> Result<Arc<dyn EventStore>, StoreError> {
    let now: Now = Arc::new(crate::clock::real_now);
    Ok(match database {
        Database::Sqlite(log) => Arc::new(SqliteStore::open(log, now, limits.clone()).await?),
        Database::Postgres(url) => Arc::new(PostgresStore::open(url, now, limits.clone()).await?),
    })
}

fn elsewhere(address: &EventStoreAddress, limits: &Limits) -> Result<EventStoreDb, StoreError> {
    EventStoreDb::open(address, Arc::new(crate::clock::real_now), limits.clone())
}

/// The side that is read.
pub(super) async fn source(place: &Place, limits: &Limits) -> Result<Opened, CopyError> {
    let failed = |error| CopyError::Store("source", error);
    if let Some(path) = place.database.file().filter(|path| !path.exists()) {
        return Err(CopyError::NoSource(path.to_owned()));
    }
    let log = own(&place.database, limits).await.map_err(failed)?;
    let beside = ReadDb::open_beside_log(&place.database, limits).await?;
    let kept = Meta::new(beside.clone()).get(meta::EVENT_LOG).await.map_err(failed)?;
    let (address, kept) = match (&place.event_store, kept) {
        (None, None) => return Ok(Opened { log: Log::Own(log), beside, elsewhere: None }),
        (None, Some(kept)) => return Err(CopyError::Elsewhere("source", kept)),
        (Some(address), None) => return Err(CopyError::NotElsewhere(address.to_string())),
        (Some(address), Some(kept)) => (address, kept),
    };
    let log = elsewhere(address, limits).map_err(failed)?;
    let found = log.known_identity().await.map_err(failed)?.map(|id| id.to_string());
    if found.as_ref() != Some(&kept) {
        return Err(CopyError::Another { kept, found, address: address.to_string() });
    }
    Ok(Opened { log: Log::Elsewhere(Arc::new(log)), beside, elsewhere: Some(kept) })
}

/// The side that is written: new, or begun by a copy before. `fresh` becomes the identity of a new log in an event store.
pub(super) async fn target(place: &Place, fresh: Uuid, limits: &Limits) -> Result<Opened, CopyError> {
    let failed = |error| CopyError::Store("database to copy to", error);
    let log = own(&place.database, limits).await.map_err(failed)?;
    let beside = ReadDb::open_beside_log(&place.database, limits).await?;
    let kept = Meta::new(beside.clone()).get(meta::EVENT_LOG).await.map_err(failed)?;
    let Some(address) = &place.event_store else {
        return match kept {
            None => Ok(Opened { log: Log::Own(log), beside, elsewhere: None }),
            Some(kept) => Err(CopyError::Elsewhere("database to copy to", kept)),
        };
    };
    if log.head().await.map_err(failed)? > Position::START {
        return Err(CopyError::OwnEvents);
    }
    let log = elsewhere(address, limits).map_err(failed)?;
    let found = log.identity(fresh).await.map_err(failed)?.to_string();
    if let Some(kept) = kept.filter(|kept| *kept != found) {
        return Err(CopyError::Another { kept, found: Some(found), address: address.to_string() });
    }
    Ok(Opened { log: Log::Elsewhere(Arc::new(log)), beside, elsewhere: Some(found) })
}

/// What writes events where they stood, or after those that it wrote before.
pub(super) enum Writer {
    Sqlite(Box<SqliteCopy>),
    Postgres(Box<PostgresCopy>),
    EventStore(Arc<EventStoreDb>),
}

impl Writer {
    pub(super) async fn open(database: &Database, log: &Log, limits: &Limits) -> Result<Self, StoreError> {
        Ok(match (log, database) {
            (Log::Elsewhere(log), _) => Self::EventStore(Arc::clone(log)),
            (Log::Own(_), Database::Sqlite(file)) => {
                Self::Sqlite(Box::new(SqliteCopy::new(file.clone(), limits.clone())))
            }
            (Log::Own(_), Database::Postgres(url)) => Self::Postgres(Box::new(PostgresCopy::open(url, limits).await?)),
        })
    }

    /// Writes events that follow the one with a number. False: the log, or one of the streams, does not end there.
    pub(super) async fn put(&mut self, number: u64, events: Vec<RecordedEvent>) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(target) => target.put(NUMBERS.at(number), events).await,
            Self::Postgres(target) => target.put(NUMBERS.at(number), &events).await,
            Self::EventStore(target) => target.put(&events).await,
        }
    }
}
