//! The HTTP API: Waldur's endpoints for SLURM periodic usage policies, and what belongs around them.
//!
//! One file per group of endpoints, each with its handlers and the shapes they read and write. Every route is registered
//! together with its rule of access.

mod access;
mod agents;
mod broker;
mod clock;
mod context;
mod dead_letters;
mod error;
mod events;
mod fields;
mod health;
mod json;
mod layers;
mod metrics;
mod notices;
mod number;
mod openapi;
mod paging;
mod policies;
mod query;
mod reference;
mod registry;
mod resolve;
mod resources;
mod scheduler;
mod settings;
mod sight;
mod state;
mod tokens;
mod usages;
mod users;
mod version;

pub use access::{Access, Rule};
pub use error::ApiError;
pub use state::{ApiState, HttpLimits};

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_request};
use tower_http::catch_panic::CatchPanicLayer;

use self::access::Routes;
use crate::app::App;

/// All routes with their rules.
fn routes(state: &ApiState) -> Routes {
    let mut routes = Routes::new(state.clone(), openapi::description());
    for group in [
        policies::routes,
        usages::routes,
        resources::routes,
        registry::routes,
        agents::routes,
        users::routes,
        tokens::routes,
        notices::routes,
        settings::routes,
        scheduler::routes,
        events::routes,
        clock::routes,
        broker::routes,
        dead_letters::routes,
        version::routes,
        health::routes,
        metrics::routes,
    ] {
        routes = group(routes);
    }
    routes
}

/// The service of the address that serves nothing but metrics.
pub fn metrics_router(app: Arc<App>) -> Router {
    metrics::router(ApiState::new(app))
}

/// The rule of every route.
pub fn rules(app: Arc<App>) -> Vec<Rule> {
    routes(&ApiState::new(app)).finish().2
}

/// The API's description as JSON.
pub fn schema(app: Arc<App>) -> utoipa::openapi::OpenApi {
    routes(&ApiState::new(app)).finish().1
}

/// The whole service over an application.
pub fn router(state: ApiState) -> Router {
    let (api, description, _) = routes(&state).finish();
    let inner = api
        .with_state(state.clone())
        .merge(openapi::routes(&description))
        .fallback(layers::not_found)
        .method_not_allowed_fallback(layers::method_not_allowed)
        .layer(DefaultBodyLimit::max(state.limits.body_bytes_max))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(state, layers::envelop));
    // Around the router, since a path is changed before routes are looked up.
    Router::new().fallback_service(inner).layer(map_request(layers::with_slash))
}
