//! What each event says, in one sentence: for lists of events, and for the way from a cause to what it led to.

use super::timeline::{amounts, said};
use crate::domain::text::on_one_line;
use crate::events::Event;
use crate::events::agent::AgentEvent;
use crate::events::allocation::{AllocationEvent, UsageReported};
use crate::events::dispatch::{DispatchUnanswered, StompMessageSent};
use crate::events::registry::RegistryEvent;
use crate::events::site::SiteEvent;

/// Characters of a sentence; what somebody wrote into an event may be long.
const CHARS_MAX: usize = 400;

/// What an event says.
pub fn sentence(event: &Event) -> String {
    let text = match event {
        Event::Allocation(event) => of_allocation(event),
        Event::Registry(event) => of_registry(event),
        Event::Agent(event) => of_agent(event),
        Event::Site(event) => of_site(event),
    };
    on_one_line(&text, CHARS_MAX)
}

/// What an event of an allocation says.
fn of_allocation(event: &AllocationEvent) -> String {
    match event {
        AllocationEvent::SettingsCommanded(told) => {
            let reset = if told.reset.is_some() { ", raw usage from 0" } else { "" };
            let count = told.commands.len();
            format!("{count} command{} for the site agent{reset}", if count == 1 { "" } else { "s" })
        }
        AllocationEvent::PolicyEvaluated(evaluated) => evaluated.outcome.explanation.clone(),
        AllocationEvent::UsageReported(reported) => usage(reported),
        AllocationEvent::StompMessageSent(sent) => handed_over(sent),
        AllocationEvent::StompMessageFailed(failed) => {
            format!("no queue took the message in {} attempts: {}", failed.attempts, failed.error)
        }
        AllocationEvent::DispatchUnanswered(unanswered) => nobody_answered(unanswered),
        AllocationEvent::DispatchResendRequested(_) => "the commands are to be sent again".to_owned(),
        AllocationEvent::RestrictionResendRequested(_) => {
            "the message about restrictions is to be sent again".to_owned()
        }
        AllocationEvent::AccountFreed(freed) => format!("account {} was freed at the cluster", freed.account),
        AllocationEvent::QosConfirmed(confirmed) => {
            let qos = if confirmed.qos.is_empty() { "no qos" } else { &confirmed.qos };
            if confirmed.agrees() {
                format!("the account has qos {qos}, as is meant")
            } else {
                format!("the account has {qos}, {} is meant", confirmed.expected)
            }
        }
        AllocationEvent::BooksOpened(opened) => format!("a book begins, after that of {}", opened.previous),
        AllocationEvent::BooksClosed(_) => "the book of the month is sealed".to_owned(),
        AllocationEvent::UserUsageReported(_) => "shares of people were reported".to_owned(),
        AllocationEvent::CommandResultUnmatched(result) => {
            let how = if result.report.success { "success" } else { "a failure" };
            format!("the agent reports {how} on nothing that was sent")
        }
        AllocationEvent::LimitsEchoed(echoed) => format!("the agent read back {}", amounts(&echoed.limits)),
        AllocationEvent::ResourceSynced(_) => "the agent has looked after the account".to_owned(),
        other => said(other).map(|(_, summary, _)| summary).unwrap_or_default(),
    }
}

fn usage(reported: &UsageReported) -> String {
    let each = reported.amounts.iter().map(|(name, amount)| {
        let before = amount.previous.map_or_else(|| "nothing".to_owned(), |p| p.normalize().to_string());
        format!("{name} {}, before {before}", amount.amount.normalize())
    });
    let corrected = if reported.restated { "corrected" } else { "reported" };
    format!("usage of {} {corrected}: {}", reported.month, each.collect::<Vec<_>>().join("; "))
}

fn handed_over(sent: &StompMessageSent) -> String {
    let what = if sent.dispatch.is_some() { "the commands" } else { "the restrictions" };
    let queues = sent.consumers.len();
    let again = if sent.resend > 0 { format!(", sent again for the {}. time", sent.resend) } else { String::new() };
    format!("{what} were taken by {queues} queue{}{again}", if queues == 1 { "" } else { "s" })
}

fn nobody_answered(unanswered: &DispatchUnanswered) -> String {
    if unanswered.given_up {
        format!("nobody answered, {} times sent again; not sent again by itself", unanswered.resends)
    } else {
        "nobody answered in time".to_owned()
    }
}

fn of_registry(event: &RegistryEvent) -> String {
    match event {
        RegistryEvent::GroupRegistered(facts) => format!("organisation group {:?}", facts.name),
        RegistryEvent::GroupChanged(facts) => format!("organisation group {:?} changed", facts.name),
        RegistryEvent::CustomerRegistered(facts) => format!("organisation {:?}", facts.name),
        RegistryEvent::CustomerChanged(facts) => format!("organisation {:?} changed", facts.name),
        RegistryEvent::ProjectRegistered(facts) => format!("project {:?}", facts.name),
        RegistryEvent::ProjectChanged(facts) => format!("project {:?} changed", facts.name),
        RegistryEvent::OfferingRegistered(facts) => format!("offering {:?}", facts.name),
        RegistryEvent::OfferingChanged(facts) => format!("offering {:?} changed", facts.name),
        RegistryEvent::PolicyCreated(facts) => format!("policy {} was created", named(&facts.slug)),
        RegistryEvent::PolicyChanged(facts) => format!("policy {} was changed", named(&facts.slug)),
        RegistryEvent::PolicyDeleted(_) => "a policy was deleted".to_owned(),
        RegistryEvent::EvaluationRequested(asked) if asked.resource.is_some() => {
            "an evaluation of one allocation was asked for".to_owned()
        }
        RegistryEvent::EvaluationRequested(_) => "an evaluation of all allocations was asked for".to_owned(),
    }
}

fn named(slug: &str) -> &str {
    if slug.is_empty() { "without a name" } else { slug }
}

fn of_agent(event: &AgentEvent) -> String {
    match event {
        AgentEvent::IdentityRegistered(facts) => format!("agent {} {} came", facts.name, facts.version),
        AgentEvent::IdentityChanged(facts) => format!("agent {} {} was started again", facts.name, facts.version),
        AgentEvent::ServiceRegistered(facts) => format!("service {} of an agent", facts.name),
        AgentEvent::ProcessorRegistered(facts) => format!("processor {} of an agent", facts.name),
        AgentEvent::SubscriptionRegistered(facts) => format!("an agent wants to hear of {}", facts.object_type),
        AgentEvent::QueueRegistered(facts) => format!("queue {} of an agent", facts.queue),
        AgentEvent::IdentityRemoved(_) => "an agent was removed".to_owned(),
    }
}

fn of_site(event: &SiteEvent) -> String {
    match event {
        SiteEvent::SettingChanged(changed) => format!("setting {}: {} -> {}", changed.name, changed.from, changed.to),
        SiteEvent::RetentionApplied(applied) => {
            format!("rows of the logs older than {} days are gone, before {}", applied.retention_days, applied.horizon)
        }
        SiteEvent::EventSetAside(aside) => format!("event {} was set aside: {}", aside.position, aside.problem),
        SiteEvent::ReactionsFinished(_) => "re-evaluations after changes are done".to_owned(),
        SiteEvent::DecisionsReplayed(replayed) => {
            format!("{} decisions came out as recorded, {} otherwise", replayed.same, replayed.different)
        }
        SiteEvent::CheckpointSigned(checkpoint) => format!("a checkpoint over {} events was signed", checkpoint.size),
        SiteEvent::NotaryKeyRotated(rotated) => {
            format!("the notary's key {} was followed by {}", rotated.from, rotated.to)
        }
        SiteEvent::LogExported(exported) => format!("{} events were exported: {}", exported.events, exported.what),
    }
}
