//! `/metrics` for Prometheus: counters of this process, and states read from tables.
//!
//! A scrape costs a handful of indexed look-ups, regardless of the number of resources. A setting says who may read it;
//! an optional second address serves only metrics and requires no token.

use std::fmt::Write as _;

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
use crate::store::Known;
use crate::telemetry;

/// The series of accounts that were left restricted, and how many of them have one.
const LEFT: &str = "sluice_account_left_restricted";
const LEFT_HELP: &str =
    "1 for each account that SLURM may still restrict though its resource has it no more, with what frees it";
const LEFT_MAX: u32 = 100;

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
        ("replay", replay(&state.app).await),
    ] {
        if let Err(error) = read {
            counter!("sluice_scrape_failures_total", "what" => what).increment(1);
            tracing::warn!(what, error = error.as_ref() as &dyn std::error::Error, "metrics are incomplete");
        }
    }
    let left = match left_restricted(&state.app).await {
        Ok(left) => left,
        Err(error) => {
            counter!("sluice_scrape_failures_total", "what" => "accounts").increment(1);
            tracing::warn!(error = error.as_ref() as &dyn std::error::Error, "metrics are incomplete");
            String::new()
        }
    };
    match telemetry::metrics::render().map(|text| text + &left) {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "metrics are not collected by this process\n").into_response(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and the format has doubles")]
fn double(number: u64) -> f64 {
    number as f64
}

async fn log(app: &App) -> Result<(), Unreadable> {
    // Where positions are no numbers there is none to show.
    if let Some(numbers) = app.store.numbers() {
        gauge!("sluice_log_position").set(double(numbers.of(app.store.head().await?)));
    }
    if let Some(newest) = app.store.newest().await? {
        let at = newest.recorded_at.timestamp();
        gauge!("sluice_log_newest_event_timestamp_seconds").set(double(at.max(0).unsigned_abs()));
    }
    for consumer in app.consumers.status().await? {
        let lag = consumer.lag.events().map_or(f64::NAN, double);
        gauge!("sluice_consumer_lag_events", "consumer" => consumer.name).set(lag);
        let estimated = consumer.lag.known() == Known::Estimated;
        gauge!("sluice_consumer_lag_estimated", "consumer" => consumer.name).set(f64::from(u8::from(estimated)));
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

/// Accounts that were left restricted, each by its name: written here, since a series that has ended must not stay.
async fn left_restricted(app: &App) -> Result<String, Unreadable> {
    let (left, total) = app.publisher.left_restricted(None, LEFT_MAX, 0).await?;
    gauge!("sluice_accounts_left_restricted").set(double(total));
    if left.is_empty() {
        return Ok(String::new());
    }
    let mut text = format!("# HELP {LEFT} {LEFT_HELP}\n# TYPE {LEFT} gauge\n");
    let state = app.registry.read();
    for one in &left {
        let offering = state.offering(one.offering).map(|known| known.facts.facts.slug.clone()).unwrap_or_default();
        let [offering, account, command] = [&offering, &one.account, &one.command].map(|value| escaped(value));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{LEFT}{{offering=\"{offering}\",account=\"{account}\",command=\"{command}\"}} 1");
    }
    Ok(text)
}

/// A label's value as the text format has it.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// By the verdicts so far; nothing before the first.
async fn replay(app: &App) -> Result<(), Unreadable> {
    let standing = app.verifier.standing().await?;
    if standing.release.is_empty() {
        return Ok(());
    }
    if let Some(numbers) = app.store.numbers() {
        gauge!("sluice_replay_verified_position").set(double(numbers.of(standing.through)));
    }
    for (outcome, count) in
        [("same", standing.same), ("different", standing.different), ("not_recomputed", standing.not_recomputed)]
    {
        gauge!("sluice_replay_decisions", "outcome" => outcome).set(double(count));
    }
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
