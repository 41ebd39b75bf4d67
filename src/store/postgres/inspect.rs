//! Inspects a database on a server without changing it: what it is, and the version of its tables.

use std::collections::BTreeSet;

use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::{Schema, options, rows};
use crate::limits::Limits;
use crate::store::StoreError;

/// What was seen of a database on a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerInspection {
    /// The server's version, as a number: 150004 is 15.4.
    pub server_version: i32,
    /// It takes no writes: a replica, or told to.
    pub read_only: bool,
    /// How texts are stored.
    pub encoding: String,
    /// Versions of migrations that this program has and the database has not; none if there are no tables yet.
    pub behind: Option<Vec<i64>>,
    /// Versions that the database has and this program does not know.
    pub ahead: Vec<i64>,
    /// Migrations of both whose text is another one.
    pub changed: Vec<i64>,
    /// Connections that the server allows, and that are open.
    pub connections: (i64, i64),
}

/// Looks at a database without changing it.
///
/// # Errors
/// The server does not answer, or lets nobody in.
pub async fn inspect(url: &str, limits: &Limits) -> Result<ServerInspection, StoreError> {
    let look = async {
        let mut connection = options(url, Schema::Log, limits)?.connect().await?;
        let seen = look(&mut connection).await?;
        connection.close().await?;
        Ok(seen)
    };
    look.await.map_err(rows::unavailable)
}

/// Whether the server lets somebody in and answers.
///
/// # Errors
/// It does not.
pub async fn answers(url: &str, limits: &Limits) -> Result<(), StoreError> {
    let ask = async {
        let mut connection = options(url, Schema::Log, limits)?.connect().await?;
        sqlx::query("SELECT 1").execute(&mut connection).await?;
        connection.close().await
    };
    ask.await.map_err(rows::unavailable)
}

async fn look(connection: &mut PgConnection) -> Result<ServerInspection, sqlx::Error> {
    let facts = "SELECT current_setting('server_version_num')::int, \
                 current_setting('transaction_read_only')::bool OR pg_is_in_recovery(), \
                 current_setting('server_encoding'), current_setting('max_connections')::bigint, \
                 (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    let row = sqlx::query(facts).fetch_one(&mut *connection).await?;
    let mut seen = ServerInspection {
        server_version: row.try_get(0)?,
        read_only: row.try_get(1)?,
        encoding: row.try_get(2)?,
        connections: (row.try_get(3)?, row.try_get(4)?),
        ..ServerInspection::default()
    };
    for schema in [Schema::Log, Schema::Read] {
        let exists = "SELECT to_regclass($1 || '._sqlx_migrations') IS NOT NULL";
        let row = sqlx::query(exists).bind(schema.name()).fetch_one(&mut *connection).await?;
        if !row.try_get::<bool, _>(0)? {
            continue;
        }
        let rows = sqlx::query(schema.applied()).fetch_all(&mut *connection).await?;
        let mut applied = BTreeSet::new();
        for row in &rows {
            let (version, checksum): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            applied.insert(version);
            let ours = schema.migrations().iter().find(|ours| ours.version == version);
            if ours.is_some_and(|ours| *ours.checksum != *checksum) {
                seen.changed.push(version);
            }
        }
        let ours: BTreeSet<i64> = schema.migrations().iter().map(|migration| migration.version).collect();
        seen.behind.get_or_insert_default().extend(ours.difference(&applied));
        seen.ahead.extend(applied.difference(&ours));
    }
    Ok(seen)
}
