//! `/health/live` and `/health/ready`: for whoever starts, watches and restarts the service.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::state::ApiState;

/// Events that a read model may be behind before the service counts as not ready.
const LAG_MAX: u64 = 100_000;

/// How long a part may take to answer before it counts as one that does not. Whoever asks wants to know in seconds; a
/// connection that nobody serves any more would say nothing for minutes.
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

/// One consumer of the event log.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consumer {
    name: &'static str,
    /// Events it is behind.
    lag: u64,
    /// It stands still; why is in the server's log.
    stalled: bool,
}

/// Whether the service can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// Whether the event store answers.
    event_store: bool,
    /// Whether the read models answer.
    read_models: bool,
    consumers: Vec<Consumer>,
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

/// Stores answer within three seconds and read models keep up.
#[utoipa::path(get, path = "/health/ready", tag = "Service",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
async fn ready(State(state): State<ApiState>) -> Response {
    let app = &state.app;
    let (head, ping, status) =
        tokio::join!(in_time(app.store.head()), in_time(app.read.ping()), in_time(app.consumers.status()));
    let (event_store, read_models) = (head.is_some(), ping.is_some());
    let consumers: Vec<Consumer> = status
        .unwrap_or_default()
        .iter()
        .map(|c| Consumer { name: c.name, lag: c.lag, stalled: c.error.is_some() })
        .collect();
    let keeps_up = !consumers.is_empty() && consumers.iter().all(|c| !c.stalled && c.lag <= LAG_MAX);
    let good = event_store && read_models && keeps_up;
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if good { "ready" } else { "not_ready" };
    (status, Json(Ready { status: word, event_store, read_models, consumers })).into_response()
}
