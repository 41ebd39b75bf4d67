//! The API's description: `OpenAPI` 3.1 at `/api/schema/`, and pages to browse it at `/api/docs/`.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// What stands above the paths.
pub fn description() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Sluice")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Periodic usage policies on SLURM allocations: decided, enforced, explained. Compatible with Waldur's \
             endpoints. Ids are 32 hex digits, read with and without dashes; lists are pages with their total in \
             X-Result-Count; texts are on one line and hold nothing that cannot be seen; `x-access` says who may call.",
        ))
        .build();
    let token = ApiKey::Header(ApiKeyValue::with_description("Authorization", "`Token <key>`, or `Bearer <key>`"));
    let components = ComponentsBuilder::new().security_scheme("token", SecurityScheme::ApiKey(token)).build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// The description and the pages, which are the same for everybody.
pub fn routes(description: &serde_json::Value) -> Router {
    let text: Arc<str> = format!("{description:#}").into();
    let schema =
        get(move || async move { ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response() });
    let pages = SwaggerUi::new("/api/docs/").config(Config::from("/api/schema/"));
    Router::new().route("/api/schema/", schema).merge(pages)
}
