//! The server: claims the database, catches up, listens, and shuts down without losing accepted requests.

mod connections;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppClock, AppError};
use crate::store::consumer::LoopError;
use crate::store::is_outage;
use crate::supervise::{Concern, isolated};
use crate::telemetry::metrics;

/// How long consumers may take to catch up at shutdown; the next start continues from there in any case.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database.
    #[error(transparent)]
    App(#[from] AppError),
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// A server that listens; nothing is answered before [`Server::run`].
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<TcpListener>,
    background: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    /// Brings the read side up to date, runs what was missed while nobody served, and listens. Port 0 takes any free one.
    pub async fn start(app: Arc<App>, listen: SocketAddr) -> Result<Self, ServeError> {
        if app.options.metrics.wanted() {
            metrics::start();
        }
        if let Err(error) = app.look_at_log().await {
            // An unreadable part stops only its users.
            tracing::error!(error = &error as &dyn std::error::Error, "the log was not looked at");
        }
        // Of several processes on one database one does this work for all; it may be this one.
        let background = CancellationToken::new();
        let several = app.options.serving && app.leases.is_some();
        let tasks = if several { app.start(&background) } else { JoinSet::new() };
        let stands_still = !begin(&app, several).await?;
        match &app.clock_kind {
            AppClock::Real if several => {}
            AppClock::Real => {
                // The worker retries what fails here, and reports that it has stalled.
                let scheduler = app.workers.get("scheduler", Concern::Delivery);
                if scheduler.pass(app.scheduler.start(&CancellationToken::new())).await.is_ok() {
                    scheduler.goes_on();
                }
            }
            AppClock::Simulated(_) => {
                // An application that has lived on since it was opened (the demo) is past that time by now.
                if let Some(to) = app.options.simulated_clock.filter(|to| *to > app.clock.now()) {
                    move_clock(&app, to, several && stands_still).await?;
                }
            }
        }
        // Whoever waits for another process has waited long enough once.
        if !(several && stands_still) {
            begin(&app, several).await?;
        }
        let (listener, address) = bind(listen).await?;
        let metrics = match app.options.metrics.listen {
            None => None,
            Some(listen) => {
                let (listener, address) = bind(listen).await?;
                tracing::info!(%address, "metrics are served, to anybody who reaches this address");
                Some(listener)
            }
        };
        Ok(Self { app, listener, address, metrics, background, tasks })
    }

    /// Where it serves metrics alone, if it does.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`; then finishes those that have begun, lets the read side catch up, and ends.
    pub async fn run(self, router: Router, stop: CancellationToken) -> Result<(), ServeError> {
        let (background, mut tasks) = (self.background, self.tasks);
        if tasks.is_empty() {
            tasks = self.app.start(&background);
        }
        if let Some(listener) = self.metrics {
            let (router, stop) = (crate::http::metrics_router(Arc::clone(&self.app)), background.clone());
            let app = Arc::clone(&self.app);
            tasks.spawn(async move {
                let (limits, proxies) = (&app.options.limits, &app.options.trusted_proxies);
                connections::serve(listener, router, limits, proxies, stop).await;
            });
        }
        let (signal, stopping, end) = (stop.clone(), self.app.stopping.clone(), CancellationToken::new());
        let ends = end.clone();
        tasks.spawn(async move {
            signal.cancelled().await;
            // Endless answers end by themselves before the rest is waited for.
            stopping.cancel();
            ends.cancel();
        });
        let (limits, proxies) = (&self.app.options.limits, &self.app.options.trusted_proxies);
        connections::serve(self.listener, router, limits, proxies, end).await;
        self.app.publisher.at_rest().await;
        self.app.reactions.at_rest().await;
        if let Ok(head) = self.app.store.head().await
            && !self.app.consumers.wait_for(head, &[], DRAIN_WITHIN).await
        {
            tracing::warn!("the read side is behind the log; the next start goes on from there");
        }
        background.cancel();
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

/// Moves the simulated clock, unless it is known already that the read side does not follow.
async fn move_clock(app: &App, to: DateTime<Utc>, stands_still: bool) -> Result<(), ServeError> {
    const NOT_MOVED: &str = "the clock was not moved; PUT /api/simulation/clock/ tries again";
    if stands_still {
        tracing::error!("{NOT_MOVED}");
        return Ok(());
    }
    match app.advance_clock(to).await {
        Err(error) if is_outage(&error) => return Err(error.into()),
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "{NOT_MOVED}"),
        Ok(_) => {}
    }
    Ok(())
}

/// Brings the read side up to date; false if a consumer stands still. What stands still over something that is stored, a value
/// that nobody expected, keeps the server from nothing else: it starts, and says of itself that it is not ready, or degraded.
async fn begin(app: &Arc<App>, several: bool) -> Result<bool, ServeError> {
    let brought = if several { isolated(app.caught_up()).await } else { isolated(app.settle_what_goes_on()).await };
    match brought {
        Ok(Err(error)) if is_outage(&error) => Err(error.into()),
        Ok(Err(AppError::Loop(LoopError::Stalled { name, reason }))) => {
            tracing::error!(consumer = name, %reason, "a consumer stands still; the server starts without it");
            Ok(false)
        }
        Ok(done) => {
            done?;
            Ok(true)
        }
        Err(crashed) => {
            tracing::error!(error = %crashed, "the read side is not up to date; the server starts, and goes on with it");
            Ok(true)
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Resolves when the process is asked to end: SIGTERM, or Ctrl-C.
pub async fn asked_to_end() {
    let interrupt = async {
        // Without a handler the process ends at once, which a crash-safe program survives.
        let _ = tokio::signal::ctrl_c().await;
    };
    #[cfg(unix)]
    {
        if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            tokio::select! {
                () = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    interrupt.await;
}
