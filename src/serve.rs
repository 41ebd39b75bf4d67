//! The server: claims the database, catches up, listens, and goes down without losing what it accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppClock, AppError};

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
    /// Serving failed.
    #[error("serving failed")]
    Serve(#[source] std::io::Error),
}

/// A server that listens; nothing is answered before [`Server::run`].
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Brings the read side up to date, runs what was missed while nobody served, and listens. Port 0 takes any free one.
    pub async fn start(app: Arc<App>, listen: SocketAddr) -> Result<Self, ServeError> {
        app.settle().await?;
        match &app.clock_kind {
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
        app.settle().await?;
        let failed = |source| ServeError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { app, listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`; then finishes those that have begun, lets the read side catch up, and ends.
    pub async fn run(self, router: Router, stop: CancellationToken) -> Result<(), ServeError> {
        let background = CancellationToken::new();
        let mut tasks = self.app.start(&background);
        let (signal, stopping) = (stop.clone(), self.app.stopping.clone());
        let served = axum::serve(self.listener, router)
            .with_graceful_shutdown(async move {
                signal.cancelled().await;
                stopping.cancel();
            })
            .await
            .map_err(ServeError::Serve);
        if let Ok(head) = self.app.store.head().await
            && !self.app.consumers.wait_for(head, &[], DRAIN_WITHIN).await
        {
            tracing::warn!("the read side is behind the log; the next start goes on from there");
        }
        background.cancel();
        while tasks.join_next().await.is_some() {}
        served
    }
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
