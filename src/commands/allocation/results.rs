//! Matching what an agent reports to the dispatch it answers.
//!
//! The agent gives no dispatch id of its own, does not retry, and may report twice; so a report is matched by order and by
//! whether it ran the raw-usage reset, and what matches nothing is kept.

use chrono::TimeDelta;

use super::desk::Desk;
use crate::domain::agreement::{differences, limits_agree};
use crate::domain::ids::{DispatchId, PolicyId};
use crate::domain::qos::QosClass;
use crate::domain::tres::Amounts;
use crate::events::allocation::{
    AllocationEvent, CommandReport, CommandResultReported, CommandResultUnmatched, DispatchState, OpenDispatch,
};
use crate::events::site_answer::{LimitsEchoed, QosConfirmed, ResourceSynced};

/// How much later the agent must have looked after an account for that to be news: at its start and with every message it
/// goes over the same accounts again.
const SYNC_STEP: TimeDelta = TimeDelta::minutes(10);

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
        Some(dispatch) => {
            let differences = differing(desk, dispatch, &report);
            AllocationEvent::CommandResultReported(CommandResultReported { dispatch, policy, report, differences })
        }
        None => AllocationEvent::CommandResultUnmatched(CommandResultUnmatched { policy, report }),
    };
    desk.push(event);
}

/// Where the report differs from what was meant. Of a dispatch that a newer one has replaced nothing is known any more.
fn differing(desk: &Desk<'_>, dispatch: DispatchId, report: &CommandReport) -> Vec<String> {
    let account = desk.book.facts.account();
    match desk.book.commanded.as_deref().filter(|commanded| commanded.dispatch == dispatch) {
        Some(newest) => differences(account, &newest.settings, &report.commands_executed, report.success),
        None => Vec::new(),
    }
}

/// Records which class of service the account has, unless that is known already and nobody asked: after a message about
/// restrictions the same answer is news, since it tells that the message was not lost.
pub fn confirm_qos(desk: &mut Desk<'_>, qos: &str) {
    let flags = desk.book.flags;
    let expected = desk.ctx.offering.facts.qos.of(QosClass::of(flags.paused, flags.downscaled)).to_owned();
    let known = desk.book.answers.qos.as_ref();
    if desk.book.answers.asked || known.is_none_or(|known| known.qos != qos || known.expected != expected) {
        desk.push(AllocationEvent::QosConfirmed(QosConfirmed { qos: qos.to_owned(), expected, at: desk.ctx.now }));
    }
}

/// Records that the agent came to the end of looking after the account, unless that is known to be so since a short while.
pub fn note_sync(desk: &mut Desk<'_>) {
    let now = desk.ctx.now;
    if desk.book.answers.synced_at.is_none_or(|last| now - last >= SYNC_STEP) {
        desk.push(AllocationEvent::ResourceSynced(ResourceSynced { at: now }));
    }
}

/// Records limits that were read back, unless they are known already. What is ordered stays as it is.
pub fn echo_limits(desk: &mut Desk<'_>, limits: &Amounts) {
    let ordered = &desk.book.facts.limits;
    let sent = desk.book.commanded.as_deref().map(|commanded| &commanded.settings.limits);
    let agrees = sent.is_none_or(|sent| limits_agree(limits, sent, &desk.ctx.offering.mapping));
    let known = desk.book.answers.limits.as_ref();
    if known.is_none_or(|known| known.limits != *limits || known.ordered != *ordered || known.agrees != agrees) {
        let echoed = LimitsEchoed { limits: limits.clone(), ordered: ordered.clone(), agrees, at: desk.ctx.now };
        desk.push(AllocationEvent::LimitsEchoed(echoed));
    }
}
