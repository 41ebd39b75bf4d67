//! Verdicts on recorded decisions, as events: how far the log was verified, with what result, and where the next pass
//! begins.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{Effort, Pass, ReplayError, Report, Wanted};
use crate::clock::{Clock, IdSource};
use crate::commands::execute::CommandMeta;
use crate::events::envelope::{DecodeError, NewEvent, Position, StreamName, Version};
use crate::events::site::{DecisionsReplayed, REPLAY_STREAM, SiteEvent};
use crate::store::{Distance, EventStore, ExpectedVersion, StoreError};

/// Verdicts read at a time.
const PAGE: usize = 1_000;

/// How the decisions of the whole log stand, by the verdicts of one release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The release that verified; empty if none did.
    pub release: String,
    /// Verified from the beginning of the log up to here.
    pub through: Position,
    /// Decisions that came out as recorded.
    pub same: u64,
    /// Decisions that came out otherwise.
    pub different: u64,
    /// Decisions that could not be recomputed.
    pub not_recomputed: u64,
    /// The first of those two.
    pub first: Option<Position>,
}

impl Standing {
    /// Nothing came out otherwise.
    pub fn agrees(&self) -> bool {
        self.different == 0 && self.not_recomputed == 0
    }

    fn take(&mut self, verdict: DecisionsReplayed) {
        if verdict.after != self.through || verdict.release != self.release {
            // A pass from the beginning takes the place of all before it.
            *self = Self { release: verdict.release, ..Self::default() };
        }
        self.through = verdict.through;
        self.same += verdict.same;
        self.different += verdict.different;
        self.not_recomputed += verdict.not_recomputed;
        self.first = self.first.or(verdict.first);
    }
}

/// Verifies what was decided since the newest verdict, and records the next one.
pub struct Verifier {
    store: Arc<dyn EventStore>,
    log: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    books_max: usize,
    known: Mutex<(Version, Standing)>,
}

impl Verifier {
    /// Verifies `log`, which is given as it is stored, and records verdicts in `store`.
    pub fn new(store: Arc<dyn EventStore>, log: Arc<dyn EventStore>, clock: Arc<dyn Clock>, books_max: usize) -> Self {
        Self { store, log, clock, books_max, known: Mutex::default() }
    }

    /// How decisions stand by the verdicts so far.
    ///
    /// # Errors
    /// The log does not answer, or a verdict in it cannot be relied on.
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        Ok(self.read().await?.1)
    }

    async fn read(&self) -> Result<(Version, Standing), StoreError> {
        let mut known = self.known.lock().await;
        loop {
            let page = self.store.read_stream(&replay_stream(), known.0, PAGE).await?;
            let done = page.len() < PAGE;
            for event in page {
                match SiteEvent::decode(&event.event_type, &event.payload) {
                    Some(Ok(SiteEvent::DecisionsReplayed(verdict))) => known.1.take(verdict),
                    Some(Err(problem)) => {
                        let unsound = DecodeError::new(&event, problem);
                        self.store.note(&unsound);
                        return Err(StoreError::Unsound(Box::new(unsound)));
                    }
                    _ => {}
                }
                known.0 = event.version;
            }
            if done {
                return Ok(known.clone());
            }
        }
    }

    /// Begins a pass up to the end of the log: where the newest verdict ends; from the beginning if another release gave it,
    /// or if something came out otherwise, since that may have been put right.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn begin(&self) -> Result<Pass, ReplayError> {
        let failed = |error| ReplayError::Store(Position::START, error);
        let standing = self.standing().await.map_err(failed)?;
        let goes_on = standing.release == env!("CARGO_PKG_VERSION") && standing.agrees();
        let after = if goes_on { standing.through } else { Position::START };
        let end = self.log.head().await.map_err(failed)?;
        let fresh = Report { after, through: after, ..Report::default() };
        // The service has other work too.
        let books_max = NonZeroUsize::new(self.books_max).unwrap_or(NonZeroUsize::MIN);
        let effort = Effort { workers: NonZeroUsize::MIN, books_max };
        Pass::begin(Arc::clone(&self.log), Wanted::default(), (fresh, end), effort).await
    }

    /// How many events a pass that has just begun has before it.
    pub async fn ahead(&self, pass: &Pass) -> Distance {
        self.log.distance(pass.report().through, pass.end).await
    }

    /// Records a verdict. A pass that met no decision records nothing.
    ///
    /// # Errors
    /// The log does not take it: another pass recorded a verdict meanwhile, or it does not answer.
    pub async fn record(&self, report: &Report, meta: &CommandMeta) -> Result<(), StoreError> {
        let (version, _) = self.read().await?;
        let total = report.total();
        if total.total() == 0 {
            return Ok(());
        }
        let first =
            [report.differences.first().map(|one| one.position), report.not_recomputed.first().map(|one| one.position)];
        let verdict = SiteEvent::DecisionsReplayed(DecisionsReplayed {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            after: report.after,
            through: report.through,
            same: total.same,
            different: total.different,
            without_inputs: total.without_inputs,
            disposed: total.disposed,
            set_aside: total.set_aside,
            not_recomputed: total.not_recomputed,
            first: first.into_iter().flatten().min(),
        });
        let event = NewEvent {
            event_id: IdSource.fresh(),
            event_type: verdict.event_type(),
            occurred_at: self.clock.now(),
            metadata: meta.metadata(),
            payload: verdict.to_append()?,
        };
        self.store.append(&replay_stream(), ExpectedVersion::Exact(version), vec![event]).await?;
        Ok(())
    }
}

/// The stream of verdicts.
///
/// # Panics
/// Never: the name is a word.
fn replay_stream() -> StreamName {
    StreamName::new(REPLAY_STREAM).expect("a word is a stream name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position::from_halves(number, 0)
    }

    fn verdict(release: &str, after: u64, through: u64, different: u64) -> DecisionsReplayed {
        DecisionsReplayed {
            release: release.to_owned(),
            after: at(after),
            through: at(through),
            same: through - after,
            different,
            without_inputs: 0,
            disposed: 0,
            set_aside: 0,
            not_recomputed: 0,
            first: (different > 0).then(|| at(after + 1)),
        }
    }

    #[test]
    fn verdicts_add_up_until_a_pass_begins_anew() {
        let mut standing = Standing::default();
        standing.take(verdict("1", 0, 10, 0));
        standing.take(verdict("1", 10, 30, 1));
        assert_eq!((standing.same, standing.different, standing.first), (30, 1, Some(at(11))));
        assert!(!standing.agrees());
        standing.take(verdict("1", 0, 40, 0));
        assert!(standing.agrees() && standing.same == 40, "{standing:?}");
        standing.take(verdict("2", 0, 50, 0));
        assert_eq!((standing.release.as_str(), standing.same, standing.through), ("2", 50, at(50)));
    }
}
