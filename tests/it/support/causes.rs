//! Every event says what caused it: checked on the whole log of every test that runs a server, and of the long runs.

use std::collections::HashMap;

use sluice::app::App;
use sluice::domain::evaluate::Trigger;
use sluice::events::Event;
use sluice::events::allocation::AllocationEvent;
use sluice::events::envelope::{Position, RecordedEvent};
use uuid::Uuid;

/// The whole log.
pub async fn whole_log(app: &App) -> Vec<RecordedEvent> {
    let mut log: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = log.last().map_or(Position::START, |event| event.position);
        let page = app.store.read_all(after, 1_000).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

/// Whether an event can only come of another one.
fn follows(event: &Event) -> bool {
    let Event::Allocation(event) = event else { return false };
    match event {
        AllocationEvent::BooksOpened(_)
        | AllocationEvent::RestrictionChanged(_)
        | AllocationEvent::SettingsCommanded(_)
        | AllocationEvent::StompMessageFailed(_)
        | AllocationEvent::DispatchUnanswered(_)
        | AllocationEvent::CommandResultReported(_)
        | AllocationEvent::NoticeSent(_)
        | AllocationEvent::NoticeFailed(_) => true,
        // Word of an account that another resource left goes out without an event of this one.
        AllocationEvent::StompMessageSent(sent) => sent.dispatch.is_some(),
        // The others are asked for by somebody, or by the clock.
        AllocationEvent::PolicyEvaluated(evaluated) => matches!(
            evaluated.trigger,
            Trigger::UsageReported
                | Trigger::LimitsChanged
                | Trigger::ResourceChanged
                | Trigger::PolicyChanged
                | Trigger::ScopeChanged
                | Trigger::HoldChanged
        ),
        _ => false,
    }
}

/// Checks that causes exist, stand before what they led to, and belong to the same chain, and that what can only follow does.
pub fn check(log: &[RecordedEvent]) {
    let mut known: HashMap<Uuid, Uuid> = HashMap::with_capacity(log.len());
    for event in log {
        let about = || format!("{} in {} ({})", event.event_type, event.stream, event.position);
        if let Some(cause) = event.metadata.causation_id {
            let correlation =
                known.get(&cause).unwrap_or_else(|| panic!("the cause of {} is not in the log before it", about()));
            assert_eq!(*correlation, event.metadata.correlation_id, "{} is in another chain than its cause", about());
        } else {
            // One that was damaged on purpose says nothing.
            let follows = Event::decode(event).is_ok_and(|event| follows(&event));
            assert!(!follows, "{} comes of nothing", about());
        }
        known.insert(event.event_id, event.metadata.correlation_id);
    }
}

/// The same on the log of an application.
pub async fn every_event_has_its_cause(app: &App) {
    check(&whole_log(app).await);
}
