//! One event: whether it is the one that was committed to, the chain that it belongs to, and what it says.

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::chain::{Node, nodes};
use super::payload::{Span, lines};
use super::{EventRead, kinds};
use crate::ui::allocation::encoded;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::read::Named;
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

/// Events of a chain that are shown.
const NODES: usize = 60;

#[derive(Deserialize)]
struct Actor {
    kind: String,
    uuid: Option<String>,
}

#[derive(Deserialize)]
struct OneRead {
    position: String,
    uuid: String,
    #[serde(rename = "type")]
    stored_type: String,
    message: Option<String>,
    stream: String,
    version: u64,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    actor: Actor,
    correlation_id: String,
    causation_id: Option<String>,
    reason: Option<String>,
    resource_uuid: Option<String>,
    payload: Value,
    commitment: String,
    commitment_holds: Option<bool>,
}

/// A tab.
pub struct Tab {
    /// Its name.
    pub name: &'static str,
    /// Its address.
    pub href: String,
    /// Whether it is shown.
    pub current: bool,
}

/// Whether it is the event that was committed to.
pub struct Check {
    /// The class of its colours.
    pub class: &'static str,
    /// Its icon.
    pub icon: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// In a sentence.
    pub text: String,
}

/// A pair of the envelope: its name, its text, and where the text leads.
pub struct Pair {
    /// What it is.
    pub name: &'static str,
    /// The value.
    pub text: String,
    /// Where it leads.
    pub href: Option<String>,
}

/// An event, as it is shown.
pub struct EventView {
    /// Where it stands in the log.
    pub position: String,
    /// Its own page.
    pub href: String,
    /// What it is, and of what.
    pub title: String,
    /// What it says.
    pub says: String,
    /// When it happened.
    pub at: Moment,
    /// How long ago that is.
    pub ago: String,
    /// The allocation that it is about.
    pub allocation: Option<String>,
    /// Whether it is the one that was committed to.
    pub check: Check,
    /// The chain that it belongs to.
    pub nodes: Vec<Node>,
    /// Lanes of the chain: `w1` to `w4`.
    pub width: usize,
    /// What of the chain is not shown.
    pub left_out: Option<String>,
    /// The chain in the list.
    pub chain: String,
    /// Tabs.
    pub tabs: Vec<Tab>,
    /// JSON, line by line; empty where the envelope is shown.
    pub lines: Vec<Vec<Span>>,
    /// The envelope.
    pub pairs: Vec<Pair>,
}

fn check(of: &OneRead) -> Check {
    let check = |class, icon, title, text: String| Check { class, icon, title, text };
    match of.commitment_holds {
        Some(true) => {
            let text = "What it says is what was committed to when it was recorded.".to_owned();
            check("normal", "badge-check", "Payload matches its commitment", text)
        }
        Some(false) => {
            let text = format!(
                "Event {} ({}) does not say what was committed to. `sluice doctor` says what to do.",
                of.position, of.stored_type
            );
            check("pause", "triangle-alert", "Payload does not match its commitment", text)
        }
        None => {
            let text = "What it said was disposed of; its envelope stays.".to_owned();
            check("exempt", "info", "Cannot say", text)
        }
    }
}

/// The chain of an event, and what of it is left out.
async fn chain(visit: &Visit, of: &OneRead) -> Result<(Vec<EventRead>, Option<String>), Problem> {
    let fields = "field=position&field=type&field=uuid&field=message&field=occurred_at&field=causation_id\
                  &field=resource_uuid";
    let path = format!("/api/events/?correlation_id={}&page_size=100&{fields}", of.correlation_id);
    let whole = visit.api.list::<EventRead>(&path).await?;
    if whole.rows.len() <= NODES && whole.next.is_none() {
        return Ok((whole.rows, None));
    }
    // A run over a fleet has thousands: those of the same allocation, after the event that began it all.
    let Some(resource) = &of.resource_uuid else {
        let mut rows = whole.rows;
        rows.truncate(NODES);
        return Ok((rows, Some("The chain goes on.".to_owned())));
    };
    let found = visit.api.list::<EventRead>(&format!("{path}&resource_uuid={resource}")).await?;
    let mut rows: Vec<EventRead> = Vec::new();
    let first = whole.rows.into_iter().next().filter(|first| first.resource_uuid.as_ref() != Some(resource));
    rows.extend(first);
    rows.extend(found.rows);
    rows.truncate(NODES);
    Ok((rows, Some("Only what concerns this allocation is shown of it.".to_owned())))
}

fn envelope(of: &OneRead, events: &[EventRead]) -> Vec<Pair> {
    let pair = |name, text: String, href| Pair { name, text, href };
    let cause = of.causation_id.as_ref().map(|cause| {
        let known = events.iter().find(|event| event.uuid == *cause);
        pair("Led to by", cause.clone(), known.map(|known| format!("/events/{}", known.position)))
    });
    let mut pairs = vec![
        pair("Position", of.position.clone(), None),
        pair("Event", of.uuid.clone(), None),
        pair("Type", of.stored_type.clone(), None),
        pair("Stream", format!("{}, version {}", of.stream, of.version), None),
        pair("Occurred", Moment::of(of.occurred_at).full, None),
        pair("Recorded", Moment::of(of.recorded_at).full, None),
        pair("Caused", kinds::by(&of.actor.kind).to_owned(), None),
    ];
    if let Some(person) = &of.actor.uuid {
        pairs.push(pair("Person", person.clone(), Some(format!("/events?user={person}"))));
    }
    pairs.extend(of.reason.as_ref().map(|reason| pair("Reason", reason.clone(), None)));
    pairs.extend(cause);
    pairs.push(pair(
        "Chain",
        of.correlation_id.clone(),
        Some(format!("/events?view=flat&correlation={}", of.correlation_id)),
    ));
    pairs.push(pair("Commitment", of.commitment.clone(), None));
    pairs
}

/// The event at a position; none where there is none.
pub async fn view(visit: &Visit, position: &str) -> Result<Option<EventView>, Problem> {
    let path = format!("/api/events/{}/", encoded(position));
    let Some(raw) = visit.api.find::<Value>(&path).await? else { return Ok(None) };
    let of: OneRead = serde_json::from_value(raw.clone()).map_err(|error| Problem::unread(&path, &error))?;
    let (events, left_out) = chain(visit, &of).await?;
    let bare = of.stored_type.rsplit_once('.').map_or(of.stored_type.as_str(), |(bare, _)| bare);
    let name = match &of.resource_uuid {
        Some(id) => visit.api.find::<Named>(&format!("/api/marketplace-provider-resources/{id}/")).await?,
        None => None,
    };
    let tab = ["envelope", "raw"].into_iter().find(|word| visit.query.get("tab") == Some(word)).unwrap_or_default();
    let tabs = [("Payload", ""), ("Envelope", "envelope"), ("Raw JSON", "raw")];
    let at_tab = |word: &str| {
        let kept = visit.query.only(|name| !matches!(name, "tab" | "at"));
        let kept = if visit.path == "/events" { kept.with("at", position) } else { kept.encoded() };
        let separator = if kept.is_empty() { "" } else { "&" };
        let tab = if word.is_empty() { String::new() } else { format!("{separator}tab={word}") };
        format!("{}?{kept}{tab}", visit.path).trim_end_matches('?').to_owned()
    };
    let link = |position: &str| {
        if visit.path == "/events" { super::beside(visit, position) } else { format!("/events/{position}") }
    };
    let nodes = nodes(&events, &of.position, link);
    Ok(Some(EventView {
        href: format!("/events/{}", of.position),
        title: name.map_or_else(|| bare.to_owned(), |name| format!("{} · {bare}", name.name)),
        says: of.message.clone().unwrap_or_default().replace("->", "\u{2192}"),
        at: Moment::of(of.occurred_at),
        ago: words::duration(visit.now - of.occurred_at),
        allocation: of.resource_uuid.as_ref().map(|id| format!("/allocations/{}", encoded(id))),
        check: check(&of),
        width: nodes.iter().map(|node| node.lane + 1).max().unwrap_or(1),
        nodes,
        left_out,
        chain: format!("/events?view=flat&correlation={}", of.correlation_id),
        tabs: tabs.map(|(name, word)| Tab { name, href: at_tab(word), current: tab == word }).into(),
        lines: match tab {
            "envelope" => Vec::new(),
            "raw" => lines(&raw),
            _ => lines(&of.payload),
        },
        pairs: if tab == "envelope" { envelope(&of, &events) } else { Vec::new() },
        position: of.position,
    }))
}

/// The page of one event.
#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    frame: Frame,
    event: EventView,
}

/// The page of one event.
pub async fn show(visit: Visit, Path(position): Path<String>) -> Shown {
    if !visit.reads_log() {
        return Err(Problem::not_found());
    }
    let event = view(&visit, &position).await?.ok_or_else(Problem::not_found)?;
    let frame = Frame::of(&visit, event.title.clone(), Section::Events).await.under("/events", "Events");
    page(&EventPage { frame, event })
}
