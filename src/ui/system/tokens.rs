//! Tokens: who may call, in which role, until when; making one, and revoking one.

use askama::Template;
use axum::extract::Path;
use axum::http::Method;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ABOVE, System, Tab, changes};
use crate::ui::allocation::encoded;
use crate::ui::assets;
use crate::ui::confirm::Confirm;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::read::Named;
use crate::ui::sheet::{ROWS, Sheet};
use crate::ui::standing::Tone;
use crate::ui::visit::{Shown, Visit, done, page};
use crate::ui::words::Moment;

/// The API's collection.
const COLLECTION: &str = "/api/tokens/";

#[derive(Deserialize)]
struct TokenRead {
    uuid: String,
    username: String,
    role: String,
    label: Option<String>,
    created: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    is_active: bool,
    #[serde(default)]
    key: Option<String>,
}

struct Row {
    name: String,
    role: String,
    label: String,
    created: Moment,
    ends: String,
    state: Tone,
    revoke: Option<String>,
}

/// The list.
#[derive(Template)]
#[template(path = "system_tokens.html")]
struct TokensPage {
    frame: Frame,
    tabs: Vec<Tab>,
    list: Sheet,
    rows: Vec<Row>,
}

/// The form to make one, and the key once it is made.
#[derive(Template)]
#[template(path = "token_part.html")]
struct Part {
    icons: &'static str,
    csrf: String,
    in_dialog: bool,
    problem: Option<Problem>,
    username: String,
    role: String,
    label: String,
    until: String,
    offering: String,
    offerings: Vec<(String, String)>,
    roles: [(&'static str, &'static str); 5],
    made: Option<String>,
}

/// The same as a page.
#[derive(Template)]
#[template(path = "token.html")]
struct TokenPage {
    frame: Frame,
    part: Part,
}

const ROLES: [(&str, &str); 5] =
    [("staff", "Staff"), ("support", "Support"), ("owner", "Owner"), ("member", "Member"), ("agent", "Site agent")];

fn state(token: &TokenRead) -> Tone {
    let tone = |class, icon, word| Tone { class, icon, word };
    match (token.is_active, token.revoked_at) {
        (true, _) => tone("normal", "circle-check", "Active"),
        (false, Some(_)) => tone("plain", "ban", "Revoked"),
        (false, None) => tone("plain", "clock", "Expired"),
    }
}

/// The list of tokens.
pub async fn show(visit: Visit) -> Shown {
    changes(&visit)?;
    let found = visit.api.list::<TokenRead>(&format!("{COLLECTION}?page={}&page_size={ROWS}", visit.page()?)).await?;
    let row = |token: &TokenRead| Row {
        name: if token.username.is_empty() { "somebody who was erased".to_owned() } else { token.username.clone() },
        role: token.role.clone(),
        label: token.label.clone().unwrap_or_default(),
        created: Moment::of(token.created),
        ends: match (token.revoked_at, token.expires_at) {
            (Some(at), _) => format!("revoked {}", Moment::of(at).short),
            (None, Some(at)) => Moment::of(at).short,
            (None, None) => "never".to_owned(),
        },
        state: state(token),
        revoke: token.is_active.then(|| format!("/system/tokens/{}/revoke", token.uuid)),
    };
    let system = System::of(&visit, "Tokens", "/system/tokens").await;
    page(&TokensPage {
        frame: system.frame,
        tabs: system.tabs,
        list: Sheet::plain(&visit, found.rows.len(), found.total)?,
        rows: found.rows.iter().map(row).collect(),
    })
}

async fn part(visit: &Visit) -> Result<Part, Problem> {
    changes(visit)?;
    let of = |name| visit.form.get(name).unwrap_or_default().to_owned();
    let known = visit.api.list::<Named>("/api/marketplace-provider-offerings/?page_size=100").await?;
    Ok(Part {
        icons: assets::address("icons.svg"),
        csrf: visit.csrf.clone(),
        in_dialog: visit.fragment,
        problem: None,
        username: of("username"),
        role: of("role"),
        label: of("label"),
        until: of("until"),
        offering: of("offering"),
        offerings: known.rows.into_iter().map(|offering| (offering.uuid, offering.name)).collect(),
        roles: ROLES,
        made: None,
    })
}

async fn shown(visit: &Visit, part: Part) -> Shown {
    if visit.fragment {
        return page(&part);
    }
    let frame = Frame::of(visit, "Make a token", Section::System).await.under(ABOVE.0, ABOVE.1);
    page(&TokenPage { frame: frame.under("/system/tokens", "Tokens"), part })
}

/// The form.
pub async fn ask(visit: Visit) -> Shown {
    let part = part(&visit).await?;
    shown(&visit, part).await
}

/// Makes a token, and shows its key this once.
pub async fn make(visit: Visit) -> Shown {
    let mut part = part(&visit).await?;
    let mut body = json!({ "username": part.username, "role": part.role });
    if !part.label.is_empty() {
        body["label"] = part.label.clone().into();
    }
    if !part.until.is_empty() {
        // A day has no time; the page says that the token ends as the day does, in UTC.
        body["expires_at"] = format!("{}T23:59:59Z", part.until).into();
    }
    if part.role == "agent" {
        body["offering"] = part.offering.clone().into();
    }
    match visit.api.send::<TokenRead>(Method::POST, COLLECTION, &body).await {
        Ok(made) => part.made = made.key,
        Err(problem) => part.problem = Some(problem),
    }
    shown(&visit, part).await
}

fn confirmation(visit: &Visit) -> Confirm {
    let mut part = Confirm::of(visit, "Revoke the token", "Revoke it", "/system/tokens")
        .saying("Nobody can call with it any more, and the sessions that it opened end at once.")
        .saying("A site agent that uses it stops until it has another one.");
    part.danger = true;
    part
}

/// Asks whether a token is to be revoked.
pub async fn ask_revoke(visit: Visit, Path(_): Path<String>) -> Shown {
    changes(&visit)?;
    confirmation(&visit).shown(&visit, Section::System, ("/system/tokens", "Tokens")).await
}

/// Revokes a token.
pub async fn revoke(visit: Visit, Path(id): Path<String>) -> Shown {
    changes(&visit)?;
    let mut part = confirmation(&visit);
    match visit.api.send::<Value>(Method::DELETE, &format!("{COLLECTION}{}/", encoded(&id)), &json!({})).await {
        Ok(_) => return Ok(done(&visit, "/system/tokens")),
        Err(problem) => part.problem = Some(problem),
    }
    part.shown(&visit, Section::System, ("/system/tokens", "Tokens")).await
}
