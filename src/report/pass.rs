//! The one pass over the log that a report is made in.

use chrono::TimeDelta;

use super::agents::Agents;
use super::changes::Changes;
use super::drift::Drift;
use super::enforcement::Enforcement;
use super::exceptions::Exceptions;
use super::fairness::Fairness;
use super::known::Known;
use super::notices::Notices;
use super::statement::{self, Statement};
use super::{Asked, EventRef, Kind, Report, Span, Table};
use crate::domain::ids::ResourceId;
use crate::events::Event;
use crate::events::envelope::{DecodeError, Position, RecordedEvent};
use crate::registry::book_of;
use crate::replay::ReplayError;
use crate::store::{EventStore, StoreError};

/// Events read at a time.
const PAGE: usize = 4_000;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The log does not answer.
    #[error("the log cannot be read")]
    Store(#[from] StoreError),
    /// An event that the report rests on cannot be read. What was set aside is passed over.
    #[error(transparent)]
    Unsound(#[from] Box<DecodeError>),
    /// Recorded decisions cannot be made again.
    #[error("recorded decisions cannot be made again")]
    Replay(#[from] ReplayError),
    /// Whoever asked does not wait any more.
    #[error("it was told to stop before the end")]
    Stopped,
}

/// An event with what a report may ask of it.
pub(super) struct Seen<'a> {
    pub(super) recorded: &'a RecordedEvent,
    pub(super) event: &'a Event,
    /// The allocation whose book it stands in.
    pub(super) resource: Option<ResourceId>,
    pub(super) here: EventRef,
}

/// What makes one kind of report of the events that it wants.
pub(super) trait Collector: Send {
    /// Whether an event is to be read, as far as its envelope says.
    fn wants(&self, name: &str, recorded: &RecordedEvent) -> bool;

    /// Takes an event into account; what has a name is known as it was then.
    fn take(&mut self, seen: &Seen<'_>, known: &Known);

    /// What was found, at the end.
    fn finish(self: Box<Self>, known: &Known) -> Vec<Table>;
}

fn collector(asked: &Asked) -> Box<dyn Collector> {
    match asked.kind {
        Kind::EnforcementRegister => Box::new(Enforcement::new(asked)),
        Kind::Statement => Box::new(Statement::new(asked)),
        Kind::PolicyChanges => Box::new(Changes::new(asked)),
        Kind::Notices => Box::new(Notices::new(asked)),
        Kind::AgentReliability => Box::new(Agents::new(asked)),
        Kind::Exceptions => Box::new(Exceptions::new(asked)),
        Kind::Drift => Box::new(Drift::new(asked)),
        Kind::Fairness => Box::new(Fairness::new(asked)),
    }
}

/// The name of a stored type, without its version.
fn name_of(event_type: &str) -> &str {
    event_type.rsplit_once(".v").map_or(event_type, |(name, _)| name)
}

/// Makes a report. `progress` hears how many events were read, and says whether to go on.
///
/// # Errors
/// The log cannot be read, an event that counts cannot, or `progress` said to stop.
pub async fn report(
    store: &std::sync::Arc<dyn EventStore>,
    asked: &Asked,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<Report, ReportError> {
    let head = store.head().await?;
    let end = asked.as_of.map_or(head, |as_of| as_of.min(head));
    // Whatever is still in force counts up to the last event, and not into the future.
    let newest = store.event_at(end).await?.map(|last| last.occurred_at + TimeDelta::microseconds(1));
    let to = newest.map_or(asked.span.to, |newest| newest.min(asked.span.to)).max(asked.span.from);
    let within = Asked { span: Span { to, ..asked.span }, ..asked.clone() };
    let (mut known, mut collector) = (Known::default(), collector(&within));
    let mut through = Position::START;
    while through < end {
        let room = store.room().await;
        let page = store.read_up_to(through, end, PAGE).await?;
        let Some(last) = page.last() else { break };
        through = last.position;
        for recorded in &page {
            take(&mut *collector, &mut known, recorded, asked)?;
        }
        drop(room);
        if !progress(page.len() as u64) {
            return Err(ReportError::Stopped);
        }
    }
    let mut tables = collector.finish(&known);
    if asked.kind == Kind::Statement {
        statement::verify(store, &within, through, &mut tables).await?;
    }
    Ok(Report { asked: asked.clone(), through, tables })
}

fn take(
    collector: &mut dyn Collector,
    known: &mut Known,
    recorded: &RecordedEvent,
    asked: &Asked,
) -> Result<(), ReportError> {
    let resource = book_of(recorded.stream.as_str()).map(|(resource, _)| resource);
    let named = Known::wants(&recorded.event_type);
    let foreign = resource.is_some() && asked.resource.is_some() && resource != asked.resource;
    let wanted = !foreign && collector.wants(name_of(&recorded.event_type), recorded);
    if recorded.is_disposed() || !(named || wanted) {
        return Ok(());
    }
    let event = Event::decode(recorded).map_err(Box::new)?;
    let here = EventRef::from(recorded);
    let seen = Seen { recorded, event: &event, resource, here };
    if wanted {
        // A change is compared with what was known before it.
        collector.take(&seen, known);
    }
    match &event {
        Event::Registry(event) => known.registry(event, recorded.version, recorded.occurred_at, here),
        Event::Allocation(event) => known.allocation(event),
        _ => {}
    }
    Ok(())
}
