//! The log in an event store, as recorded in the backup of the database beside it: its identity and its end. The backup
//! does not contain the log, so a restore must find the same one, at least as long.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::address::Database;
use super::archive::hex;
use super::eventstoredb::{EventStoreAddress, EventStoreDb};
use super::sql::{ReadDb, SqlError};
use super::{EventStore, StoreError};
use crate::events::envelope::Position;
use crate::limits::Limits;

/// A log in an event store, and how far it reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogElsewhere {
    /// Where it was, without a password.
    pub address: String,
    /// Its identity.
    pub log: String,
    /// The position of its newest event; the start if there was none.
    pub position: Position,
    /// What that event was committed to, in hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<String>,
}

/// How a log that is there stands to the one that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is the one, and reaches as far at least.
    Whole,
    /// There is no log.
    NoLog,
    /// It is another log.
    Other(String),
    /// It is the one, and ends earlier.
    Older(Position),
    /// It is the one, and has another event where the remembered one ended: it was put back and then gone on with.
    Changed,
}

fn open(address: &EventStoreAddress, limits: &Limits) -> Result<EventStoreDb, StoreError> {
    EventStoreDb::open(address, Arc::new(crate::clock::real_now), limits.clone())
}

impl LogElsewhere {
    /// The log at an address; none if there is none.
    ///
    /// # Errors
    /// The event store does not answer, or not as it should.
    pub async fn at(address: &EventStoreAddress, limits: &Limits) -> Result<Option<Self>, StoreError> {
        let store = open(address, limits)?;
        let Some(log) = store.known_identity().await? else { return Ok(None) };
        let newest = store.newest().await?;
        let position = newest.as_ref().map_or(Position::START, |newest| newest.position);
        let commitment = newest.map(|newest| hex(&newest.commitment));
        Ok(Some(Self { address: address.to_string(), log: log.to_string(), position, commitment }))
    }

    /// How the log at an address stands to this one.
    ///
    /// # Errors
    /// The event store does not answer, or not as it should.
    pub async fn compared_with(&self, address: &EventStoreAddress, limits: &Limits) -> Result<Standing, StoreError> {
        let store = open(address, limits)?;
        let Some(found) = store.known_identity().await?.map(|log| log.to_string()) else { return Ok(Standing::NoLog) };
        if found != self.log {
            return Ok(Standing::Other(found));
        }
        let head = store.head().await?;
        if head < self.position {
            return Ok(Standing::Older(head));
        }
        let there = store.event_at(self.position).await?.map(|event| hex(&event.commitment));
        Ok(if there == self.commitment { Standing::Whole } else { Standing::Changed })
    }
}

/// Has webhooks that have heard of more than a log holds go on at its end; says how many there are.
///
/// # Errors
/// Their table cannot be read or written.
pub async fn hear_no_further(database: &Database, end: Position, limits: &Limits) -> Result<usize, SqlError> {
    let db = ReadDb::open_beside_log(database, limits).await?;
    let mut tx = db.begin().await?;
    let mut moved = 0;
    for row in tx.query("SELECT id, heard FROM event_consumers", &[]).await? {
        let heard = row.text(1)?.parse::<Position>();
        let heard = heard.map_err(|_| SqlError::Column { index: 1, expected: "a position in the log" })?;
        if heard > end {
            let update = "UPDATE event_consumers SET heard = $2 WHERE id = $1";
            tx.execute(update, &[row.uuid(0)?.into(), end.to_string().into()]).await?;
            moved += 1;
        }
    }
    tx.commit().await?;
    db.close().await;
    Ok(moved)
}
