//! Inspects a database file without changing it: whether it is undamaged, and its version.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection, Row};

use super::open::{Access, LOG, options};
use crate::limits::Limits;
use crate::store::StoreError;
use crate::store::sql::READ_MODELS;

/// What was seen of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Versions of migrations that this program has and the file has not.
    pub behind: Vec<i64>,
    /// Versions that the file has and this program does not know.
    pub ahead: Vec<i64>,
    /// What `SQLite` finds wrong with it.
    pub damage: Vec<String>,
    /// Every page was read.
    pub checked: bool,
}

/// Looks at the file of the log. `thorough` reads every page of it.
///
/// # Errors
/// It cannot be opened, or is no database of Sluice.
pub async fn inspect_log(path: &Path, thorough: bool, limits: &Limits) -> Result<Inspection, StoreError> {
    inspect(path, &LOG, thorough, limits).await
}

/// Looks at the file of the read models.
///
/// # Errors
/// The same.
pub async fn inspect_read(path: &Path, thorough: bool, limits: &Limits) -> Result<Inspection, StoreError> {
    inspect(path, &READ_MODELS, thorough, limits).await
}

async fn inspect(path: &Path, known: &Migrator, thorough: bool, limits: &Limits) -> Result<Inspection, StoreError> {
    let look = async {
        let mut connection = options(path, Access::Read, limits).connect().await?;
        let seen = look(&mut connection, known, thorough).await?;
        connection.close().await?;
        Ok(seen)
    };
    match look.await {
        // A schema that cannot be read fails the opening already, or breaks off the check.
        Err(sqlx::Error::Database(error)) if is_corruption(&*error) => {
            Ok(Inspection { damage: vec![error.message().to_owned()], ..Inspection::default() })
        }
        other => other.map_err(|error: sqlx::Error| StoreError::Unavailable(Arc::new(error))),
    }
}

/// `SQLITE_CORRUPT`, in whichever of its finer kinds.
fn is_corruption(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == 11)
}

async fn look(connection: &mut SqliteConnection, known: &Migrator, thorough: bool) -> Result<Inspection, sqlx::Error> {
    let mut seen = Inspection { checked: thorough, ..Inspection::default() };
    if thorough {
        for row in sqlx::query("PRAGMA quick_check(10)").fetch_all(&mut *connection).await? {
            let said: String = row.try_get(0)?;
            if said != "ok" {
                seen.damage.push(said);
            }
        }
        if !seen.damage.is_empty() {
            return Ok(seen);
        }
    }
    let rows = sqlx::query("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
    let rows = rows.fetch_all(&mut *connection).await?;
    let applied = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<i64>, _>>()?;
    let ours: BTreeSet<i64> = known.iter().map(|migration| migration.version).collect();
    seen.behind = ours.difference(&applied).copied().collect();
    seen.ahead = applied.difference(&ours).copied().collect();
    Ok(seen)
}
