//! `/metrics` for Prometheus: what was counted while working, and how the things stand that are kept in tables.
//!
//! Reading costs a handful of indexed look-ups, whatever the number of resources. Who may read is a setting; a second
//! address, if one is set, serves nothing else and asks for no token.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics::{counter, gauge};
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::error::ErrorDetail;
use super::state::ApiState;
use crate::app::App;
use crate::config::MetricsAccess;
use crate::projections::status_summary;
use crate::telemetry;

type Unreadable = Box<dyn std::error::Error + Send + Sync>;

/// The route, under the rule that the site has chosen.
pub fn routes(routes: Routes) -> Routes {
    match routes.state().app.options.metrics.access {
        MetricsAccess::Off => routes,
        MetricsAccess::Public => routes.add(Access::Public, routes!(scrape)),
        MetricsAccess::Token => routes.add(Access::Support, routes!(scrape)),
    }
}

/// The service of the second address.
pub fn router(state: ApiState) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(state)
}

/// What Prometheus collects.
#[utoipa::path(get, path = "/metrics", tag = "Service",
    responses((status = 200, content_type = "text/plain", body = String), (status = 403, body = ErrorDetail)))]
async fn scrape(State(state): State<ApiState>) -> Response {
    // One at a time: impatient readers must not pile up on the tables.
    let _alone = state.scraping.lock().await;
    for (what, read) in [
        ("log", log(&state.app).await),
        ("resources", resources(&state.app).await),
        ("reactions", reactions(&state.app).await),
        ("outbox", outbox(&state.app).await),
        ("notices", notices(&state.app).await),
    ] {
        if let Err(error) = read {
            counter!("sluice_scrape_failures_total", "what" => what).increment(1);
            tracing::warn!(what, error = error.as_ref() as &dyn std::error::Error, "metrics are incomplete");
        }
    }
    match telemetry::metrics::render() {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "metrics are not collected by this process\n").into_response(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and the format has doubles")]
fn double(number: u64) -> f64 {
    number as f64
}

async fn log(app: &App) -> Result<(), Unreadable> {
    gauge!("sluice_log_position").set(double(app.store.head().await?.as_seq()));
    for consumer in app.consumers.status().await? {
        gauge!("sluice_consumer_lag_events", "consumer" => consumer.name).set(double(consumer.lag));
        gauge!("sluice_consumer_stalled", "consumer" => consumer.name)
            .set(f64::from(u8::from(consumer.error.is_some())));
    }
    Ok(())
}

async fn resources(app: &App) -> Result<(), Unreadable> {
    for (standing, count) in status_summary::site_totals(&app.read).await? {
        gauge!("sluice_resources", "standing" => standing).set(double(count));
    }
    Ok(())
}

async fn reactions(app: &App) -> Result<(), Unreadable> {
    gauge!("sluice_reactions_pending").set(double(app.reactions.pending().await?.len() as u64));
    Ok(())
}

async fn outbox(app: &App) -> Result<(), Unreadable> {
    let depth = app.publisher.depth().await?;
    for (state, count) in [
        ("queued", depth.queued),
        ("unanswered", depth.unanswered),
        ("given_up", depth.given_up),
        ("restrictions", depth.restrictions),
        ("restrictions_unconfirmed", depth.restrictions_unconfirmed),
        ("restrictions_given_up", depth.restrictions_given_up),
    ] {
        gauge!("sluice_outbox", "state" => state).set(double(count));
    }
    let age = depth.oldest_queued_at.map_or(0, |at| (app.clock.now() - at).num_seconds().max(0));
    gauge!("sluice_outbox_oldest_seconds").set(double(age.unsigned_abs()));
    Ok(())
}

async fn notices(app: &App) -> Result<(), Unreadable> {
    let backlog = app.notifier.backlog().await?;
    gauge!("sluice_notices", "state" => "owed").set(double(backlog.owed));
    gauge!("sluice_notices", "state" => "failed").set(double(backlog.failed));
    let age = backlog.oldest_owed.map_or(0, |at| (app.clock.now() - at).num_seconds().max(0));
    gauge!("sluice_notices_oldest_seconds").set(double(age.unsigned_abs()));
    Ok(())
}
