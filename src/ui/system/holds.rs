//! Manual holds in force on all allocations.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::Path;
use axum::http::Method;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{System, Tab, changes, reads};
use crate::ui::allocation::encoded;
use crate::ui::confirm::Confirm;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::read::Named;
use crate::ui::sheet::{self, ROWS, Sheet};
use crate::ui::standing::{self, Tone};
use crate::ui::visit::{Shown, Visit, done, page};
use crate::ui::words::{self, Moment};

#[derive(Deserialize)]
struct HoldRead {
    uuid: String,
    resource_uuid: String,
    kind: String,
    reason: Option<String>,
    ticket: Option<String>,
    public: bool,
    placed_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

struct Row {
    allocation: String,
    name: String,
    kind: Tone,
    reason: String,
    ticket: String,
    public: bool,
    placed: Moment,
    ends: Option<(Moment, String)>,
    release: String,
}

/// The page.
#[derive(Template)]
#[template(path = "system_holds.html")]
struct HoldsPage {
    frame: Frame,
    tabs: Vec<Tab>,
    path: String,
    may_change: bool,
    list: Sheet,
    rows: Vec<Row>,
}

fn kind(word: &str) -> Tone {
    let on_hold = standing::state("on_hold");
    match word {
        "exemption" => standing::state("exempt"),
        "pause" => Tone { word: "Paused", ..on_hold },
        _ => Tone { word: "Slowed down", ..on_hold },
    }
}

const KINDS: [(&str, &str); 3] = [("pause", "Pause"), ("downscale", "Slow down"), ("exemption", "Exempt")];

async fn name(visit: &Visit, resource: &str) -> Result<String, Problem> {
    let path = format!("/api/marketplace-provider-resources/{}/", encoded(resource));
    Ok(visit.api.find::<Named>(&path).await?.map_or_else(|| resource.to_owned(), |found| found.name))
}

/// The page of holds.
pub async fn show(visit: Visit) -> Shown {
    reads(&visit)?;
    let asked = sheet::asked(&visit, &[("kind", "kind"), ("allocation", "resource_uuid")]);
    let path = format!("/api/manual-holds/?{asked}&page={}&page_size={ROWS}", visit.page()?);
    let found = visit.api.list::<HoldRead>(&path).await?;
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for hold in &found.rows {
        if !names.contains_key(hold.resource_uuid.as_str()) {
            names.insert(&hold.resource_uuid, name(&visit, &hold.resource_uuid).await?);
        }
    }
    let row = |hold: &HoldRead| Row {
        allocation: format!("/allocations/{}?tab=holds", encoded(&hold.resource_uuid)),
        name: names.get(hold.resource_uuid.as_str()).cloned().unwrap_or_default(),
        kind: kind(&hold.kind),
        reason: hold.reason.clone().unwrap_or_default(),
        ticket: hold.ticket.clone().unwrap_or_default(),
        public: hold.public,
        placed: Moment::of(hold.placed_at),
        ends: hold.expires_at.map(|at| (Moment::of(at), words::duration(at - visit.now))),
        release: format!("/system/holds/{}/{}/release", hold.resource_uuid, hold.uuid),
    };
    let rows = found.rows.iter().map(row).collect();
    let list = Sheet::plain(&visit, found.rows.len(), found.total)?;
    let system = System::of(&visit, "Holds", "/system/holds").await;
    page(&HoldsPage {
        frame: system.frame,
        tabs: system.tabs,
        path: system.path,
        may_change: system.may_change,
        list: list.filtered(&visit, vec![sheet::filter(&visit, "Kind", "kind", &KINDS)], None, &[]),
        rows,
    })
}

async fn confirmation(visit: &Visit, resource: &str) -> Result<Confirm, Problem> {
    changes(visit)?;
    let name = name(visit, resource).await?;
    Ok(Confirm::of(visit, format!("Release the hold on {name}"), format!("Release {name}"), "/system/holds")
        .with_reason(visit)
        .saying(format!("What policies decide counts for {name} again, at once.")))
}

/// Asks whether a hold is to be released.
pub async fn ask(visit: Visit, Path((resource, _)): Path<(String, String)>) -> Shown {
    let part = confirmation(&visit, &resource).await?;
    part.shown(&visit, Section::System, ("/system/holds", "Holds")).await
}

/// Releases a hold.
pub async fn release(visit: Visit, Path((resource, hold)): Path<(String, String)>) -> Shown {
    let mut part = confirmation(&visit, &resource).await?;
    let reason = visit.form.get("reason").unwrap_or_default();
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("reason", reason).finish();
    let path = format!("/api/marketplace-provider-resources/{}/holds/{}/?{query}", encoded(&resource), encoded(&hold));
    match visit.api.send::<Value>(Method::DELETE, &path, &json!({})).await {
        Ok(_) => return Ok(done(&visit, "/system/holds")),
        Err(problem) => part.problem = Some(problem),
    }
    part.shown(&visit, Section::System, ("/system/holds", "Holds")).await
}
