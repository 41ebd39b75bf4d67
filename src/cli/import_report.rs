//! Turns a plan into usage reports: the oldest month first, one batch at a time.

use super::import_plan::{Plan, Wanted};
use super::output::Out;
use super::session::{CliError, Session};
use crate::commands::allocation::{AllocationCommand, UsageReport};

/// Reports that are carried out together.
const BATCH: usize = 500;

/// Reports the totals of the plan.
pub(super) async fn carry_out(plan: &Plan, session: &Session, out: &Out) -> Result<(), CliError> {
    let meta = session.meta();
    let bar = out.progress(plan.wanted.len() as u64, "reporting");
    // A batch takes each resource once, so it never spans two months.
    for some in plan.wanted.chunk_by(|one, other| one.month == other.month).flat_map(|month| month.chunks(BATCH)) {
        let commands: Vec<_> = some.iter().map(|wanted| (wanted.resource, command(wanted))).collect();
        for (wanted, outcome) in some.iter().zip(session.app.allocations.execute_many(&commands, &meta).await) {
            outcome.map_err(|error| {
                let (account, month) = (&wanted.account, wanted.month);
                let what = format!("{account} in {month} could not be reported; run the import again to go on");
                CliError::because(what, error)
            })?;
        }
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn command(wanted: &Wanted) -> AllocationCommand {
    let report = UsageReport::new(wanted.month, wanted.amounts.clone());
    AllocationCommand::ReportUsage(match wanted.measured_at {
        Some(at) => report.measured_at(at),
        None => report,
    })
}
