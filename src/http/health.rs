//! `/health/live` and `/health/ready`: for systems that start, monitor and restart the service.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::state::ApiState;
use crate::app::App;
use crate::events::envelope::DecodeError;
use crate::store::Known;
use crate::supervise::Concern;

/// Events that a read model may be behind before the service counts as not ready.
const LAG_MAX: u64 = 100_000;

/// How long a part may take to answer before it counts as unavailable. Callers want an answer within seconds; a dead
/// connection would hang for minutes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Public, routes!(live)).add(Access::Public, routes!(ready))
}

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Live {
    status: &'static str,
}

/// Consumers that no answer rests on: what they stand for is carried out or delivered later.
const DELIVERING: [&str; 4] =
    [crate::notify::CONSUMER, crate::dispatch::CONSUMER, crate::reactions::CONSUMER, crate::reactions::UNSETTLED];

/// One consumer of the event log.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consumer {
    name: &'static str,
    /// Events it is behind; null where nobody knows.
    lag: Option<u64>,
    /// How well that is known. A log whose positions are no numbers counts the first 500 events, and estimates the rest.
    lag_is: Known,
    /// It has stalled; the server's log has the reason.
    stalled: bool,
}

/// One worker of the background.
#[derive(Debug, Serialize, ToSchema)]
pub struct Working {
    name: &'static str,
    /// `answers`: while it is stalled the service is not ready; `delivery`: it is degraded.
    concern: Concern,
    /// It has stalled, or cannot do its work at the moment; the server's log has the reason.
    stalled: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<Utc>>,
}

/// Whether the service can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// `ready`; `degraded`: something is not carried out or delivered just now, or an event of the log cannot be relied on;
    /// `not_ready`.
    status: &'static str,
    /// Whether the event store answers.
    event_store: bool,
    /// Whether the read models answer.
    read_models: bool,
    /// Whether the database accepts writes: the disk is not full, and nothing is read-only.
    writable: bool,
    consumers: Vec<Consumer>,
    workers: Vec<Working>,
    /// Events of the log that somebody could not rely on, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unsound_events: Vec<UnsoundEvent>,
}

/// An unreadable event of the log, or one that does not match its commitment. The reason may quote the event, so only
/// the service's log and `sluice doctor` show it.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnsoundEvent {
    /// Its position in the log.
    position: String,
    stream: String,
    /// Its version in its stream, from 1.
    version: u64,
    #[serde(rename = "type")]
    event_type: String,
}

fn unsound(app: &App) -> Vec<UnsoundEvent> {
    let named = |event: DecodeError| UnsoundEvent {
        position: event.position.plain(),
        stream: event.stream.to_string(),
        version: event.version,
        event_type: event.event_type.to_string(),
    };
    app.guard.noted().into_iter().map(named).collect()
}

/// What parts come to: each with what it means when it is not in order.
fn verdict(parts: impl Iterator<Item = (bool, Concern)>) -> (StatusCode, &'static str) {
    let (mut degraded, mut ready) = (false, true);
    for (_, concern) in parts.filter(|(in_order, _)| !in_order) {
        match concern {
            Concern::Answers => ready = false,
            Concern::Delivery => degraded = true,
        }
    }
    match (ready, degraded) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        (true, true) => (StatusCode::OK, "degraded"),
        (true, false) => (StatusCode::OK, "ready"),
    }
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "Service", responses((status = 200, body = Live)))]
async fn live() -> Json<Live> {
    Json(Live { status: "live" })
}

/// What answers in time, and well.
async fn in_time<T, E>(asked: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(ANSWERS_WITHIN, asked).await.ok()?.ok()
}

/// Stores answer within three seconds and can be written, read models keep up, and deliveries proceed. A service that
/// is only degraded returns 200: a load balancer must not remove the API because mail waits.
#[utoipa::path(get, path = "/health/ready", tag = "Service",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
async fn ready(State(state): State<ApiState>) -> Response {
    let app = &state.app;
    // All at once: a database that says nothing keeps nobody waiting longer than one of them may take.
    let (head, ping, status, writable) = tokio::join!(
        in_time(app.store.head()),
        in_time(app.read.ping()),
        in_time(app.consumers.status()),
        tokio::time::timeout(ANSWERS_WITHIN, app.writable())
    );
    let writable = writable.unwrap_or(false);
    let (event_store, read_models) = (head.is_some(), ping.is_some());
    let consumers: Vec<Consumer> = status
        .unwrap_or_default()
        .iter()
        .map(|c| Consumer { name: c.name, lag: c.lag.events(), lag_is: c.lag.known(), stalled: c.error.is_some() })
        .collect();
    let workers: Vec<Working> = app
        .workers
        .standing()
        .iter()
        .map(|w| Working { name: w.name, concern: w.concern, stalled: w.stalled(), since: w.since })
        .collect();
    let stores = [event_store, read_models, writable, !consumers.is_empty()].map(|answers| (answers, Concern::Answers));
    let following = consumers.iter().map(|c| {
        let concern = if DELIVERING.contains(&c.name) { Concern::Delivery } else { Concern::Answers };
        // Where the store does not say how far it is, whether the store answers is what counts.
        (!c.stalled && c.lag.is_none_or(|lag| lag <= LAG_MAX), concern)
    });
    let working = workers.iter().map(|w| (!w.stalled, w.concern));
    let unsound_events = unsound(app);
    // A consumer that cannot continue without such an event stalls, and is counted separately.
    let relied_on = (unsound_events.is_empty(), Concern::Delivery);
    let (code, status) = verdict(stores.into_iter().chain(following).chain(working).chain([relied_on]));
    (code, Json(Ready { status, event_store, read_models, writable, consumers, workers, unsound_events }))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_that_waits_takes_nobody_out_of_service() {
        let of = |parts: &[(bool, Concern)]| verdict(parts.iter().copied()).1;
        assert_eq!(of(&[(true, Concern::Answers), (true, Concern::Delivery)]), "ready");
        assert_eq!(of(&[(true, Concern::Answers), (false, Concern::Delivery)]), "degraded");
        assert_eq!(of(&[(false, Concern::Answers), (false, Concern::Delivery)]), "not_ready");
    }
}
