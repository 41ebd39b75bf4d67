//! Decides a command on one allocation: first what the command itself says, then what follows from it for the policies,
//! the restrictions and the agent, all as one list of events for one append.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::book::Book;
use super::command::{AllocationCommand, DecideContext, DispatchRecord, Refusal};
use super::consequences;
use super::desk::Desk;
use super::results;
use crate::domain::decimal;
use crate::domain::evaluate::Trigger;
use crate::domain::ids::{EventId, UserId};
use crate::domain::period::{Month, site_date};
use crate::domain::small_map::SmallMap;
use crate::domain::tres::Amounts;
use crate::events::allocation::{
    AllocationEvent, HoldPlaced, HoldReleased, LimitsChanged, ReportedAmount, ResourceDetailsChanged, ResourceFacts,
    ResourceRegistered, ResourceState, ResourceStateChanged, UsageReported, UserUsageReported,
};
use crate::events::notice::{Notice, NoticeFailed, NoticeResent, NoticeSent};

/// What was decided: events to append, none if the command changes nothing, and the book as it will be.
#[derive(Debug)]
pub struct Decision {
    /// Events with their ids, in order.
    pub events: Vec<(EventId, AllocationEvent)>,
    /// The book with them.
    pub book: Book,
}

/// Decides the registration of a resource that has no book yet.
pub fn register(facts: &ResourceFacts, month: Month, ctx: &DecideContext<'_>) -> Result<Decision, Refusal> {
    check_amounts(&facts.limits, ctx)?;
    let id = EventId::from(ctx.ids.fresh());
    let event = AllocationEvent::ResourceRegistered(Box::new(ResourceRegistered { facts: facts.clone() }));
    let book = Book::begin(month, &event).map_err(|_| Refusal::Missing)?;
    let mut desk = Desk::beginning(book, id, event, ctx);
    consequences::follow(&mut desk, None, Trigger::ResourceChanged)?;
    Ok(desk.finish())
}

/// Decides any other command on an open book.
pub fn decide(book: Book, command: &AllocationCommand, ctx: &DecideContext<'_>) -> Result<Decision, Refusal> {
    // Opened and nothing more: the policies have not looked at the new month yet.
    let just_opened = book.continues.is_some() && book.version == 1;
    let mut desk = Desk::new(book, ctx);
    match command {
        AllocationCommand::Register(_) => return Err(Refusal::Exists),
        AllocationCommand::ChangeLimits(limits) => change_limits(&mut desk, limits)?,
        AllocationCommand::ChangeDetails { name, backend_id } => {
            change_details(&mut desk, name.as_deref(), backend_id.as_deref())?;
        }
        AllocationCommand::ChangeState(state) => change_state(&mut desk, *state)?,
        AllocationCommand::ReportUsage { month, amounts } => report_usage(&mut desk, *month, amounts)?,
        AllocationCommand::ReportUserUsage { month, component, amounts } => {
            report_user_usage(&mut desk, *month, component, amounts)?;
        }
        AllocationCommand::Evaluate { policy, trigger } => consequences::follow(&mut desk, *policy, *trigger)?,
        AllocationCommand::PlaceHold { hold, kind, reason, ticket, expires_at } => {
            if let Some(expires_at) = expires_at.filter(|end| *end <= ctx.now) {
                return Err(Refusal::HoldInThePast { expires_at });
            }
            live(&desk)?;
            if desk.book.holds.iter().any(|h| h.hold == *hold) {
                return Ok(desk.finish());
            }
            desk.push(AllocationEvent::HoldPlaced(HoldPlaced {
                hold: *hold,
                kind: *kind,
                reason: reason.clone(),
                ticket: ticket.clone(),
                expires_at: *expires_at,
                placed_at: ctx.now,
            }));
            consequences::follow(&mut desk, None, Trigger::HoldChanged)?;
        }
        AllocationCommand::ReleaseHold { hold, expired } => {
            if !desk.book.holds.iter().any(|h| h.hold == *hold) {
                return Err(Refusal::NoSuchHold(*hold));
            }
            desk.push(AllocationEvent::HoldReleased(HoldReleased { hold: *hold, expired: *expired }));
            consequences::follow(&mut desk, None, Trigger::HoldChanged)?;
        }
        AllocationCommand::ResetRawUsage => {
            live(&desk)?;
            if ctx.policies.is_empty() {
                return Err(Refusal::NoPolicy);
            }
            desk.force_reset = true;
            consequences::follow(&mut desk, None, Trigger::Requested)?;
        }
        AllocationCommand::ReportCommandResult { policy, dispatch, report } => {
            results::report_command_result(&mut desk, *policy, *dispatch, report);
        }
        AllocationCommand::ConfirmQos { qos } => results::confirm_qos(&mut desk, qos),
        AllocationCommand::EchoLimits(limits) => results::echo_limits(&mut desk, limits),
        AllocationCommand::NoteSync => results::note_sync(&mut desk),
        AllocationCommand::RecordNotice { notice, error } => record_notice(&mut desk, notice, error.as_deref()),
        AllocationCommand::ResendNotice(notice) => {
            desk.push(AllocationEvent::NoticeResent(NoticeResent { notice: (**notice).clone() }));
        }
        AllocationCommand::RecordDispatch(record) => record_dispatch(&mut desk, record),
    }
    if just_opened && !desk.is_untouched() && !desk.has_evaluated() {
        // Whoever opens a month's book begins the month with it; the boundary's own run passes over opened books.
        consequences::follow(&mut desk, None, Trigger::PeriodBoundary)?;
    }
    Ok(desk.finish())
}

fn record_notice(desk: &mut Desk<'_>, notice: &Notice, error: Option<&str>) {
    let notice = notice.clone();
    desk.push(match error {
        None => AllocationEvent::NoticeSent(NoticeSent { notice }),
        Some(error) => AllocationEvent::NoticeFailed(NoticeFailed { notice, error: error.to_owned() }),
    });
}

fn record_dispatch(desk: &mut Desk<'_>, record: &DispatchRecord) {
    desk.push(match record {
        DispatchRecord::Sent(sent) => AllocationEvent::StompMessageSent(sent.clone()),
        DispatchRecord::Failed(failed) => AllocationEvent::StompMessageFailed(failed.clone()),
        DispatchRecord::Unanswered(unanswered) => AllocationEvent::DispatchUnanswered(unanswered.clone()),
        DispatchRecord::ResendRequested(requested) => AllocationEvent::DispatchResendRequested(requested.clone()),
        DispatchRecord::RestrictionResendRequested(requested) => {
            AllocationEvent::RestrictionResendRequested(requested.clone())
        }
    });
}

fn live(desk: &Desk<'_>) -> Result<(), Refusal> {
    let state = desk.book.facts.state;
    if state.is_live() { Ok(()) } else { Err(Refusal::NotLive(state.as_str())) }
}

fn check_amounts(amounts: &Amounts, ctx: &DecideContext<'_>) -> Result<(), Refusal> {
    for (component, amount) in amounts {
        if !ctx.offering.facts.components.iter().any(|c| c.component_type == *component) {
            let known: Vec<&str> = ctx.offering.facts.components.iter().map(|c| c.component_type.as_str()).collect();
            return Err(Refusal::UnknownComponent { component: component.clone(), known: known.join(", ") });
        }
        check_amount(component, *amount)?;
    }
    Ok(())
}

fn check_amount(component: &str, amount: Decimal) -> Result<(), Refusal> {
    match decimal::complaint(amount, Decimal::ZERO, decimal::MAX_AMOUNT) {
        Some(complaint) => Err(Refusal::AmountOutOfRange { component: component.to_owned(), complaint }),
        None => Ok(()),
    }
}

fn change_limits(desk: &mut Desk<'_>, limits: &Amounts) -> Result<(), Refusal> {
    live(desk)?;
    check_amounts(limits, desk.ctx)?;
    if *limits == desk.book.facts.limits {
        return Ok(());
    }
    let previous = desk.book.facts.limits.clone();
    desk.push(AllocationEvent::LimitsChanged(LimitsChanged { limits: limits.clone(), previous }));
    consequences::follow(desk, None, Trigger::LimitsChanged)
}

fn change_details(desk: &mut Desk<'_>, name: Option<&str>, backend_id: Option<&str>) -> Result<(), Refusal> {
    let facts = &desk.book.facts;
    let changed = ResourceDetailsChanged {
        name: name.unwrap_or(&facts.name).to_owned(),
        backend_id: backend_id.unwrap_or(&facts.backend_id).to_owned(),
    };
    if changed.name == facts.name && changed.backend_id == facts.backend_id {
        return Ok(());
    }
    let account_before = facts.account().to_owned();
    desk.push(AllocationEvent::ResourceDetailsChanged(changed));
    if desk.book.facts.account() != account_before {
        // Another SLURM account knows nothing of what the former one was told.
        desk.forget_commanded = true;
        consequences::follow(desk, None, Trigger::ResourceChanged)?;
    }
    Ok(())
}

fn change_state(desk: &mut Desk<'_>, to: ResourceState) -> Result<(), Refusal> {
    let from = desk.book.facts.state;
    if from == to {
        return Ok(());
    }
    if from == ResourceState::Terminated {
        return Err(Refusal::NotLive(from.as_str()));
    }
    desk.push(AllocationEvent::ResourceStateChanged(ResourceStateChanged { from, to }));
    if from.is_live() == to.is_live() && from.takes_settings() == to.takes_settings() {
        return Ok(());
    }
    consequences::follow(desk, None, Trigger::ResourceChanged)
}

fn begun(month: Month, ctx: &DecideContext<'_>) -> Result<(), Refusal> {
    if month > ctx.month() {
        return Err(Refusal::FutureMonth { month, today: site_date(ctx.now, ctx.rules.zone) });
    }
    Ok(())
}

fn report_usage(desk: &mut Desk<'_>, month: Month, amounts: &Amounts) -> Result<(), Refusal> {
    begun(month, desk.ctx)?;
    check_amounts(amounts, desk.ctx)?;
    let mut changed = SmallMap::new();
    let mut restated = false;
    for (component, amount) in amounts {
        let previous = desk.book.amount(month, component);
        if previous == Some(*amount) {
            continue;
        }
        restated |= previous.is_some_and(|p| *amount < p || month < desk.ctx.month());
        changed.insert(component.clone(), ReportedAmount { amount: amount.normalize(), previous });
    }
    if changed.is_empty() {
        return Ok(());
    }
    desk.push(AllocationEvent::UsageReported(UsageReported { month, amounts: changed, restated }));
    consequences::follow(desk, None, Trigger::UsageReported)
}

fn report_user_usage(
    desk: &mut Desk<'_>,
    month: Month,
    component: &str,
    amounts: &BTreeMap<UserId, Decimal>,
) -> Result<(), Refusal> {
    begun(month, desk.ctx)?;
    for amount in amounts.values() {
        check_amounts(&Amounts::from([(component.to_owned(), *amount)]), desk.ctx)?;
    }
    if !amounts.is_empty() {
        desk.push(AllocationEvent::UserUsageReported(UserUsageReported {
            month,
            component: component.to_owned(),
            amounts: amounts.clone(),
        }));
    }
    Ok(())
}
