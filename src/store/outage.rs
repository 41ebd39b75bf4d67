//! Distinguishes failures that end when the database is reachable again from defects.

use std::error::Error;

use super::StoreError;
use super::sql::{SqlError, is_connection_loss};

/// How deep an error may be wrapped.
const DEPTH_MAX: usize = 16;

/// Whether the database, at the bottom of this, could not be reached, hung up, or has somebody else write now: the same
/// request may succeed later.
pub fn is_outage(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    for _ in 0..DEPTH_MAX {
        let Some(error) = next else { return false };
        if let Some(error) = error.downcast_ref::<StoreError>() {
            match error {
                StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::LeaseLost(_) => return true,
                StoreError::Conflict { .. }
                | StoreError::Rejected(_)
                | StoreError::NotReadBack(_)
                | StoreError::Unsound(_)
                | StoreError::NoEventThere
                | StoreError::Corrupt(_) => return false,
            }
        }
        if let Some(SqlError::Busy | SqlError::Closed | SqlError::LeaseLost(_)) = error.downcast_ref::<SqlError>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return is_connection_loss(error)
                || matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_));
        }
        next = error.source();
    }
    false
}

/// Whether an outage may end without anybody's doing, as that of a server that starts does. A refused password or certificate
/// does not.
pub fn may_pass(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    for _ in 0..DEPTH_MAX {
        let Some(error) = next else { return false };
        if let Some(StoreError::Unavailable(cause) | StoreError::Unknown(cause)) = error.downcast_ref::<StoreError>() {
            return match cause.downcast_ref::<sqlx::Error>() {
                Some(error) => of_a_starting_server(error),
                None => super::eventstoredb::may_pass(cause),
            };
        }
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return of_a_starting_server(error);
        }
        next = error.source();
    }
    false
}

/// The connection failed, or the server says that it starts, ends, or has no connection left.
fn of_a_starting_server(error: &sqlx::Error) -> bool {
    is_connection_loss(error)
        || matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code == "53300"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::is_outage;
    use crate::store::StoreError;
    use crate::store::sql::SqlError;

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] SqlError);

    #[test]
    fn what_passes_with_the_connection_is_told_from_what_does_not() {
        let gone = || sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(is_outage(&gone()));
        assert!(is_outage(&Wrapped(SqlError::Database(gone()))));
        assert!(is_outage(&Wrapped(SqlError::Database(sqlx::Error::PoolTimedOut))));
        assert!(is_outage(&StoreError::LeaseLost("leader")));
        assert!(!is_outage(&Wrapped(SqlError::Database(sqlx::Error::RowNotFound))));
        assert!(!is_outage(&Wrapped(SqlError::Column { index: 0, expected: "a text" })));
        assert!(!is_outage(&StoreError::Corrupt("nonsense".to_owned())));
    }
}
