//! Logs: to standard error, for people or for programs, as the configuration says. Metrics beside them.

pub mod metrics;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the rest of the process. Where somebody has started it already, theirs stays.
///
/// # Errors
/// The level is neither a level nor a list of directives.
pub fn start(config: &LogConfig) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(&config.level)?;
    // A journal or a file is not to hold the colours of a terminal.
    let colour = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().with_span_list(false).finish().try_init(),
    };
    // A second start in one process (tests) keeps the first.
    drop(started);
    Ok(())
}
