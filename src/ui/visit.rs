//! One request of a signed-in user: the user, the request, and the API with that user's permissions.
//!
//! A change must come from a page of this service: its `Origin` is checked, and it carries a token that only a page of
//! the same session can know.

use axum::body::to_bytes;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::api::Api;
use super::problem::{Problem, ProblemPage};
use super::{FORM_BYTES_MAX, Ui, frame};
use crate::admission::Peer;
use crate::directory::{Role, SessionRecord};
use crate::http::{Query, RequestId, base_of};

/// The cookie of a session over plain HTTP, and over TLS: a browser takes the second from this host only.
const COOKIES: [&str; 2] = ["sluice_session", "__Host-sluice_session"];

/// The field, and the header, that shows that a request comes from a page of the same session.
pub const CSRF_FIELD: &str = "csrf";
const CSRF_HEADER: &str = "x-csrf-token";

/// A request by somebody who is signed in.
#[derive(Clone)]
pub struct Visit {
    /// The API as the caller may use it.
    pub api: Api,
    /// The session.
    pub session: SessionRecord,
    /// The path that was asked for.
    pub path: String,
    /// Its query.
    pub query: Query,
    /// What a form sent; empty where none did.
    pub form: Query,
    /// What has to come with whatever changes something.
    pub csrf: String,
    /// The appearance that was chosen: `light`, `dark` or `auto`.
    pub theme: &'static str,
    /// A part of a page is asked for, by the script.
    pub fragment: bool,
    /// When it was asked for.
    pub now: DateTime<Utc>,
    /// An owner of an organisation that offers something: sees its users' allocations and its policies.
    pub provides: bool,
    /// The service lives on a simulated clock.
    pub simulated: bool,
}

impl Visit {
    /// Whether the caller may do everything.
    pub fn is_staff(&self) -> bool {
        self.session.role == Role::Staff
    }

    /// Whether the caller looks from outside: at their own allocations only.
    pub fn is_user(&self) -> bool {
        matches!(self.session.role, Role::Owner | Role::Member) && !self.provides
    }

    /// Whether the caller may read the log of events, and how the service itself does.
    pub fn reads_log(&self) -> bool {
        matches!(self.session.role, Role::Staff | Role::Support)
    }

    /// The page of a list that is asked for, from 1.
    pub fn page(&self) -> Result<u64, Problem> {
        let Some(text) = self.query.get("page") else { return Ok(1) };
        let sentence = || format!("page: {text:?} is not valid. Allowed: a number from 1 on.");
        let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
        number.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, sentence()))
    }

    /// The same list at another page.
    pub fn at_page(&self, page: u64) -> String {
        format!("{}?{}", self.path, self.query.with_page(page))
    }

    /// The address that was asked for; a form's leads to the overview, which it can be read from.
    pub fn here(&self) -> String {
        let text = self.query.encoded();
        if text.is_empty() { self.path.clone() } else { format!("{}?{text}", self.path) }
    }

    /// The query with one parameter set to something else, as a link; page numbers begin again.
    pub fn with(&self, name: &str, value: &str) -> String {
        let kept = self.query.only(|known| known != name && !matches!(known, "page" | "before" | "at"));
        let text = if value.is_empty() { kept.encoded() } else { kept.with(name, value) };
        if text.is_empty() { self.path.clone() } else { format!("{}?{text}", self.path) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Every page is behind `signed_in`, which puts it there.
        parts.extensions.get().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// What a page answers.
pub type Shown = Result<Response, Problem>;

/// A page, or a part of one, as it is sent.
pub fn page(template: &impl askama::Template) -> Shown {
    Ok(Html(template.render()?).into_response())
}

/// Leads to another page after something was done.
pub fn go(to: &str) -> Response {
    Redirect::to(to).into_response()
}

/// Leads to another page after something was done; the script, which sent a part of a page, goes there as a whole.
pub fn done(visit: &Visit, to: &str) -> Response {
    if !visit.fragment {
        return go(to);
    }
    let mut response = StatusCode::OK.into_response();
    if let Ok(value) = HeaderValue::from_str(to) {
        response.headers_mut().insert("hx-redirect", value);
    }
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The key of the session in a request's cookie.
pub fn key_of(headers: &HeaderMap) -> Option<String> {
    let jar = CookieJar::from_headers(headers);
    COOKIES.iter().rev().find_map(|name| jar.get(name)).map(|cookie| cookie.value().to_owned())
}

/// The cookie that keeps a session, or, without a key, takes it away.
pub fn session_cookie(key: Option<&str>, base: &str) -> Cookie<'static> {
    let secure = base.starts_with("https:");
    let name = COOKIES[usize::from(secure)];
    let cookie = Cookie::build((name, key.unwrap_or_default().to_owned()));
    let mut cookie = cookie.path("/").http_only(true).same_site(SameSite::Strict).secure(secure).build();
    if key.is_none() {
        cookie.make_removal();
    }
    cookie
}

/// What pages of a session carry: derived from its key, so that nobody else can know it and nothing need be kept.
fn csrf_of(key: &str) -> String {
    super::words::hex(&Sha256::digest(format!("sluice/csrf/{key}"))[..16])
}

/// Whether a request that changes something comes from a page of this service.
pub fn is_own(headers: &HeaderMap, base: &str) -> bool {
    match headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) {
        // A proxy that ends TLS without saying so leaves the scheme unknown; host and port say where the page came from.
        Some(origin) => after_scheme(origin) == after_scheme(base),
        None => headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin"),
    }
}

fn after_scheme(address: &str) -> Option<&str> {
    address.split_once("://").map(|(_, host)| host)
}

/// The appearance that a browser keeps.
pub fn theme_of(headers: &HeaderMap) -> &'static str {
    let jar = CookieJar::from_headers(headers);
    match jar.get("sluice_theme").map(Cookie::value) {
        Some("light") => "light",
        Some("dark") => "dark",
        _ => "auto",
    }
}

/// Lets those who are signed in through to a page, and leads everybody else to the sign-in page and back.
pub async fn signed_in(State(ui): State<Ui>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let now = ui.app.clock.now();
    let key = key_of(&parts.headers);
    let found = match &key {
        None => Ok(None),
        Some(key) => ui.app.directory.session(key, now).await,
    };
    let (session, key) = match (found, key) {
        (Ok(Some(session)), Some(key)) => (session, key),
        (Ok(_), _) => return to_login(&parts),
        (Err(error), _) => return bare(&Problem::defect(&error), &parts),
    };
    // A signed-in user keeps the connection's slot, and has the same rate limits as with a token.
    let token = session.principal().token;
    let placed = ui.allowances.place(parts.extensions.get::<Peer>(), token);
    if placed.and_then(|()| ui.allowances.known(token, false)).is_err() {
        let sentence = "So many pages were asked for in a minute that this one has to wait. Try again in a minute.";
        return bare(&Problem::new(StatusCode::TOO_MANY_REQUESTS, sentence), &parts);
    }
    if let Err(error) = ui.app.fresh().await {
        return bare(&Problem::defect(&error), &parts);
    }
    tracing::Span::current().record("user", tracing::field::display(session.user));
    let (request_id, host) = (RequestId::of(&parts), host_of(&parts.headers));
    let mut visit = Visit {
        api: Api::new(ui.api.clone(), session.principal(), request_id.clone(), host),
        session,
        path: if parts.uri.path() == "/overview" { "/".to_owned() } else { parts.uri.path().to_owned() },
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        form: Query::default(),
        csrf: csrf_of(&key),
        theme: theme_of(&parts.headers),
        fragment: parts.headers.contains_key("hx-request"),
        now,
        provides: false,
        simulated: ui.app.clock.is_simulated(),
    };
    if visit.session.role == Role::Owner {
        let offered = "/api/marketplace-provider-offerings/?page_size=1&field=uuid";
        visit.provides = visit.api.list::<IgnoredAny>(offered).await.is_ok_and(|offered| offered.total > 0);
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let Ok(bytes) = to_bytes(body, FORM_BYTES_MAX).await else {
            let large = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The form is too large. Nothing was changed.");
            return shown(&large, &visit, &request_id).await;
        };
        visit.form = Query::parse(&String::from_utf8_lossy(&bytes));
        let sent = parts.headers.get(CSRF_HEADER).and_then(|token| token.to_str().ok());
        let sent = sent.or(visit.form.get(CSRF_FIELD));
        if !is_own(&parts.headers, &base_of(&parts)) || sent != Some(visit.csrf.as_str()) {
            let sentence =
                "The form did not come from a page of this session. Nothing was changed. Open the page again.";
            return shown(&Problem::new(StatusCode::FORBIDDEN, sentence), &visit, &request_id).await;
        }
    }
    if let Err(problem) = readable(&visit) {
        return shown(&problem, &visit, &request_id).await;
    }
    parts.extensions.insert(visit.clone());
    let response = next.run(Request::from_parts(parts, axum::body::Body::empty())).await;
    match response.extensions().get::<Problem>() {
        Some(problem) => shown(problem, &visit, &request_id).await,
        None => response,
    }
}

/// Refuses a value that holds what cannot be seen, as the API does.
fn readable(visit: &Visit) -> Result<(), Problem> {
    let checked = visit.query.check().and_then(|()| visit.form.check());
    checked.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}

fn host_of(headers: &HeaderMap) -> String {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned()
}

/// The sign-in page, which leads back to what was asked for.
fn to_login(parts: &Parts) -> Response {
    let back = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let back = if back.starts_with("/overview") || parts.method != Method::GET { "/" } else { back };
    let to = if back == "/" {
        "/login".to_owned()
    } else {
        format!("/login?{}", form_urlencoded::Serializer::new(String::new()).append_pair("next", back).finish())
    };
    if parts.headers.contains_key("hx-request") {
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        if let Ok(value) = HeaderValue::from_str(&to) {
            response.headers_mut().insert("hx-redirect", value);
        }
        return response;
    }
    go(&to)
}

async fn shown(problem: &Problem, visit: &Visit, id: &RequestId) -> Response {
    let frame = frame::Frame::of(visit, problem.title(), frame::Section::None).await;
    rendered(&ProblemPage { frame, problem, request_id: id.text.clone() })
}

/// A problem of somebody of whom nothing is known.
pub fn bare(problem: &Problem, parts: &Parts) -> Response {
    let frame = frame::Frame::bare(problem.title(), theme_of(&parts.headers));
    rendered(&ProblemPage { frame, problem, request_id: RequestId::of(parts).text })
}

fn rendered(page: &ProblemPage<'_>) -> Response {
    match askama::Template::render(page) {
        Ok(text) => (page.problem.status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the page of a problem cannot be made");
            page.problem.status.into_response()
        }
    }
}
