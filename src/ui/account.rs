//! The user's own page: their sessions, and the appearance of the pages.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};

use super::frame::{Frame, Section};
use super::problem::Problem;
use super::visit::{Shown, Visit, go, page};
use super::{Ui, words};
use crate::directory::SessionRecord;
use crate::domain::ids::TokenId;

/// Where somebody is signed in.
#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    frame: Frame,
    rows: Vec<Row>,
    /// Everybody's sessions, as staff sees them.
    everybody: bool,
    /// The address of the other list; none where there is none.
    other: Option<&'static str>,
}

struct Row {
    id: String,
    name: String,
    role: &'static str,
    way: &'static str,
    created: words::Moment,
    seen: words::Moment,
    ends: words::Moment,
    current: bool,
}

impl Row {
    fn of(record: &SessionRecord, visit: &Visit) -> Self {
        let name = if record.full_name.is_empty() { &record.username } else { &record.full_name };
        Self {
            id: record.id.to_string(),
            name: if name.is_empty() { "somebody who was erased".to_owned() } else { name.clone() },
            role: words::role(record.role),
            way: if record.way.as_str() == "link" { "one-time link" } else { "token" },
            created: words::Moment::of(record.created),
            seen: words::Moment::of(record.seen),
            ends: words::Moment::of(record.idle_end()),
            current: record.id == visit.session.id,
        }
    }
}

/// Whose sessions are listed: one's own, or, for staff who ask for them, everybody's.
fn everybody(visit: &Visit) -> bool {
    visit.is_staff() && visit.query.get("of") == Some("all")
}

/// The list of sessions.
pub async fn show(State(ui): State<Ui>, visit: Visit) -> Shown {
    let everybody = everybody(&visit);
    let found = if everybody {
        ui.app.directory.open_sessions(visit.now).await
    } else {
        ui.app.directory.sessions_of(visit.session.user, visit.now).await
    };
    let rows = found.map_err(|error| Problem::defect(&error))?.iter().map(|record| Row::of(record, &visit)).collect();
    let other = match (visit.is_staff(), everybody) {
        (false, _) => None,
        (true, false) => Some("/sessions?of=all"),
        (true, true) => Some("/sessions"),
    };
    let frame = Frame::of(&visit, "Sessions", Section::None).await;
    page(&SessionsPage { frame, rows, everybody, other })
}

/// Ends a session: one's own, or as staff anybody's.
pub async fn end(State(ui): State<Ui>, visit: Visit) -> Shown {
    let id: TokenId = visit.form.get("session").and_then(|id| id.parse().ok()).ok_or_else(Problem::not_found)?;
    let failed = |error: crate::directory::DirectoryError| Problem::defect(&error);
    let mine = ui.app.directory.sessions_of(visit.session.user, visit.now).await.map_err(failed)?;
    if !visit.is_staff() && !mine.iter().any(|session| session.id == id) {
        return Err(Problem::not_found());
    }
    if !ui.app.directory.end_session(id, visit.now).await.map_err(failed)? {
        return Err(Problem::not_found());
    }
    tracing::info!(session = %id, "a session was ended");
    Ok(go(if visit.form.get("of") == Some("all") { "/sessions?of=all" } else { "/sessions" }))
}

/// Keeps the appearance that was chosen, and leads back.
pub async fn theme(visit: Visit) -> Response {
    let chosen = visit.form.get("theme").filter(|word| matches!(*word, "light" | "dark")).unwrap_or("auto");
    let cookie = Cookie::build(("sluice_theme", chosen.to_owned())).path("/").same_site(SameSite::Strict);
    let cookie = cookie.http_only(true).permanent();
    let back = visit.form.get("back").filter(|back| back.starts_with('/') && !back.starts_with("//")).unwrap_or("/");
    (CookieJar::new().add(cookie.build()), go(back)).into_response()
}
