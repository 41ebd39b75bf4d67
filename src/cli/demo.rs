//! `sluice demo`: two quarters and a half of a small cluster in a minute.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;

use super::Globals;
use super::output::Out;
use super::serve::{failed, serve, when_asked_to_end};
use super::session::{CliError, config_of};
use super::table::Folding;
use crate::app::App;
use crate::clock::IdSource;
use crate::config::{ConfigError, LogConfig};
use crate::demo::{self, DemoError};
use crate::serve::Server;

/// Options of `demo`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen; port 0 = any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: String,
    /// Stop at the end of the story, instead of serving the API
    #[arg(long)]
    exit: bool,
}

/// Tells the story on a fresh database in a temporary folder, then serves it; the folder goes at the end.
pub(super) async fn run(globals: &Globals, options: Options, _: &Out) -> Result<(), CliError> {
    let config = config_of(globals, Some(&options.listen))?;
    let quiet = LogConfig { level: "warn".to_owned(), ..config.log.clone() };
    crate::telemetry::start(&quiet).map_err(|error| ConfigError::Value(format!("log.level: {error}")))?;
    let folder = std::env::temp_dir().join(format!("sluice-demo-{}", IdSource.fresh().as_simple()));
    let told = tell(&folder, &config, &options).await;
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::warn!(%error, folder = %folder.display(), "the demo's folder cannot be removed");
    }
    told
}

async fn tell(folder: &std::path::Path, config: &crate::config::Config, options: &Options) -> Result<(), CliError> {
    let stopped = |error: DemoError| CliError::because("the demo stopped", error);
    let colour = std::io::stdout().is_terminal();
    // Not locked: the server prints nothing, and the story is told by one task.
    let mut out = std::io::stdout();
    let mut story = Folding::new(&mut out, super::table::width());
    let app: Arc<App> = demo::play(folder, &mut story, colour).await.map_err(stopped)?;
    if options.exit {
        return Ok(());
    }
    let server = Server::start(Arc::clone(&app), config.listen).await.map_err(failed)?;
    demo::invite(&app, server.address(), &mut out).await.map_err(stopped)?;
    serve(app, server, when_asked_to_end()).await
}
