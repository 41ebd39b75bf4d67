//! The error for a database that this version cannot open.

use std::fmt;
use std::sync::Arc;

use sqlx::migrate::MigrateError;

use super::Cause;

/// Its tables are of a version that this one does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// A newer version has upgraded it.
    #[error(
        "{database} was made or upgraded by a newer version of Sluice (it has step {step} of the upgrade, which {this} does not \
         know): use that version; an upgrade cannot be undone, but a backup of before can be restored",
        this = concat!("version ", env!("CARGO_PKG_VERSION"))
    )]
    Newer {
        /// The database.
        database: String,
        /// The step.
        step: i64,
    },
    /// The same step was another one when it was made.
    #[error(
        "{database} was made by another build of Sluice: step {step} of the upgrade is not the same; use the build that made it"
    )]
    Other {
        /// The database.
        database: String,
        /// The step.
        step: i64,
    },
}

/// Why a database could not be brought up to date.
pub(super) fn told(error: sqlx::Error, database: &impl fmt::Display) -> Cause {
    let said = match &error {
        sqlx::Error::Migrate(migrate) => match **migrate {
            MigrateError::VersionMissing(step) => Some(VersionError::Newer { database: database.to_string(), step }),
            MigrateError::VersionMismatch(step) => Some(VersionError::Other { database: database.to_string(), step }),
            _ => None,
        },
        _ => None,
    };
    match said {
        Some(said) => Arc::new(said),
        None => Arc::new(error),
    }
}
