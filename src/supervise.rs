//! Supervised workers: their items are isolated, a failure causes growing pauses, and stalled workers are visible.

use std::any::Any;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clock::real_now;
use crate::domain::text::on_one_line;

/// The first pause after a failure; it doubles with each that follows.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// How long a worker that was begun again has to go on before it counts as one that does.
const STEADY_AFTER: Duration = Duration::from_secs(5);
/// Characters of what is kept of a failure.
const REASON_CHARS_MAX: usize = 1_000;

/// Code that panicked, with what it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it crashed: {0}")]
pub struct Crashed(pub String);

impl Crashed {
    fn of(panic: &(dyn Any + Send)) -> Self {
        let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self(on_one_line(said.unwrap_or("without a word"), REASON_CHARS_MAX))
    }
}

/// Does one thing; a panic in it is an error and ends nothing else.
///
/// What it leaves half done has to be harmless: a transaction that was not committed, a file that was not renamed.
///
/// # Errors
/// It panicked.
pub fn isolated<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, Crashed>> {
    // On the heap: otherwise every future that awaits it would contain all of it.
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    async move { work.await.map_err(|panic| Crashed::of(panic.as_ref())) }
}

/// The same for what does not wait.
///
/// # Errors
/// It panicked.
pub fn isolated_now<T>(work: impl FnOnce() -> T) -> Result<T, Crashed> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Crashed::of(panic.as_ref()))
}

/// The consequence of a stalled worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Concern {
    /// Answers may be wrong or old: the service is not ready.
    Answers,
    /// Something is not carried out or delivered; answers are right.
    Delivery,
}

/// A worker as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: &'static str,
    /// The consequence if it stalls.
    pub concern: Concern,
    /// Failures in a row; 0 = it goes on.
    pub failures: u32,
    /// When it stalled, by the machine's clock.
    pub since: Option<DateTime<Utc>>,
    /// What went wrong last; for the log and the operator, not for the public.
    pub reason: Option<Arc<str>>,
}

impl Standing {
    /// Whether it has stalled.
    pub fn stalled(&self) -> bool {
        self.failures > 0
    }
}

/// One worker. Cheap to share.
#[derive(Debug)]
pub struct Worker {
    standing: Mutex<Standing>,
}

impl Worker {
    fn new(name: &'static str, concern: Concern) -> Self {
        Self { standing: Mutex::new(Standing { name, concern, failures: 0, since: None, reason: None }) }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.locked().clone()
    }

    /// A pass went well.
    pub fn goes_on(&self) {
        let mut standing = self.locked();
        if standing.failures > 0 {
            tracing::info!(worker = standing.name, "goes on again");
        }
        (standing.failures, standing.since, standing.reason) = (0, None, None);
    }

    /// A pass failed, or found that nothing can be done just now; says how long to wait before the next.
    pub fn failed(&self, reason: &str) -> Duration {
        let mut standing = self.locked();
        let pause = pause_after(standing.failures);
        standing.failures = standing.failures.saturating_add(1);
        standing.since.get_or_insert_with(real_now);
        standing.reason = Some(on_one_line(reason, REASON_CHARS_MAX).into());
        let (worker, failures) = (standing.name, standing.failures);
        tracing::error!(worker, failures, reason, pause_ms = pause.as_millis(), "stands still and will try again");
        pause
    }

    /// A pass went well and found that what it is for cannot be done just now.
    pub fn hindered(&self, reason: &str) {
        let mut standing = self.locked();
        if standing.failures == 0 {
            tracing::warn!(worker = standing.name, reason, "cannot do its work just now");
        }
        standing.failures = standing.failures.max(1);
        standing.since.get_or_insert_with(real_now);
        standing.reason = Some(on_one_line(reason, REASON_CHARS_MAX).into());
    }

    /// Runs a worker until told to stop; whenever it ends before that, by an error of the program, it is begun again after a
    /// pause.
    pub async fn keep<F: Future<Output = ()>>(&self, stop: &CancellationToken, begin: impl Fn() -> F) {
        let mut crashed_before = false;
        loop {
            let steady = async {
                tokio::time::sleep(STEADY_AFTER).await;
                if crashed_before {
                    self.goes_on();
                }
                std::future::pending::<Crashed>().await
            };
            let reason = tokio::select! {
                ended = isolated(begin()) => {
                    ended.map_or_else(|crashed| crashed.to_string(), |()| "it ended by itself".to_owned())
                }
                never = steady => never.to_string(),
            };
            if stop.is_cancelled() {
                return;
            }
            crashed_before = true;
            let pause = self.failed(&reason);
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        }
    }

    /// One pass: its result if it went well. Otherwise the failure is noted, and the pause before the next comes back.
    ///
    /// # Errors
    /// It failed or panicked.
    pub fn pass<T, E: Error>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, Duration>> {
        let work = isolated(work);
        async move {
            match work.await {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(error)) => Err(self.failed(&chain(&error))),
                Err(crashed) => Err(self.failed(&crashed.to_string())),
            }
        }
    }
}

/// Everybody who works in the background.
#[derive(Debug, Default)]
pub struct Workers {
    all: Mutex<Vec<Arc<Worker>>>,
}

impl Workers {
    /// The worker of this name, made if there is none yet.
    pub fn get(&self, name: &'static str, concern: Concern) -> Arc<Worker> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|worker| worker.standing().name == name) {
            return Arc::clone(known);
        }
        let worker = Arc::new(Worker::new(name, concern));
        all.push(Arc::clone(&worker));
        worker
    }

    /// How each stands, in the order in which they were begun.
    pub fn standing(&self) -> Vec<Standing> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|worker| worker.standing()).collect()
    }
}

/// The pause after so many failures in a row and one more.
pub fn pause_after(failures: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(PAUSE_MAX)
}

/// An error and everything behind it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        // Transparent errors repeat themselves.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let millis: Vec<u128> = [0, 1, 2, 6, 7, 1_000].map(|failures| pause_after(failures).as_millis()).to_vec();
        assert_eq!(millis, [500, 1_000, 2_000, 32_000, 60_000, 60_000]);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_what_was_said() {
        assert_eq!(isolated(async { 7 }).await, Ok(7));
        let crashed = isolated(async { panic!("no line\nbreak in a name") }).await;
        assert_eq!(crashed, Err::<(), _>(Crashed("no line break in a name".to_owned())));
        assert_eq!(isolated_now(|| -> u8 { panic!("{}", 1 + 1) }), Err(Crashed("2".to_owned())));
    }

    #[tokio::test]
    async fn a_worker_that_crashes_is_begun_again_and_seen_while_it_waits() {
        let workers = Workers::default();
        let worker = workers.get("mail", Concern::Delivery);
        let (stop, begun) = (CancellationToken::new(), std::sync::atomic::AtomicU32::new(0));
        let keep = worker.keep(&stop, || async {
            assert!(begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0, "a bad message");
            assert!(workers.standing()[0].stalled());
            worker.goes_on();
            assert!(!workers.standing()[0].stalled());
            stop.cancel();
        });
        keep.await;
        assert_eq!(begun.into_inner(), 2);
        assert_eq!(worker.pass(async { Err::<(), _>(Crashed("x".to_owned())) }).await, Err(PAUSE_FIRST));
        let standing = workers.standing().remove(0);
        assert_eq!((standing.failures, standing.reason.as_deref()), (1, Some("it crashed: x")));
        assert!(Arc::ptr_eq(&worker, &workers.get("mail", Concern::Delivery)));
    }
}
