//! `sluice settings show|set`: site settings that may change while the service runs.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::output::Out;
use super::session::{CliError, Session};
use crate::commands::execute::CommandMeta;
use crate::site_settings::SettingsError;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the settings in force
    Show,
    /// Change one; a running server takes it over
    Set(Set),
}

/// Options of `settings set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// Its name, as shown
    name: String,
    /// Its new value
    value: String,
    /// Reason, recorded with the change
    #[arg(long, value_parser = super::hold::reason)]
    reason: Option<String>,
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    if let Command::Set(options) = command {
        set(session, options).await?;
    }
    let settings = session.app.settings.current().to_json();
    out.json(&settings);
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    out.table(["setting", "value"], settings.iter().map(|(name, value)| [name.clone(), shown(value)]).collect());
    Ok(())
}

async fn set(session: &Session, options: Set) -> Result<(), CliError> {
    // Numbers and truth values are written as they are; everything else is a word.
    let value = serde_json::from_str(&options.value).unwrap_or(Value::String(options.value));
    let wanted: Map<String, Value> = [(options.name, value)].into_iter().collect();
    let meta = CommandMeta { reason: options.reason.map(Into::into), ..session.meta() };
    match session.app.settings.change(&wanted, &meta).await {
        Ok(_) => {}
        Err(SettingsError::Invalid(errors)) => {
            let each = errors.0.iter().map(|(name, messages)| format!("{name}: {}", messages.join(" ")));
            return Err(CliError::Failed(each.collect::<Vec<_>>().join("; ")));
        }
        Err(error) => return Err(CliError::because("the setting could not be changed", error)),
    }
    session.app.reload_settings().await?;
    session.settle().await
}
