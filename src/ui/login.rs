//! Signing in, with an API token or a one-time link, and out. There are no user names: a key identifies its user.

use std::net::{IpAddr, Ipv4Addr};

use askama::Template;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum_extra::extract::cookie::CookieJar;

use super::frame::Frame;
use super::problem::Problem;
use super::visit::{bare, go, is_own, key_of, session_cookie, theme_of};
use super::{FORM_BYTES_MAX, Ui, words};
use crate::admission::Peer;
use crate::directory::{LinkFor, Role, Way};
use crate::http::{Query, base_of};

/// The sign-in page.
#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    /// Why the last attempt failed.
    complaint: Option<String>,
    /// Whom the link signs in.
    link: Option<LinkView>,
    /// Where to go on.
    next: String,
}

/// A one-time link that is good.
struct LinkView {
    key: String,
    name: String,
    role: &'static str,
}

/// What the sign-in form sends.
struct Attempt {
    token: String,
    link: String,
    next: String,
}

impl Attempt {
    fn of(form: &Query) -> Self {
        let field = |name| form.get(name).unwrap_or_default().to_owned();
        Self { token: field("token"), link: field("link"), next: field("next") }
    }
}

/// A path of this service, or the overview: nobody is led elsewhere by a link to the sign-in page.
fn inside(next: &str) -> String {
    let plain = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\n', '\r']);
    if plain { next.to_owned() } else { "/".to_owned() }
}

fn login_page(
    headers: &HeaderMap,
    status: StatusCode,
    complaint: Option<String>,
    next: &str,
    link: Option<LinkView>,
) -> Response {
    let frame = Frame::bare("Sign in", theme_of(headers));
    let page = LoginPage { frame, complaint, link, next: inside(next) };
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => Problem::from(error).status.into_response(),
    }
}

const SPENT: &str =
    "This link was used already, or its time is over. Sign in with a token, or ask for a new link: sluice login-link.";

/// The sign-in page; with a link in the query, whom it signs in.
pub async fn show(State(ui): State<Ui>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let next = query.get("next").unwrap_or("/");
    let Some(key) = query.get("link") else {
        return login_page(&parts.headers, StatusCode::OK, None, next, None);
    };
    match ui.app.directory.login_link(key, ui.app.clock.now()).await {
        Ok(Some(to)) => {
            let name = if to.full_name.is_empty() { to.username } else { to.full_name };
            let link = LinkView { key: key.to_owned(), name, role: words::role(to.role) };
            login_page(&parts.headers, StatusCode::OK, None, next, Some(link))
        }
        Ok(None) => login_page(&parts.headers, StatusCode::GONE, Some(SPENT.to_owned()), next, None),
        Err(error) => bare(&Problem::defect(&error), &parts),
    }
}

/// Who an attempt stands for, or why it stands for nobody.
async fn who(ui: &Ui, attempt: &Attempt) -> Result<Result<(crate::domain::ids::UserId, Role, Way), String>, Problem> {
    let (directory, now) = (&ui.app.directory, ui.app.clock.now());
    let failed = |error: crate::directory::DirectoryError| Problem::defect(&error);
    if !attempt.link.is_empty() {
        let to: Option<LinkFor> = directory.login_link(&attempt.link, now).await.map_err(failed)?;
        let good = match to {
            Some(to) if directory.use_login_link(&attempt.link, now).await.map_err(failed)? => Some(to),
            _ => None,
        };
        return Ok(good.map(|to| (to.user, to.role, Way::Link)).ok_or_else(|| SPENT.to_owned()));
    }
    let token = attempt.token.trim();
    if token.is_empty() {
        return Ok(Err("Enter a token. It has usually 40 hex digits.".to_owned()));
    }
    Ok(match directory.authenticate(token, now).await.map_err(failed)? {
        None => Err("This token is unknown, was revoked or has expired.".to_owned()),
        Some(principal) if principal.role == Role::Agent => {
            Err("This is the token of a site agent, which has no pages. Sign in with a person's token.".to_owned())
        }
        Some(principal) => Ok((principal.user, principal.role, Way::Token(principal.token))),
    })
}

/// Opens a session, in the place of one that the browser has: nobody goes on in a session that was there before.
pub async fn sign_in(State(ui): State<Ui>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let base = base_of(&parts);
    if !is_own(&parts.headers, &base) {
        let sentence = "The form did not come from the sign-in page of this service.";
        return bare(&Problem::new(StatusCode::FORBIDDEN, sentence), &parts);
    }
    let from = address_of(&ui, &parts);
    let headers = parts.headers.clone();
    let Ok(bytes) = to_bytes(body, FORM_BYTES_MAX).await else {
        return bare(&Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The form is too large."), &parts);
    };
    let attempt = Attempt::of(&Query::parse(&String::from_utf8_lossy(&bytes)));
    if let Some(left) = ui.throttle.wait(from) {
        let minutes = left.as_secs().div_ceil(60);
        let complaint = format!("Too many attempts failed. Try again in {}.", words::count(minutes, "minute"));
        let mut response = login_page(&headers, StatusCode::TOO_MANY_REQUESTS, Some(complaint), &attempt.next, None);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(left.as_secs()));
        return response;
    }
    let (user, role, way) = match who(&ui, &attempt).await {
        Ok(Ok(found)) => found,
        Ok(Err(complaint)) => {
            ui.throttle.failed(from);
            tracing::info!(%from, "an attempt to sign in failed");
            return login_page(&headers, StatusCode::UNPROCESSABLE_ENTITY, Some(complaint), &attempt.next, None);
        }
        Err(problem) => return bare(&problem, &parts),
    };
    let (directory, now) = (&ui.app.directory, ui.app.clock.now());
    if let Some(old) = key_of(&headers)
        && let Err(error) = directory.end_session_of(&old, now).await
    {
        return bare(&Problem::defect(&error), &parts);
    }
    let key = match directory.open_session(user, role, way, now).await {
        Ok(key) => key,
        Err(error) => return bare(&Problem::defect(&error), &parts),
    };
    tracing::info!(%user, role = role.as_str(), way = way.as_str(), "signed in");
    let jar = CookieJar::new().add(session_cookie(Some(&key), &base));
    (jar, go(&inside(&attempt.next))).into_response()
}

/// Ends the session.
pub async fn sign_out(State(ui): State<Ui>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if let Some(key) = key_of(&parts.headers)
        && let Err(error) = ui.app.directory.end_session_of(&key, ui.app.clock.now()).await
    {
        return bare(&Problem::defect(&error), &parts);
    }
    (CookieJar::new().add(session_cookie(None, &base_of(&parts))), go("/login")).into_response()
}

/// Where an attempt comes from: the peer, or whom a proxy of the site speaks for.
fn address_of(ui: &Ui, parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    let address = peer.and_then(|peer| ui.allowances.address(peer, &parts.headers));
    address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
