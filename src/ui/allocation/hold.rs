//! Placing and releasing manual holds on an allocation.

use askama::Template;
use axum::extract::Path;
use axum::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::encoded;
use crate::ui::assets;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::visit::{Shown, Visit, done, page};

#[derive(Deserialize)]
struct Resource {
    uuid: String,
    name: String,
    slug: String,
}

/// A kind of hold.
struct Kind {
    word: &'static str,
    name: &'static str,
    what: &'static str,
    set: bool,
}

/// The dialog's content.
#[derive(Template)]
#[template(path = "hold_part.html")]
struct Part {
    href: String,
    name: String,
    icons: &'static str,
    csrf: String,
    kinds: Vec<Kind>,
    reason: String,
    until: String,
    public: bool,
    problem: Option<Problem>,
    in_dialog: bool,
}

/// The same as a page.
#[derive(Template)]
#[template(path = "hold.html")]
struct HoldPage {
    frame: Frame,
    part: Part,
}

/// The kinds: word on the wire, name, what it does.
const KINDS: [(&str, &str, &str); 3] = [
    ("pause", "Pause", "No new jobs start, whatever was used."),
    ("downscale", "Slow down", "Jobs run at low priority, whatever was used."),
    ("exemption", "Exempt", "No policy restricts it, whatever was used."),
];

async fn known(visit: &Visit, key: &str) -> Result<Resource, Problem> {
    let found = super::resource(visit, key).await?;
    if !super::may_change(visit, &found).await? {
        return Err(Problem::not_found());
    }
    visit.api.get(&format!("/api/marketplace-provider-resources/{}/", found.uuid)).await
}

fn part(visit: &Visit, of: &Resource) -> Part {
    let key = if of.slug.is_empty() { &of.uuid } else { &of.slug };
    let field = |name| visit.form.get(name).unwrap_or_default().to_owned();
    let chosen = visit.form.get("kind").unwrap_or("pause");
    let kind =
        |(word, name, what): (&'static str, &'static str, &'static str)| Kind { word, name, what, set: chosen == word };
    Part {
        href: format!("/allocations/{}", encoded(key)),
        name: of.name.clone(),
        icons: assets::address("icons.svg"),
        csrf: visit.csrf.clone(),
        kinds: KINDS.into_iter().map(kind).collect(),
        reason: field("reason"),
        until: field("until"),
        public: visit.form.get("public").is_some(),
        problem: None,
        in_dialog: visit.fragment,
    }
}

async fn shown(visit: &Visit, part: Part) -> Shown {
    if visit.fragment {
        return page(&part);
    }
    let frame = Frame::of(visit, "Place hold", Section::Allocations).await;
    let frame = frame.under("/allocations", "Allocations").under(&part.href, &part.name);
    page(&HoldPage { frame, part })
}

/// The form.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    let of = known(&visit, &key).await?;
    let part = part(&visit, &of);
    shown(&visit, part).await
}

/// Places a hold.
pub async fn place(visit: Visit, Path(key): Path<String>) -> Shown {
    let of = known(&visit, &key).await?;
    let mut part = part(&visit, &of);
    let mut body = json!({
        "kind": visit.form.get("kind").unwrap_or("pause"), "reason": part.reason, "public": part.public,
    });
    if !part.until.is_empty() {
        // A field for date and time has no zone; the page says that it is UTC.
        let at = if part.until.len() == 16 { format!("{}:00Z", part.until) } else { part.until.clone() };
        body["expires_at"] = at.into();
    }
    let path = format!("/api/marketplace-provider-resources/{}/holds/", of.uuid);
    match visit.api.send::<Value>(Method::POST, &path, &body).await {
        Ok(_) => return Ok(done(&visit, &format!("{}?tab=holds", part.href))),
        Err(problem) => part.problem = Some(problem),
    }
    shown(&visit, part).await
}

/// Releases a hold.
pub async fn release(visit: Visit, Path((key, hold)): Path<(String, String)>) -> Shown {
    let of = known(&visit, &key).await?;
    let reason = visit.form.get("reason").unwrap_or_default();
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("reason", reason).finish();
    let path = format!("/api/marketplace-provider-resources/{}/holds/{}/?{query}", of.uuid, encoded(&hold));
    visit.api.send::<Value>(Method::DELETE, &path, &json!({})).await?;
    let key = if of.slug.is_empty() { of.uuid } else { of.slug };
    Ok(done(&visit, &format!("/allocations/{}?tab=holds", encoded(&key))))
}
