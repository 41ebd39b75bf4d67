//! The HTTP API: Waldur's endpoints for SLURM periodic usage policies, and the endpoints around them.
//!
//! There is one file per group of endpoints, with its handlers and the shapes they read and write. Every route is
//! registered together with its access rule.

mod access;
mod agents;
mod allowances;
mod audit;
mod bounds;
mod broker;
mod clock;
mod context;
mod dead_letters;
mod declared;
mod described;
mod dispatches;
mod episodes;
mod error;
mod event_consumers;
mod events;
mod fields;
mod health;
mod json;
mod layers;
mod left_restricted;
mod logged;
mod metrics;
mod notices;
mod number;
mod openapi;
mod paging;
mod policies;
mod query;
mod reference;
mod registry;
mod reports;
mod resolve;
mod resources;
mod scheduler;
mod settings;
mod shorten;
mod sieve;
pub(crate) mod standings;
mod state;
mod taken;
mod tokens;
mod totals;
mod usages;
mod users;
mod version;
mod visibility;

pub use access::{Access, Admitted, Rule};
pub use allowances::Allowances;
pub use context::base_of;
pub use error::ApiError;
pub use layers::RequestId;
pub use query::Query;
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
        standings::routes,
        totals::routes,
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
        episodes::routes,
        audit::routes,
        event_consumers::routes,
        clock::routes,
        broker::routes,
        dead_letters::routes,
        dispatches::routes,
        left_restricted::routes,
        reports::routes,
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
pub fn schema(app: Arc<App>) -> serde_json::Value {
    routes(&ApiState::new(app)).finish().1
}

/// The whole service over an application.
pub fn router(state: ApiState) -> Router {
    let (api, description, _) = routes(&state).finish();
    let api = api.fallback(layers::not_found).with_state(state.clone());
    let pages = crate::ui::routes(Arc::clone(&state.app), Arc::clone(&state.allowances), api.clone());
    let inner = api
        .merge(openapi::routes(&description).layer(from_fn_with_state(state.clone(), layers::unguarded)))
        .merge(pages)
        .method_not_allowed_fallback(layers::method_not_allowed)
        .layer(DefaultBodyLimit::max(state.limits.body_bytes_max))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(state, layers::envelop));
    // Around the router, since a path is changed before routes are looked up.
    Router::new().fallback_service(inner).layer(map_request(layers::with_slash)).layer(map_request(crate::ui::to_page))
}
