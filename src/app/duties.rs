//! The background: what every process does for itself, and the duties that one process at a time does.
//!
//! The duties talk to each other through memory (who wakes whom, who waits for whom), so all of them go with one lease.

use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{App, AppClock, LEADER};
use crate::telemetry::metrics;

/// Something that goes on until it is told to stop.
type Duty = Pin<Box<dyn Future<Output = ()> + Send>>;

impl App {
    /// Starts what follows the log and the clock. The tasks end when `stop` is cancelled.
    pub fn start(self: &Arc<Self>, stop: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (follower, ends) = (Arc::clone(&self.follower), stop.clone());
        tasks.spawn(async move { follower.run(ends).await });
        let (app, rest) = (Arc::clone(self), stop.clone());
        tasks.spawn(async move { app.rest_when_idle(rest).await });
        if self.options.metrics.wanted() {
            let stop = stop.clone();
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    metrics::upkeep();
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(metrics::UPKEEP_EVERY) => {} }
                }
            });
        }
        let Some(leases) = self.leases.clone() else {
            self.duties(stop).into_iter().for_each(|duty| drop(tasks.spawn(duty)));
            return tasks;
        };
        let (consumers, ends) = (Arc::clone(&self.consumers), stop.clone());
        tasks.spawn(async move { consumers.follow(ends).await });
        if let Some(broker) = self.builtin_broker.clone() {
            let ends = stop.clone();
            tasks.spawn(async move { broker.beside_others(ends).await });
        }
        let (app, ends) = (Arc::clone(self), stop.clone());
        tasks.spawn(async move {
            let work = |fence: crate::store::lease::Fence, stop: CancellationToken| {
                let app = Arc::clone(&app);
                async move {
                    // What the fence covers must not leave its task, so each duty gets it anew.
                    let mut duties = JoinSet::new();
                    app.duties(&stop).into_iter().for_each(|duty| drop(duties.spawn(fence.clone().scope(duty))));
                    while duties.join_next().await.is_some() {}
                }
            };
            leases.lead(LEADER, &ends, work).await;
        });
        tasks
    }

    /// What one process at a time does.
    fn duties(self: &Arc<Self>, stop: &CancellationToken) -> Vec<Duty> {
        let mut duties: Vec<Duty> = Vec::new();
        let (notifier, ends) = (Arc::clone(&self.notifier), stop.clone());
        duties.push(Box::pin(async move { notifier.run(ends).await }));
        // No message is handed over any more once the server goes down.
        let publishing = stop.child_token();
        let (publisher, ends) = (Arc::clone(&self.publisher), publishing.clone());
        duties.push(Box::pin(async move { publisher.run(ends).await }));
        let stopping = self.stopping.clone();
        duties.push(Box::pin(async move {
            tokio::select! { () = stopping.cancelled() => publishing.cancel(), () = publishing.cancelled() => {} }
        }));
        let (consumers, ends) = (Arc::clone(&self.consumers), stop.clone());
        duties.push(Box::pin(async move { consumers.run(ends).await }));
        let (reactions, ends) = (Arc::clone(&self.reactions), stop.clone());
        duties.push(Box::pin(async move { reactions.run(ends).await }));
        if matches!(self.clock_kind, AppClock::Real) {
            let (app, ends) = (Arc::clone(self), stop.clone());
            duties.push(Box::pin(async move { app.schedule(ends).await }));
        }
        duties
    }

    /// Runs jobs when they are due. Whoever takes this over from another process marks what that one left unfinished.
    async fn schedule(&self, stop: CancellationToken) {
        if self.leases.is_some()
            && let Err(error) = self.scheduler.take_over().await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "unfinished runs are not marked");
        }
        self.scheduler.run(stop).await;
    }
}
