//! Matches an agent's report to the dispatch that it answers.
//!
//! The agent sends no dispatch id, does not retry, and may report twice; so reports are matched by order and by whether
//! the agent ran the raw-usage reset, and unmatched reports are kept.

use chrono::TimeDelta;

use super::book::Book;
use super::transition::Transition;
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
    // What a queue is known to have taken comes first; the others come into question because an agent may be quicker than
    // the record of the hand-over.
    let of = |waits: bool| dispatches.iter().filter(move |d| d.policy == policy && d.waits == waits);
    let own = || of(false).chain(of(true));
    let reset = ran_reset(report);
    own()
        .find(|d| d.state == DispatchState::Open && (!report.success || d.reset == reset || d.reset_dropped))
        .or_else(|| if report.success { own().rfind(|d| d.state == DispatchState::Failed) } else { None })
        .map(|d| d.dispatch)
}

impl Book {
    /// The dispatch that an event is about, taken on by what it says.
    pub(super) fn dispatch_after(&mut self, event: &AllocationEvent) -> Option<&mut OpenDispatch> {
        let (dispatch, step) = event.dispatch_step()?;
        let is_newest = self.commanded.as_ref().is_some_and(|newest| newest.dispatch == dispatch);
        let open = self.dispatches.iter_mut().find(|open| open.dispatch == dispatch)?;
        open.take(step, is_newest);
        Some(open)
    }
}

/// Records the report on the dispatch it answers, or as an unmatched result.
pub fn report_command_result(
    transition: &mut Transition<'_>,
    policy: PolicyId,
    named: Option<DispatchId>,
    report: &CommandReport,
) {
    let report = report.clone();
    let event = match matching(&transition.book.dispatches, policy, named, &report) {
        Some(dispatch) => {
            let differences = differing(transition, dispatch, &report);
            AllocationEvent::CommandResultReported(CommandResultReported { dispatch, policy, report, differences })
        }
        None => AllocationEvent::CommandResultUnmatched(CommandResultUnmatched { policy, report }),
    };
    transition.push(event);
}

/// Where the report differs from what was meant. Of a dispatch that a newer one has replaced nothing is known any more.
fn differing(transition: &Transition<'_>, dispatch: DispatchId, report: &CommandReport) -> Vec<String> {
    let account = transition.book.facts.account();
    match transition.book.commanded.as_deref().filter(|commanded| commanded.dispatch == dispatch) {
        Some(newest) => differences(account, &newest.settings, &report.commands_executed, report.success),
        None => Vec::new(),
    }
}

/// Records which class of service the account has, unless that is known already and nobody asked: after a message about
/// restrictions the same answer is news, since it tells that the message was not lost.
pub fn confirm_qos(transition: &mut Transition<'_>, qos: &str) {
    let flags = transition.book.flags;
    let expected = transition.ctx.offering.facts.qos.of(QosClass::of(flags.paused, flags.downscaled)).to_owned();
    let known = transition.book.answers.qos.as_ref();
    if transition.book.answers.asked || known.is_none_or(|known| known.qos != qos || known.expected != expected) {
        transition.push(AllocationEvent::QosConfirmed(QosConfirmed {
            qos: qos.to_owned(),
            expected,
            at: transition.ctx.now,
        }));
    }
}

/// Records that the agent came to the end of looking after the account, unless that is known to be so since a short while.
pub fn note_sync(transition: &mut Transition<'_>) {
    let now = transition.ctx.now;
    if transition.book.answers.synced_at.is_none_or(|last| now - last >= SYNC_STEP) {
        transition.push(AllocationEvent::ResourceSynced(ResourceSynced { at: now }));
    }
}

/// Records limits that were read back, unless they are known already. What is ordered stays as it is.
pub fn echo_limits(transition: &mut Transition<'_>, limits: &Amounts) {
    let ordered = &transition.book.facts.limits;
    let sent = transition.book.commanded.as_deref().map(|commanded| &commanded.settings.limits);
    let agrees = sent.is_none_or(|sent| limits_agree(limits, sent, &transition.ctx.offering.mapping));
    let known = transition.book.answers.limits.as_ref();
    if known.is_none_or(|known| known.limits != *limits || known.ordered != *ordered || known.agrees != agrees) {
        let echoed = LimitsEchoed { limits: limits.clone(), ordered: ordered.clone(), agrees, at: transition.ctx.now };
        transition.push(AllocationEvent::LimitsEchoed(echoed));
    }
}
