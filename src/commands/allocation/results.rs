//! Matching what an agent reports to the dispatch it answers.
//!
//! The agent gives no dispatch id of its own, does not retry, and may report twice; so a report is matched by order and by
//! whether it ran the raw-usage reset, and what matches nothing is kept.

use super::desk::Desk;
use crate::domain::ids::{DispatchId, PolicyId};
use crate::events::allocation::{
    AllocationEvent, CommandReport, CommandResultReported, CommandResultUnmatched, DispatchState, OpenDispatch,
};

/// True if the executed commands contain a raw-usage reset.
pub fn ran_reset(report: &CommandReport) -> bool {
    report.commands_executed.iter().any(|c| c.to_ascii_lowercase().contains("rawusage=0"))
}

/// The dispatch that a report answers: the one it names; else the oldest unanswered one of the policy whose reset agrees
/// (for a failure the oldest unanswered, since it may have stopped before the reset); else, for a success, the newest
/// failed one.
pub fn matching(
    dispatches: &[OpenDispatch],
    policy: PolicyId,
    named: Option<DispatchId>,
    report: &CommandReport,
) -> Option<DispatchId> {
    if let Some(named) = named {
        return dispatches.iter().find(|d| d.dispatch == named && d.policy == policy).map(|d| d.dispatch);
    }
    let own = || dispatches.iter().filter(|d| d.policy == policy);
    let reset = ran_reset(report);
    own()
        .find(|d| d.state == DispatchState::Open && (!report.success || d.reset == reset || d.reset_dropped))
        .or_else(|| if report.success { own().rfind(|d| d.state == DispatchState::Failed) } else { None })
        .map(|d| d.dispatch)
}

/// Records the report on the dispatch it answers, or as an unmatched result.
pub fn report_command_result(desk: &mut Desk<'_>, policy: PolicyId, named: Option<DispatchId>, report: &CommandReport) {
    let report = report.clone();
    let event = match matching(&desk.book.dispatches, policy, named, &report) {
        Some(dispatch) => AllocationEvent::CommandResultReported(CommandResultReported { dispatch, policy, report }),
        None => AllocationEvent::CommandResultUnmatched(CommandResultUnmatched { policy, report }),
    };
    desk.push(event);
}
