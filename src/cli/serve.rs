//! `sluice serve`: the server.

use clap::Args;

use super::Globals;
use super::output::Out;
use super::session::{CliError, config_of};

/// Options of `serve`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen; port 0 = any free one [env: SLUICE_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub(super) async fn run(globals: &Globals, options: Options, _: &Out) -> Result<(), CliError> {
    let config = config_of(globals, options.listen.as_ref())?;
    crate::telemetry::start(&config.log)
        .map_err(|error| crate::config::ConfigError::Value(format!("log.level: {error}")))?;
    Err(CliError::Failed(format!("the server is not part of this build yet; it would listen on {}", config.listen)))
}
