//! The soundness of the log: known defects are kept beside it, and a starting server checks a sample of it.

use std::sync::Arc;

use super::{App, AppError};
use crate::events::envelope::DecodeError;
use crate::limits::Limits;
use crate::store::guard::Guard;
use crate::store::meta::{Meta, UNRELIABLE};
use crate::store::sound::{self, SetAside, judge};
use crate::store::{EventStore, StoreError};

/// The newest events that a starting server looks at, and runs of older ones that chance chooses.
const NEWEST: u64 = 5_000;
const RUNS: u64 = 50;

/// Guards a log; events that were unreliable before and still are, are known from the start.
pub(super) async fn guard(log: Arc<dyn EventStore>, meta: &Meta, limits: &Limits) -> Result<Arc<Guard>, StoreError> {
    let known = known(meta).await?;
    let beside = meta.clone();
    let guard = Guard::new(Arc::clone(&log), limits, move |list| {
        let beside = beside.clone();
        tokio::spawn(async move {
            let text = serde_json::to_string(&list).unwrap_or_default();
            if let Err(error) = beside.set(UNRELIABLE, &text).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "an unreliable event is not remembered");
            }
        });
    });
    if !known.is_empty() {
        let set_aside = SetAside::of(&*log).await?;
        for unsound in still(&*log, known).await.into_iter().filter(|one| !set_aside.holds_in(&one.stream, one.version))
        {
            guard.note(&unsound);
        }
    }
    Ok(Arc::new(guard))
}

/// Events that somebody could not rely on, as they are remembered beside the log.
///
/// # Errors
/// The tables beside the log cannot be read.
pub async fn known(meta: &Meta) -> Result<Vec<DecodeError>, StoreError> {
    let text = meta.get(UNRELIABLE).await?.unwrap_or_default();
    // If an older version wrote something else, the next reader of the event finds it again.
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// Which of them are still unsound, after another check.
pub async fn still(log: &dyn EventStore, known: Vec<DecodeError>) -> Vec<DecodeError> {
    let mut still = Vec::new();
    for one in known {
        match log.event_at(one.position).await {
            Ok(Some(event)) => still.extend(judge(&event).err()),
            Ok(None) => {}
            Err(_) => still.push(one),
        }
    }
    still
}

impl App {
    /// Looks at a part of the log, as a server does when it starts; what is wrong is noted, and said in the log of the service.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn look_at_log(&self) -> Result<(), AppError> {
        let found = sound::sample(&**self.guard.log(), NEWEST, RUNS).await?;
        for unsound in &found.unsound {
            self.store.note(unsound);
        }
        for (from, to) in &found.missing {
            tracing::error!(from, to, "events are missing from the log; restore a backup");
        }
        for lost in &found.lost {
            let (from, to, problem) = (lost.from, lost.to, &lost.problem);
            tracing::error!(from, to, problem, "events of the log cannot be read; restore a backup");
        }
        Ok(())
    }
}
