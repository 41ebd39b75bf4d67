//! Whether the database exists: only a server, and applying a site file, create one.

use super::{App, AppError, AppOptions};
use crate::store::address::Database;
use crate::store::postgres::inspect;

impl App {
    /// True if the database has been made. Nothing is changed.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn is_made(options: &AppOptions) -> Result<bool, AppError> {
        match &options.database {
            Database::Sqlite(log) => Ok(log.exists()),
            Database::Postgres(url) => Ok(Box::pin(inspect(url, &options.limits)).await?.behind.is_some()),
        }
    }
}
