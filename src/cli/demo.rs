//! `sluice demo`: two quarters and a half of a small cluster in a minute.

use std::io::IsTerminal;
use std::path::PathBuf;
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
    /// Stop at the end of the story, instead of serving the API; with --data-dir the data stays
    #[arg(long)]
    exit: bool,
}

/// Tells the story on a fresh database, then serves it. Without `--data-dir` the database is removed at the end.
pub(super) async fn run(globals: &Globals, options: Options, _: &Out) -> Result<(), CliError> {
    refuse_what_has_no_place(globals)?;
    let config = config_of(globals, Some(&options.listen))?;
    let quiet = LogConfig { level: "warn".to_owned(), ..config.log.clone() };
    crate::telemetry::start(&quiet).map_err(|error| ConfigError::Value(format!("log.level: {error}")))?;
    // Only the flag counts: a variable may name the data of a real site.
    if let Some(folder) = &globals.data_dir {
        let folder = fresh(folder)?;
        tell(&folder, &config, &options).await?;
        println!("\nIts data is kept, and its clock stands still. To look into it:");
        println!("  export SLUICE_DATA_DIR={}", folder.display());
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("sluice-demo-{}", IdSource.fresh().as_simple()));
    let told = tell(&folder, &config, &options).await;
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::warn!(%error, folder = %folder.display(), "the demo's folder cannot be removed");
    }
    told
}

/// The demo has a database and a clock of its own.
fn refuse_what_has_no_place(globals: &Globals) -> Result<(), CliError> {
    let given = [
        ("--database", globals.database.is_some()),
        ("--event-store", globals.event_store.is_some()),
        ("--simulated-clock", globals.simulated_clock.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(CliError::Usage(format!(
            "{flag} has no effect on the demo, which makes a database and a clock of its own; --data-dir keeps them"
        ))),
        None => Ok(()),
    }
}

/// The folder to keep the demo in; it holds no database yet.
fn fresh(folder: &str) -> Result<PathBuf, CliError> {
    let folder = std::path::absolute(folder).map_err(|error| CliError::because("--data-dir", error))?;
    if folder.join("sluice.db").exists() {
        return Err(CliError::Usage(format!(
            "--data-dir {}: there is a database already; the demo needs a folder without one",
            folder.display()
        )));
    }
    Ok(folder)
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
