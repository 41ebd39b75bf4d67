//! Opens a `PostgreSQL` database: two schemas, settings per connection, migrations.
//!
//! The schema `sluice` holds what must never be lost (the log, the directory, leases), `sluice_read` what can be
//! rebuilt from it, divided like the two files of `SQLite`.

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use crate::limits::Limits;

static LOG: Migrator = sqlx::migrate!("migrations/postgres/log");
static READ_MODELS: Migrator = sqlx::migrate!("migrations/postgres/read");

/// The lock for creating or upgrading tables.
const MIGRATION_LOCK: i64 = 7_305_804_402_333_417;

/// Which of the two schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Schema {
    /// The log and what stands beside it.
    Log,
    /// The read models.
    Read,
}

impl Schema {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Log => "sluice",
            Self::Read => "sluice_read",
        }
    }

    const fn create(self) -> &'static str {
        match self {
            Self::Log => "CREATE SCHEMA IF NOT EXISTS sluice",
            Self::Read => "CREATE SCHEMA IF NOT EXISTS sluice_read",
        }
    }

    /// The migrations that were applied, with the hash of each.
    pub(super) const fn applied(self) -> &'static str {
        match self {
            Self::Log => "SELECT version, checksum FROM sluice._sqlx_migrations WHERE success",
            Self::Read => "SELECT version, checksum FROM sluice_read._sqlx_migrations WHERE success",
        }
    }

    pub(super) fn migrations(self) -> &'static Migrator {
        match self {
            Self::Log => &LOG,
            Self::Read => &READ_MODELS,
        }
    }
}

/// The settings of one connection. A transaction that its process leaves open, because it is frozen, ends by itself: its
/// locks must not outlive a lease by much.
pub(in crate::store) fn options(url: &str, schema: Schema, limits: &Limits) -> Result<PgConnectOptions, sqlx::Error> {
    let idle = format!("{}ms", limits.idle_transaction_max.as_millis());
    let wait = format!("{}ms", (limits.lock_wait * 6).as_millis());
    let options: PgConnectOptions = url.parse()?;
    Ok(options
        .application_name("sluice")
        .statement_cache_capacity(limits.statements_max)
        .options([
            ("search_path", schema.name()),
            ("idle_in_transaction_session_timeout", idle.as_str()),
            ("lock_timeout", wait.as_str()),
            ("tcp_user_timeout", idle.as_str()),
        ])
        .disable_statement_logging())
}

/// Makes or upgrades the tables of a schema. Several processes may do so at once: the second finds the work done.
pub(in crate::store) async fn migrate(url: &str, schema: Schema, limits: &Limits) -> Result<(), sqlx::Error> {
    let mut connection = options(url, schema, limits)?.connect().await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await?;
    if !exists(&mut transaction, schema).await? {
        sqlx::query(schema.create()).execute(&mut *transaction).await?;
    }
    schema.migrations().run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    connection.close().await
}

/// Moves the read models out of the way, in the place of those that were moved before.
pub(in crate::store) async fn set_aside(url: &str, limits: &Limits) -> Result<(), sqlx::Error> {
    let mut connection = options(url, Schema::Log, limits)?.connect().await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await?;
    if exists(&mut transaction, Schema::Read).await? {
        sqlx::query("DROP SCHEMA IF EXISTS sluice_read_aside CASCADE").execute(&mut *transaction).await?;
        sqlx::query("ALTER SCHEMA sluice_read RENAME TO sluice_read_aside").execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    connection.close().await
}

/// Asked first: to create a schema that is there already takes rights that the upgrade does not need.
async fn exists(connection: &mut PgConnection, schema: Schema) -> Result<bool, sqlx::Error> {
    let found = sqlx::query("SELECT 1 FROM pg_namespace WHERE nspname = $1").bind(schema.name());
    Ok(found.fetch_optional(connection).await?.is_some())
}

/// A pool of reading connections; none is opened before it is needed.
pub(in crate::store) fn read_pool(url: &str, schema: Schema, max: u32, limits: &Limits) -> Result<PgPool, sqlx::Error> {
    let options = options(url, schema, limits)?.options([("default_transaction_read_only", "on")]);
    Ok(pool(max, limits).connect_lazy_with(options))
}

/// The connections that write: one works while another may wait for its lock.
pub(in crate::store) fn write_pool(url: &str, schema: Schema, limits: &Limits) -> Result<PgPool, sqlx::Error> {
    Ok(pool(2, limits).connect_lazy_with(options(url, schema, limits)?))
}

fn pool(max: u32, limits: &Limits) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max)
        .test_before_acquire(false) // a dead connection is noticed when it is used, and replaced
        .acquire_timeout(limits.lock_wait)
}
