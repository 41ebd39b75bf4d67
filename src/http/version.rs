//! `/api/version/`, and links to start from at `/` and `/api/`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::access::{Access, Routes};

/// The routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Access::Public, routes!(version))
        .add(Access::Public, routes!(index))
        .add(Access::Public, routes!(api_index))
}

/// Which version runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// This program's.
    version: &'static str,
    /// Its name.
    name: &'static str,
}

/// Where to go on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Index {
    name: &'static str,
    version: &'static str,
    api: &'static str,
    schema: &'static str,
    docs: &'static str,
    health: &'static str,
}

/// The program's version.
#[utoipa::path(get, path = "/api/version/", tag = "Service", responses((status = 200, body = Version)))]
async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION"), name: env!("CARGO_PKG_NAME") })
}

fn orientation() -> Response {
    Json(Index {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        api: "/api/",
        schema: "/api/schema/",
        docs: "/api/docs/",
        health: "/health/ready",
    })
    .into_response()
}

/// Where to go on.
#[utoipa::path(get, path = "/", tag = "Service", responses((status = 200, body = Index)))]
async fn index() -> Response {
    orientation()
}

/// Where to go on.
#[utoipa::path(get, path = "/api/", tag = "Service", responses((status = 200, body = Index)))]
async fn api_index() -> Response {
    orientation()
}
