//! The server: claims the database, catches up, listens, and goes down without losing what it accepted.

mod connections;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppClock, AppError};
use crate::telemetry::metrics;

/// How long consumers may take at the end to show what was accepted; the next start goes on from there in any case.
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
        // Of several processes on one database one does this work for all; it may be this one.
        let background = CancellationToken::new();
        let several = app.options.serving && app.leases.is_some();
        let tasks = if several { app.start(&background) } else { JoinSet::new() };
        if several {
            app.caught_up().await?;
        } else {
            app.settle().await?;
        }
        match &app.clock_kind {
            AppClock::Real if several => {}
            AppClock::Real => {
                app.scheduler.start(&CancellationToken::new()).await.map_err(AppError::from)?;
            }
            AppClock::Simulated(_) => {
                // An application that has lived on since it was opened (the demo) is past that time by now.
                if let Some(to) = app.options.simulated_clock.filter(|to| *to > app.clock.now()) {
                    app.advance_clock(to).await?;
                }
            }
        }
        if several {
            app.caught_up().await?;
        } else {
            app.settle().await?;
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
            let limits = self.app.options.limits.clone();
            tasks.spawn(async move { connections::serve(listener, router, &limits, stop).await });
        }
        let (signal, stopping, end) = (stop.clone(), self.app.stopping.clone(), CancellationToken::new());
        let ends = end.clone();
        tasks.spawn(async move {
            signal.cancelled().await;
            // Endless answers end by themselves before the rest is waited for.
            stopping.cancel();
            ends.cancel();
        });
        connections::serve(self.listener, router, &self.app.options.limits, end).await;
        self.app.publisher.at_rest().await;
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
