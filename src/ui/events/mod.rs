//! The log of events: what happened by cause, every event one by one, and one event with the chain that it belongs to.

mod chain;
pub mod kinds;
pub mod live;
mod one;
mod payload;

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::one::show as show_one;

use self::one::EventView;
use super::frame::{Frame, Section};
use super::listing::Filter;
use super::problem::Problem;
use super::sheet::{self, Sheet};
use super::visit::{Shown, Visit, page};
use super::words::{self, Moment};

/// Rows of a page.
const ROWS: u64 = 40;

/// Parameters of the address, and what the API calls them.
pub const ASKED: [(&str, &str); 8] = [
    ("type", "type"),
    ("allocation", "resource_uuid"),
    ("policy", "policy_uuid"),
    ("actor", "actor"),
    ("user", "actor_uuid"),
    ("correlation", "correlation_id"),
    ("from", "from"),
    ("to", "to"),
];

#[derive(Deserialize)]
struct EpisodeRead {
    title: String,
    message: String,
    about: String,
    quiet: bool,
    at: DateTime<Utc>,
    events: u64,
    chains: u64,
    position: String,
    resources: u64,
    actor: String,
    reason: Option<String>,
}

/// An event, as far as lists read it.
#[derive(Deserialize)]
pub struct EventRead {
    position: String,
    #[serde(rename = "type")]
    stored_type: String,
    uuid: String,
    message: Option<String>,
    occurred_at: DateTime<Utc>,
    causation_id: Option<String>,
    resource_uuid: Option<String>,
}

impl EventRead {
    /// The type without its version.
    fn bare(&self) -> &str {
        self.stored_type.rsplit_once('.').map_or(&self.stored_type, |(bare, _)| bare)
    }

    fn says(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }
}

/// A row of the list.
struct Row {
    href: String,
    at: Moment,
    clock: String,
    icon: &'static str,
    class: &'static str,
    title: String,
    text: String,
    end: String,
    current: bool,
}

/// The rows of a day.
struct Day {
    name: String,
    rows: Vec<Row>,
}

/// The list, with the event that is looked at beside it.
#[derive(Template)]
#[template(path = "events_part.html")]
struct Part {
    frame: Frame,
    days: Vec<Day>,
    event: Option<EventView>,
    /// The event was asked for, and is not only the first that says something.
    chosen: bool,
    list: Sheet,
    path: String,
    newest: Option<String>,
}

/// The page.
#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    part: Part,
    path: String,
    list: Sheet,
    /// The same one by one, or by cause.
    view: String,
    is_flat: bool,
    folded: Option<String>,
    is_folded: bool,
    /// Where a live page is, and where new events are told of.
    live: Option<String>,
    live_href: String,
    ndjson: String,
}

const TYPES: [(&str, &str); 16] = [
    ("restriction_changed", "Restriction changed"),
    ("policy_evaluated", "Evaluation"),
    ("evaluation_failed", "Evaluation failed"),
    ("usage_reported", "Usage reported"),
    ("limits_changed", "Limits changed"),
    ("hold_placed", "Hold placed"),
    ("hold_released", "Hold ended"),
    ("settings_commanded", "Commands decided"),
    ("stomp_message_sent", "Message sent"),
    ("dispatch_unanswered", "No answer"),
    ("command_result_reported", "Result reported"),
    ("qos_confirmed", "Class of service said"),
    ("notice_sent", "Notice sent"),
    ("notice_failed", "Notice given up"),
    ("policy_changed", "Policy changed"),
    ("setting_changed", "Setting changed"),
];

const ACTORS: [(&str, &str); 7] = [
    ("staff", "Staff"),
    ("support", "Support"),
    ("owner", "Owner"),
    ("member", "Member"),
    ("agent", "Site agent"),
    ("system", "By itself"),
    ("cli", "Command line"),
];

/// The icon of an episode.
fn icon(about: &str) -> (&'static str, &'static str) {
    match about {
        "usage" | "evaluated" => ("activity", "plain"),
        "warned" => ("bell", "warn"),
        "slowed_down" => ("chevrons-down", "slow"),
        "paused" => ("pause", "pause"),
        "failed" => ("circle-x", "pause"),
        "no_answer" => ("circle-question-mark", "warn"),
        "restored" | "confirmed" => ("circle-check", "normal"),
        "hold" => ("lock", "hold"),
        "limits" => ("arrow-up", "plain"),
        "policy" => ("scroll-text", "plain"),
        "sent" => ("send", "plain"),
        "resent" => ("refresh-cw", "plain"),
        "agent" => ("server", "plain"),
        "setting" => ("settings", "plain"),
        "registry" => ("users", "plain"),
        "corrected" => ("undo-2", "plain"),
        "resource" => ("layers", "plain"),
        _ => ("history", "plain"),
    }
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

/// Days of rows, newest first.
fn days(rows: Vec<(DateTime<Utc>, Row)>) -> Vec<Day> {
    let mut days: Vec<Day> = Vec::new();
    for (at, row) in rows {
        let name = words::long_day(at.date_naive());
        match days.last_mut() {
            Some(day) if day.name == name => day.rows.push(row),
            _ => days.push(Day { name, rows: vec![row] }),
        }
    }
    days
}

/// The address of the list with an event beside it.
fn beside(visit: &Visit, position: &str) -> String {
    let kept = visit.query.only(|name| !matches!(name, "at" | "tab"));
    format!("{}?{}", visit.path, kept.with("at", position))
}

/// Rows with their instants, where the next page begins, and the event that says something first.
type Found = (Vec<(DateTime<Utc>, Row)>, Option<String>, Option<String>);

async fn episodes(visit: &Visit, folded: bool) -> Result<Found, Problem> {
    let asked = sheet::asked(visit, &ASKED);
    let before = sheet::asked(visit, &[("before", "before")]);
    let path = format!("/api/event-episodes/?{asked}&{before}&folded={folded}&page_size={ROWS}");
    let found = visit.api.list::<EpisodeRead>(&path).await?;
    let telling = found.rows.iter().find(|row| !row.quiet).or(found.rows.first()).map(|row| row.position.clone());
    let row = |read: &EpisodeRead| {
        let (icon, class) = icon(&read.about);
        let reason = read.reason.as_ref().map(|reason| format!(" · \u{201c}{reason}\u{201d}")).unwrap_or_default();
        let text = match read.chains {
            1 => format!("{}{reason}", read.message.replace("->", "\u{2192}")),
            _ => format!("of {} {}", words::count(read.resources, "allocation"), kinds::by(&read.actor)),
        };
        let row = Row {
            href: beside(visit, &read.position),
            at: Moment::of(read.at),
            clock: clock(read.at),
            icon,
            class,
            title: read.title.clone(),
            text,
            end: words::count(read.events, "event"),
            current: visit.query.get("at") == Some(&read.position),
        };
        (read.at, row)
    };
    Ok((found.rows.iter().map(row).collect(), found.next, telling))
}

async fn flat(visit: &Visit) -> Result<Found, Problem> {
    let asked = sheet::asked(visit, &ASKED);
    let before = sheet::asked(visit, &[("before", "before")]);
    let fields = "field=position&field=type&field=uuid&field=message&field=occurred_at&field=causation_id\
                  &field=resource_uuid";
    let path = format!("/api/events/?o=-created&{asked}&{before}&page_size={ROWS}&{fields}");
    let found = visit.api.list::<EventRead>(&path).await?;
    let first = found.rows.first().map(|row| row.position.clone());
    let row = |read: &EventRead| {
        let kind = kinds::of(read.bare(), read.says());
        let row = Row {
            href: beside(visit, &read.position),
            at: Moment::of(read.occurred_at),
            clock: clock(read.occurred_at),
            icon: kind.icon,
            class: kind.class,
            title: read.bare().to_owned(),
            text: read.says().replace("->", "\u{2192}"),
            end: read.position.split('-').next().unwrap_or_default().to_owned(),
            current: visit.query.get("at") == Some(&read.position),
        };
        (read.occurred_at, row)
    };
    Ok((found.rows.iter().map(row).collect(), found.next, first))
}

fn filters(visit: &Visit) -> Vec<Filter> {
    let mut filters =
        vec![sheet::filter(visit, "Type", "type", &TYPES), sheet::filter(visit, "Caused", "actor", &ACTORS)];
    for (name, key) in
        [("Allocation", "allocation"), ("Policy", "policy"), ("Person", "user"), ("Chain", "correlation")]
    {
        if let Some(set) = visit.query.get(key) {
            let short: String = set.chars().take(12).collect();
            filters.push(sheet::fixed(visit, name, key, Some(short)));
        }
    }
    filters
}

/// The list, and what is around it.
fn sheet_of(visit: &Visit, shown: usize, next: Option<String>) -> Sheet {
    let list = Sheet {
        filters: Vec::new(),
        range: None,
        line: words::count(shown as u64, "row"),
        previous: visit.query.get("before").map(|_| visit.with("before", "")),
        next: next.map(|next| {
            let kept = visit.query.only(|name| !matches!(name, "at" | "tab"));
            format!("{}?{}", visit.path, kept.with("before", &next))
        }),
        clear: None,
        files: None,
    };
    list.filtered(visit, filters(visit), Some(sheet::range(visit)), &["view", "folded", "live"])
}

/// The log: by cause, or one by one.
pub async fn show(visit: Visit) -> Shown {
    if !visit.reads_log() {
        return Err(Problem::not_found());
    }
    let is_flat = visit.query.get("view") == Some("flat");
    let folded = visit.query.get("folded") != Some("no");
    let (mut rows, next, telling) = if is_flat { flat(&visit).await? } else { episodes(&visit, folded).await? };
    let at = visit.query.get("at").map(str::to_owned);
    let chosen = at.is_some();
    let event = match at.or(telling) {
        Some(at) => one::view(&visit, &at).await?,
        None => None,
    };
    if let (false, Some(event)) = (chosen, &event) {
        let address = beside(&visit, &event.position);
        rows.iter_mut().filter(|(_, row)| row.href == address).for_each(|(_, row)| row.current = true);
    }
    let list = sheet_of(&visit, rows.len(), next.clone());
    let frame = Frame::bare("Events", visit.theme);
    let newest = visit.query.get("before").map(|_| visit.with("before", ""));
    let part = Part { frame, days: days(rows), event, chosen, list, path: visit.path.clone(), newest };
    if visit.fragment {
        return page(&part);
    }
    let asked = sheet::asked(&visit, &ASKED);
    let is_live = visit.query.get("live").is_some();
    page(&EventsPage {
        frame: Frame::of(&visit, "Events", Section::Events).await,
        list: sheet_of(&visit, 0, next),
        part,
        path: visit.path.clone(),
        view: visit.with("view", if is_flat { "" } else { "flat" }),
        is_flat,
        folded: (!is_flat).then(|| visit.with("folded", if folded { "no" } else { "" })),
        is_folded: folded,
        live: is_live
            .then(|| format!("/events/live?{}", sheet::asked(&visit, &[ASKED[0], ASKED[1], ASKED[3], ASKED[5]]))),
        live_href: visit.with("live", if is_live { "" } else { "on" }),
        ndjson: format!("/events/export/events.ndjson?{asked}").trim_end_matches('?').to_owned(),
    })
}

/// Every event that is asked for, in the order of the log, as a file.
pub async fn export(visit: Visit, Path(file): Path<String>) -> Shown {
    if file != "events.ndjson" || !visit.reads_log() {
        return Err(Problem::not_found());
    }
    let path = format!("/api/events/?{}&page_size=100", sheet::asked(&visit, &ASKED));
    let api = visit.api.clone();
    let pages = futures::stream::try_unfold(Some(String::new()), move |after| {
        let (api, path) = (api.clone(), path.clone());
        async move {
            let Some(after) = after else { return Ok(None) };
            let found = api.list::<Map<String, Value>>(&format!("{path}{after}")).await;
            let found = found.map_err(|problem| std::io::Error::other(problem.sentences.join(" ")))?;
            let text: String = found.rows.into_iter().map(|row| Value::Object(row).to_string() + "\n").collect();
            Ok::<_, std::io::Error>(Some((text, found.next.map(|next| format!("&after={next}")))))
        }
    });
    sheet::download(&file, "application/x-ndjson", axum::body::Body::from_stream(pages))
}
