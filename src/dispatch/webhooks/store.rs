//! The table of webhook consumers. It is primary data beside the log, like tokens: addresses may contain keys.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Webhook, WebhookWishes};
use crate::events::envelope::Position;
use crate::store::sql::{ReadDb, SqlError, SqlRow, SqlValue};

const INSERT: &str = "INSERT INTO event_consumers (id, owner, url, object_types, scopes, payload_filters, heard, \
    error, attempts, created_at, modified_at) VALUES ($1, $2, $3, $4, $5, $6, $7, '', 0, $8, $8)";
const ALL: &str = "SELECT id, owner, url, object_types, scopes, payload_filters, heard, resync, delivered_at, error, \
    error_at, attempts, blocked, created_at, modified_at FROM event_consumers ORDER BY created_at, id";
const CHANGE: &str = "UPDATE event_consumers SET url = $2, object_types = $3, payload_filters = $4, modified_at = $5, \
    blocked = NULL, attempts = 0 WHERE id = $1";
const RESYNC: &str = "UPDATE event_consumers SET resync = $2, blocked = NULL, attempts = 0 WHERE id = $1";
const RESYNCED: &str = "UPDATE event_consumers SET resync = NULL WHERE id = $1 AND resync = $2";
const HEARD: &str = "UPDATE event_consumers SET heard = $2 WHERE id = $1";
const DELIVERED: &str = "UPDATE event_consumers SET delivered_at = $2, attempts = 0 WHERE id = $1";
const FAILED: &str =
    "UPDATE event_consumers SET error = $2, error_at = $3, attempts = attempts + 1, blocked = $4 WHERE id = $1";
const DELETE: &str = "DELETE FROM event_consumers WHERE id = $1";

/// The table.
#[derive(Clone)]
pub struct WebhookStore {
    db: ReadDb,
}

fn text<T: Serialize>(value: &T) -> SqlValue {
    serde_json::to_string(value).unwrap_or_default().into()
}

fn parsed<T: DeserializeOwned>(row: &SqlRow, index: usize) -> Result<T, SqlError> {
    let wrong = |_| SqlError::Column { index, expected: "JSON of a webhook consumer" };
    serde_json::from_str(row.text(index)?).map_err(wrong)
}

impl WebhookStore {
    /// The table beside a log.
    pub fn new(db: ReadDb) -> Self {
        Self { db }
    }

    async fn run(&self, statement: &'static str, values: &[SqlValue]) -> Result<bool, SqlError> {
        let mut tx = self.db.begin().await?;
        let rows = tx.execute(statement, values).await?;
        tx.commit().await?;
        Ok(rows > 0)
    }

    /// Registers a consumer.
    pub async fn put(&self, webhook: &Webhook) -> Result<(), SqlError> {
        let wishes = &webhook.wishes;
        let values = [
            webhook.id.into(),
            webhook.owner.as_uuid().into(),
            wishes.url.as_str().into(),
            text(&wishes.object_types),
            text(&wishes.scopes),
            text(&wishes.payload_filters),
            webhook.position.to_string().into(),
            webhook.created.into(),
        ];
        self.run(INSERT, &values).await.map(|_| ())
    }

    /// All consumers, the oldest first.
    pub async fn all(&self) -> Result<Vec<Webhook>, SqlError> {
        self.db.query(ALL, &[]).await?.iter().map(read).collect()
    }

    /// A consumer.
    pub async fn get(&self, id: Uuid) -> Result<Option<Webhook>, SqlError> {
        Ok(self.all().await?.into_iter().find(|webhook| webhook.id == id))
    }

    /// Changes what a consumer wants, and lets one that was blocked begin again.
    pub async fn change(&self, id: Uuid, wishes: &WebhookWishes, now: DateTime<Utc>) -> Result<(), SqlError> {
        let values = [
            id.into(),
            wishes.url.as_str().into(),
            text(&wishes.object_types),
            text(&wishes.payload_filters),
            now.into(),
        ];
        self.run(CHANGE, &values).await.map(|_| ())
    }

    /// Asks for the present state, and lets a consumer that was blocked begin again.
    pub async fn ask_resync(&self, id: Uuid, types: &BTreeSet<String>) -> Result<(), SqlError> {
        self.run(RESYNC, &[id.into(), text(types)]).await.map(|_| ())
    }

    /// The present state was sent, unless it has been asked for otherwise since.
    pub(super) async fn resynced(&self, id: Uuid, types: &BTreeSet<String>) -> Result<(), SqlError> {
        self.run(RESYNCED, &[id.into(), text(types)]).await.map(|_| ())
    }

    /// A consumer has heard of the log up to here.
    pub(super) async fn heard(&self, id: Uuid, position: Position) -> Result<(), SqlError> {
        self.run(HEARD, &[id.into(), position.to_string().into()]).await.map(|_| ())
    }

    /// A message was taken.
    pub(super) async fn delivered(&self, id: Uuid, now: DateTime<Utc>) -> Result<(), SqlError> {
        self.run(DELIVERED, &[id.into(), now.into()]).await.map(|_| ())
    }

    /// A message was not taken; and why nothing is sent any more, if so.
    pub(super) async fn failed(
        &self,
        id: Uuid,
        error: &str,
        now: DateTime<Utc>,
        blocked: Option<&str>,
    ) -> Result<(), SqlError> {
        let values = [id.into(), error.into(), now.into(), blocked.map(str::to_owned).into()];
        self.run(FAILED, &values).await.map(|_| ())
    }

    /// Forgets a consumer; false: there is none.
    pub async fn remove(&self, id: Uuid) -> Result<bool, SqlError> {
        self.run(DELETE, &[id.into()]).await
    }
}

fn read(row: &SqlRow) -> Result<Webhook, SqlError> {
    let position = row.text(6)?.parse::<Position>();
    let resync = row.opt_text(7)?.map(serde_json::from_str::<BTreeSet<String>>).transpose();
    let payload_filters: BTreeMap<String, Vec<serde_json::Value>> = parsed(row, 5)?;
    Ok(Webhook {
        id: row.uuid(0)?,
        owner: row.uuid(1)?.into(),
        wishes: WebhookWishes {
            url: row.text(2)?.to_owned(),
            object_types: parsed(row, 3)?,
            scopes: parsed(row, 4)?,
            payload_filters,
        },
        position: position.map_err(|_| SqlError::Column { index: 6, expected: "a position in the log" })?,
        resync: resync.map_err(|_| SqlError::Column { index: 7, expected: "JSON of a webhook consumer" })?,
        delivered_at: row.opt_time(8)?,
        error: row.text(9)?.to_owned(),
        error_at: row.opt_time(10)?,
        attempts: u32::try_from(row.i64(11)?).unwrap_or(u32::MAX),
        blocked: row.opt_text(12)?.map(str::to_owned),
        created: row.time(13)?,
        modified: row.time(14)?,
    })
}
