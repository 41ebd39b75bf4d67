//! Who follows the log, and whether the service can do its work.

use askama::Template;
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{System, Tab, reads};
use crate::ui::frame::Frame;
use crate::ui::standing::Tone;
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

#[derive(Deserialize)]
struct ConsumerRead {
    name: String,
    lag: Option<u64>,
    lag_is: String,
    stalled: bool,
}

#[derive(Deserialize)]
struct WorkerRead {
    name: String,
    concern: String,
    stalled: bool,
    since: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct UnsoundRead {
    position: String,
    stream: String,
    version: u64,
    #[serde(rename = "type")]
    event_type: String,
}

#[derive(Deserialize)]
struct ReadyRead {
    status: String,
    event_store: bool,
    read_models: bool,
    writable: bool,
    consumers: Vec<ConsumerRead>,
    workers: Vec<WorkerRead>,
    #[serde(default)]
    unsound_events: Vec<UnsoundRead>,
}

/// Something that goes on, or stands still.
struct Row {
    name: String,
    tone: Tone,
    behind: String,
    matters: &'static str,
    since: Option<Moment>,
}

/// The page.
#[derive(Template)]
#[template(path = "system_consumers.html")]
struct ConsumersPage {
    frame: Frame,
    tabs: Vec<Tab>,
    status: Tone,
    says: &'static str,
    parts: Vec<(&'static str, Tone)>,
    consumers: Vec<Row>,
    workers: Vec<Row>,
    unsound: Vec<(String, String, String)>,
}

const GOES: Tone = Tone { class: "normal", icon: "circle-check", word: "Running" };
const STANDS: Tone = Tone { class: "pause", icon: "triangle-alert", word: "Stalled" };

fn answers(well: bool) -> Tone {
    if well {
        Tone { class: "normal", icon: "circle-check", word: "Reachable" }
    } else {
        Tone { class: "pause", icon: "circle-x", word: "Not reachable" }
    }
}

fn status(word: &str) -> (Tone, &'static str) {
    let tone = |class, icon, word| Tone { class, icon, word };
    match word {
        "ready" => (tone("normal", "circle-check", "Ready"), "Everything recorded has been processed."),
        "degraded" => (
            tone("warn", "triangle-alert", "Degraded"),
            "Something is not processed or delivered just now, or an event of the log is damaged.",
        ),
        _ => (tone("pause", "circle-x", "Not ready"), "Answers may be missing or old. The server's log says why."),
    }
}

/// The page of consumers.
pub async fn show(visit: Visit) -> Shown {
    reads(&visit)?;
    let ready = visit.api.said::<ReadyRead>("/health/ready").await?;
    let consumer = |read: &ConsumerRead| Row {
        name: read.name.replace('_', " "),
        tone: if read.stalled { STANDS } else { GOES },
        behind: match (read.lag, read.lag_is.as_str()) {
            (Some(0), _) => "up to date".to_owned(),
            (Some(lag), "estimated") => format!("about {} behind", words::count(lag, "event")),
            (Some(lag), _) => format!("{} behind", words::count(lag, "event")),
            (None, _) => "unknown".to_owned(),
        },
        matters: "",
        since: None,
    };
    let worker = |read: &WorkerRead| Row {
        name: read.name.replace('_', " "),
        tone: if read.stalled { STANDS } else { GOES },
        behind: String::new(),
        matters: if read.concern == "answers" { "answers requests" } else { "delivers" },
        since: read.since.map(Moment::of),
    };
    let (tone, says) = status(&ready.status);
    let writable =
        Tone { word: if ready.writable { "Accepts writes" } else { "Rejects writes" }, ..answers(ready.writable) };
    let system = System::of(&visit, "Consumers", "/system/consumers").await;
    page(&ConsumersPage {
        frame: system.frame,
        tabs: system.tabs,
        status: tone,
        says,
        parts: vec![
            ("Event store", answers(ready.event_store)),
            ("Read models", answers(ready.read_models)),
            ("Database", writable),
        ],
        consumers: ready.consumers.iter().map(consumer).collect(),
        workers: ready.workers.iter().map(worker).collect(),
        unsound: ready
            .unsound_events
            .into_iter()
            .map(|event| (event.position, event.event_type, format!("{}, version {}", event.stream, event.version)))
            .collect(),
    })
}
