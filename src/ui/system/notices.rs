//! What people and other programs were told, or are to be told, and what could not be delivered.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::Path;
use axum::http::Method;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{System, Tab, changes, reads};
use crate::ui::allocation::encoded;
use crate::ui::confirm::Confirm;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::read::Named;
use crate::ui::sheet::{self, ROWS, Sheet};
use crate::ui::standing::Tone;
use crate::ui::visit::{Shown, Visit, done, page};
use crate::ui::words::{self, Moment};

/// The API's collection.
const COLLECTION: &str = "/api/notices/";

#[derive(Deserialize)]
struct NoticeRead {
    uuid: Option<String>,
    state: String,
    channel: String,
    template: String,
    #[serde(deserialize_with = "crate::ui::read::many")]
    thresholds: Vec<Decimal>,
    recipient_name: String,
    via: String,
    resource_uuid: String,
    occurred_at: DateTime<Utc>,
    attempts: u64,
    error: Option<String>,
}

struct Row {
    at: Moment,
    what: Tone,
    thresholds: String,
    to: String,
    via: &'static str,
    channel: String,
    allocation: String,
    name: String,
    state: Tone,
    attempts: u64,
    error: String,
    resend: Option<String>,
}

/// The page.
#[derive(Template)]
#[template(path = "system_notices.html")]
struct NoticesPage {
    frame: Frame,
    tabs: Vec<Tab>,
    path: String,
    may_change: bool,
    list: Sheet,
    rows: Vec<Row>,
    given_up: Option<String>,
}

fn what(template: &str) -> Tone {
    let tone = |class, icon, word| Tone { class, icon, word };
    match template {
        "threshold_reached" => tone("warn", "bell", "Warned"),
        "slowed_down" => tone("slow", "chevrons-down", "Slowed down"),
        "paused" => tone("pause", "pause", "Paused"),
        "restored" => tone("normal", "circle-check", "Restored"),
        "command_failed" => tone("pause", "circle-x", "Command failed"),
        _ => tone("plain", "mail", "Notice"),
    }
}

fn state(word: &str) -> Tone {
    let tone = |class, icon, word| Tone { class, icon, word };
    match word {
        "sent" => tone("normal", "circle-check", "Sent"),
        "failed" => tone("pause", "circle-x", "Given up"),
        _ => tone("plain", "hourglass", "Waiting"),
    }
}

const STATES: [(&str, &str); 3] = [("owed", "Waiting"), ("sent", "Sent"), ("failed", "Given up")];

/// What allocations are called, by id: a notice knows only the id.
async fn names(visit: &Visit, rows: &[NoticeRead]) -> Result<BTreeMap<String, String>, Problem> {
    let mut names = BTreeMap::new();
    for id in rows.iter().map(|row| &row.resource_uuid) {
        if !names.contains_key(id) {
            let path = format!("/api/marketplace-provider-resources/{}/?field=uuid&field=name", encoded(id));
            let found = visit.api.find::<Named>(&path).await?;
            names.insert(id.clone(), found.map_or_else(|| "the allocation".to_owned(), |found| found.name));
        }
    }
    Ok(names)
}

/// The page of notices.
pub async fn show(visit: Visit) -> Shown {
    reads(&visit)?;
    let asked = sheet::asked(&visit, &[("state", "state"), ("allocation", "resource_uuid")]);
    let path = format!("{COLLECTION}?{asked}&page={}&page_size={ROWS}", visit.page()?);
    let found = visit.api.list::<NoticeRead>(&path).await?;
    let failed = visit.api.list::<Value>(&format!("{COLLECTION}?state=failed&page_size=1&field=uuid")).await?.total;
    let mut filters = vec![sheet::filter(&visit, "State", "state", &STATES)];
    if let Some(id) = visit.query.get("allocation") {
        filters.push(sheet::fixed(&visit, "Allocation", "allocation", Some(id.chars().take(12).collect())));
    }
    let may = visit.is_staff();
    let names = names(&visit, &found.rows).await?;
    let row = |read: &NoticeRead| Row {
        at: Moment::of(read.occurred_at),
        what: what(&read.template),
        thresholds: read.thresholds.iter().map(|percent| words::rung(*percent)).collect::<Vec<_>>().join(", "),
        to: if read.recipient_name.is_empty() { "somebody who was erased".into() } else { read.recipient_name.clone() },
        via: match read.via.as_str() {
            "owner" => "as an owner",
            "external" => "named in the policy",
            _ => "a webhook",
        },
        channel: read.channel.clone(),
        allocation: format!("/allocations/{}", encoded(&read.resource_uuid)),
        name: names.get(&read.resource_uuid).cloned().unwrap_or_default(),
        state: state(&read.state),
        attempts: read.attempts,
        error: read.error.clone().unwrap_or_default(),
        resend: read
            .uuid
            .as_ref()
            .filter(|_| may && read.state == "failed")
            .map(|id| format!("/system/notices/{id}/resend")),
    };
    let list = Sheet::plain(&visit, found.rows.len(), found.total)?;
    let system = System::of(&visit, "Notices", "/system/notices").await;
    page(&NoticesPage {
        frame: system.frame,
        tabs: system.tabs,
        path: system.path,
        may_change: system.may_change,
        list: list.filtered(&visit, filters, None, &[]),
        rows: found.rows.iter().map(row).collect(),
        given_up: (may && failed > 0).then(|| words::count(failed, "notice")),
    })
}

fn confirmation(visit: &Visit, of: &str) -> Confirm {
    let (title, says) = if of == "all" {
        ("Resend what was given up", "Sluice tries everything that was given up again.")
    } else {
        ("Send the notice again", "The message goes out once more, to the same recipient.")
    };
    Confirm::of(visit, title, title, "/system/notices")
        .saying(says)
        .saying("Attempts are counted anew, and the record says who asked for it.")
}

/// Asks whether a notice, or all, are to be sent again.
pub async fn ask(visit: Visit, Path(id): Path<String>) -> Shown {
    changes(&visit)?;
    confirmation(&visit, &id).shown(&visit, Section::System, ("/system/notices", "Notices")).await
}

/// Has a notice, or all, sent again.
pub async fn resend(visit: Visit, Path(id): Path<String>) -> Shown {
    changes(&visit)?;
    let path =
        if id == "all" { format!("{COLLECTION}resend/") } else { format!("{COLLECTION}{}/resend/", encoded(&id)) };
    let mut part = confirmation(&visit, &id);
    match visit.api.send::<Value>(Method::POST, &path, &json!({})).await {
        Ok(_) => return Ok(done(&visit, "/system/notices")),
        Err(problem) if problem.status == axum::http::StatusCode::NOT_FOUND => {
            part.problem = Some(Problem::new(problem.status, "There is no such notice, or it was not given up."));
        }
        Err(problem) => part.problem = Some(problem),
    }
    part.shown(&visit, Section::System, ("/system/notices", "Notices")).await
}
