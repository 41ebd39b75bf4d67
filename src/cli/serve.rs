//! `sluice serve`: the server.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::login_link::{FIRST_LINK, first_link};
use super::output::Out;
use super::session::{CliError, config_of};
use super::{Globals, database};
use crate::app::{App, AppOptions, ServeClaim};
use crate::config::{Config, ConfigError};
use crate::http::{self, ApiState};
use crate::serve::{ServeError, Server, asked_to_end};
use crate::store::address::Database;
use crate::store::private;
use crate::store::sqlite::DatabaseFiles;

/// Options of `serve`.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "these are help texts")]
pub(super) struct Options {
    /// Where to listen; port 0 = any free one [env: SLUICE_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

/// Serves until the process is asked to end. Prints one line on standard output when requests are accepted.
pub(super) async fn run(globals: &Globals, options: Options, out: &Out) -> Result<(), CliError> {
    let config = config_of(globals, options.listen.as_ref())?;
    crate::telemetry::start(&config.log).map_err(|error| ConfigError::Value(format!("log.level: {error}")))?;
    // From the beginning: the first process of a container gets no signal that it does not ask for.
    let stop = when_asked_to_end();
    let started = tokio::select! {
        started = start(&config, out) => started?,
        () = stop.cancelled() => {
            // What was under way is as after a kill: the next start goes on from there.
            tracing::info!("asked to end before requests were accepted");
            return Ok(());
        }
    };
    serve(started.app, started.server, stop).await
}

/// A server that listens, and what it holds as long as it runs.
struct Started {
    app: Arc<App>,
    server: Server,
    _clock: Option<ServeClaim>,
    _database: ServeClaim,
}

/// Waits for the stores, opens the database, and listens.
async fn start(config: &Config, out: &Out) -> Result<Started, CliError> {
    let app_options = AppOptions { serving: true, ..config.app_options()? };
    Box::pin(App::wait_for_stores(&app_options, Duration::from_secs(config.store_wait.into()))).await?;
    let database = App::claim_beside_others(&app_options.database).await?;
    say_what_is_open_to_others(&app_options.database);
    let new = !App::is_made(&app_options).await?;
    let app = App::open(app_options).await?;
    if new {
        database::made(config, &app.options.database, out);
    }
    let clock = app.claim_clock().await?;
    let server = Server::start(Arc::clone(&app), config.listen).await.map_err(failed)?;
    app.listens_at(server.address()).await?;
    announce(server.address())?;
    if new {
        first_way_in(&app, server.address(), out).await?;
    }
    Ok(Started { app, server, _clock: clock, _database: database })
}

/// Says in the log which files of a database others may use. They may have been made by hand, or by an older version.
fn say_what_is_open_to_others(database: &Database) {
    let Some(log) = database.file() else { return };
    for (what, fix) in private::remarks(&private::exposed(DatabaseFiles::of(log).owned())) {
        tracing::warn!(fix, "{what}");
    }
}

/// Says how to sign in to a service that is new. The link is a key: it is shown to somebody who sits there, and never
/// written to where a service's output is kept.
async fn first_way_in(app: &App, address: SocketAddr, out: &Out) -> Result<(), CliError> {
    if std::io::stderr().is_terminal() {
        let link = first_link(app, address).await;
        let link =
            link.map_err(|error| CliError::because("the link for the first sign-in could not be made", error))?;
        let minutes = FIRST_LINK.num_minutes();
        out.remark(format!("sign in as staff, once, within {minutes} minutes: {link}"));
    } else {
        out.remark("`sluice login-link` prints a link that signs in to the web interface");
    }
    Ok(())
}

/// Prints the one line that announces that requests are accepted.
pub(super) fn announce(address: SocketAddr) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{address}")
        .and_then(|()| stdout.flush())
        .map_err(|error| CliError::because("standard output is closed", error))
}

/// What is cancelled when the process is asked to end.
pub(super) fn when_asked_to_end() -> CancellationToken {
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        asked_to_end().await;
        signal.cancel();
    });
    stop
}

/// Answers requests until the process is asked to end.
pub(super) async fn serve(app: Arc<App>, server: Server, stop: CancellationToken) -> Result<(), CliError> {
    let asked = stop.clone();
    tokio::spawn(async move {
        asked.cancelled().await;
        tracing::info!("asked to end: finishing what has begun");
    });
    server.run(http::router(ApiState::new(app)), stop).await.map_err(failed)
}

pub(super) fn failed(error: ServeError) -> CliError {
    match error {
        ServeError::App(error) => error.into(),
        listen @ ServeError::Listen { .. } => CliError::because("the server cannot go on", listen),
    }
}
