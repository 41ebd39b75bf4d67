//! Decides a command on one allocation: first its direct facts, then the consequences for policies, restrictions and
//! the agent, all as one list of events for one append.

use rust_decimal::Decimal;

use super::agent_settings;
use super::book::Book;
use super::command::{AllocationCommand, DecideContext, DispatchRecord, Refusal};
use super::consequences;
use super::results;
use super::transition::Transition;
use super::usage;
use crate::domain::decimal;
use crate::domain::evaluate::Trigger;
use crate::domain::ids::EventId;
use crate::domain::period::Month;
use crate::domain::tres::Amounts;
use crate::events::allocation::{
    AllocationEvent, HoldPlaced, HoldReleased, LimitsChanged, ResourceDetailsChanged, ResourceFacts,
    ResourceRegistered, ResourceState, ResourceStateChanged,
};
use crate::events::envelope::Cause;
use crate::events::notice::{Notice, NoticeFailed, NoticeResent, NoticeSent};

/// What was decided: events to append, none if the command changes nothing, and the book as it will be.
#[derive(Debug)]
pub struct Decision {
    /// Events with their ids, in order.
    pub events: Vec<(EventId, AllocationEvent)>,
    /// What led to each of them.
    pub causes: Vec<Cause>,
    /// The book with them.
    pub book: Book,
}

/// Decides the registration of a resource that has no book yet.
pub fn register(facts: &ResourceFacts, month: Month, ctx: &DecideContext<'_>) -> Result<Decision, Refusal> {
    check_limits(&facts.limits, ctx)?;
    let id = EventId::from(ctx.ids.fresh());
    let event = AllocationEvent::ResourceRegistered(Box::new(ResourceRegistered { facts: facts.clone() }));
    let book = Book::begin(month, &event).map_err(|_| Refusal::Missing)?;
    let mut transition = Transition::beginning(book, id, event, ctx);
    consequences::follow(&mut transition, None, Trigger::ResourceChanged)?;
    Ok(transition.finish())
}

/// Decides any other command on an open book.
pub fn decide(book: Book, command: &AllocationCommand, ctx: &DecideContext<'_>) -> Result<Decision, Refusal> {
    // Opened and nothing more: the policies have not looked at the new month yet.
    let just_opened = book.continues.is_some() && book.version == 1;
    let mut transition = Transition::new(book, ctx);
    match command {
        AllocationCommand::Register(_) => return Err(Refusal::Exists),
        AllocationCommand::ChangeLimits(limits) => change_limits(&mut transition, limits)?,
        AllocationCommand::ChangeDetails { name, backend_id } => {
            change_details(&mut transition, name.as_deref(), backend_id.as_deref())?;
        }
        AllocationCommand::ChangeState(state) => change_state(&mut transition, *state)?,
        AllocationCommand::ReportUsage(report) => usage::report(&mut transition, report)?,
        AllocationCommand::FillMissingUsage => usage::fill_missing(&mut transition)?,
        AllocationCommand::ReportUserUsage { month, component, amounts } => {
            usage::report_of_users(&mut transition, *month, component, amounts)?;
        }
        AllocationCommand::Evaluate { policy, trigger } => consequences::follow(&mut transition, *policy, *trigger)?,
        AllocationCommand::PlaceHold { hold, kind, reason, ticket, expires_at, public } => {
            if let Some(expires_at) = expires_at.filter(|end| *end <= ctx.now) {
                return Err(Refusal::HoldInThePast { expires_at });
            }
            live(&transition)?;
            if transition.book.holds.iter().any(|h| h.hold == *hold) {
                return Ok(transition.finish());
            }
            transition.push(AllocationEvent::HoldPlaced(HoldPlaced {
                hold: *hold,
                kind: *kind,
                reason: reason.clone(),
                ticket: ticket.clone(),
                expires_at: *expires_at,
                placed_at: ctx.now,
                public: *public,
            }));
            consequences::follow(&mut transition, None, Trigger::HoldChanged)?;
        }
        AllocationCommand::ReleaseHold { hold, expired } => {
            if !transition.book.holds.iter().any(|h| h.hold == *hold) {
                return Err(Refusal::NoSuchHold(*hold));
            }
            transition.push(AllocationEvent::HoldReleased(HoldReleased { hold: *hold, expired: *expired }));
            consequences::follow(&mut transition, None, Trigger::HoldChanged)?;
        }
        AllocationCommand::ResetRawUsage => {
            live(&transition)?;
            if ctx.policies.is_empty() {
                return Err(Refusal::NoPolicy);
            }
            transition.force_reset = true;
            consequences::follow(&mut transition, None, Trigger::Requested)?;
        }
        AllocationCommand::ReportCommandResult { policy, dispatch, report } => {
            results::report_command_result(&mut transition, *policy, *dispatch, report);
            agent_settings::again(&mut transition);
        }
        AllocationCommand::ConfirmQos { qos } => results::confirm_qos(&mut transition, qos),
        AllocationCommand::EchoLimits(limits) => results::echo_limits(&mut transition, limits),
        AllocationCommand::NoteSync => results::note_sync(&mut transition),
        AllocationCommand::RecordNotice { notice, error } => record_notice(&mut transition, notice, error.as_deref()),
        AllocationCommand::ResendNotice(notice) => {
            transition.push(AllocationEvent::NoticeResent(NoticeResent { notice: (**notice).clone() }));
        }
        AllocationCommand::RecordDispatch(record) => record_dispatch(&mut transition, record),
        AllocationCommand::RenewSettings => agent_settings::renew(&mut transition)?,
    }
    if just_opened && !transition.is_untouched() && !transition.has_evaluated() {
        // The command that opens a month's book also begins the month; the boundary's own run skips opened books. The
        // command's content is not the cause: an answer to last month's message does not cause the new period.
        transition.begin_anew();
        consequences::follow(&mut transition, None, Trigger::PeriodBoundary)?;
    }
    Ok(transition.finish())
}

fn record_notice(transition: &mut Transition<'_>, notice: &Notice, error: Option<&str>) {
    let notice = notice.clone();
    transition.push(match error {
        None => AllocationEvent::NoticeSent(NoticeSent { notice }),
        Some(error) => AllocationEvent::NoticeFailed(NoticeFailed { notice, error: error.to_owned() }),
    });
}

fn record_dispatch(transition: &mut Transition<'_>, record: &DispatchRecord) {
    transition.push(match record {
        DispatchRecord::Sent(sent) => AllocationEvent::StompMessageSent(sent.clone()),
        DispatchRecord::Failed(failed) => AllocationEvent::StompMessageFailed(failed.clone()),
        DispatchRecord::Unanswered(unanswered) => AllocationEvent::DispatchUnanswered(unanswered.clone()),
        DispatchRecord::ResendRequested(requested) => AllocationEvent::DispatchResendRequested(requested.clone()),
        DispatchRecord::RestrictionResendRequested(requested) => {
            AllocationEvent::RestrictionResendRequested(requested.clone())
        }
        DispatchRecord::AccountFreed(freed) => AllocationEvent::AccountFreed(freed.clone()),
    });
}

fn live(transition: &Transition<'_>) -> Result<(), Refusal> {
    let state = transition.book.facts.state;
    if state.is_live() { Ok(()) } else { Err(Refusal::NotLive(state.as_str())) }
}

pub(super) fn check_amounts(amounts: &Amounts, ctx: &DecideContext<'_>) -> Result<(), Refusal> {
    for (component, amount) in amounts {
        if !ctx.offering.facts.components.iter().any(|c| c.component_type == *component) {
            let known: Vec<&str> = ctx.offering.facts.components.iter().map(|c| c.component_type.as_str()).collect();
            return Err(Refusal::UnknownComponent { component: component.clone(), known: known.join(", ") });
        }
        check_amount(component, *amount)?;
    }
    Ok(())
}

/// Limits: amounts with no more decimal places than their component allows.
fn check_limits(limits: &Amounts, ctx: &DecideContext<'_>) -> Result<(), Refusal> {
    check_amounts(limits, ctx)?;
    for component in &ctx.offering.facts.components {
        let Some((limit, places)) = limits.get(&component.component_type).zip(component.limit_decimal_places) else {
            continue;
        };
        if limit.normalize().scale() > places {
            return Err(Refusal::AmountOutOfRange {
                component: component.component_type.clone(),
                complaint: format!(
                    "{limit} has more than {places} decimal places (limit_decimal_places of the component)."
                ),
            });
        }
    }
    Ok(())
}

fn check_amount(component: &str, amount: Decimal) -> Result<(), Refusal> {
    match decimal::complaint(amount, Decimal::ZERO, decimal::MAX_AMOUNT) {
        Some(complaint) => Err(Refusal::AmountOutOfRange { component: component.to_owned(), complaint }),
        None => Ok(()),
    }
}

fn change_limits(transition: &mut Transition<'_>, limits: &Amounts) -> Result<(), Refusal> {
    live(transition)?;
    check_limits(limits, transition.ctx)?;
    if *limits == transition.book.facts.limits {
        return Ok(());
    }
    let previous = transition.book.facts.limits.clone();
    transition.push(AllocationEvent::LimitsChanged(LimitsChanged { limits: limits.clone(), previous }));
    consequences::follow(transition, None, Trigger::LimitsChanged)
}

fn change_details(
    transition: &mut Transition<'_>,
    name: Option<&str>,
    backend_id: Option<&str>,
) -> Result<(), Refusal> {
    let facts = &transition.book.facts;
    let changed = ResourceDetailsChanged {
        name: name.unwrap_or(&facts.name).to_owned(),
        backend_id: backend_id.unwrap_or(&facts.backend_id).to_owned(),
    };
    if changed.name == facts.name && changed.backend_id == facts.backend_id {
        return Ok(());
    }
    let account_before = facts.account().to_owned();
    transition.push(AllocationEvent::ResourceDetailsChanged(changed));
    if transition.book.facts.account() != account_before {
        // Another SLURM account is taken over like a resource that is new.
        consequences::follow(transition, None, Trigger::ResourceChanged)?;
    }
    Ok(())
}

fn change_state(transition: &mut Transition<'_>, to: ResourceState) -> Result<(), Refusal> {
    let from = transition.book.facts.state;
    if from == to {
        return Ok(());
    }
    if from == ResourceState::Terminated {
        return Err(Refusal::NotLive(from.as_str()));
    }
    transition.push(AllocationEvent::ResourceStateChanged(ResourceStateChanged { from, to }));
    if from.is_live() == to.is_live() && from.takes_settings() == to.takes_settings() {
        return Ok(());
    }
    consequences::follow(transition, None, Trigger::ResourceChanged)
}
