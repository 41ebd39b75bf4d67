//! `sluice doctor`: reports what is wrong, and what to do about it.

use clap::Args;
use serde_json::json;

use super::Globals;
use super::output::{Out, count};
use super::session::{CliError, config_of};
use crate::doctor::{DoctorOptions, Finding, State, examine};

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Do not read every page of the database (quick on a large one)
    #[arg(long, alias = "skip_integrity")]
    skip_integrity: bool,
    /// Read every event of the log, not only the newest and some of the others
    #[arg(long, conflicts_with = "skip_integrity")]
    deep: bool,
    /// Do not connect to the mail server, webhooks and the running server
    #[arg(long)]
    offline: bool,
}

/// Prints all findings; fails if one is trouble.
pub(super) async fn run(globals: &Globals, options: &Options, out: &Out) -> Result<(), CliError> {
    let found = match config_of(globals, None) {
        Err(error) => vec![Finding::trouble(
            "configuration",
            error.to_string(),
            "correct it; docs/config/sluice.toml has every setting",
        )],
        Ok(config) => {
            let options =
                DoctorOptions { integrity: !options.skip_integrity, deep: options.deep, network: !options.offline };
            examine(&config, options).await
        }
    };
    let troubles = found.iter().filter(|finding| finding.state == State::Trouble).count();
    let warnings = found.iter().filter(|finding| finding.state == State::Warning).count();
    out.json(&json!({"healthy": troubles == 0, "troubles": troubles, "warnings": warnings, "findings": found}));
    let rows = found.iter().map(|f| [f.area.to_owned(), f.state.as_str().to_owned(), f.what.clone()]);
    out.table(["about", "state", "what was found"], rows.collect());
    let mut worst: Vec<&Finding> = found.iter().filter(|finding| finding.fix.is_some()).collect();
    worst.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    if !worst.is_empty() {
        out.text("\nwhat to do");
    }
    for finding in worst {
        out.prose(format!(
            "  {} ({}): {}",
            finding.area,
            finding.state.as_str(),
            finding.fix.as_deref().unwrap_or_default()
        ));
    }
    if troubles == 0 {
        out.text(format!("\nno trouble; {}", count(warnings, "thing is worth a look", "things are worth a look")));
        return Ok(());
    }
    Err(CliError::Failed(count(troubles, "thing is in trouble", "things are in trouble")))
}
