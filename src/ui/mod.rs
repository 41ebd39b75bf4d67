//! The web interface: pages for the people who run a site and for those who use it.
//!
//! A page is one handler file, one template and one view struct. The handler calls the API (`Api` in `api.rs`) and puts
//! the answers into words; the template contains no logic. Everything except dialogs, hover and live updates works
//! without script.

#![expect(clippy::struct_field_names, reason = "views and what is read have the names of templates and of the wire")]

mod account;
mod allocation;
mod allocations;
mod api;
mod assets;
mod chart;
mod commands;
mod confirm;
mod events;
mod frame;
mod listing;
mod login;
mod overview;
mod policy;
mod problem;
mod read;
mod rows;
mod sheet;
mod standing;
mod system;
mod throttle;
mod timeline;
mod visit;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};

use crate::app::App;
use crate::http::Allowances;

/// What a page may load: its own files, nothing of others, and no script or style that stands in it.
const PAGES_MAY_LOAD: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                              font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
                              frame-ancestors 'none'";

/// The most bytes of a form.
const FORM_BYTES_MAX: usize = 64 << 10;

/// What every page works with.
#[derive(Clone)]
pub struct Ui {
    app: Arc<App>,
    allowances: Arc<Allowances>,
    api: Router,
    throttle: Arc<throttle::Throttle>,
}

/// The pages, over the API's routes.
pub fn routes(app: Arc<App>, allowances: Arc<Allowances>, api: Router) -> Router {
    let ui = Ui { app, allowances, api, throttle: Arc::default() };
    let pages = Router::new()
        .route("/overview", get(overview::show))
        .route("/allocations", get(allocations::show))
        .route("/allocations/{key}", get(allocation::show))
        .route("/allocations/{key}/limit", get(allocation::limit::show).post(allocation::limit::change))
        .route("/allocations/{key}/hold", get(allocation::hold::show).post(allocation::hold::place))
        .route("/allocations/{key}/hold/{hold}/release", post(allocation::hold::release))
        .route("/allocations/{key}/statement", get(allocation::statement::show))
        .route("/allocations/export/{file}", get(allocations::export))
        .route("/policies", get(policy::list))
        .route("/policies/{key}", get(policy::show))
        .route("/policies/new", get(policy::new::show).post(policy::new::make))
        .route("/policies/{key}/edit", get(policy::edit::show).post(policy::edit::change))
        .route("/policies/{key}/versions", get(policy::versions::show))
        .route("/policies/{key}/disable", get(policy::switch::ask_to_disable).post(policy::switch::disable))
        .route("/policies/{key}/enable", get(policy::switch::ask_to_enable).post(policy::switch::enable))
        .route("/policies/{key}/delete", get(policy::switch::ask_to_delete).post(policy::switch::delete))
        .route("/policies/{key}/evaluate", get(policy::evaluate::show).post(policy::evaluate::run))
        .merge(operations())
        .route("/sessions", get(account::show))
        .route("/sessions/end", post(account::end))
        .route("/theme", post(account::theme))
        .route("/logout", post(login::sign_out))
        .layer(from_fn_with_state(ui.clone(), visit::signed_in));
    Router::new()
        .merge(pages)
        .route("/login", get(login::show).post(login::sign_in))
        .with_state(ui)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn(secured))
        .route("/assets/{name}", get(assets::serve))
}

/// The pages for those who keep the service going: commands, agents, the log.
fn operations() -> Router<Ui> {
    Router::new()
        .route("/commands", get(commands::show))
        .route("/commands/export/{file}", get(commands::export))
        .route("/commands/freed", get(commands::letters::ask_freed).post(commands::letters::freed))
        .route("/commands/{dispatch}", get(commands::dispatch::show))
        .route("/commands/{id}/resend", get(commands::letters::ask).post(commands::letters::resend))
        .route("/agents/{id}", get(commands::agent::show))
        .merge(the_system())
        .route("/timeline", get(timeline::show))
        .route("/events", get(events::show))
        .route("/events/live", get(events::live::show))
        .route("/events/export/{file}", get(events::export))
        .route("/events/{position}", get(events::show_one))
}

/// The pages on how the service does.
fn the_system() -> Router<Ui> {
    Router::new()
        .route("/system", get(system::jobs::show))
        .route("/system/jobs", get(system::jobs::show))
        .route("/system/consumers", get(system::consumers::show))
        .route("/system/notices", get(system::notices::show))
        .route("/system/notices/{id}/resend", get(system::notices::ask).post(system::notices::resend))
        .route("/system/holds", get(system::holds::show))
        .route("/system/holds/{resource}/{hold}/release", get(system::holds::ask).post(system::holds::release))
        .route("/system/tokens", get(system::tokens::show))
        .route("/system/tokens/new", get(system::tokens::ask).post(system::tokens::make))
        .route("/system/tokens/{id}/revoke", get(system::tokens::ask_revoke).post(system::tokens::revoke))
        .route("/system/retention", get(system::retention::show))
        .route("/system/settings", get(system::settings::show))
        .route("/system/settings/{name}", get(system::settings::ask).post(system::settings::change))
}

/// Headers of pages.
async fn secured(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGES_MAY_LOAD));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Cookie, HX-Request"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("permissions-policy", HeaderValue::from_static("camera=(), geolocation=(), microphone=()"));
    response
}

/// Whether somebody asks for a page rather than for data.
pub fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepts.split(',').any(|kind| kind.trim().split(';').next() == Some("text/html"))
}

/// Leads `/` to the overview where a page is asked for: to everybody else it is the root of the API.
pub async fn to_page(mut request: Request) -> Request {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && request.uri().path() == "/" && wants_page(request.headers()) {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Ok(uri) = format!("/overview{query}").parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    request
}
