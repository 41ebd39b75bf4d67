//! Background tasks: those that every process runs for itself, and the duties that only one process runs at a time.
//!
//! The duties communicate through memory (they wake and wait for each other), so a single lease covers all of them.

use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{App, AppClock, LEADER};
use crate::supervise::{Concern, Worker};
use crate::telemetry::metrics;

/// A task that runs until it is told to stop.
type Duty = Pin<Box<dyn Future<Output = ()> + Send>>;

impl App {
    /// Starts what follows the log and the clock. The tasks end when `stop` is cancelled.
    pub fn start(self: &Arc<Self>, stop: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let (follower, worker, ends) =
            (Arc::clone(&self.follower), self.workers.get("registry", Concern::Answers), stop.clone());
        tasks.spawn(async move { worker.keep(&ends, || follower.run(ends.clone(), &worker)).await });
        let (app, worker, ends) = (Arc::clone(self), self.workers.get("rest", Concern::Delivery), stop.clone());
        tasks.spawn(async move { worker.keep(&ends, || app.rest_when_idle(ends.clone())).await });
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
        let worker = self.workers.get("read_models_followed", Concern::Answers);
        tasks.spawn(async move { worker.keep(&ends, || consumers.follow(ends.clone())).await });
        if let Some(broker) = self.builtin_broker.clone() {
            let ends = stop.clone();
            let worker = self.workers.get("broker", Concern::Delivery);
            tasks.spawn(async move { worker.keep(&ends, || broker.beside_others(ends.clone())).await });
        }
        let (app, ends) = (Arc::clone(self), stop.clone());
        tasks.spawn(async move {
            let work = |fence: crate::store::lease::Fence, stop: CancellationToken| {
                let app = Arc::clone(&app);
                async move {
                    // The fence's scope must not leave its task, so each duty enters it separately.
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
        let (notifier, worker, ends) =
            (Arc::clone(&self.notifier), self.workers.get("notices", Concern::Delivery), stop.clone());
        duties.push(Box::pin(async move { worker.keep(&ends, || notifier.run(ends.clone(), &worker)).await }));
        let (webhooks, worker, ends) =
            (Arc::clone(&self.webhooks), self.workers.get("webhooks", Concern::Delivery), stop.clone());
        duties.push(Box::pin(async move { worker.keep(&ends, || webhooks.run(ends.clone(), &worker)).await }));
        // No message is handed over, and nothing is evaluated again, any more once the server goes down.
        let publishing = stop.child_token();
        let (publisher, worker, ends) =
            (Arc::clone(&self.publisher), self.workers.get("messages", Concern::Delivery), publishing.clone());
        duties.push(Box::pin(async move { worker.keep(&ends, || publisher.run(ends.clone(), &worker)).await }));
        let (consumers, worker, ends) =
            (Arc::clone(&self.consumers), self.workers.get("read_models", Concern::Answers), stop.clone());
        duties.push(Box::pin(async move { worker.keep(&ends, || consumers.run(ends.clone())).await }));
        let (reactions, worker, ends) =
            (Arc::clone(&self.reactions), self.workers.get("re_evaluations", Concern::Delivery), publishing.clone());
        duties.push(Box::pin(async move { worker.keep(&ends, || reactions.run(ends.clone(), &worker)).await }));
        let stopping = self.stopping.clone();
        duties.push(Box::pin(async move {
            tokio::select! { () = stopping.cancelled() => publishing.cancel(), () = publishing.cancelled() => {} }
        }));
        if matches!(self.clock_kind, AppClock::Real) {
            let (app, worker, ends) =
                (Arc::clone(self), self.workers.get("scheduler", Concern::Delivery), stop.clone());
            duties.push(Box::pin(async move { worker.keep(&ends, || app.schedule(ends.clone(), &worker)).await }));
        }
        duties
    }

    /// Runs jobs when they are due. A process that takes over from another marks that one's unfinished runs.
    async fn schedule(&self, stop: CancellationToken, worker: &Worker) {
        if self.leases.is_some()
            && let Err(error) = self.scheduler.take_over().await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "unfinished runs are not marked");
        }
        self.scheduler.run(stop, worker).await;
    }
}
