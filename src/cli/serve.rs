//! `sluice serve`: the server.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::Globals;
use super::output::Out;
use super::session::{CliError, config_of};
use crate::app::{App, AppOptions};
use crate::config::ConfigError;
use crate::http::{self, ApiState};
use crate::serve::{ServeError, Server, asked_to_end};

/// Options of `serve`.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "these are help texts")]
pub(super) struct Options {
    /// Where to listen; port 0 = any free one [env: SLUICE_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

/// Serves until the process is asked to end. Prints one line on standard output when requests are accepted.
pub(super) async fn run(globals: &Globals, options: Options, _: &Out) -> Result<(), CliError> {
    let config = config_of(globals, options.listen.as_ref())?;
    crate::telemetry::start(&config.log).map_err(|error| ConfigError::Value(format!("log.level: {error}")))?;
    let app_options = AppOptions { serving: true, ..config.app_options()? };
    let _claim = App::claim_beside_others(&app_options.database).await?;
    let app = App::open(app_options).await?;
    let _clock = app.claim_clock().await?;
    let server = Server::start(Arc::clone(&app), config.listen).await.map_err(failed)?;
    announce(server.address())?;
    serve(app, server).await
}

/// The one line that says that requests are accepted.
pub(super) fn announce(address: SocketAddr) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{address}")
        .and_then(|()| stdout.flush())
        .map_err(|error| CliError::because("standard output is closed", error))
}

/// Answers requests until the process is asked to end.
pub(super) async fn serve(app: Arc<App>, server: Server) -> Result<(), CliError> {
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        asked_to_end().await;
        tracing::info!("asked to end: finishing what has begun");
        signal.cancel();
    });
    server.run(http::router(ApiState::new(app)), stop).await.map_err(failed)
}

pub(super) fn failed(error: ServeError) -> CliError {
    match error {
        ServeError::App(error) => CliError::App(error),
        listen @ ServeError::Listen { .. } => CliError::because("the server cannot go on", listen),
    }
}
