//! Rebuilds read models from the log: fills new tables beside the old ones, and swaps them in once they have caught up.
//!
//! The new tables get the horizon of the old ones, so that they do not write rows that would be pruned anyway; the
//! remaining ones are pruned right after the swap.

use super::{command_history, evaluation_log, event_chains, registry, retention, site_answers, status_summary, usage};
use crate::events::Event;
use crate::events::envelope::Position;
use crate::store::consumer::{Consumer, ConsumerLoop, LoopError, RebuildProgress};
use crate::store::sql::{ReadDb, SqlError};

/// Why a rebuild did not come to its end; the old tables are still there.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is no read model of this name.
    #[error("there is no read model {0}")]
    Unknown(String),
    /// The rebuild itself failed.
    #[error("the read model could not be rebuilt")]
    Loop(#[from] LoopError),
    /// The tables could not be read or pruned.
    #[error("the tables could not be read or pruned")]
    Sql(#[from] SqlError),
}

/// Makes the tables of one read model again, while the old ones serve, and says up to which event.
pub async fn one(
    feed: &ConsumerLoop<Event>,
    db: &ReadDb,
    name: &str,
    progress: impl FnMut(RebuildProgress) + Send,
) -> Result<Position, RebuildError> {
    let horizon = retention::horizon(db).await?;
    let fresh: Box<dyn Consumer<Event>> = match name {
        registry::NAME => Box::new(registry::Registry::default()),
        usage::NAME => Box::new(usage::Usage::default()),
        evaluation_log::NAME => Box::new(evaluation_log::EvaluationLog::with_horizon(horizon)),
        command_history::NAME => Box::new(command_history::CommandHistory::with_horizon(horizon)),
        status_summary::NAME => Box::new(status_summary::StatusSummary::default()),
        site_answers::NAME => Box::new(site_answers::SiteAnswers),
        event_chains::NAME => Box::new(event_chains::EventChains::default()),
        other => return Err(RebuildError::Unknown(other.to_owned())),
    };
    let position = feed.rebuild(fresh, progress).await?;
    retention::prune(db, |_| {}).await?;
    Ok(position)
}

/// Makes the tables of every read model again, one after the other.
pub async fn all(
    feed: &ConsumerLoop<Event>,
    db: &ReadDb,
    mut progress: impl FnMut(&'static str, RebuildProgress) + Send,
) -> Result<(), RebuildError> {
    for name in super::NAMES {
        one(feed, db, name, |step| progress(name, step)).await?;
    }
    Ok(())
}
