//! Logs to standard error, for people or for programs, as configured; and metrics.

pub mod metrics;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// The client of the event store.
const CLIENT: &str = "kurrentdb";

/// Starts logging for the rest of the process. Where somebody has started it already, theirs stays.
///
/// # Errors
/// The level is neither a level nor a list of directives.
pub fn start(config: &LogConfig) -> Result<(), tracing_subscriber::filter::ParseError> {
    let mut filter = EnvFilter::builder().parse(&config.level)?;
    if !config.level.contains(CLIENT) {
        // It says at each attempt what Sluice says once, with the host.
        filter = filter.add_directive(format!("{CLIENT}=off").parse()?);
    }
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
