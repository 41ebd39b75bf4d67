//! `sluice cleanup_slurm_logs`: prunes rows of the evaluation log and the command history that are older than the setting.

use clap::Args;
use serde_json::json;

use super::output::{Out, time};
use super::session::{CliError, Session};

/// Options of `cleanup_slurm_logs`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Say what would go; change nothing
    #[arg(long, alias = "dry_run")]
    dry_run: bool,
}

pub(super) async fn run(session: &Session, options: &Options, out: &Out) -> Result<(), CliError> {
    session.settle().await?;
    let retention = &session.app.retention;
    let failed = |error| CliError::because("the logs could not be pruned", error);
    let due = retention.dry_run().await.map_err(failed)?;
    let pruned = if options.dry_run {
        due
    } else {
        let bar = out.progress(u64::try_from(due.evaluations + due.dispatches).unwrap_or_default(), "pruning");
        let progress = |p: crate::projections::retention::Pruned| {
            bar.set_position(u64::try_from(p.evaluations + p.dispatches).unwrap_or_default());
        };
        let pruned = retention.clean_up(&session.meta(), progress).await.map_err(failed)?;
        bar.finish_and_clear();
        pruned
    };
    let (days, horizon) = (session.app.settings.current().retention_days, retention.horizon());
    out.json(&json!({
        "dry_run": options.dry_run,
        "retention_days": days,
        "older_than": time(horizon),
        "evaluation_logs": pruned.evaluations,
        "command_dispatches": pruned.dispatches,
    }));
    out.text(format!(
        "{} {} rows of the evaluation log and {} dispatches of the command history older than {} ({days} days)",
        if options.dry_run { "would prune" } else { "pruned" },
        pruned.evaluations,
        pruned.dispatches,
        time(horizon),
    ));
    Ok(())
}
