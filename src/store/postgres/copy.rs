//! Writes events of another log at their original positions.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, Row};
use uuid::Uuid;

use super::{Schema, options, rows};
use crate::events::envelope::{Position, RecordedEvent};
use crate::limits::Limits;
use crate::store::StoreError;
use crate::store::numbers::NUMBERS;

/// The lock for appending, which `append_events` takes.
const APPEND_LOCK: i64 = 7_305_804_402_333_418;

const KINDS: &str = "INSERT INTO event_kinds (kind_id, name) \
     SELECT (SELECT coalesce(max(kind_id), 0) FROM event_kinds) + row_number() OVER (ORDER BY k.ord), k.name \
     FROM unnest($1::text[]) WITH ORDINALITY AS k(name, ord) \
     WHERE NOT EXISTS (SELECT FROM event_kinds e WHERE e.name = k.name)";

const STREAMS: &str = "INSERT INTO streams (name, version) SELECT * FROM unnest($1::text[], $2::bigint[]) \
     ON CONFLICT (name) DO UPDATE SET version = excluded.version";

const EVENTS: &str = "INSERT INTO events (position, stream_id, version, kind_id, event_id, occurred_at, recorded_at, \
     actor_kind, actor_id, correlation_id, causation_id, reason, payload, salt, commitment) \
     SELECT e.position, s.stream_id, e.version, k.kind_id, e.event_id, e.occurred_at, e.recorded_at, e.actor_kind, \
     e.actor_id, e.correlation_id, e.causation_id, e.reason, e.payload, e.salt, e.commitment \
     FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], \
     $8::smallint[], $9::uuid[], $10::uuid[], $11::uuid[], $12::text[], $13::text[], $14::bytea[], $15::bytea[]) \
     AS e(position, stream, version, kind, event_id, occurred_at, recorded_at, actor_kind, actor_id, correlation_id, \
     causation_id, reason, payload, salt, commitment) \
     JOIN streams s ON s.name = e.stream JOIN event_kinds k ON k.name = e.kind";

/// Writes to the log of a database that has its tables already.
pub(in crate::store) struct PostgresCopy {
    connection: PgConnection,
}

impl PostgresCopy {
    pub(in crate::store) async fn open(url: &str, limits: &Limits) -> Result<Self, StoreError> {
        let open = async { options(url, Schema::Log, limits)?.connect().await };
        Ok(Self { connection: open.await.map_err(rows::unavailable)? })
    }

    /// Writes events that follow a position, all or none. False: the log does not end there.
    pub(in crate::store) async fn put(
        &mut self,
        after: Position,
        events: &[RecordedEvent],
    ) -> Result<bool, StoreError> {
        self.try_put(after, events).await.map_err(rows::unavailable)
    }

    async fn try_put(&mut self, after: Position, events: &[RecordedEvent]) -> Result<bool, sqlx::Error> {
        let Some(last) = events.last().map(|event| rows::signed(NUMBERS.of(event.position))) else { return Ok(true) };
        let mut transaction = self.connection.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(APPEND_LOCK).execute(&mut *transaction).await?;
        loop {
            let head = "SELECT position, partition_end FROM log_head";
            let row = sqlx::query(head).fetch_one(&mut *transaction).await?;
            let (position, partition_end): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            if position != rows::signed(NUMBERS.of(after)) {
                return Ok(false);
            }
            if last < partition_end {
                break;
            }
            sqlx::query("SELECT add_events_partition()").execute(&mut *transaction).await?;
        }
        let mut kinds: Vec<&str> = events.iter().map(|event| &*event.event_type).collect();
        kinds.sort_unstable();
        kinds.dedup();
        sqlx::query(KINDS).bind(kinds).execute(&mut *transaction).await?;
        let mut heads: HashMap<&str, i64> = HashMap::new();
        for event in events {
            heads.insert(event.stream.as_str(), rows::signed(event.version));
        }
        let (names, versions): (Vec<&str>, Vec<i64>) = heads.into_iter().unzip();
        sqlx::query(STREAMS).bind(names).bind(versions).execute(&mut *transaction).await?;
        bind(events).execute(&mut *transaction).await?;
        sqlx::query("UPDATE log_head SET position = $1").bind(last).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

fn bind(events: &[RecordedEvent]) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let of = || events.iter();
    let kept = |event: &RecordedEvent| !event.is_disposed();
    sqlx::query(EVENTS)
        .bind(of().map(|e| rows::signed(NUMBERS.of(e.position))).collect::<Vec<_>>())
        .bind(of().map(|e| e.stream.as_str()).collect::<Vec<_>>())
        .bind(of().map(|e| rows::signed(e.version)).collect::<Vec<_>>())
        .bind(of().map(|e| &*e.event_type).collect::<Vec<_>>())
        .bind(of().map(|e| e.event_id).collect::<Vec<_>>())
        .bind(of().map(|e| e.occurred_at).collect::<Vec<DateTime<Utc>>>())
        .bind(of().map(|e| e.recorded_at).collect::<Vec<DateTime<Utc>>>())
        .bind(of().map(|e| e.metadata.actor.kind.code()).collect::<Vec<_>>())
        .bind(of().map(|e| e.metadata.actor.id).collect::<Vec<Option<Uuid>>>())
        .bind(of().map(|e| e.metadata.correlation_id).collect::<Vec<_>>())
        .bind(of().map(|e| e.metadata.causation_id).collect::<Vec<Option<Uuid>>>())
        .bind(of().map(|e| e.metadata.reason.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(of().map(|e| kept(e).then_some(&*e.payload)).collect::<Vec<Option<&str>>>())
        .bind(of().map(|e| kept(e).then_some(&e.salt[..])).collect::<Vec<Option<&[u8]>>>())
        .bind(of().map(|e| &e.commitment[..]).collect::<Vec<_>>())
}
