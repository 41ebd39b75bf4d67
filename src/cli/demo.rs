//! `sluice demo`: two quarters of a small cluster in a minute.

use clap::Args;

use super::Globals;
use super::output::Out;
use super::session::{CliError, config_of};

/// Options of `demo`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen; port 0 = any free one [env: SLUICE_LISTEN]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: String,
    /// Stop when the story has been told, instead of serving the API
    #[arg(long)]
    exit: bool,
}

pub(super) async fn run(globals: &Globals, options: Options, _: &Out) -> Result<(), CliError> {
    let config = config_of(globals, Some(&options.listen))?;
    let what = if options.exit { "tell its story" } else { "tell its story and serve" };
    Err(CliError::Failed(format!("the demo is not part of this build yet; it would {what} on {}", config.listen)))
}
