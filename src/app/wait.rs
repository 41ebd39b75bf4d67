//! Waits for the stores at the start of a server, since in containers all may start at the same time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{App, AppError, AppOptions};
use crate::store::address::Database;
use crate::store::eventstoredb::EventStoreDb;
use crate::store::{StoreError, may_pass, postgres};

/// How often the stores are asked.
const ASKED_EVERY: Duration = Duration::from_millis(250);

/// How long one of them has to answer before it is asked again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

impl App {
    /// Waits until the server of the database and the event store answer. One line is logged when the waiting begins, one when
    /// it ends; who finds both there at once waits for nothing and logs nothing.
    ///
    /// # Errors
    /// A store did not answer in time, or says something that no waiting mends.
    pub async fn wait_for_stores(options: &AppOptions, at_most: Duration) -> Result<(), AppError> {
        if at_most.is_zero() {
            return Ok(());
        }
        let began = Instant::now();
        let seconds = at_most.as_secs();
        let mut waits = false;
        loop {
            let left = at_most.saturating_sub(began.elapsed());
            let Some((store, source)) = missing(options, left.min(ANSWERS_WITHIN)).await else {
                if waits {
                    let waited = began.elapsed().as_secs_f64();
                    tracing::info!("the wait is over after {waited:.1} s: every store answers");
                }
                return Ok(());
            };
            if !may_pass(&source) {
                return Err(AppError::Unusable { store, source });
            }
            if !waits {
                let reason = reason(&source);
                tracing::warn!(what = %store, %reason, "a store does not answer; waiting up to {seconds} s (store_wait)");
                waits = true;
            }
            if began.elapsed() + ASKED_EVERY >= at_most {
                return Err(AppError::NoAnswer { store, seconds, source });
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }
}

/// The first store that does not answer within some time, and why. The one whose answer no waiting mends comes first.
async fn missing(options: &AppOptions, within: Duration) -> Option<(String, StoreError)> {
    let limits = &options.limits;
    let database = async {
        let Database::Postgres(url) = &options.database else { return None };
        let answer = tokio::time::timeout(within, postgres::answers(url, limits)).await;
        let error = answer.unwrap_or_else(|_| Err(StoreError::Unavailable(Arc::new(NoWord)))).err()?;
        Some((format!("the database {}", options.database), error))
    };
    let event_store = async {
        let address = options.event_store.as_ref()?;
        let error = EventStoreDb::answers(address, limits, within).await.err()?;
        Some(("the event store".to_owned(), error))
    };
    match tokio::join!(database, event_store) {
        (Some(database), Some(event_store)) if may_pass(&database.1) && !may_pass(&event_store.1) => Some(event_store),
        (database, event_store) => database.or(event_store),
    }
}

/// Nothing was heard.
#[derive(Debug, thiserror::Error)]
#[error("nothing was heard of it")]
struct NoWord;

/// What lies at the bottom of a failure.
fn reason(error: &StoreError) -> String {
    let mut bottom: &dyn std::error::Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}
