//! `/rmqws-stomp`: the built-in broker's endpoint, at the address where site agents look for one.
//!
//! The first frame authenticates the client: a STOMP login with an API token, checked like any other.

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa_axum::routes;

use super::access::{Access, Routes};
use super::error::ApiError;
use super::state::ApiState;
use crate::admission::Peer;
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
        (status = 404, description = "The site has its own broker")))]
async fn connect(
    State(state): State<ApiState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
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
    // Behind a proxy the connection is anonymous too, whoever else uses the same proxy.
    let peer = peer.map(|Extension(peer)| peer);
    if let Some((peer, from)) = peer.as_ref().and_then(|peer| Some((peer, state.allowances.address(peer, &headers)?))) {
        peer.place.give_up(from);
    }
    // The broker counts what a token holds of its own places.
    let greeted = move || peer.iter().for_each(|peer: &Peer| peer.place.keep(None));
    upgrade
        .protocols(["v12.stomp"])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .on_upgrade(move |socket| builtin::serve(broker, socket, greeted, stopping))
}
