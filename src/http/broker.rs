//! `/rmqws-stomp`: the built-in broker's door, where site agents look for one.
//!
//! Whoever knocks says who they are in the first frame: a STOMP login with an API token, checked like any other.

use axum::extract::State;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::error::ApiError;
use super::state::ApiState;
use crate::dispatch::builtin;

/// The longest message of the WebSocket, bytes.
const MESSAGE_BYTES_MAX: usize = 512 << 10;

/// Bytes that wait to be written to one connection at most.
const WRITE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes.add(Access::Public, routes!(connect))
}

/// STOMP 1.2 over WebSocket, for site agents. Without an upgrade it answers whether the built-in broker is in use.
#[utoipa::path(get, path = "/rmqws-stomp", tag = "Agents",
    responses((status = 101, description = "The connection speaks STOMP 1.2"),
        (status = 200, body = std::collections::BTreeMap<String, serde_json::Value>, description = "No upgrade was asked for"),
        (status = 404, description = "The site has a broker of its own")))]
async fn connect(
    State(state): State<ApiState>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Some(broker) = state.app.builtin_broker.clone() else { return ApiError::NotFound.into_response() };
    let Ok(upgrade) = upgrade else {
        let answer = json!({"detail": "STOMP 1.2 over WebSocket is spoken here."});
        return (StatusCode::OK, axum::Json(answer)).into_response();
    };
    // The queue may have been registered with another process a moment ago.
    if let Err(error) = state.app.fresh().await {
        return ApiError::from(error).into_response();
    }
    let stopping = state.app.stopping.clone();
    upgrade
        .protocols(["v12.stomp"])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .on_upgrade(move |socket| builtin::serve(broker, socket, stopping))
}
